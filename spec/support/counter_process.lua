-- A process with one endpoint; prints its address and serves until a signal.

local orrery = require("orrery")

local Counter = orrery.endpoint("counter", { add = {}, die = { tell = true } })
function Counter:init() self.n = 0 end
function Counter:add(k)
  self.n = self.n + k
  return self.n
end
function Counter:die() os.exit(7) end

local service = assert(orrery.service({ bind = "127.0.0.1:0" }))
print(service:start(Counter, { id = "counter" }).address)
io.stdout:flush()
local _, err = orrery.run(service)
print("ended: " .. err.code)
