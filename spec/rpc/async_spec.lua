local orrery = require("orrery")
local simulated = require("support.simulated")

describe("work on an endpoint", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local Worker = orrery.endpoint("worker", { step = {}, twice = {} })
  local service, server, object, log

  function Worker:step(x) log[#log + 1] = x end
  function Worker:twice()
    log[#log + 1] = "in"
    orrery.sleep(10)
    log[#log + 1] = "out"
  end

  before_each(function()
    log = {}
    service = s.sim:service("a")
    server = service:start(Worker)
    object = server.endpoint
    s.sim:advance(1)
  end)

  it("run_async keeps its place among the calls", function()
    server.gateway:step(1)
    object:run_async(function(self)
      log[#log + 1] = self == object and 2
    end)
    server.gateway:step(3)
    s.sim:advance(5)
    assert.are.same({ 1, 2, 3 }, log)
  end)

  it("run_async that throws is logged; the endpoint lives", function()
    object:run_async(function() error("only logged") end)
    s.sim:advance(1)
    s.sim:run(server.gateway:step(1))
    assert.are.same({ 1 }, log)
  end)

  it("call_async answers the value or the error", function()
    assert.are.equal(5, s.sim:run(object:call_async(function() return 5 end)))
    local _, err = s.sim:run(object:call_async(function() error("bang") end))
    assert.is_truthy(err.message:find("bang", 1, true))
    _, err = s.sim:run(object:call_async(function() orrery.sleep(500) end, 20))
    assert.are.equal("timeout", err.code)
  end)

  it("call_async of an endpoint that ends is rejected", function()
    local stopped = server:stop()
    local future = object:call_async(function() return 1 end)
    s.sim:run(stopped)
    local _, err = s.sim:run(future)
    assert.are.equal("unreachable", err.code)
    _, err = s.sim:run(object:call_async(function() return 1 end))
    assert.are.equal("unreachable", err.code)
  end)

  it("schedule_run_async is never early, and can be cancelled", function()
    local at
    local start = s.sim:now_ms()
    object:schedule_run_async(100, function() at = s.sim:now_ms() end)
    local handle = object:schedule_run_async(50, function()
      log[#log + 1] = "cancelled work ran"
    end)
    assert.is_true(handle:cancel())
    assert.is_false(handle:cancel())
    s.sim:advance(99.9)
    assert.is_nil(at)
    s.sim:advance(0.1)
    assert.are.equal(100, at - start)
    assert.are.same({}, log)
    assert.has_error(function()
      object:schedule_run_async(-1, function() end)
    end)
  end)

  it("handlers interleave only where they await", function()
    server.gateway:twice()
    server.gateway:step("between")
    s.sim:advance(20)
    assert.are.same({ "in", "between", "out" }, log)
  end)

  it("validate_runs_in_main_thread tells inside from outside", function()
    assert.error_matches(function()
      object:validate_runs_in_main_thread()
    end, "not a handler of worker")
    assert.is_true(s.sim:run(object:call_async(function(self)
      self:validate_runs_in_main_thread()
      return true
    end)))
  end)

  it("a continuation runs on the endpoint that registered it", function()
    local seen
    s.sim:run(object:call_async(function(self)
      local f = orrery.Future.new()
      f:on_done(function() seen = orrery.current() == self end)
      service:schedule(5, function() f:resolve(1) end)
    end))
    s.sim:advance(10)
    assert.is_true(seen)
  end)

  it("the service schedules and executes outside of endpoints", function()
    local ran
    service:schedule("1 s", function() ran = orrery.current() == nil end)
    local handle = service:schedule(10, function() error("not run") end)
    assert.is_true(handle:cancel())
    s.sim:advance(1000)
    assert.is_true(ran)
    assert.are.equal("v", s.sim:run(service:execute(function()
      return "v"
    end)))
  end)

  it("ten thousand posted functions and calls never overlap", function()
    local inside, most, ran = 0, 0, 0
    for _ = 1, 5000 do
      object:run_async(function()
        inside = inside + 1
        most = math.max(most, inside)
        ran = ran + 1
        inside = inside - 1
      end)
      server.gateway:step("x")
    end
    s.sim:advance(1000)
    assert.are.equal(5000, ran)
    assert.are.equal(5000, #log)
    assert.are.equal(1, most)
  end)
end)
