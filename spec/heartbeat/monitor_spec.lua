local monitors = require("orrery.heartbeat.monitor")

describe("heartbeat monitor", function()
  local function new(threshold)
    local m = monitors.new({
      timeout_ms = 50, failure_threshold = threshold or 2,
    })
    m:monitor("tm", 0)
    return m
  end

  it("G-10 every message re-arms the timeout", function()
    local m = new()
    assert.equal(50, m:deadline())
    assert.is_true(m:heard("tm", 30))
    assert.equal(80, m:deadline())
    m:tick(79)
    assert.same({}, m:take())
    m:tick(80)
    local lost = m:take()
    assert.equal("TIMEOUT", lost[1].state)
    assert.is_nil(m:deadline())
  end)

  it("G-11 unreachable answers in a row count, one success resets them",
    function()
      local m = new()
      m:unreachable("tm", 1)
      m:heard("tm", 2)
      m:unreachable("tm", 3)
      assert.same({}, m:take())
      m:unreachable("tm", 4)
      assert.equal("UNREACHABLE", m:take()[1].state)
    end)

  it("G-11 the threshold -1 switches that off", function()
    local m = new(-1)
    for i = 1, 10 do m:unreachable("tm", i) end
    assert.same({}, m:take())
  end)

  it("G-12 the loss is told once and the states are final", function()
    local m = new(1)
    m:unreachable("tm", 1)
    m:unreachable("tm", 2)
    m:tick(100)
    assert.equal(1, #m:take())
    for _, final in ipairs({ "TIMEOUT", "UNREACHABLE", "CANCELED" }) do
      assert.is_true(monitors.states:allows("RUNNING", final))
      assert.is_true(monitors.states:is_terminal(final))
    end
    m = new()
    m:unmonitor("tm", 1)
    m:tick(100)
    assert.same({}, m:take())
  end)

  it("G-13 messages of unmonitored ids are ignored", function()
    local m = new()
    assert.is_false(m:heard("stranger", 1))
    m:unreachable("stranger", 1)
    m:unreachable("stranger", 1)
    assert.same({}, m:take())
    assert.same({ "tm" }, m:ids())
  end)
end)
