--- Rows 49 to 62: timeouts, errors, peers that are gone.

local core = require("orrery.core")
local host = require("support.host")
local log = require("orrery.native.log")
local orrery = require("orrery")
local simulated = require("support.simulated")
local spec_log = require("support.log_file")

local Probe = orrery.endpoint("probe", {
  slow = { timeout = "2s" }, plain = {}, count = {}, throw = {}, later = {},
  hungry = {}, reply_late = { timeout = 50 }, note = { tell = true },
})

function Probe:init() self.done = 0 end
function Probe:slow(ms)
  orrery.sleep(ms)
  self.done = self.done + 1
  return "slow"
end
function Probe:plain(ms) orrery.sleep(ms) return "plain" end
function Probe:reply_late(ms) orrery.sleep(ms) return "late" end
function Probe:count() return self.done end
function Probe:note() self.done = self.done + 1 end
function Probe:throw() error("the disk is full") end
function Probe:later()
  local f = orrery.Future.new()
  self:schedule_run_async(10, function()
    f:reject(orrery.errors.new("disk_full", "no room",
      { context = { free = 0 } }))
  end)
  return f
end
-- LuaJIT refuses the length before it allocates.
function Probe:hungry() return #("xx"):rep(0x7ffffff0) end

local function has(text, ...)
  for _, word in ipairs({ ... }) do
    assert.is_truthy(text:find(word, 1, true), word .. " in: " .. text)
  end
end

describe("timeouts", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b, server, gateway

  before_each(function()
    log.set_level("off")
    a, b = s.sim:service("a"), s.sim:service("b", { timeout = "3 s" })
    server = a:start(Probe, { id = "probe" })
    gateway = assert(s.sim:run(b:connect("a:1/probe", "probe")))
  end)
  after_each(function() log.set_level("warn") end)

  local function took(future)
    local before = s.sim:now_ms()
    local value, err = s.sim:run(future)
    return s.sim:now_ms() - before, value, err
  end

  it("RPC-49 the limit of a call beats its method's, that beats the service's",
    function()
      for _, case in ipairs({
        { gateway:with({ timeout = "700 ms" }):slow(60000), 700 },
        { gateway:slow(60000), 2000 },
        { gateway:plain(60000), 3000 },
        { gateway:with({ timeout = "1.5 s" }):plain(60000), 1500 },
      }) do
        local ms, _, err = took(case[1])
        assert.are.equal("expired_in_handler", err.code)
        assert.are.equal(case[2], err.context.limit_ms)
        assert.is_true(ms <= case[2] + 250, tostring(ms))
      end
      assert.are.equal("plain",
        s.sim:run(gateway:with({ timeout = "1 min" }):plain(30000)))
      local default = s.sim:service("c")
      local other = assert(s.sim:run(default:connect("a:1/probe")))
      local _, err = s.sim:run(other:plain(60000))
      assert.are.equal(10000, err.context.limit_ms)
    end)

  it("RPC-50 the text names method, recipient, limit, phase and what to change",
    function()
      local _, err = s.sim:run(gateway:slow(60000))
      has(err.message, "probe: probe.slow", "a:1", "2 s", "in the handler",
        "gateway:with{ timeout = }", "rpc.ask-timeout")
      assert.are.same({ "slow", "probe", "a:1", 2000, "in the handler" }, {
        err.context.method, err.context.endpoint, err.context.address,
        err.context.limit_ms, err.context.phase })
      -- A silent loss is another phase: the peer cannot say where it is.
      s.sim:partition({ "a" }, { "b" })
      _, err = s.sim:run(gateway:slow(1))
      assert.are.equal("expired_unknown", err.code)
      has(err.message, "in a phase that the peer did not tell")
    end)

  local function waiter(proxy)
    return orrery.async(function()
      local value, err = proxy:slow(60000):await()
      return value, err
    end)
  end

  it("RPC-51 the stack of who waits is told, and can be switched off",
    function()
      local _, err = s.sim:run(waiter(gateway))
      has(err.traceback, "rows_failures_spec.lua")
      assert.is_nil(err.traceback:find("gateway.lua", 1, true))
      b._ask_callstack = false
      local quiet = assert(s.sim:run(b:connect("a:1/probe", "probe")))
      _, err = s.sim:run(waiter(quiet))
      assert.are.equal("expired_in_handler", err.code)
      assert.is_nil(err.traceback)
    end)

  it("RPC-52 the callee is not cancelled: its work is done all the same",
    function()
      local _, err = s.sim:run(gateway:with({ timeout = 100 }):slow(500))
      assert.are.equal("expired_in_handler", err.code)
      s.sim:advance(1000)
      assert.are.equal(1, s.sim:run(gateway:count()))
    end)

  it("RPC-53 a late reply is dropped; the future was done once", function()
    local calls = 0
    local future = gateway:reply_late(120)
    future:on_done(function() calls = calls + 1 end)
    local _, err = s.sim:run(future)
    assert.are.equal("expired_in_handler", err.code)
    s.sim:advance(1000)
    assert.are.equal(1, calls)
    assert.are.equal(err, select(2, future:peek()))
    assert.are.equal(0, s.sim:run(gateway:count()))
  end)

  it("RPC-54 what a handler throws is the cause, with its stack", function()
    local _, err = s.sim:run(gateway:throw())
    assert.are.equal("remote", err.code)
    has(err.cause.message, "the disk is full")
    has(err.cause.traceback, "rows_failures_spec.lua")
    assert.are.equal(0, s.sim:run(gateway:count()))
  end)

  it("RPC-55 so is what the handler's future fails with", function()
    local _, err = s.sim:run(gateway:later())
    assert.are.equal("remote", err.code)
    assert.are.equal("disk_full", err.cause.code)
    assert.are.equal(0, err.cause.context.free)
  end)

  it("RPC-56 a lack of memory fails the call, typed and logged, everywhere",
    function()
      local text = spec_log.capture(function()
        local _, err = s.sim:run(gateway:hungry())
        assert.are.equal("remote", err.code)
        assert.are.equal("no_memory", err.cause.code)
        local object = server.endpoint
        _, err = s.sim:run(object:call_async(object.hungry))
        assert.are.equal("no_memory", err.code)
        object:run_async(object.hungry)
        object:schedule_run_async(1, object.hungry)
        s.sim:advance(10)
      end)
      local _, lines = text:gsub("no_memory", "")
      assert.are.equal(3, lines, text)
      assert.are.equal(0, s.sim:run(gateway:count()))
    end)

  it("RPC-57 an ask to a stopped endpoint of the process fails at once",
    function()
      local own = server.gateway
      s.sim:run(server:stop())
      local ms, _, err = took(own:slow(1))
      assert.are.equal("unreachable", err.code)
      assert.are.equal(0, math.floor(ms))
    end)

  it("RPC-58 an ask to a stopped endpoint elsewhere fails by one round trip",
    function()
      s.sim:run(server:stop())
      local ms, _, err = took(gateway:slow(1))
      assert.are.equal("unreachable", err.code)
      assert.is_true(ms < 50, tostring(ms))
    end)

  -- A peer that went away: what is dialled when, seen by the time of failures.
  it("RPC-61 after a broken connection nobody dials for 50 ms", function()
    local counted = b:net_info().connections
    assert.are.equal(1, counted)
    s.sim:crash("a")
    s.sim:advance(1)
    local first = took(gateway:slow(1))
    assert.is_true(first <= 60, tostring(first))
    local before = s.sim:now_ms()
    local _, err = s.sim:run(gateway:slow(1))
    assert.are.equal("unreachable", err.code)
    local second = s.sim:now_ms() - before
    assert.is_true(second >= 45 and second <= 70, tostring(second))
    -- Many callers, one dial.
    local calls = {}
    before = s.sim:now_ms()
    for i = 1, 20 do calls[i] = gateway:slow(1) end
    for i = 1, 20 do
      assert.are.equal("unreachable", select(2, s.sim:run(calls[i])).code)
    end
    assert.is_true(s.sim:now_ms() - before <= 70)
    s.sim:restart("a")
    s.sim:service("a"):start(Probe, { id = "probe" })
    assert.is_truthy(s.sim:run(b:connect("a:1/probe", "probe")))
  end)

  it("RPC-61 calls made while the gate is closed are sent when it opens",
    function()
      local peer = assert(s.sim:run(b:connect("a:1/probe", "probe")))
      s.sim:reset_connections("a", "b")
      s.sim:advance(6)
      local ms, value = took(peer:count())
      assert.are.equal(0, value)
      assert.is_true(ms >= 40 and ms <= 80, tostring(ms))
    end)

  it("RPC-62 a call is delivered at most once, also over a broken connection",
    function()
      for _ = 1, 30 do
        local call = gateway:slow(0)
        s.sim:advance(s.sim:chance():below(12))
        s.sim:reset_connections("a", "b")
        local value, err = s.sim:run(call)
        assert.is_true(value == "slow" or err.code == "unreachable"
          or err.code:match("^expired") ~= nil)
      end
      s.sim:advance(5000)
      local count = s.sim:run(gateway:count())
      assert.is_true(count <= 30 and count > 0, tostring(count))
      -- A tell that meets a dead connection is lost without a word.
      s.sim:partition({ "a" }, { "b" })
      assert.is_true(gateway:note())
      s.sim:reset_connections("a", "b")
      s.sim:advance(100)
      s.sim:heal()
      s.sim:advance(5000)
      assert.are.equal(count, s.sim:run(gateway:count()))
    end)
end)

