--- Rows 88 to 106: executors, timers, the life of a service.

local addresses = require("orrery.rpc.address")
local core = require("orrery.core")
local host = require("support.host")
local log = require("orrery.native.log")
local orrery = require("orrery")
local simulated = require("support.simulated")
local spec_log = require("support.log_file")
local testing = require("orrery.testing")
local utils = require("orrery.rpc.utils")

local function class(hooks)
  local C = orrery.endpoint("probe", { ping = {} })
  function C:ping() return "pong" end
  for name, fn in pairs(hooks or {}) do C[name] = fn end
  return C
end

describe("executors and timers", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local service, server, object, ran

  before_each(function()
    log.set_level("off")
    service = s.sim:service("a")
    server = service:start(class(), { id = "probe" })
    object = server.endpoint
    ran = {}
    s.sim:advance(1)
  end)
  after_each(function() log.set_level("warn") end)

  local function note(text)
    return function() ran[#ran + 1] = text or s.sim:now_ms() end
  end

  it("RPC-88 run_async is enqueued, runs once, and may fail", function()
    local text = spec_log.capture(function()
      object:run_async(note("first"))
      object:run_async(function() error("only logged") end)
      object:run_async(note("second"))
      assert.are.same({}, ran)
      s.sim:advance(5)
    end)
    assert.are.same({ "first", "second" }, ran)
    assert.is_truthy(text:find("only logged", 1, true))
    assert.are.equal("pong", s.sim:run(server.gateway:ping()))
  end)

  it("RPC-89 call_async answers the value, the error, or timeout", function()
    assert.are.equal(4, s.sim:run(object:call_async(function() return 4 end)))
    local _, err = s.sim:run(object:call_async(function() error("no") end))
    assert.is_truthy(err.message:find("no", 1, true))
    local before = s.sim:now_ms()
    _, err = s.sim:run(object:call_async(function()
      orrery.sleep(5000)
      ran[1] = "went on"
    end, "20 ms"))
    assert.are.equal("timeout", err.code)
    assert.are.equal(20, math.floor(s.sim:now_ms() - before + 0.5))
    s.sim:advance(6000)
    assert.are.same({ "went on" }, ran)
  end)

  it("RPC-90 schedule_run_async is not early and runs in the main thread",
    function()
      local inside
      local before = s.sim:now_ms()
      object:schedule_run_async("1.5 s", function(self)
        self:validate_runs_in_main_thread()
        inside = s.sim:now_ms() - before
      end)
      s.sim:advance(1499)
      assert.is_nil(inside)
      s.sim:advance(2)
      assert.is_true(inside >= 1500 and inside < 1501)
      assert.error_matches(function()
        object:schedule_run_async(-1, note("x"))
      end, "out of range")
    end)

  it("RPC-91 timers of an endpoint are dropped at its end", function()
    for i = 1, 100 do object:schedule_run_async(i * 1000, note("late")) end
    local main = object:get_main_thread_executor()
    main:schedule_at_fixed_rate(500, 500, note("beat"))
    local timers = 0
    for _ in pairs(service._executor.timers) do timers = timers + 1 end
    assert.are.equal(101, timers)
    s.sim:run(server:stop())
    assert.is_nil(next(service._executor.timers))
    s.sim:advance(200000)
    assert.are.same({}, ran)
  end)

  it("RPC-92 scheduling after the end is warned of and never runs", function()
    local main = object:get_main_thread_executor()
    s.sim:run(server:stop())
    local text = spec_log.capture(function()
      local handle = object:schedule_run_async(1, note("x"))
      assert.is_false(handle:cancel())
      handle = main:schedule(1, note("y"))
      assert.is_true(handle:is_done())
      assert.is_false(handle:cancel())
      assert.is_false(handle.future:is_done())
      s.sim:advance(100)
    end, "warn")
    assert.are.same({}, ran)
    assert.are.equal(2, select(2, text:gsub("will never run", "")))
  end)

  it("RPC-93 execute while on_stop waits still runs; later it is refused",
    function()
      local on = service:start(class({ on_stop = function(self)
        orrery.sleep(10)
        self:get_main_thread_executor():execute(note("executed"))
        self:run_async(note("posted"))
        orrery.sleep(10)
      end }))
      local probe = on.endpoint
      s.sim:run(on:stop())
      assert.are.same({ "executed", "posted" }, ran)
      local ok, err = probe:run_async(note("x"))
      assert.is_nil(ok)
      assert.are.equal("unreachable", err.code)
      ok, err = probe:get_main_thread_executor():execute(note("y"))
      assert.is_nil(ok)
      assert.are.equal("closed", err.code)
      s.sim:advance(10)
      assert.are.equal(2, #ran)
    end)

  it("RPC-94 what is scheduled before the start is held until it", function()
    service:start(class({
      init = function(self)
        self:schedule_run_async(1, note("timer"))
        self:get_main_thread_executor():schedule(2, note("scheduled"))
        self:run_async(note("posted"))
      end,
      on_start = function() orrery.sleep(100) ran[#ran + 1] = "started" end,
    }))
    s.sim:advance(50)
    assert.are.same({}, ran)
    s.sim:advance(100)
    table.sort(ran)
    assert.are.same({ "posted", "scheduled", "started", "timer" }, ran)
  end)

  it("RPC-95 what is cancelled never runs; the future says cancelled",
    function()
      for _, executor in ipairs({ service:get_scheduled_executor(),
        object:get_main_thread_executor() }) do
        local handle = executor:schedule("1 s", note("x"))
        assert.are.equal(1000, handle:get_delay())
        s.sim:advance(999)
        assert.is_true(handle:cancel())
        assert.is_false(handle:cancel())
        assert.is_true(handle:is_cancelled() and handle:is_done())
        assert.are.equal("cancelled",
          select(2, s.sim:run(handle.future)).code)
        local kept = executor:schedule("1 s", function() return "value" end)
        s.sim:advance(1001)
        assert.are.equal("value", s.sim:run(kept.future))
        assert.is_false(kept:cancel())
        assert.is_false(kept:is_cancelled())
      end
      assert.are.same({}, ran)
    end)

  local function deltas(from)
    local out = {}
    for i, at in ipairs(ran) do out[i] = math.floor(at - from + 0.5) end
    return out
  end

  it("RPC-96 fixed rate and fixed delay, on the service and on an endpoint",
    function()
      for _, executor in ipairs({ service:get_scheduled_executor(),
        object:get_main_thread_executor() }) do
        ran = {}
        local from = s.sim:now_ms()
        local handle = executor:schedule_at_fixed_rate(100, 50, function()
          ran[#ran + 1] = s.sim:now_ms()
          orrery.sleep(20)
        end)
        s.sim:advance(260)
        assert.are.same({ 100, 150, 200, 250 }, deltas(from))
        assert.is_true(handle:cancel())
        s.sim:advance(500)
        assert.are.equal(4, #ran)

        ran, from = {}, s.sim:now_ms()
        handle = executor:schedule_with_fixed_delay(0, 50, function()
          ran[#ran + 1] = s.sim:now_ms()
          orrery.sleep(20)
        end)
        s.sim:advance(215)
        assert.are.same({ 0, 70, 140, 210 }, deltas(from))
        handle:cancel()
        s.sim:advance(100)
      end
    end)

  it("RPC-96 a slow run never overlaps the next; missed beats are counted",
    function()
      local inside, most, starts = 0, 0, {}
      local from = s.sim:now_ms()
      local handle = service:get_scheduled_executor():schedule_at_fixed_rate(
        0, 10, function()
          inside = inside + 1
          most = math.max(most, inside)
          starts[#starts + 1] = math.floor(s.sim:now_ms() - from + 0.5)
          orrery.sleep(25)
          inside = inside - 1
        end)
      s.sim:advance(95)
      assert.are.same({ 0, 30, 60, 90 }, starts)
      assert.are.equal(1, most)
      assert.are.equal(6, handle.missed)
      handle:cancel()
    end)

  it("RPC-96 an error ends a periodic one and is its future's", function()
    local runs = 0
    local handle = service:get_scheduled_executor()
      :schedule_with_fixed_delay(1, 1, function()
        runs = runs + 1
        if runs == 3 then error("third") end
      end)
    s.sim:advance(50)
    assert.are.equal(3, runs)
    assert.is_true(handle:is_done())
    assert.is_truthy(select(2, s.sim:run(handle.future)).message
      :find("third", 1, true))
    assert.error_matches(function()
      service:get_scheduled_executor():schedule_at_fixed_rate(0, 0, note("x"))
    end, "more than 0")
    assert.error_matches(function() service:schedule(1, "x") end,
      "a function is needed")
  end)

  it("RPC-96 the executor of a service runs outside of endpoints", function()
    assert.are.equal("v", s.sim:run(service:execute(function()
      orrery.sleep(5)
      return "v"
    end)))
    assert.is_true(service:execute_runnable(note("runnable")))
    service:schedule_runnable(note("later"), 10)
    service:get_executor():execute(function()
      ran[#ran + 1] = orrery.current() == nil and "outside" or "inside"
    end)
    s.sim:advance(20)
    assert.are.same({ "runnable", "outside", "later" }, ran)
  end)
end)

describe("the end of a service", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local service
  before_each(function()
    log.set_level("off")
    service = s.sim:service("a")
  end)
  after_each(function() log.set_level("warn") end)

  it("RPC-97 ends all endpoints, waits for them, then the transport",
    function()
      local steps = {}
      local peer = s.sim:service("b")
      for i, ms in ipairs({ 300, 100 }) do
        service:start(class({ on_stop = function()
          steps[#steps + 1] = "stop " .. i
          orrery.sleep(ms)
          steps[#steps + 1] = "stopped " .. i
        end }), { id = "p" .. i })
      end
      local gateway = assert(s.sim:run(peer:connect("a:1/p1", "probe")))
      local timer = service:get_scheduled_executor():schedule_at_fixed_rate(
        1000, 1000, function() steps[#steps + 1] = "beat" end)
      local stopped = service:stop_service()
      -- While on_stop waits the transport stands and the endpoint serves.
      assert.are.equal("pong", s.sim:run(gateway:ping()))
      assert.is_false(stopped:is_done())
      assert.is_true(s.sim:run(stopped))
      assert.are.same({ "stop 1", "stop 2", "stopped 2", "stopped 1" }, steps)
      assert.is_true(timer:is_done())
      local _, err = s.sim:run(gateway:ping())
      assert.are.equal("unreachable", err.code)
      s.sim:advance(5000)
      assert.are.equal(4, #steps)
    end)

  it("RPC-98 with a failing endpoint everything stops; the failure is told",
    function()
      local stopped = 0
      local function stop() stopped = stopped + 1 end
      service:start(class({ on_stop = stop }))
      service:start(class({ on_stop = function() error("stuck") end }))
      service:start(class({ on_stop = stop }))
      local ok, err = s.sim:run(service:stop())
      assert.is_nil(ok)
      assert.is_truthy(tostring(err):find("stuck", 1, true))
      assert.are.equal(2, stopped)
      assert.are.equal(0, #service:endpoints())
    end)

  it("RPC-99 twice is the same future", function()
    local first = service:stop()
    assert.are.equal(first, service:stop())
    assert.is_true(s.sim:run(first))
    assert.are.equal(first, service:stop_service())
  end)

  it("RPC-100 use afterwards throws; stop_server does nothing", function()
    local server = service:start(class())
    s.sim:run(service:stop())
    for _, use in ipairs({
      function() service:start(class()) end,
      function() service:connect("x") end,
      function() service:spawn("x") end,
      function() service:role_gateway("x", { follow = function() end }) end,
    }) do
      assert.error_matches(use, "the service was stopped")
    end
    assert.is_true(s.sim:run(service:stop_server(server)))
    assert.is_true(s.sim:run(service:stop_server(server.endpoint)))
    local ok, err = service:execute_runnable(function() end)
    assert.is_nil(ok)
    assert.are.equal("closed", err.code)
    assert.are.equal("closed",
      select(2, s.sim:run(service:execute(function() end))).code)
  end)

  it("RPC-101 live endpoints end with it", function()
    local server = service:start(class())
    s.sim:advance(1)
    s.sim:run(service:stop())
    assert.is_true(server.termination:is_done())
    assert.is_true(s.sim:run(server.termination))
    assert.is_false(server:is_running())
  end)
end)

describe("addresses", function()
  local services = {}
  local function service(options)
    local made, err = orrery.service(options)
    if made then services[#services + 1] = made end
    return made, err
  end
  after_each(function()
    for _, made in ipairs(services) do made:stop():await() end
    services = {}
  end)

  it("RPC-102 the first free port of a range is taken", function()
    local base = utils.get_random_port()
    if base > 65000 then base = 50100 end
    local range = base .. "-" .. base + 20
    local a = assert(service({ bind = "127.0.0.1:" .. range }))
    local b = assert(service({ bind = "127.0.0.1:" .. range }))
    assert.is_true(a:get_port() >= base and a:get_port() <= base + 20)
    assert.is_true(b:get_port() > a:get_port())
    local c, err = service({ bind = ("127.0.0.1:%d,%d"):format(a:get_port(),
      b:get_port()) })
    assert.is_nil(c)
    assert.are.equal("address_in_use", err.code)
    c, err = service({ bind = "0.0.0.0:" .. range })
    assert.is_nil(c)
    assert.are.equal("insecure_bind", err.code)
    for _, bad in ipairs({ "9-8", "x", "70000", "1-", "" }) do
      assert.is_nil((service({ bind = "127.0.0.1:" .. bad })))
    end
  end)

  it("RPC-102 what peers are told differs from what is bound", function()
    local a = assert(service({ bind = "127.0.0.1:0",
      advertise = "LOCALHOST" }))
    assert.are.equal("localhost:" .. a:get_port(), a:get_address())
    local b = assert(service({ bind = "127.0.0.1:0" }))
    local server = a:start(class(), { id = "p" })
    assert.are.equal("localhost:" .. a:get_port() .. "/p", server.address)
    local gateway = assert(b:connect(server.address):await())
    assert.are.equal("localhost", gateway.hostname)
    assert.are.equal("pong", gateway:ping():await())
    local c = assert(service({ bind = "127.0.0.1:0",
      advertise = "example.org:7777" }))
    assert.are.equal("example.org:7777", c.address)
  end)

  it("RPC-103 have one spelling; IPv6 is normalised; Flink's is understood",
    function()
      for _, case in ipairs({
        { "Host:1/p", "host:1", "p" },
        { "[2001:DB8:0:0:0:0:0:1]:6123/job_master/a", "[2001:db8::1]:6123",
          "job_master/a" },
        { "[0:0:0:0:0:0:0:1]:5/p", "[::1]:5", "p" },
        { "[::]:5/p", "[::]:5", "p" },
        { "pekko.tcp://flink@10.0.0.7:6123/user/rpc/p", "10.0.0.7:6123", "p" },
        { "p", "", "p" }, { "task/a_1", "", "task/a_1" },
      }) do
        local place, name = addresses.split(case[1])
        assert.are.same({ case[2], case[3] }, { place, name })
      end
      for _, bad in ipairs({ "host:99999/p", "[::1:5/p", "[1:2]:5/p",
        "[::1::2]:5/p", "a b:5/p", "host:5", "x://y" }) do
        local place, err = addresses.split(bad)
        assert.is_nil(place, bad)
        assert.are.equal("bad_argument", err.code)
      end
      assert.are.equal("[fe80::1]:7/p", utils.get_rpc_url("FE80:0::1", 7, "p"))
    end)

  it("RPC-103 an IPv6 service is reached by any spelling of it", function()
    local a, err = service({ bind = "[::1]:0" })
    if not a then
      assert.is_truthy(err.message) -- this machine has no IPv6
      return
    end
    local b = assert(service({ bind = "127.0.0.1:0" }))
    a:start(class(), { id = "p" })
    for _, spelling in ipairs({ "[::1]", "[0:0:0:0:0:0:0:1]" }) do
      local gateway = assert(b:connect(spelling .. ":" .. a:get_port()
        .. "/p"):await())
      assert.are.equal("pong", gateway:ping():await())
      assert.are.equal("::1", gateway.hostname)
    end
    assert.are.equal(1, b:net_info().connections)
    local gateway
    gateway, err = b:connect("nobody:1:2/p"):await()
    assert.is_nil(gateway)
    assert.are.equal("bad_argument", err.code)
  end)

  it("RPC-104 a service without network has no host and port -1", function()
    local a = assert(service())
    assert.are.same({ "", -1, "" }, { a:get_address(), a:get_port(),
      utils.get_hostname(a) })
    local server = a:start(class(), { id = "p" })
    assert.are.equal("p", server.address)
    assert.are.equal("", server.gateway.hostname)
    assert.are.equal("pong", a:connect("p"):await():ping():await())
  end)

  it("RPC-105 an error of the event loop ends the process; one of a "
    .. "connection does not", function()
    local output, code = host.run("spec/support/fatal_script.lua", "loop")
    assert.are.equal(1, code)
    assert.is_truthy(output:find("the event loop is broken", 1, true), output)
    assert.is_nil(output:find("planned end", 1, true))
    output, code = host.run("spec/support/fatal_script.lua", "garbage")
    assert.are.equal(0, code)
    assert.is_truthy(output:find("garbage: 1", 1, true), output)
    assert.is_truthy(output:find("planned end", 1, true), output)
    assert.is_truthy(core.library())
  end)
end)

describe("the test double", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })

  it("RPC-106 replaces gateways by address and fails connects", function()
    local a, b = s.sim:service("a"), s.sim:service("b")
    a:start(class(), { id = "p" })
    local double = testing.double(b)
    double:register("rm:1/rm", {
      add = function(_, x) return x + 1 end,
      wait = function() orrery.sleep(5) return "waited" end,
      refuse = function() return nil, orrery.errors.new("declined", "no") end,
      throw = function() error("bang") end,
    })
    double:fail_connect("rm:1/rm", orrery.errors.new("fenced", "not yet"), 2)
    for _ = 1, 2 do
      local gateway, err = s.sim:run(b:connect("rm:1/rm", "rm"))
      assert.is_nil(gateway)
      assert.are.equal("fenced", err.code)
    end
    local gateway = assert(s.sim:run(b:connect("rm:1/rm", "rm")))
    assert.are.equal(3, s.sim:run(gateway:add(2)))
    assert.are.equal("waited", s.sim:run(gateway:wait()))
    assert.are.equal("declined", select(2, s.sim:run(gateway:refuse())).code)
    assert.is_truthy(select(2, s.sim:run(gateway:throw())).message
      :find("bang", 1, true))
    assert.are.equal("rm:1/rm", gateway.address)
    assert.are.same({ "add", 2 }, { gateway.calls[1].method,
      gateway.calls[1][1] })
    assert.are.equal(3, double:connects("rm:1/rm"))
    -- Others are connected for real.
    local real = assert(s.sim:run(b:connect("a:1/p")))
    assert.are.equal("pong", s.sim:run(real:ping()))
    double.only = true
    assert.are.equal("unreachable",
      select(2, s.sim:run(b:connect("a:1/p"))).code)
    double:restore()
    assert.is_truthy(s.sim:run(b:connect("a:1/p")))
  end)
end)
