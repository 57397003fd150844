local orrery = require("orrery")
local simulated = require("support.simulated")

-- A chain: front asks middle asks back; back answers after a while.
local Back = orrery.endpoint("back", { wait = { timeout = "60s" },
  left = {} })
function Back:init() self.seen, self.ended = {}, 0 end
function Back:wait(ms)
  self.seen[#self.seen + 1] = orrery.remaining_ms() or "none"
  orrery.sleep(ms)
  self.after_sleep = orrery.remaining_ms() or "none"
  self.ended = self.ended + 1
  return "done"
end
function Back:left() return orrery.remaining_ms() end

local Front = orrery.endpoint("front", {
  relay = { timeout = "60s" }, own = { timeout = "60s" },
  twice = { timeout = "60s" }, note = { tell = true },
})
function Front:init(address) self.to = address end
function Front:on_start()
  self.back = assert(self:connect_to(self.to, "back"):await())
end
function Front:relay(ms, sleep)
  if sleep then orrery.sleep(sleep) end
  local value, err = self.back:wait(ms):await()
  self.last_error = err
  return value, err
end
function Front:own(ms)
  return self.back:with({ deadline = "own" }):wait(ms):await()
end
function Front:twice(first, second)
  self.back:wait(first):await()
  local value, err = self.back:wait(second):await()
  self.last_error = err
  return value, err
end
function Front:note() self.noted = orrery.remaining_ms() or "none" end

describe("the deadline of a call", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 3, latency_ms = { 1, 2 } })
  local gateway, front, back

  before_each(function()
    local a, b, c = s.sim:service("a"), s.sim:service("b"), s.sim:service("c")
    back = c:start(Back, { id = "back" }).endpoint
    front = b:start(Front, { id = "front", args = { "c:1/back" } }).endpoint
    gateway = assert(s.sim:run(a:connect("b:1/front", "front")))
    assert.are.equal("done", s.sim:run(gateway:relay(1)))
    back.seen = {}
  end)

  it("RPC+2 is carried into calls that its handler makes", function()
    local _, err = s.sim:run(gateway:with({ timeout = 300 })
      :relay(5000, 100))
    assert.is_truthy(err.code:match("^expired_in_handler"), tostring(err))
    local seen = back.seen[1]
    assert.is_true(seen > 199 and seen < 200.1, tostring(seen))
  end)

  it("RPC+2 is what remains, after an await too", function()
    assert.are.equal("done",
      s.sim:run(gateway:with({ timeout = 2000 }):twice(500, 400)))
    local seen = back.seen[2]
    assert.is_true(seen > 1480 and seen < 1500.1, tostring(seen))
    assert.is_true(back.after_sleep < seen - 399, tostring(back.after_sleep))
  end)

  it("RPC+2 fails the nested call at once when nothing is left", function()
    local future = gateway:with({ timeout = 100 }):relay(1, 250)
    s.sim:run(future)
    s.sim:advance(1000)
    assert.are.equal("expired_unsent", front.last_error.code)
    assert.are.equal(0, #back.seen)
  end)

  it("RPC+2 names the limit that really held", function()
    s.sim:run(gateway:with({ timeout = 300 }):relay(5000, 100))
    s.sim:advance(1000)
    local err = front.last_error
    assert.are.equal("expired_in_handler", err.code)
    assert.are.equal(200, err.context.limit_ms)
    assert.is_truthy(err.message:find("within 200 ms", 1, true), err.message)
  end)

  it("RPC+2 is not longer than the own limit of the nested call", function()
    s.sim:run(gateway:with({ timeout = "600s" }):relay(10))
    assert.is_true(back.seen[1] < 60001 and back.seen[1] > 59900)
  end)

  it("RPC+2 does not hold for a call with a deadline of its own", function()
    local _, err = s.sim:run(gateway:with({ timeout = 300 }):own(2000))
    assert.is_truthy(err)
    assert.is_true(back.seen[1] > 59000, tostring(back.seen[1]))
    s.sim:advance(3000)
    assert.are.equal(2, back.ended)
  end)

  it("RPC+2 is nothing where nobody waits", function()
    assert.is_nil(orrery.remaining_ms())
    gateway:note()
    s.sim:advance(50)
    assert.are.equal("none", front.noted)
    assert.is_false(orrery.cancelled())
    assert.is_false(orrery.on_cancel(function() end))
  end)

  it("holds on one host, between executors and endpoints", function()
    local d = s.sim:service("d")
    local here = d:start(Back, { id = "back" }).endpoint
    d:start(Front, { id = "front", args = { "back" } })
    local near = assert(s.sim:run(d:connect("front", "front")))
    local _, err = s.sim:run(near:with({ timeout = 300 }):relay(5000))
    assert.are.equal("expired_in_handler", err.code)
    assert.is_true(here.seen[1] <= 300 and here.seen[1] > 290)
  end)

  it("a wrong deadline option is refused by name", function()
    assert.has_error(function() gateway:with({ deadline = 5 }) end)
  end)
end)
