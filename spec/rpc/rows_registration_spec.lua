-- Rows 107 to 111 of docs/rpc_rows.md: registration and heartbeats.

local orrery = require("orrery")
local connections = require("orrery.ha.connection")
local directories = require("orrery.ha.directory")
local heartbeats = require("orrery.heartbeat.manager")
local simulated = require("support.simulated")
local Leaders = require("orrery.ha.leaders")

-- The defaults of docs/configuration.md, in milliseconds.
local CONFIG = {
  ["rpc.lookup-timeout"] = 10000,
  ["cluster.registration.initial-timeout"] = 100,
  ["cluster.registration.max-timeout"] = 30000,
  ["cluster.registration.error-delay"] = 10000,
  ["cluster.registration.refused-registration-delay"] = 30000,
  ["heartbeat.interval"] = 10000, ["heartbeat.timeout"] = 50000,
  ["heartbeat.rpc-failure-threshold"] = 2,
}

local function config(key) return assert(CONFIG[key], key) end

local function token(epoch)
  return { epoch = epoch, session = ("s"):rep(16) }
end

local Registrar = orrery.fenced_endpoint("registrar", { register = {} })
function Registrar:init(record) self.record = record end
function Registrar:register(name)
  return self.record(name, self:get_fencing_token())
end

local Client = orrery.endpoint("client", {})

