-- Calls from Lua to Lua: on one executor, and to another process over TCP,
-- against a bare libuv echo of the same number of bytes.

local uv = require("luv")
local orrery = require("orrery")
local harness = require("harness")
local processes = require("bench_process")
local Future = require("orrery.util.future")

local HEADER = 64 -- bytes of a frame's header

--- Latencies of one call after the other, in ns.
local function sequential(call, count)
  local latencies = {}
  local done = orrery.async(function()
    for i = 1, count do
      local start = harness.now_ns()
      local value, err = call():await()
      if err then return nil, err end
      latencies[i] = harness.now_ns() - start
      if value == nil then error("no answer") end
    end
    return true
  end)
  assert(done:await())
  return latencies
end

--- Calls a second with `window` callers, each with one call under way.
local function pipelined(call, window, count)
  local each = math.ceil(count / window)
  local callers = {}
  local start = harness.now_ns()
  for w = 1, window do
    callers[w] = orrery.async(function()
      for _ = 1, each do
        local _, err = call():await()
        if err then return nil, err end
      end
      return true
    end)
  end
  assert(Future.all(callers):await())
  return each * window / ((harness.now_ns() - start) / 1e9)
end

-- one executor ---------------------------------------------------------------

local Counter = orrery.endpoint("counter", { add = {} })
function Counter:init() self.n = 0 end
function Counter:add(k) self.n = self.n + k; return self.n end

local service = assert(orrery.service {})
assert(service:start(Counter, { id = "counter" }))
local counter = assert(service:connect("counter", "counter"):await())

local function ask_counter() return counter:add(3) end

sequential(ask_counter, 20000)
harness.compare { name = "rpc.local.same_executor.ask", unit = "ns",
  goal = 1000, ours = function()
    local count = 200000
    local start = harness.now_ns()
    local done = orrery.async(function()
      for _ = 1, count do counter:add(3):await() end
      return true
    end)
    assert(done:await())
    return (harness.now_ns() - start) / count
  end }

-- another executor of this process --------------------------------------------

local spawned = assert(service:spawn("bench_counter",
  { id = "far" }):await())
local far = spawned.gateway
local function ask_far() return far:add(3) end
sequential(ask_far, 5000)
harness.compare { name = "rpc.local.other_executor.ask", unit = "ns",
  ours = function() return harness.median(sequential(ask_far, 5000)) end,
  raw = function()
    return harness.raw("eventfd_pingpong", "").eventfd_pingpong_p50
  end, raw_name = "eventfd ping-pong" }
pipelined(ask_far, 128, 20000)
harness.compare { name = "rpc.local.other_executor.128_in_flight",
  unit = "1/s", goal = 700000, higher = true,
  ours = function() return pipelined(ask_far, 128, 400000) end }

-- another process -------------------------------------------------------------

local address, stop = processes.start_server()
local echo = assert(service:connect(address, "echo"):await())

local function raw_echo(size, window)
  return harness.raw("uv_echo", ("--size %d --window %d --rounds %d"):format(
    size + HEADER, window, window == 1 and 20000 or 400000))
end

