-- Setting up an RPC service from a configuration, and taking it down cleanly.
--
--   orrery exec examples/21_rpc_service.lua
--   orrery exec examples/21_rpc_service.lua -- "60 s"     serves for that long

local orrery = require("orrery")
local utils = require("orrery.rpc.utils")

-- The keys of the framework; those of Flink (pekko.ask.timeout) are understood,
-- a mistyped one is refused with the one that was probably meant.
local configuration = {
  ["rpc.bind-address"] = "127.0.0.1",
  ["rpc.ask-timeout"] = "10 s",
  ["rpc.connect.retries"] = 2,
  ["rpc.connect.retry-delay"] = "100 ms",
}

local Clock = orrery.endpoint("clock", { uptime = {} })

function Clock:on_start()
  self.ticks = 0
  -- Work of the endpoint itself, again and again; it ends with the endpoint.
  self:get_main_thread_executor():schedule_at_fixed_rate(0, "100 ms",
    function() self.ticks = self.ticks + 1 end)
end

function Clock:uptime() return self.ticks / 10 end

-- The first free port of a range.
local service = assert(utils.create_rpc_service("localhost", "50100-50200",
  configuration))
local clock = assert(service:start(Clock, { id = "clock" }))
print("clock available at " .. clock.address .. ", port "
  .. service:get_port())

orrery.sleep(arg and arg[1] or "350 ms")
print(("up for %.1f s"):format(assert(clock.gateway:uptime():await())))

-- Endpoints first, then the connections; an error says what would not stop.
assert(utils.terminate_rpc_service(service, "5 s"):await())
print("service stopped")
