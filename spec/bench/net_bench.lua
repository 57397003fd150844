-- What the transport can do: the core without Lua, the bounded spin, and many
-- connections with one call under way on each.

local uv = require("luv")
local orrery = require("orrery")
local harness = require("harness")
local processes = require("bench_process")
local Future = require("orrery.util.future")

local HEADER = 64

local function core_echo(arguments)
  return harness.raw("core_echo", arguments)
end

harness.compare { name = "net.core.64B.1_in_flight.p50", unit = "ns",
  goal = 1.1, ours = function()
    return core_echo("--window 1 --rounds 20000").core_echo_p50
  end, raw = function()
    return harness.raw("uv_echo", "--size 128").uv_echo_p50
  end, raw_name = "libuv echo" }
harness.compare { name = "net.core.64B.256_in_flight", unit = "1/s",
  goal = 2000000, higher = true,
  ours = function() return core_echo("--window 256").core_echo_rate end }

-- The bounded spin: a server process and this one both look for 200 us before
-- they sleep. It needs two processors; ours is set back afterwards.
local address, stop = processes.start_server({ "spin", "0.2ms" })
local spinning = assert(orrery.service { spin = "0.2ms" })
local echo = assert(spinning:connect(address, "echo"):await())
local body = ("x"):rep(62)
local function latency()
  local samples = {}
  local done = orrery.async(function()
    for i = 1, 20000 do
      local start = harness.now_ns()
      local value, err = echo:echo(body):await()
      if not value then return nil, err end
      samples[i] = harness.now_ns() - start
    end
    return true
  end)
  assert(done:await())
  return harness.median(samples)
end
latency()
harness.compare { name = "net.spin.64B.1_in_flight.p50", unit = "ns",
  goal = 0.6, ours = latency, raw = function()
    return harness.raw("uv_echo", "--size " .. 64 + HEADER).uv_echo_p50
  end, raw_name = "libuv echo" }
stop()
assert(spinning:stop():await())
require("orrery.core").spin(0)

-- Each service has connections of its own, so a thousand services are a
-- thousand connections.
local CONNECTIONS, CALLS = 1000, 100
address, stop = processes.start_server({ "connections",
  tostring(CONNECTIONS + 8) })
local services, gateways = {}, {}
for i = 1, CONNECTIONS do
  services[i] = assert(orrery.service { name = "client" .. i })
  gateways[i] = services[i]:connect(address, "echo")
end
for i = 1, CONNECTIONS do gateways[i] = assert(gateways[i]:await()) end
local function many()
  local callers = {}
  local start = harness.now_ns()
  for i = 1, CONNECTIONS do
    local gateway = gateways[i]
    callers[i] = orrery.async(function()
      for _ = 1, CALLS do
        local _, err = gateway:echo(body):await()
        if err then return nil, err end
      end
      return true
    end)
  end
  assert(Future.all(callers):await())
  return CONNECTIONS * CALLS / ((harness.now_ns() - start) / 1e9)
end
many()
harness.compare { name = "net.1000_connections.64B", unit = "1/s", goal = 0.8,
  higher = true, ours = many, raw = function()
    return harness.raw("uv_echo_many", "--size " .. 64 + HEADER)
      .uv_echo_many_rate
  end, raw_name = "libuv echo" }
stop()
for i = 1, CONNECTIONS do services[i]:stop() end
uv.update_time()
