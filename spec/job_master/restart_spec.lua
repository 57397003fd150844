local restart = require("orrery.job_master.restart")

local function delays(strategy, times)
  local out = {}
  for i, t in ipairs(times) do
    local d = strategy:decide(t)
    out[i] = d.restart and d.delay_ms or false
  end
  return out
end

describe("restart strategies", function()
  it("the default is fixed-delay, 3 attempts, 1 s", function()
    assert.same({ 1000, 1000, 1000, false },
      delays(restart.new(nil), { 1, 2, 3, 4 }))
    assert.same({ 1000, false },
      delays(restart.new({ attempts = 1 }), { 1, 2 }))
  end)

  it("none never restarts", function()
    for _, name in ipairs({ "none", "off", "disable" }) do
      assert.same({ false }, delays(restart.new({ type = name }), { 1 }))
    end
  end)

  it("B-02 fixed-delay restarts exactly n times", function()
    local s = restart.new({ type = "fixed-delay", attempts = 2, delay = "7 s" })
    assert.same({ 7000, 7000, false, false }, delays(s, { 0, 1, 2, 3 }))
    assert.matches("2 of 2", s:decide(9).reason)
  end)

  it("B-03 failure-rate counts in a sliding window", function()
    local s = restart.new({ type = "failure-rate", delay = 5,
      ["max-failures-per-interval"] = 2, ["failure-rate-interval"] = 100 })
    assert.same({ 5, 5, false }, delays(s, { 0, 50, 99 }))
    assert.same({ 5, 5, false }, delays(s, { 300, 310, 320 }))
    s = restart.new({ type = "failure-rate", delay = 5,
      ["max-failures-per-interval"] = 2, ["failure-rate-interval"] = 100 })
    assert.same({ 5, 5, 5, 5 }, delays(s, { 0, 50, 100, 150 }))
  end)

  it("B-04 exponential-delay multiplies, caps, and resets when it was quiet",
    function()
      local s = restart.new({ type = "exponential-delay",
        ["initial-backoff"] = 100, ["max-backoff"] = 350,
        ["backoff-multiplier"] = 2, ["jitter-factor"] = 0,
        ["reset-backoff-threshold"] = 1000 })
      assert.same({ 100, 200, 350, 350 }, delays(s, { 0, 101, 400, 900 }))
      assert.same({ 100 }, delays(s, { 900 + 350 + 1000 }))
    end)

  it("B-04 jitter goes both ways and never above the cap", function()
    local function first(random)
      return restart.new({ type = "exponential-delay",
        ["initial-backoff"] = 100, ["max-backoff"] = 105,
        ["jitter-factor"] = 0.1 }, function() return random end)
        :decide(0).delay_ms
    end
    assert.equal(90, first(0))
    assert.equal(100, first(0.5))
    assert.equal(105, first(0.999))
  end)

  it("B-05 failures within the back-off belong to the same attempt", function()
    local s = restart.new({ type = "exponential-delay",
      ["initial-backoff"] = 100, ["jitter-factor"] = 0,
      ["attempts-before-reset-backoff"] = 1 })
    assert.is_true(s:decide(0).is_new_attempt)
    local merged = s:decide(40)
    assert.is_true(merged.restart)
    assert.is_false(merged.is_new_attempt)
    assert.equal(60, merged.delay_ms)
    assert.is_false(s:decide(101).restart)
  end)

  it("options out of bounds are refused with their names", function()
    for key, options in pairs({
      type = { type = "sometimes" },
      attempts = { type = "fixed-delay", attempts = -1 },
      delay = { type = "fixed-delay", delay = "soon" },
      ["jitter-factor"] = { type = "exponential-delay",
        ["jitter-factor"] = 2 },
      ["max-backoff"] = { type = "exponential-delay",
        ["initial-backoff"] = 10, ["max-backoff"] = 5 },
    }) do
      local s, err = restart.new(options)
      assert.is_nil(s)
      assert.equal("bad_argument", err.code)
      assert.truthy(err.message:find(key, 1, true), err.message)
    end
  end)
end)
