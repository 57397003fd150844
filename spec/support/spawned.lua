--- An endpoint for the specs of spawn.

local orrery = require("orrery")

local Spawned = orrery.endpoint("spawned", { arguments = {}, call = {} })

function Spawned:init(...)
  if (...) == "fail in init" then error("init refused") end
  self.given = { ... }
end

function Spawned:on_start()
  if self.given[1] == "fail in on_start" then error("on_start refused") end
end

function Spawned:arguments()
  return self.given
end

function Spawned:call(address, x)
  local gateway, err = self:connect_to(address, "echo"):await()
  if not gateway then return nil, err end
  return gateway:echo(x)
end

return Spawned
