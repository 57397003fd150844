-- Limits of time: of a call, of any future, and the race of two calls.
--
--   orrery exec examples/26_timeouts.lua

local orrery = require("orrery")
local exceptions = require("orrery.rpc.exceptions")
local Future = orrery.Future

local Slow = orrery.endpoint("slow", {
  work = { timeout = "2 s" }, -- the method's own limit
  count = {},
})
function Slow:init() self.done = 0 end
function Slow:work(ms)
  orrery.sleep(ms)
  self.done = self.done + 1
  return "worked " .. ms .. " ms"
end
function Slow:count() return self.done end

local service = assert(orrery.service { bind = "127.0.0.1:0" })
local client = assert(orrery.service { name = "client", timeout = "10 s" })
local slow = assert(client:connect(service:start(Slow, { id = "slow" }).address,
  "slow"):await())

print(slow:work(20):await())

-- The limit of the call travels with it. The error says where it was by then;
-- the handler is not stopped.
local _, err = slow:with { timeout = "50 ms" }:work(150):await()
assert(exceptions.is(err, "RpcTimeoutException"))
print(err.code .. " " .. err.context.phase .. " after "
  .. err.context.limit_ms .. " ms")

-- Any future can be raced against time; this one gives up alone.
_, err = slow:work(150):with_timeout("30 ms"):await()
print(err.code .. ": " .. err.message)

-- Of two calls the first answer counts; the other is cancelled.
local first, second = slow:work(300), slow:work(40)
print("the race: " .. assert(Future.any({ first, second }):await()))
first:cancel()

orrery.sleep("300 ms")
print("handlers that ended: " .. assert(slow:count():await()))

assert(client:stop():await())
assert(service:stop():await())
