-- An endpoint of your own: an object that other processes can call.
--
--   orrery exec examples/01_counter_server.lua            listens on port 7001
--   orrery exec examples/01_counter_server.lua -- 8001    on another one
--
-- Then, in a second terminal: orrery exec examples/02_counter_client.lua

local orrery = require("orrery")

-- The methods and what callers need to know of them. This table is the whole
-- contract: a caller that names another method is told so.
local Counter = orrery.endpoint("counter", {
  add = { timeout = "5s" },
  read = {},
  reset = { tell = true }, -- nobody waits for an answer
})

function Counter:on_start()
  self.total = 0
end

-- Handlers of one endpoint never overlap, so there is nothing to lock.
function Counter:add(amount)
  if type(amount) ~= "number" then
    return nil, "add takes a number, got a " .. type(amount)
  end
  self.total = self.total + amount
  return self.total
end

function Counter:read()
  return self.total
end

function Counter:reset()
  self.total = 0
end

local port = tonumber(arg and arg[1] or 7001)
local service = assert(orrery.service { bind = "127.0.0.1:" .. port })
local counter = assert(service:start(Counter, { id = "counter" }))
print("counter serves at " .. counter.address .. ", Ctrl-C ends it")
io.stdout:flush()

orrery.run(service)
