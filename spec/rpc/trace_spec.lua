local orrery = require("orrery")
local simulated = require("support.simulated")
local trace = require("orrery.rpc.trace")

local Back = orrery.endpoint("back", { work = {}, note = { tell = true },
  fail = {} })
function Back:work(ms) -- luacheck: no self
  orrery.sleep(ms)
  return true
end
function Back:note() self.noted = true end
function Back:fail() -- luacheck: no self
  return nil, orrery.errors.new("broken", "it is")
end

local Front = orrery.endpoint("front", { relay = {}, fail = {} })
function Front:init(address) self.to = address end
function Front:on_start()
  self.back = assert(self:connect_to(self.to, "back"):await())
end
function Front:relay(ms)
  local ok, err = self.back:work(ms):await()
  if not ok then return nil, err end
  self.back:note()
  return self.back:work(ms)
end
function Front:fail() return self.back:fail():await() end

local function by_method(spans, method)
  local out = {}
  for _, span in ipairs(spans) do
    if span.method == method then out[#out + 1] = span end
  end
  return out
end

describe("a trace", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 9, latency_ms = { 1, 2 } })
  local gateway, last

  before_each(function()
    local a, b, c = s.sim:service("a"), s.sim:service("b"), s.sim:service("c")
    c:start(Back, { id = "back" })
    b:start(Front, { id = "front", args = { "c:1/back" } })
    gateway = assert(s.sim:run(a:connect("b:1/front", "front")))
    s.sim:run(gateway:relay(1))
    last = 0
    for _, span in ipairs(assert(trace.spans())) do last = span.sequence end
  end)
  after_each(function() trace.stop() end)

  local function fresh()
    local out = {}
    for _, span in ipairs(assert(trace.spans())) do
      if span.sequence > last then out[#out + 1] = span end
    end
    return out
  end

  it("RPC+15 is not made while tracing is off", function()
    s.sim:run(gateway:relay(1))
    s.sim:advance(100)
    assert.are.equal(0, #fresh())
  end)

  it("RPC+15 goes through a chain of calls of several hosts", function()
    assert(trace.start("", "10s"))
    assert(s.sim:run(gateway:relay(40)))
    s.sim:advance(100)
    local spans = fresh()
    assert.are.equal(4, #spans)
    local relay = by_method(spans, "relay")[1]
    assert.is_nil(relay.parent)
    assert.are.equal("front", relay.endpoint)
    assert.is_true(relay.run_ms >= 80, tostring(relay.run_ms))
    for _, span in ipairs(spans) do
      assert.are.equal(relay.trace, span.trace)
      assert.is_truthy(span.trace:match("^%x+$"))
      assert.are.equal("ok", span.status)
      if span ~= relay then assert.are.equal(relay.span, span.parent) end
    end
    assert.are.equal(2, #by_method(spans, "work"))
    assert.are.equal(1, #by_method(spans, "note"))
    assert.is_true(by_method(spans, "work")[1].run_ms >= 40)
    assert.are.equal(4, #assert(trace.spans(relay.trace)))
  end)

  it("RPC+15 of two calls are two", function()
    assert(trace.start("", "10s"))
    s.sim:run(gateway:relay(1))
    s.sim:run(gateway:relay(1))
    local relays = by_method(fresh(), "relay")
    assert.are.equal(2, #relays)
    assert.are_not.equal(relays[1].trace, relays[2].trace)
  end)

  it("RPC+15 begins where an endpoint of the filter takes a call", function()
    assert(trace.start("bac", "10s"))
    s.sim:run(gateway:relay(1))
    s.sim:advance(50)
    local spans = fresh()
    assert.are.equal(3, #spans)
    for _, span in ipairs(spans) do
      assert.are.equal("back", span.endpoint)
      assert.is_nil(span.parent)
    end
  end)

  it("RPC+15 tells how handlers ended", function()
    assert(trace.start("", "10s"))
    s.sim:run(gateway:fail())
    local spans = fresh()
    assert.are.equal(2, #spans)
    for _, span in ipairs(spans) do assert.are.equal("remote", span.status) end
  end)

  it("RPC+15 ends with its time", function()
    assert(trace.start("", 50))
    s.sim:advance(60)
    s.sim:run(gateway:relay(1))
    assert.are.equal(0, #fresh())
  end)

  it("refuses what it cannot do by a sentence", function()
    assert.are.equal("bad_argument", select(2, trace.start("", "2h")).code)
    assert.are.equal("bad_argument", select(2, trace.spans("xyz")).code)
    assert.has_error(function() trace.start(("x"):rep(128), "1s") end)
  end)
end)
