local orrery = require("orrery")
local simulated = require("support.simulated")

local Counter = orrery.endpoint("counter", { add = { timeout = "2s" } })
function Counter:init() self.n = 0 end
function Counter:add(k) self.n = self.n + k return self.n end

describe("between two hosts", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 11, latency_ms = { 1, 5 } })
  local a, b, server, gateway

  before_each(function()
    a, b = s.sim:service("a"), s.sim:service("b")
    server = a:start(Counter, { id = "counter" })
    gateway = assert(s.sim:run(b:connect("a:1/counter", "counter")))
  end)

  it("a call takes the latency of the way there and back", function()
    local before = s.sim:now_ms()
    assert.are.equal(1, s.sim:run(gateway:add(1)))
    local took = s.sim:now_ms() - before
    assert.is_true(took >= 2 and took <= 40, tostring(took))
  end)

  it("a partition makes calls expire, healing makes them work", function()
    s.sim:partition({ "a" }, { "b" })
    local before = s.sim:now_ms()
    local _, err = s.sim:run(gateway:add(1))
    assert.is_truthy(err.code:match("^expired_"), err.code)
    local took = s.sim:now_ms() - before
    assert.is_true(took >= 2000 and took <= 2300, tostring(took))
    s.sim:heal()
    assert.is_truthy(s.sim:run(gateway:add(1)))
  end)

  it("a reset fails the calls under way at once, the next one dials", function()
    local future = gateway:add(1)
    s.sim:step()
    assert.is_true(s.sim:reset_connections("a", "b") >= 1)
    local before = s.sim:now_ms()
    local _, err = s.sim:run(future)
    assert.are.equal("unreachable", err.code)
    assert.is_true(s.sim:now_ms() - before < 100)
    assert.is_truthy(s.sim:run(gateway:add(1)))
  end)

  it("a crash is unreachable at once; a new life is not the old", function()
    s.sim:crash("a")
    local _, err = s.sim:run(gateway:add(1))
    assert.are.equal("unreachable", err.code)
    s.sim:restart("a")
    local again = s.sim:service("a")
    assert.are.equal("a:1", again.address)
    again:start(Counter, { id = "counter" })
    _, err = s.sim:run(gateway:add(1))
    assert.are.equal("unreachable", err.code)
    local fresh = s.sim:run(b:connect("a:1/counter", "counter"))
    assert.are.equal(1, s.sim:run(fresh:add(1)))
  end)

  it("an endpoint's end is told at once, not by a timeout", function()
    s.sim:run(server:stop())
    local before = s.sim:now_ms()
    local _, err = s.sim:run(gateway:add(1))
    assert.are.equal("unreachable", err.code)
    assert.is_true(s.sim:now_ms() - before < 100)
  end)

  it("another cluster is refused", function()
    local c = s.sim:service("c", { cluster_id = "other" })
    local connected, err = s.sim:run(c:connect("a:1/counter", "counter"))
    assert.is_nil(connected)
    assert.are.equal("version_mismatch", err.code)
  end)

  it("an argument above the frame size reaches the handler", function()
    local big = ("x"):rep(20 * 1024 * 1024)
    local _, err = s.sim:run(gateway:add(big))
    assert.are.equal("remote", err.code)
    assert.is_truthy(err.message:find("arithmetic", 1, true), err.message)
    assert.are.equal(1, s.sim:run(gateway:add(1)))
  end)
end)

describe("a fenced endpoint", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local Leader = orrery.endpoint({ name = "leader", fenced = true,
    methods = { whoami = {} } })
  function Leader:whoami() return self.id end
  local token = { epoch = 7, session = ("s"):rep(16) }

  it("serves its own token and refuses others and none", function()
    local a, b = s.sim:service("a"), s.sim:service("b")
    local server = a:start(Leader, { id = "leader", token = token })
    assert.are.equal("leader", s.sim:run(server.gateway:whoami()))
    local function ask(t)
      local g = assert(s.sim:run(b:connect("a:1/leader", "leader",
        { token = t })))
      return s.sim:run(g:whoami())
    end
    assert.are.equal("leader", ask(token))
    local other = ("t"):rep(16)
    for _, wrong in ipairs({ { epoch = 6, session = token.session },
      { epoch = 8, session = token.session },
      { epoch = 7, session = other }, false }) do
      local v, err = ask(wrong or nil)
      assert.is_nil(v)
      assert.are.equal("fenced", err.code)
    end
  end)

  it("needs a token, and a proper one", function()
    local a = s.sim:service("a")
    assert.error_matches(function() a:start(Leader) end, "it needs a token")
    assert.error_matches(function()
      a:start(Leader, { token = { epoch = 1, session = "short" } })
    end, "16 bytes")
  end)
end)
