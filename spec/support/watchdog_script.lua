-- What watchdog_spec looks at: handlers that take long. arg[1] names the case.
local core = require("orrery.core")
local orrery = require("orrery")
local log = require("orrery.native.log")
local watchdog = require("orrery.rpc.watchdog")

local case = arg[1]
log.set_level("warn")

local Slow = require("support.slow")
local service = orrery.service { bind = "127.0.0.1:0" }

assert(watchdog.start(100))
local gateway
if case == "spawned" then
  gateway = assert(service:spawn("support.slow", { id = "slow" }):await())
    .gateway
elseif case == "remote" then
  service:start(Slow, { id = "slow" })
  local other = orrery.service {}
  gateway = assert(other:connect(service.address .. "/slow"):await())
  print(service.address)
else
  gateway = service:start(Slow, { id = "slow" }).gateway
end

local function ask(name, ms)
  local _, err = gateway[name](gateway, ms):await()
  if err then error(tostring(err)) end
end

local asks = {
  interpreted = function() ask("interpret", 400) end,
  spawned = function() ask("interpret", 400) end,
  remote = function() ask("interpret", 400) end,
  compiled = function() ask("compute", 400) end,
  after_await = function() ask("wait_then_interpret", 400) end,
  nested = function() ask("ask_self", 400) end,
  quick = function() for _ = 1, 20 do ask("interpret", 30) end end,
  waits = function() ask("wait", 400) end,
  stopped = function()
    print(require("luv").os_getpid())
    io.stdout:flush()
    ask("interpret", 60)
    while not io.open(arg[2]) do orrery.sleep(10) end
    ask("interpret", 60)
  end,
  off = function()
    watchdog.stop()
    ask("interpret", 300)
  end,
}
asks[case]()
ask("interpret", 1) -- so that the end of what was slow was seen
orrery.sleep(100)
print("done", core.number())
os.exit(0)
