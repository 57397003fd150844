local orrery = require("orrery")
local simulated = require("support.simulated")

local Back = orrery.endpoint("back", { wait = { timeout = "60s" } })
function Back:init() self.told, self.ended = 0, 0 end
function Back:wait(ms)
  orrery.on_cancel(function(me) me.told = me.told + 1 end)
  orrery.sleep(ms)
  self.was_cancelled = orrery.cancelled()
  self.ended = self.ended + 1
  return "done"
end

local Front = orrery.endpoint("front", {
  relay = { timeout = "60s" }, own = { timeout = "60s" },
  later = { timeout = "60s" },
})
function Front:init(address) self.to = address end
function Front:on_start()
  self.back = assert(self:connect_to(self.to, "back"):await())
end
function Front:relay(ms)
  local value, err = self.back:wait(ms):await()
  self.last_error, self.cancelled_at = err, orrery.cancelled()
  if err then
    local _, after = self.back:wait(1):await()
    self.after = after
  end
  return value, err
end
function Front:own(ms)
  local value, err = self.back:with({ deadline = "own" }):wait(ms):await()
  self.last_error = err
  return value, err
end
function Front:later(ms)
  orrery.on_cancel(function(me) me.told = true end)
  return self.back:wait(ms)
end

local function cases(s, get)
  it("RPC+2 a cancelled call is told to its handler, which goes on", function()
    local gateway, _, back = get("back")
    local future = gateway:wait(500)
    s.sim:advance(50)
    assert.is_true(future:cancel())
    s.sim:advance(50)
    assert.are.equal(1, back.told)
    assert.are.equal(0, back.ended)
    s.sim:advance(1000)
    assert.are.equal(1, back.ended)
    assert.is_true(back.was_cancelled)
  end)

  it("RPC+2 a passed deadline tells the handler too", function()
    local gateway, _, back = get("back")
    local _, err = s.sim:run(gateway:with({ timeout = 100 }):wait(500))
    assert.are.equal("expired_in_handler", err.code)
    s.sim:advance(10)
    assert.are.equal(1, back.told)
  end)

  it("RPC+2 an answered call tells nobody", function()
    local gateway, _, back = get("back")
    local future = gateway:wait(10)
    assert.are.equal("done", s.sim:run(future))
    assert.is_false(future:cancel())
    s.sim:advance(100)
    assert.are.equal(0, back.told)
    assert.is_false(back.was_cancelled)
    assert.is_nil(next(back._cell.executor.cancels))
  end)

  it("RPC+2 the calls of a cancelled handler are cancelled with it", function()
    local gateway, front, back = get("front")
    local future = gateway:relay(5000)
    s.sim:advance(50)
    future:cancel()
    s.sim:advance(50)
    assert.are.equal("cancelled", front.last_error.code)
    assert.is_true(front.cancelled_at)
    assert.are.equal(1, back.told)
    assert.are.equal("cancelled", front.after.code)
  end)

  it("RPC+2 a nested call with its own deadline goes on", function()
    local gateway, front, back = get("front")
    local future = gateway:own(500)
    s.sim:advance(50)
    future:cancel()
    s.sim:advance(1000)
    assert.is_nil(front.last_error)
    assert.are.equal(0, back.told)
    assert.are.equal(1, back.ended)
  end)

  it("RPC+2 a handler that answers by a future is told as well", function()
    local gateway, front, back = get("front")
    local future = gateway:later(5000)
    s.sim:advance(50)
    future:cancel()
    s.sim:advance(50)
    assert.is_true(front.told)
    assert.are.equal(1, back.told)
    s.sim:advance(6000)
    assert.is_nil(next(front._cell.executor.cancels))
  end)
end

describe("cancellation by a remote caller", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 5, latency_ms = { 1, 2 } })
  cases(s, function(name)
    local a, b, c = s.sim:service("a"), s.sim:service("b"), s.sim:service("c")
    local back = c:start(Back, { id = "back" }).endpoint
    local front = b:start(Front, { id = "front", args = { "c:1/back" } })
      .endpoint
    local address = name == "back" and "c:1/back" or "b:1/front"
    return assert(s.sim:run(a:connect(address, name))), front, back
  end)
end)

describe("cancellation by a local caller", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 5 })
  cases(s, function(name)
    local a = s.sim:service("a")
    local back = a:start(Back, { id = "back" }).endpoint
    local front = a:start(Front, { id = "front", args = { "back" } }).endpoint
    return assert(s.sim:run(a:connect(name, name))), front, back
  end)
end)
