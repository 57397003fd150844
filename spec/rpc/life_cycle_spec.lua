local orrery = require("orrery")
local simulated = require("support.simulated")

describe("an endpoint", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local service, log

  before_each(function()
    service = s.sim:service("a")
    log = {}
  end)

  local function note(text) log[#log + 1] = text end

  local function class(hooks)
    local C = orrery.endpoint("probe", { ping = {}, late = {} })
    function C:ping() note("ping") return "pong" end
    function C:late() orrery.sleep(1000) return "late" end
    for name, fn in pairs(hooks or {}) do C[name] = fn end
    return C
  end

  it("has service, id and address when init runs", function()
    local seen
    local server = service:start(class({ init = function(self, x, y)
      seen = { self.id, self.address, self.service == service, x, y }
    end }), { id = "p", args = { 1, nil, n = 2 } })
    assert.are.same({ "p", "a:1/p", true, 1 }, seen)
    assert.are.equal("a:1/p", server.address)
    assert.are.equal("a:1/p", server.gateway.address)
    assert.are.equal("a", server.gateway.hostname)
  end)

  it("gets an id of its own when none is given", function()
    local a, b = service:start(class()), service:start(class())
    assert.is_truthy(a.id:match("^probe_%x+$"))
    assert.are_not.equal(a.id, b.id)
  end)

  it("runs on_start before the first call, also when it awaits", function()
    local server = service:start(class({ on_start = function()
      note("starting")
      orrery.sleep(50)
      note("started")
    end }))
    assert.are.equal("pong", s.sim:run(server.gateway:ping()))
    assert.are.same({ "starting", "started", "ping" }, log)
  end)

  it("holds work that was posted or scheduled before the start", function()
    local server = service:start(class({
      init = function(self)
        self:run_async(function() note("posted") end)
        self:schedule_run_async(1, function() note("scheduled") end)
      end,
      on_start = function() orrery.sleep(20) note("started") end,
    }))
    s.sim:advance(30)
    assert.are.same({ "started", "posted", "scheduled" }, log)
    assert.is_true(server:is_running())
  end)

  it("ends when on_start fails; on_stop does not run", function()
    local server = service:start(class({
      on_start = function() error("no disk") end,
      on_stop = function() note("on_stop") end,
    }), { id = "p" })
    local ok, err = s.sim:run(server.termination)
    assert.is_nil(ok)
    assert.is_truthy(err.message:find("endpoint p could not be started", 1,
      true))
    assert.is_truthy(err.cause.message:find("no disk", 1, true))
    assert.are.same({}, log)
    assert.is_truthy(service:start(class(), { id = "p" }))
  end)

  it("ends when on_start answers nil, err or a future that fails", function()
    local E = orrery.errors.new("no_quorum", "alone")
    local a = service:start(class({ on_start = function() return nil, E end }))
    local b = service:start(class({ on_start = function()
      return orrery.Future.rejected(E)
    end }))
    assert.are.equal("no_quorum",
      select(2, s.sim:run(a.termination)).cause.code)
    assert.are.equal("no_quorum",
      select(2, s.sim:run(b.termination)).cause.code)
  end)

  it("answers nil, err from start when init throws", function()
    local server, err = service:start(class({ init = function()
      error("bad argument")
    end }), { id = "p" })
    assert.is_nil(server)
    assert.is_truthy(err.message:find("bad argument", 1, true))
    assert.is_truthy(service:start(class(), { id = "p" }))
  end)

  it("handles what waits, then stops, once", function()
    local server = service:start(class({ on_stop = function()
      note("on_stop")
    end }))
    local ping = server.gateway:ping()
    local first, second = server:stop(), server:stop()
    assert.are.equal(first, second)
    assert.are.equal("pong", s.sim:run(ping))
    assert.is_true(s.sim:run(first))
    assert.are.same({ "ping", "on_stop" }, log)
    local _, err = s.sim:run(server.gateway:ping())
    assert.are.equal("unreachable", err.code)
  end)

  it("serves while on_stop waits, and is not running then", function()
    local server, running
    server = service:start(class({ on_stop = function(self)
      orrery.sleep(100)
      running = self:is_running()
    end }))
    s.sim:advance(1)
    local stopped = server:stop()
    s.sim:advance(10)
    assert.are.equal("pong", s.sim:run(server.gateway:ping()))
    assert.is_false(stopped:is_done())
    s.sim:run(stopped)
    assert.is_false(running)
  end)

  it("answers callee_died for calls under way at its end", function()
    local server = service:start(class())
    local late = server.gateway:late()
    s.sim:advance(10)
    server:stop()
    local _, err = s.sim:run(late)
    assert.are.equal("callee_died", err.code)
  end)

  it("terminates with the cause when on_stop fails", function()
    local server = service:start(class({ on_stop = function()
      error("still open")
    end }))
    local ok, err = s.sim:run(server:stop())
    assert.is_nil(ok)
    assert.is_truthy(err.cause.message:find("still open", 1, true))
  end)

  it("does not run timers and tasks after its end", function()
    local server = service:start(class({ on_start = function(self)
      self:schedule_run_async(500, function() note("timer") end)
      self:run_async(function()
        orrery.sleep(500)
        note("task")
      end)
    end }))
    s.sim:advance(10)
    s.sim:run(server:stop())
    s.sim:advance(1000)
    assert.are.same({}, log)
  end)

  it("refuses a name that is alive, and takes it again after", function()
    local server = service:start(class(), { id = "p" })
    local second, err = service:start(class(), { id = "p" })
    assert.is_nil(second)
    assert.are.equal("exists", err.code)
    s.sim:run(server:stop())
    assert.are.equal("a:1/p", service:start(class(), { id = "p" }).address)
  end)

  it("that crashes leaves its siblings alone", function()
    local bad = service:start(class({ on_start = function() error("x") end }))
    local good = service:start(class())
    s.sim:run(bad.termination)
    assert.are.equal("pong", s.sim:run(good.gateway:ping()))
  end)
end)

describe("a service", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })

  local function class(on_stop)
    local C = orrery.endpoint("probe", {})
    C.on_stop = on_stop
    return C
  end

  it("stops its endpoints; the future carries a failure", function()
    local service = s.sim:service("a")
    local stopped = 0
    local a = service:start(class(function() stopped = stopped + 1 end))
    local b = service:start(class(function() error("stuck") end))
    local future = service:stop()
    assert.are.equal(future, service:stop())
    local ok, err = s.sim:run(future)
    assert.is_nil(ok)
    assert.is_truthy(err.cause.message:find("stuck", 1, true))
    assert.are.equal(1, stopped)
    assert.is_true(a.termination:is_done() and b.termination:is_done())
  end)

  it("refuses use after stop by name", function()
    local service = s.sim:service("a")
    s.sim:run(service:stop())
    assert.has_error(function() service:start(class()) end,
      "service:start: the service was stopped")
    assert.has_error(function() service:connect("x") end,
      "service:connect: the service was stopped")
  end)

  it("refuses what is not a class, and unknown options", function()
    local service = s.sim:service("a")
    assert.has_error(function() service:start({}) end,
      "service:start: a class made by orrery.endpoint is needed")
    assert.error_matches(function()
      service:start(class(), { ids = "x" })
    end, "unknown option ids %(did you mean id%?%)")
  end)

  it("refuses a class without its methods", function()
    local service = s.sim:service("a")
    local C = orrery.endpoint("probe", { ping = {}, pong = {} })
    function C:ping() end
    assert.error_matches(function() service:start(C) end,
      "class probe lacks the methods: pong")
  end)
end)

describe("a class", function()
  it("is refused with the reason", function()
    for _, case in ipairs({
      { { "bad name", {} }, "a name of letters" },
      { { "x", { init = {} } }, "taken by every endpoint" },
      { { "x", { with = {} } }, "taken by every endpoint" },
      { { "x", { ["a b"] = {} } }, "letters, digits" },
      { { "x", { a = { timeot = 1 } } }, "unknown option timeot" },
      { { "x", { a = { timeout = "soon" } } }, "is not a duration" },
      { { "x", { a = { lane = "fast" } } }, "lane is" },
      { { "x", { a = 1 } }, "options must be a table" },
      { { "x", 1 }, "methods must be a table" },
    }) do
      assert.error_matches(function()
        orrery.endpoint(case[1][1], case[1][2])
      end, case[2])
    end
  end)
end)