describe("registration:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 5, latency_ms = { 1, 1 } })
  local a, b, directory, attempts, answer, connection, events, started

  before_each(function()
    a, b = s.sim:service("a"), s.sim:service("b")
    directory, attempts, events = directories.new(), {}, {}
    started = s.sim:now_ms()
    assert(a:start(Leaders, { id = "leaders",
      args = { { directory = directory } } }))
    local client = assert(b:start(Client)).endpoint
    connection = connections.new({
      endpoint = client, config = config, directory = "a:1",
      role = "registrar", gateway = "registrar",
      register = function(gateway, timeout_ms)
        attempts[#attempts + 1] = { at = s.sim:now_ms() - started,
          limit = timeout_ms }
        return gateway:with({ timeout = timeout_ms }):register("b")
      end,
      on_connected = function(_, _, t) events[#events + 1] = t.epoch end,
      on_lost = function() events[#events + 1] = "lost" end,
      on_rejected = function() events[#events + 1] = "rejected" end,
    })
  end)

  local function lead(epoch)
    local id = "registrar_" .. epoch
    local server = assert(a:start(Registrar, { id = id, token = token(epoch),
      args = { function(name, t) return answer(name, t, #attempts) end } }))
    directory:confirm("registrar", { address = "a:1/" .. id,
      token = token(epoch) })
    return server
  end

  local function limits()
    local out = {}
    for i, attempt in ipairs(attempts) do out[i] = attempt.limit end
    return out
  end

  it("RPC-107 connects, then registers with 100 ms that double up to 30 s",
    function()
      answer = function(_, _, n)
        if n < 11 then orrery.sleep("1h") end
        return { type = "success" }
      end
      lead(1)
      connection:start()
      s.sim:advance("5min")
      assert.are.same({ 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600,
        30000, 30000 }, limits())
      assert.are.same({ 1 }, events)
      for i = 2, #attempts do
        local gap = attempts[i].at - attempts[i - 1].at
        local limit = attempts[i - 1].limit
        assert.is_true(gap >= limit and gap < limit + 250,
          ("attempt %d came after %g ms"):format(i, gap))
      end
    end)

  it("RPC-108 waits 10 s after an error and 30 s after a refusal, then begins "
    .. "at 100 ms; it never gives up", function()
    answer = function(_, _, n)
      if n == 1 then error("broken") end
      if n == 2 then orrery.sleep("1h") end
      if n < 20 then return { type = "failure", reason = "not now" } end
      return { type = "success" }
    end
    lead(1)
    connection:start()
    s.sim:advance("20min")
    assert.are.equal(20, #attempts)
    assert.are.same({ 1 }, events)
    local seen = limits()
    assert.are.same({ 100, 100, 200, 100, 100 },
      { seen[1], seen[2], seen[3], seen[4], seen[5] })
    local function gap(i) return attempts[i + 1].at - attempts[i].at end
    assert.is_true(gap(1) >= 10000 and gap(1) < 10100, gap(1))
    for i = 3, 19 do
      assert.is_true(gap(i) >= 30000 and gap(i) < 30100, gap(i))
    end
  end)

  it("RPC-108 a rejection and a cancel end it", function()
    answer = function() return { type = "rejection" } end
    lead(1)
    connection:start()
    s.sim:advance("5min")
    assert.are.same({ "rejected" }, events)
    assert.are.equal(1, #attempts)
    answer = function() return { type = "failure" } end
    connection:reconnect()
    s.sim:advance("10s")
    assert.are.equal(2, #attempts)
    connection:stop()
    s.sim:advance("5min")
    assert.are.equal(2, #attempts)
  end)

  it("RPC-109 an address that cannot be resolved is tried for ever, 10 s apart",
    function()
      answer = function() return { type = "success" } end
      directory:confirm("registrar", { address = "a:1/registrar_1",
        token = token(1) })
      connection:start()
      s.sim:advance("10min")
      assert.are.equal(0, #attempts)
      assert.are.same({}, events)
      local at = s.sim:now_ms()
      lead(1)
      while #events == 0 do s.sim:advance(100) end
      assert.are.same({ 1 }, events)
      assert.is_true(s.sim:now_ms() - at < 10200)
    end)

  it("RPC-110 each leader session has its own connection; late answers of an "
    .. "earlier one are nothing", function()
    answer = function(_, t)
      if t.epoch == 2 then orrery.sleep(60) end
      return { type = "success" }
    end
    local first = lead(1)
    connection:start()
    s.sim:advance(50)
    assert.are.same({ 1 }, events)
    local gateway = connection.gateway
    lead(2)
    s.sim:advance(20)
    assert.are.same({ 1, "lost" }, events)
    assert.is_nil(connection.gateway)
    lead(3)
    s.sim:advance(200)
    assert.are.same({ 1, "lost", 3 }, events)
    assert.are_not.equal(gateway, connection.gateway)
    assert.are.equal(3, connection.gateway:get_fencing_token().epoch)
    assert.are.equal(1, gateway:get_fencing_token().epoch)
    s.sim:run(first:stop())
    s.sim:advance(1000)
    assert.are.same({ 1, "lost", 3 }, events)
  end)
end)

describe("heartbeats:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 5, latency_ms = { 1, 1 } })
  local a, b, beats, payloads, lost, manager, target

  local Target = orrery.endpoint("target", {
    heartbeat = { lane = "control", timeout = "50s" } })
  function Target:init(silent) self.silent = silent end
  function Target:heartbeat()
    if self.silent() then orrery.sleep("1h") end
    return { slots = 4 }
  end

  local is_silent

  before_each(function()
    a, b = s.sim:service("a"), s.sim:service("b")
    beats, payloads, lost, is_silent = {}, 0, {}, false
    target = assert(b:start(Target, { id = "target",
      args = { function() return is_silent end } }))
    local gateway = assert(s.sim:run(a:connect("b:1/target", "target")))
    local owner = assert(a:start(orrery.endpoint("owner", {}))).endpoint
    manager = heartbeats.new({
      endpoint = owner, config = config,
      send = function()
        beats[#beats + 1] = s.sim:now_ms()
        return gateway:heartbeat()
      end,
      on_payload = function(_, payload)
        payloads = payloads + payload.slots
      end,
      on_lost = function(id, err)
        lost[#lost + 1] = { id = id, at = s.sim:now_ms(),
          state = err.context.state, message = err.message }
      end,
    })
    manager:monitor("b")
  end)

  it("RPC-111 every 10 s the target is asked and answers with its payload",
    function()
      s.sim:advance("61s")
      assert.are.equal(7, #beats)
      for i = 2, #beats do
        local gap = beats[i] - beats[i - 1]
        assert.is_true(gap >= 10000 and gap < 10050, gap)
      end
      assert.are.equal(28, payloads)
      assert.are.same({}, lost)
    end)

  it("RPC-111 50 s of silence is a loss, told once", function()
    s.sim:advance("15s")
    local heard = beats[2]
    is_silent = true
    s.sim:advance("3min")
    assert.are.equal(1, #lost)
    assert.are.equal("TIMEOUT", lost[1].state)
    local after = lost[1].at - heard
    assert.is_true(after >= 50000 and after < 50100, after)
  end)

  it("RPC-111 two calls in a row that find nobody are a loss, one is not",
    function()
      s.sim:advance("15s")
      s.sim:run(target:stop())
      s.sim:advance("10s")
      assert.are.same({}, lost)
      s.sim:advance("10s")
      assert.are.equal(1, #lost)
      assert.are.equal("UNREACHABLE", lost[1].state)
      assert.is_falsy(manager:is_monitored("b"))
    end)
end)
