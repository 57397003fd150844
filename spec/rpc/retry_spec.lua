local log = require("orrery.native.log")
local orrery = require("orrery")
local retry = require("orrery.rpc.retry")
local simulated = require("support.simulated")

local Shop = orrery.endpoint("shop", {
  buy = { idempotent = "key", timeout = "1s" }, read = { idempotent = true },
  bump = {}, total = {},
})
function Shop:init() self.n = 0 end
function Shop:buy(k, ms)
  self.n = self.n + k
  if ms then orrery.sleep(ms) end
  return self.n
end
function Shop:read() self.n = self.n + 1 return self.n end
function Shop:bump(fails)
  self.n = self.n + 1
  if self.n <= (fails or 0) then
    return nil, orrery.errors.new("busy", "try again")
  end
  return self.n
end
function Shop:total() return self.n end

describe("call_with_retry", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b, gateway
  before_each(function()
    log.set_level("off")
    a, b = s.sim:service("a"), s.sim:service("b")
    a:start(Shop, { id = "shop" })
    gateway = assert(s.sim:run(b:connect("a:1/shop", "shop")))
  end)
  after_each(function() log.set_level("warn") end)

  it("waits longer after each failure, with a part left to chance", function()
    local delays = {}
    local _, err = s.sim:run(retry.call_with_retry(gateway, "bump", { 100 }, {
      attempts = 6, retry_on = { "busy" },
      backoff = { initial = 100, max = 500, multiplier = 2, jitter = 0.5 },
      on_retry = function(e, at)
        assert.are.equal("remote", e.code)
        delays[at.attempt] = at.delay_ms
      end,
    }))
    assert.are.equal("remote", err.code)
    assert.are.equal(6, err.context.attempts)
    assert.is_truthy(err.message:find("attempt 6, the last one", 1, true))
    assert.are.equal(5, #delays)
    for i, most in ipairs({ 100, 200, 400, 500, 500 }) do
      assert.is_true(delays[i] <= most and delays[i] >= most / 2,
        i .. ": " .. delays[i])
    end
    assert.are_not.equal(delays[4], delays[5])
  end)

  it("repeats exactly with the seed of a simulation", function()
    local function history()
      local testing = require("orrery.testing")
      local sim = testing.new({ seed = 5 })
      local x, times = sim:service("x"), {}
      sim:run(retry.run(x._executor, function()
        times[#times + 1] = sim:now_ms()
        return nil, orrery.errors.new("overloaded", "x")
      end, { attempts = 4 }))
      sim:free()
      return times
    end
    assert.are.same(history(), history())
  end)

  it("does not repeat what may have run, unless it is idempotent", function()
    s.sim:partition({ "a" }, { "b" })
    local calls = 0
    local function count() calls = calls + 1 end
    local options = { attempts = 3, timeout = 100, backoff = 10,
      on_retry = count }
    local _, err = s.sim:run(orrery.call_with_retry(gateway, "bump", {},
      options))
    assert.are.equal("expired_unknown", err.code)
    assert.are.equal(0, calls)
    _, err = s.sim:run(orrery.call_with_retry(gateway, "read", {}, options))
    assert.are.equal("expired_unknown", err.code)
    assert.are.equal(2, calls)
  end)

  it("with a key does the work once, whatever gets lost", function()
    local want = 0
    for i = 1, 25 do
      local future = orrery.call_with_retry(gateway, "buy", { i, 30 }, {
        attempts = 20, backoff = { initial = 20, jitter = 0.5 },
      })
      for _ = 1, s.sim:chance():below(3) do
        s.sim:advance(s.sim:chance():below(25))
        s.sim:reset_connections("a", "b")
      end
      want = want + i
      assert.are.equal(want, assert(s.sim:run(future)))
    end
    assert.are.equal(want, s.sim:run(gateway:total()))
  end)

  it("gives a failure that the handler answered a fresh key", function()
    local Flaky = orrery.endpoint("flaky", { go = { idempotent = "key" } })
    local runs = 0
    function Flaky:go()
      runs = runs + 1
      if runs < 3 then return nil, orrery.errors.new("busy", "x") end
      return runs
    end
    local flaky = a:start(Flaky).gateway
    assert.are.equal(3, s.sim:run(orrery.call_with_retry(flaky, "go", nil, {
      retry_on = { "busy" }, backoff = 1 })))
  end)

  it("can be cancelled, also in a pause", function()
    local future = orrery.call_with_retry(gateway, "bump", { 100 }, {
      retry_on = { "busy" }, backoff = "1 s" })
    s.sim:advance(500)
    assert.is_true(future:cancel())
    s.sim:advance(10000)
    assert.are.equal("cancelled", select(2, future:peek()).code)
    assert.are.equal(1, s.sim:run(gateway:total()))
  end)

  it("ends with the endpoint that called", function()
    local Caller = orrery.endpoint("caller", {})
    local future
    local caller = b:start(Caller)
    caller.endpoint:run_async(function()
      future = orrery.call_with_retry(gateway, "bump", { 100 }, {
        retry_on = { "busy" }, backoff = "1 s", attempts = 100 })
    end)
    s.sim:advance(1500)
    s.sim:run(caller:stop())
    s.sim:advance(5000)
    assert.are.equal("cancelled", select(2, future:peek()).code)
    assert.are.equal(2, s.sim:run(gateway:total()))
  end)

  it("connect_and_call connects again too", function()
    local future = retry.connect_and_call(b, "a:1/late", "shop",
      function(shop) return shop:total() end, { attempts = 5,
        backoff = { initial = 100, jitter = 0 } })
    s.sim:advance(250)
    a:start(Shop, { id = "late" })
    assert.are.equal(0, s.sim:run(future))
  end)

  it("service:connect tries what cannot be reached as often as it is told",
    function()
      local before = s.sim:now_ms()
      local _, err = s.sim:run(b:connect("a:1/late", "shop", { retries = 2,
        retry_delay = "1 s" }))
      assert.are.equal("unreachable", err.code)
      assert.are.equal(3, err.context.attempts)
      local took = s.sim:now_ms() - before
      assert.is_true(took >= 2000 and took < 2100)
      local future = b:connect("a:1/late", "shop", { retries = 5 })
      s.sim:advance(1500)
      a:start(Shop, { id = "late" })
      assert.is_truthy(s.sim:run(future))
      -- What will not change is not tried again.
      before = s.sim:now_ms()
      _, err = s.sim:run(b:connect("a:1/shop", "other", { retries = 5 }))
      assert.are.equal("version_mismatch", err.code)
      assert.is_true(s.sim:now_ms() - before < 100)
    end)

  it("refuses bad options by name", function()
    for _, case in ipairs({
      { { attempt = 3 }, "unknown option attempt %(did you mean attempts%?%)" },
      { { attempts = 0 }, "attempts must be a number from 1" },
      { { backoff = { jitter = 2 } }, "backoff.jitter must be" },
      { { backoff = { first = 2 } }, "unknown option first" },
      { { retry_on = "busy" }, "retry_on must be a list" },
      { { backoff = "soon" }, "is not a duration" },
    }) do
      assert.error_matches(function()
        orrery.call_with_retry(gateway, "bump", {}, case[1])
      end, case[2])
    end
    assert.error_matches(function() orrery.call_with_retry({}, "x") end,
      "a gateway is needed")
  end)
end)
