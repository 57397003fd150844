-- Mailboxes: one-way messages on one executor and across two, and what an idle
-- endpoint costs.

local orrery = require("orrery")
local harness = require("harness")

local Sink = orrery.endpoint("sink", { put = { tell = true }, count = {} })
function Sink:init() self.n = 0 end
function Sink:put() self.n = self.n + 1 end
function Sink:count() return self.n end

local service = assert(orrery.service {})
assert(service:start(Sink, { id = "sink" }))
local near = assert(service:connect("sink", "sink"):await())
local far = assert(service:spawn("bench_sink", { id = "far" }):await()).gateway

-- Tells in bursts that fit into the mailbox; the count at the end of a burst is
-- behind them in order, so it says when all were handled.
local BURST, BURSTS = 20000, 10
local function one_way(gateway)
  return function()
    local start = harness.now_ns()
    local done = orrery.async(function()
      for _ = 1, BURSTS do
        for i = 1, BURST do
          local ok, err = gateway:put(i)
          if not ok then return nil, err end
        end
        local _, err = gateway:count():await()
        if err then return nil, err end
      end
      return true
    end)
    assert(done:await())
    return BURST * BURSTS / ((harness.now_ns() - start) / 1e9)
  end
end

one_way(near)()
harness.compare { name = "mailbox.tell.same_executor", unit = "1/s",
  ours = one_way(near) }
one_way(far)()
harness.compare { name = "mailbox.tell.other_executor", unit = "1/s",
  ours = one_way(far) }
harness.compare { name = "mailbox.hop.other_executor", unit = "ns",
  ours = function()
    local start, count = harness.now_ns(), 5000
    local done = orrery.async(function()
      for _ = 1, count do far:count():await() end
      return true
    end)
    assert(done:await())
    return (harness.now_ns() - start) / count
  end, raw = function()
    return harness.raw("eventfd_pingpong", "").eventfd_pingpong_p50
  end, raw_name = "eventfd ping-pong" }

local function resident_kib()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmRSS:%s+(%d+)")
    if kib then return tonumber(kib) end
  end
  error("no VmRSS in /proc/self/status")
end

local COUNT = 10000
collectgarbage()
collectgarbage()
local before, start = resident_kib(), harness.now_ns()
local servers = {}
for i = 1, COUNT do
  servers[i] = assert(service:start(Sink, { id = "idle" .. i }))
end
local spawn_ns = (harness.now_ns() - start) / COUNT
assert(service:connect("idle" .. COUNT, "sink"):await())
collectgarbage()
collectgarbage()
assert(#servers == COUNT)
harness.print("mailbox.endpoint.start", spawn_ns, "ns")
harness.print("mailbox.endpoint.idle_memory",
  (resident_kib() - before) / COUNT * 1024, "bytes")
assert(service:stop():await())