describe("over real sockets", function()
  local services = {}
  local function service()
    local made = assert(orrery.service({ bind = "127.0.0.1:0" }))
    services[#services + 1] = made
    return made
  end
  after_each(function()
    for _, made in ipairs(services) do made:stop():await() end
    services = {}
  end)

  local function ms_of(fn)
    local executor = services[1]._executor
    local before = executor:now_ms()
    local value, err = fn()
    return executor:now_ms() - before, value, err
  end

  it("RPC-59 a peer whose process died fails calls at once", function()
    local own = service()
    local pipe = io.popen(host.command("spec/support/counter_process.lua"))
    local address = pipe:read("*l")
    local counter = assert(own:connect(address, "counter"):await())
    counter:die()
    local ms, _, err = ms_of(function() return counter:add(1):await() end)
    assert.are.equal("unreachable", err.code)
    assert.is_true(ms < 5000, tostring(ms))
    pipe:close()
    ms, _, err = ms_of(function() return counter:add(1):await() end)
    assert.are.equal("unreachable", err.code)
    assert.is_true(ms < 2000, tostring(ms))
  end)

  it("RPC-59 a refused connection fails the connect at once", function()
    local own, other = service(), service()
    local address = other.address
    other:stop():await()
    local ms, gateway, err = ms_of(function()
      return own:connect(address .. "/probe"):await()
    end)
    assert.is_nil(gateway)
    assert.are.equal("unreachable", err.code)
    assert.is_true(ms < 2000, tostring(ms))
    assert.is_truthy(core.library())
  end)
end)
