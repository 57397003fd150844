-- An endpoint for specs of TLS, also on executors of its own.
local orrery = require("orrery")

local Secret = orrery.endpoint("secret", {
  echo = {}, open = { permission = "jobmanager" },
  either = { permission = { "jobmanager", "client" } },
  shout = { tell = true, permission = "jobmanager" }, heard = {},
})
function Secret:init() self.count = 0 end
function Secret:echo(x) return x end
function Secret:open() self.count = self.count + 1 return self.count end
function Secret:either() return "either" end
function Secret:shout() self.count = self.count + 100 end
function Secret:heard() return self.count end

return Secret