for _, size in ipairs({ 64, 1024 }) do
  -- The body is the string with its two or three bytes of MessagePack.
  local body = ("x"):rep(size - (size > 255 and 3 or 2))
  local function ask_echo() return echo:echo(body) end
  sequential(ask_echo, 5000)
  local name = ("rpc.tcp.%dB"):format(size)
  local p99, raw_p99 = {}, {}
  harness.compare { name = name .. ".1_in_flight.p50", unit = "ns",
    goal = size == 64 and 1.4 or nil, ours = function()
      local latencies = sequential(ask_echo, 20000)
      p99[#p99 + 1] = harness.quantile(latencies, 0.99)
      return harness.median(latencies)
    end, raw = function()
      local figures = raw_echo(size, 1)
      raw_p99[#raw_p99 + 1] = figures.uv_echo_p99
      return figures.uv_echo_p50
    end, raw_name = "libuv echo" }
  harness.print(name .. ".1_in_flight.p99", harness.median(p99), "ns")
  harness.print("  baseline libuv echo", harness.median(raw_p99), "ns")
  for _, window in ipairs({ 64, 256 }) do
    pipelined(ask_echo, window, 20000)
    harness.compare { name = ("%s.%d_in_flight"):format(name, window),
      unit = "1/s", higher = true,
      ours = function() return pipelined(ask_echo, window, 200000) end,
      raw = function() return raw_echo(size, window).uv_echo_rate end,
      raw_name = "libuv echo" }
  end
end

local question = { id = 7, op = "add", args = { 1, 2 } }
local function ask_table() return echo:table(question) end
pipelined(ask_table, 256, 20000)
harness.compare { name = "rpc.tcp.small_table.256_in_flight", unit = "1/s",
  goal = 300000, higher = true,
  ours = function() return pipelined(ask_table, 256, 300000) end }

-- another process, TLS -----------------------------------------------------

local folder = assert(uv.fs_mkdtemp("/tmp/orrery-bench-XXXXXX"))
assert(require("orrery.cli.certs").make({ out = folder,
  role = { "server", "client" } }))
local secure = assert(orrery.service { tls = {
  certificate = folder .. "/client.pem", key = folder .. "/client.key",
  authority = folder .. "/ca.pem" } })
local tls_address, tls_stop = processes.start_server({ "certificates",
  folder })
local tls_echo = assert(secure:connect(tls_address, "echo"):await())

local body = ("x"):rep(62)
local function ask_tls() return tls_echo:echo(body) end
local function ask_plain() return echo:echo(body) end
sequential(ask_tls, 5000)
harness.compare { name = "rpc.tls.64B.1_in_flight.p50", unit = "ns",
  goal = 1.15, ours = function()
    return harness.median(sequential(ask_tls, 20000))
  end, raw = function()
    return harness.raw("tls_pingpong", ("--size %d --rounds 20000"):format(
      64 + HEADER)).tls_pingpong_p50
  end, raw_name = "OpenSSL ping-pong" }
pipelined(ask_tls, 256, 20000)
harness.compare { name = "rpc.tls.64B.256_in_flight", unit = "1/s",
  goal = 0.6, higher = true,
  ours = function() return pipelined(ask_tls, 256, 200000) end,
  raw = function() return pipelined(ask_plain, 256, 200000) end,
  raw_name = "our plain TCP" }

tls_stop()
assert(secure:stop():await())
for _, name in ipairs({ "ca", "server", "client" }) do
  os.remove(folder .. "/" .. name .. ".pem")
  os.remove(folder .. "/" .. name .. ".key")
end
uv.fs_rmdir(folder)

-- A large body, and the other calls of the same connection meanwhile.
do
  local SIZE = 100 * 1024 * 1024
  local large = ("x"):rep(SIZE)
  local other = assert(service:connect((address:gsub("/echo$", "/other")),
    "echo"):await())
  local beside = {}

  -- One body; latencies of one small call after the other while it travels.
  local function transfer(latencies)
    local start = harness.now_ns()
    local big = echo:with({ timeout = "60s" }):size(large)
    local small = orrery.async(function()
      while not big:is_done() do
        local from = harness.now_ns()
        local value, err = other:add(1):await()
        if value == nil then return nil, err end
        latencies[#latencies + 1] = harness.now_ns() - from
      end
      return true
    end)
    assert(big:await() == SIZE)
    local took = harness.now_ns() - start
    assert(small:await())
    return took
  end

  transfer({})
  transfer({})
  harness.compare { name = "rpc.tcp.100MiB", unit = "MB/s", goal = 0.6,
    higher = true,
    ours = function() return SIZE / transfer(beside) * 1e3 end,
    raw = function()
      return SIZE / harness.raw("tcp_bulk", "--rounds 3").tcp_bulk_p50 * 1e3
    end, raw_name = "blocking sockets" }
  local p99 = harness.quantile(beside, 0.99)
  harness.print("rpc.tcp.100MiB.other_calls.p50", harness.median(beside), "ns")
  harness.print("rpc.tcp.100MiB.other_calls.p99", p99, "ns")
  print(("  goal <= 5000000: %s"):format(p99 <= 5e6 and "met" or "MISSED"))
end

stop()
assert(service:stop():await())
