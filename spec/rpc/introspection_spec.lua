local introspection = require("orrery.cluster.introspection")
local orrery = require("orrery")
local simulated = require("support.simulated")

local Worker = orrery.endpoint("worker", { work = {}, fail = {},
  block = {}, note = { tell = true } })
function Worker:work(ms) -- luacheck: no self
  if ms > 0 then orrery.sleep(ms) end
  return true
end
function Worker:fail() -- luacheck: no self
  return nil, orrery.errors.new("broken", "it is")
end
function Worker:note() self.noted = true end
function Worker:block() return self.gate:await() end

local function by_name(list)
  local out = {}
  for _, entry in ipairs(list) do out[entry.name] = entry end
  return out
end

describe("introspection", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 2, latency_ms = { 1, 2 } })
  local service, gateway, remote

  before_each(function()
    service = s.sim:service("a")
    assert(introspection.start(service))
    gateway = service:start(Worker, { id = "worker", capacity = 4 }).gateway
    local client = s.sim:service("b")
    remote = assert(s.sim:run(client:connect("a:1/introspection",
      "introspection")))
  end)

  local function ask(method, ...)
    return s.sim:run(remote[method](remote, ...))
  end

  it("RPC+15 has the latency of each method", function()
    for _ = 1, 9 do s.sim:run(gateway:work(10)) end
    s.sim:run(gateway:work(100))
    gateway:note()
    s.sim:run(gateway:fail())
    local methods = by_name(assert(ask("methods", "worker")))
    local work = methods.work
    assert.are.equal(10, work.handler.count)
    assert.are.equal(10, work.queue.count)
    assert.is_true(math.abs(work.handler.p50_ms - 10) < 1.3,
      tostring(work.handler.p50_ms))
    assert.is_true(math.abs(work.handler.p99_ms - 100) < 12.6)
    assert.are.equal(100, work.handler.max_ms)
    assert.are.equal(0, work.errors)
    assert.are.equal(1, methods.fail.errors)
    assert.are.equal(1, methods.note.handler.count)
    assert.are.equal(0, methods.block.handler.count)
  end)

  it("RPC+15 counts what was given up, refused and expired", function()
    local future = gateway:work(50)
    s.sim:advance(10)
    future:cancel()
    s.sim:advance(100)
    for _ = 1, 6 do gateway:work(0) end
    s.sim:advance(10)
    local work = by_name(assert(ask("methods", "worker"))).work
    assert.are.equal(1, work.abandoned)
    assert.are.equal(2, work.refused)
    assert.are.equal(5, work.handler.count)
  end)

  it("RPC+15 begins anew after a reset", function()
    for _ = 1, 3 do s.sim:run(gateway:work(1)) end
    assert.is_true(ask("reset", "worker"))
    assert.are.equal(0, by_name(ask("methods", "worker")).work.handler.count)
    s.sim:run(gateway:work(1))
    assert.are.equal(1, by_name(ask("methods", "worker")).work.handler.count)
  end)

  it("RPC+5 tells depth, age and state of the endpoints", function()
    for _ = 1, 3 do gateway:work(0) end
    local list = by_name(service:endpoints())
    assert.are.equal(3, list.worker.waiting)
    assert.are.equal("started", list.worker.state)
    s.sim:advance(1)
    list = by_name(assert(ask("endpoints")))
    assert.are.equal(0, list.worker.waiting)
    assert.is_truthy(list.introspection)
    assert.are.equal("endpoints", list.introspection.running)
  end)

  it("RPC+5 tells of executors and connections", function()
    local executors = assert(ask("executors"))
    assert.is_true(#executors >= 1)
    local last = 0
    for _, executor in ipairs(executors) do
      assert.is_true(executor.number > last)
      last = executor.number
      assert.is_number(executor.lag.p99_ms)
    end
    assert.are.equal(1, assert(ask("connections")).connections)
  end)

  it("RPC+15 traces on request of a remote caller", function()
    assert.is_true(ask("trace", "worker", 1000))
    s.sim:run(gateway:work(1))
    local spans = assert(ask("traces"))
    assert.are.equal("worker", spans[#spans].endpoint)
    assert.is_true(ask("trace"))
    assert.are.equal("bad_argument", select(2, ask("traces", "x")).cause.code)
  end)

  it("names what is missing", function()
    local _, err = ask("methods", "nobody")
    assert.are.equal("not_found", err.cause.code)
    _, err = ask("trace", 5, 5)
    assert.are.equal("bad_argument", err.cause.code)
  end)
end)
