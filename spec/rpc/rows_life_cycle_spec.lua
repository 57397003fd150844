-- Rows 12 to 33 of docs/rpc_rows.md: the life of an endpoint.

local orrery = require("orrery")
local simulated = require("support.simulated")

local Future = orrery.Future

describe("life cycle:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local service, log

  before_each(function()
    service, log = s.sim:service("a"), {}
  end)

  local function note(text) log[#log + 1] = text end

  local function class(hooks, options)
    local C = orrery.endpoint("probe", { ping = {}, late = {},
      hint = { tell = true }, fatal = {} }, options)
    function C:ping() note("ping") return "pong" end
    function C:late() orrery.sleep(1000) return "late" end
    function C:hint() note("hint") end
    function C:fatal(code)
      return nil, orrery.errors.new(code or "fatal", "broken")
    end
    for name, fn in pairs(hooks or {}) do C[name] = fn end
    return C
  end

  local function code_of(future)
    local value, err = s.sim:run(future)
    assert.is_nil(value)
    return err.code, err
  end

  it("RPC-12 making an endpoint takes its name and address, not started",
    function()
      local server = service:create_server(class(), { id = "p" })
      assert.are.equal("a:1/p", server.address)
      assert.are.equal("a:1/p", server:get_address())
      assert.are.equal("a:1/p", server.endpoint:get_address())
      assert.are.equal("p", server.endpoint:get_endpoint_id())
      assert.are.equal(service, server.endpoint:get_rpc_service())
      assert.is_false(server:is_running())
      assert.are.equal("exists", select(2,
        service:create_server(class(), { id = "p" })).code)
    end)

  it("RPC-13 a call before the start fails at once, a tell is dropped",
    function()
      local server = service:create_server(class())
      assert.are.equal("not_started", (code_of(server.gateway:ping())))
      server.gateway:hint()
      s.sim:advance(10)
      server:start()
      assert.are.equal("pong", s.sim:run(server.gateway:ping()))
      assert.are.same({ "ping" }, log)
    end)

  it("RPC-14 on_start runs in the main thread; it is running by then",
    function()
      local seen
      local server = service:create_server(class({ on_start = function(self)
        self:validate_runs_in_main_thread()
        seen = self:is_running()
      end }))
      s.sim:advance(5)
      assert.is_nil(seen)
      assert.is_true(server:start())
      s.sim:advance(1)
      assert.is_true(seen)
    end)

  it("RPC-15 a start while started does nothing", function()
    local server = service:start(class({ on_start = function()
      note("start")
      orrery.sleep(5)
    end }))
    assert.is_true(server:start())
    s.sim:advance(50)
    assert.is_true(server:start())
    s.sim:advance(50)
    assert.are.same({ "start" }, log)
  end)

  it("RPC-16 a failed on_start ends it without on_stop; the termination names "
    .. "it and has the cause", function()
    local server = service:start(class({
      on_start = function() error("no disk") end,
      on_stop = function() note("on_stop") end,
    }), { id = "p" })
    local _, err = code_of(server.termination)
    assert.is_truthy(err.message:find("endpoint p could not be started", 1,
      true))
    assert.is_truthy(err.cause.message:find("no disk", 1, true))
    assert.are.same({}, log)
    assert.are.equal("unreachable", (code_of(service:connect("p"))))
  end)

  it("RPC-17 suspend answers not_started after what waited; a later start "
    .. "runs on_start again", function()
    local starts = 0
    local server = service:start(class({
      on_start = function() starts = starts + 1 end,
      on_stop = function() note("on_stop") end,
    }))
    s.sim:advance(1)
    local before = server.gateway:ping()
    assert.is_true(server:suspend())
    local after = server.gateway:ping()
    assert.are.equal("pong", s.sim:run(before))
    assert.are.equal("not_started", (code_of(after)))
    assert.is_false(server:is_running())
    assert.are.equal("not_started", (code_of(server.gateway:ping())))
    assert.is_false(server.termination:is_done())
    server.endpoint:run_async(function() note("held") end)
    s.sim:advance(10)
    assert.are.same({ "ping" }, log)
    assert.is_true(server:start())
    assert.are.equal("pong", s.sim:run(server.gateway:ping()))
    assert.are.equal(2, starts)
    assert.are.same({ "ping", "held", "ping" }, log)
    s.sim:run(server:stop())
    assert.are.equal("on_stop", log[4])
  end)

  it("RPC-17 a start right behind a suspend starts anew; an end of a suspended "
    .. "one runs on_stop", function()
    local starts = 0
    local server = service:start(class({
      on_start = function() starts = starts + 1 end,
      on_stop = function(self)
        note(self:call_async(function() return "posted" end):await())
      end,
    }))
    server:suspend()
    server:start()
    s.sim:advance(1)
    assert.are.equal(2, starts)
    server:suspend()
    s.sim:advance(1)
    assert.is_true(s.sim:run(server:stop()))
    assert.are.same({ "posted" }, log)
  end)

  it("RPC-18 close_async answers the termination future and does not wait",
    function()
      local server = service:start(class({ on_stop = function()
        orrery.sleep(100)
      end }))
      s.sim:advance(1)
      local gateway = server.gateway
      local future = server.endpoint:close_async()
      assert.is_false(future:is_done())
      assert.are.equal(future, server:get_termination_future())
      assert.are.equal(future, service:stop_server(server))
      assert.is_true(s.sim:run(future))
      assert.are.equal("unreachable", (code_of(gateway:ping())))
    end)

  it("RPC-19 on_stop runs in the main thread", function()
    local server = service:start(class({ on_stop = function(self)
      self:validate_runs_in_main_thread()
      note("on_stop")
    end }))
    assert.is_true(s.sim:run(server:close_async()))
    assert.are.same({ "on_stop" }, log)
  end)

  it("RPC-20 it serves until the future of on_stop is done", function()
    local done = Future.new()
    local server = service:start(class({ on_stop = function(self)
      self:run_async(function() note("posted") end)
      return done
    end }))
    local stopped = server:stop()
    s.sim:advance(10)
    assert.are.equal("pong", s.sim:run(server.gateway:ping()))
    assert.is_false(server:is_running())
    assert.are.same({ "posted", "ping" }, log)
    done:resolve(true)
    assert.is_true(s.sim:run(stopped))
  end)

  it("RPC-21 it ends right when on_stop is done: calls under way and in the "
    .. "queue fail at once", function()
    local server = service:start(class())
    local gateway = server.gateway
    s.sim:advance(1)
    local late = gateway:late()
    s.sim:advance(1)
    local queued
    server.endpoint:run_async(function()
      server:stop()
      queued = gateway:ping()
    end)
    assert.is_true(s.sim:run(server.termination))
    local at = s.sim:now_ms()
    assert.are.equal("callee_died", (code_of(late)))
    assert.are.equal("unreachable", (code_of(queued)))
    assert.is_true(s.sim:now_ms() - at < 10)
  end)

  it("RPC-22 a failing on_stop is in the termination; it ends all the same",
    function()
      for _, on_stop in ipairs({
        function() error("stuck") end,
        function() return nil, orrery.errors.new("stuck", "stuck") end,
        function() return Future.rejected("stuck") end,
      }) do
        local server = service:start(class({ on_stop = on_stop }), { id = "p" })
        local _, err = code_of(server:stop())
        assert.is_truthy(err.cause.message:find("stuck", 1, true))
        assert.are.equal("unreachable", (code_of(service:connect("p"))))
      end
    end)

  it("RPC-23 two ends run on_stop once", function()
    local server = service:start(class({ on_stop = function()
      note("on_stop")
      orrery.sleep(10)
    end }))
    s.sim:advance(1)
    local first = server:stop()
    s.sim:advance(5)
    assert.are.equal(first, server.endpoint:close_async())
    s.sim:run(first)
    assert.are.equal(first, server:stop())
    assert.are.same({ "on_stop" }, log)
  end)

  it("RPC-24 the end of one that was never started is a success, without "
    .. "on_stop", function()
    local server = service:create_server(class({ on_stop = function()
      note("on_stop")
    end }), { id = "p" })
    assert.is_true(s.sim:run(server:stop()))
    assert.are.same({}, log)
    assert.is_truthy(service:start(class(), { id = "p" }))
  end)

  it("RPC-25 start and suspend while it stops are refused politely", function()
    local server = service:start(class({ on_stop = function()
      orrery.sleep(50)
    end }))
    local sibling = service:start(class())
    s.sim:advance(1)
    local stopped = server:stop()
    s.sim:advance(10)
    for _, step in ipairs({ "start", "suspend" }) do
      local ok, err = server[step](server)
      assert.is_nil(ok)
      assert.are.equal("invalid_state", err.code)
      assert.is_truthy(err.message:find("it is stopping", 1, true))
    end
    assert.is_true(s.sim:run(stopped))
    assert.are.equal("invalid_state", select(2, server:start()).code)
    assert.are.equal("pong", s.sim:run(sibling.gateway:ping()))
  end)

  it("RPC-26 registered resources are closed before on_stop, the last first",
    function()
      local server = service:start(class({
        init = function(self)
          self:register_closeable(function() note("first") end)
          self:register_closeable({ close = function(it)
            note(it.name)
          end, name = "second" })
          local gone = self:register_closeable(function() note("gone") end)
          assert.is_true(self:unregister_closeable(gone))
          assert.is_false(self:unregister_closeable(gone))
        end,
        on_stop = function() note("on_stop") end,
      }))
      assert.is_true(s.sim:run(server:stop()))
      assert.are.same({ "second", "first", "on_stop" }, log)
      local late, err = server.endpoint:register_closeable(function()
        note("late")
      end)
      assert.is_nil(late)
      assert.are.equal("unreachable", err.code)
      assert.are.equal("late", log[4])
      assert.error_matches(function()
        server.endpoint:register_closeable(7)
      end, "something with a method close is needed, got number")
    end)

  it("RPC-26 one that cannot be closed fails the termination; the others and "
    .. "on_stop still run", function()
    local server = service:start(class({
      on_start = function(self)
        self:register_closeable(function() note("first") end)
        self:register_closeable(function() error("busy") end)
        self:register_closeable(function()
          return Future.rejected("late and busy")
        end)
      end,
      on_stop = function() note("on_stop") end,
    }))
    s.sim:advance(1)
    local _, err = code_of(server:stop())
    assert.is_truthy(err.cause.message:find("late and busy", 1, true))
    assert.are.same({ "first", "on_stop" }, log)
  end)

  it("RPC-26 resources are closed after a crash and without a start, too",
    function()
      local C = class({
        init = function(self)
          self:register_closeable(function() note("closed") end)
        end,
        on_start = function() error("x") end,
      })
      s.sim:run(service:start(C).termination)
      s.sim:run(service:create_server(C):stop())
      assert.are.same({ "closed", "closed" }, log)
    end)

  it("RPC-27 is_running from before on_start until on_stop has returned",
    function()
      local seen = {}
      local function look(self) seen[#seen + 1] = self:is_running() end
      local server = service:start(class({
        init = look, on_start = look,
        on_stop = function(self)
          look(self)
          orrery.sleep(1)
          look(self)
        end,
      }))
      s.sim:advance(1)
      look(server.endpoint)
      s.sim:run(server:stop())
      look(server.endpoint)
      assert.are.same({ false, true, true, true, false, false }, seen)
    end)

  it("RPC-28 an end that nobody asked for is never a success", function()
    local server = service:start(class({}, { restart = {
      fatal = { "fatal" } } }))
    assert.is_false(server.termination:is_done())
    server.gateway:fatal()
    assert.are.equal("crashed", (code_of(server.termination)))
    local other = service:start(class())
    other.endpoint:crash("out of luck")
    local _, err = code_of(other.termination)
    assert.is_truthy(err.cause.message:find("out of luck", 1, true))
  end)

  it("RPC-29 a callback of the termination can start an endpoint of the same "
    .. "name", function()
    local second
    local server = service:start(class(), { id = "p" })
    server.termination:on_done(function()
      second = assert(service:start(class(), { id = "p" }))
    end)
    s.sim:run(server:stop())
    s.sim:advance(1)
    assert.are.equal("pong", s.sim:run(second.gateway:ping()))
  end)

  it("RPC-31 a name is refused while alive, and then gives the same address",
    function()
      local server = service:start(class(), { id = "p" })
      local second, err = service:start(class(), { id = "p" })
      assert.is_nil(second)
      assert.are.equal("exists", err.code)
      s.sim:run(server:stop())
      local third = service:start(class(), { id = "p" })
      assert.are.equal(server.address, third.address)
    end)

  it("RPC-32 an endpoint without id gets a random one behind its name",
    function()
      local seen = {}
      for _ = 1, 100 do
        local id = service:start(class()).id
        assert.is_truthy(id:match("^probe_%x+$"))
        assert.are.equal(#"probe_" + 16, #id)
        assert.is_nil(seen[id])
        seen[id] = true
      end
    end)

  it("RPC-33 a name that ends with * is the one live endpoint that begins so",
    function()
      local server = service:start(class(), { id = "job_77_ab" })
      service:start(class(), { id = "other" })
      local b = s.sim:service("b")
      for _, from in ipairs({ service, b }) do
        local gateway = assert(s.sim:run(from:connect("a:1/job_77_*")))
        assert.are.equal("a:1/job_77_ab", gateway.address)
        assert.are.equal("pong", s.sim:run(gateway:ping()))
      end
      service:start(class(), { id = "job_77_cd" })
      local _, err = code_of(b:connect("a:1/job_77_*"))
      assert.is_truthy(err.message:find("2 endpoints match job_77_*", 1, true))
      s.sim:run(server:stop())
      assert.are.equal("a:1/job_77_cd",
        s.sim:run(b:connect("a:1/job_77_*")).address)
      assert.are.equal("unreachable", (code_of(b:connect("a:1/task_*"))))
    end)

  describe("a crash:", function()
    local function restarting(hooks, restart)
      restart.backoff = restart.backoff or "100ms"
      return class(hooks, { restart = restart })
    end

    it("RPC-30 stays with its endpoint", function()
      local sibling = service:start(class())
      local server = service:start(class({}, { restart = {
        fatal = function(err) return err.code == "fatal" end } }))
      local late = server.gateway:late()
      s.sim:advance(1)
      local _, err = code_of(server.gateway:fatal())
      assert.are.equal("fatal", err.cause.code)
      assert.are.equal("callee_died", (code_of(late)))
      _, err = code_of(server.termination)
      assert.are.equal("crashed", err.code)
      assert.are.equal("fatal", err.cause.code)
      assert.are.equal("pong", s.sim:run(sibling.gateway:ping()))
      assert.is_false(sibling.termination:is_done())
    end)

    it("RPC-30 other failures of handlers are no crash", function()
      local server = service:start(restarting({}, { policy = "on_failure",
        fatal = { "fatal" } }))
      local object = server.endpoint
      code_of(server.gateway:fatal("harmless"))
      assert.are.equal("pong", s.sim:run(server.gateway:ping()))
      assert.are.equal(object, server.endpoint)
    end)

    it("RPC-30 is followed by a new object with the same arguments, name and "
      .. "gateways", function()
      local lives = {}
      local server = service:start(restarting({
        init = function(self, word)
          self.word, self.n = word, 0
          lives[#lives + 1] = self
          self:register_closeable(function() note("closed") end)
        end,
        on_start = function() note("start") end,
        on_stop = function() note("on_stop") end,
      }, { policy = "on_failure", fatal = { "fatal" } }),
        { id = "p", args = { "w" } })
      local far = assert(s.sim:run(
        s.sim:service("b"):connect("a:1/p", "probe")))
      lives[1]:schedule_run_async(50, function() note("old timer") end)
      code_of(far:fatal())
      assert.are.equal("not_started", (code_of(far:ping())))
      s.sim:advance(200)
      assert.are.equal("pong", s.sim:run(far:ping()))
      assert.are.equal("pong", s.sim:run(server.gateway:ping()))
      assert.are.equal(2, #lives)
      assert.are.equal("w", lives[2].word)
      assert.are.equal(lives[2], server.endpoint)
      assert.are.same({ "start", "closed", "start", "ping", "ping" }, log)
      assert.is_nil(lives[1]:run_async(function() note("old work") end))
      assert.is_true(s.sim:run(server:stop()))
      assert.are.same({ "closed", "on_stop" }, { log[6], log[7] })
    end)

    it("RPC-30 backs off longer each time, and ends above the limit", function()
      local starts = {}
      local server = service:start(restarting({ on_start = function()
        starts[#starts + 1] = s.sim:now_ms()
        error("no disk")
      end }, { policy = "on_failure", max = 3, within = "1min",
        backoff = "100ms", backoff_max = "150ms" }), { id = "p" })
      local sibling = service:start(class())
      local _, err = code_of(server.termination)
      assert.are.equal("crashed", err.code)
      assert.is_truthy(err.message:find("endpoint p crashed 4 times within "
        .. "1 min, the limit is 3", 1, true))
      assert.is_truthy(tostring(err):find("no disk", 1, true))
      assert.are.equal(4, #starts)
      for i, delay in ipairs({ 100, 150, 150 }) do
        local took = starts[i + 1] - starts[i]
        assert.is_true(took >= delay and took < delay + 5, tostring(took))
      end
      assert.are.equal("pong", s.sim:run(sibling.gateway:ping()))
      assert.is_truthy(service:start(class(), { id = "p" }))
    end)

    it("RPC-30 counts only the crashes of the last while", function()
      local server = service:start(restarting({}, { policy = "on_failure",
        max = 1, within = "1s", backoff = 1, fatal = { "fatal" } }))
      for _ = 1, 5 do
        code_of(server.gateway:fatal())
        s.sim:advance(1500)
      end
      assert.are.equal("pong", s.sim:run(server.gateway:ping()))
      code_of(server.gateway:fatal())
      s.sim:advance(10)
      code_of(server.gateway:fatal())
      assert.are.equal("crashed", (code_of(server.termination)))
    end)

    it("RPC-30 of posted work and of a tell counts as well", function()
      local lives = 0
      local C = restarting({ init = function() lives = lives + 1 end },
        { policy = "on_failure", fatal = { "error" }, backoff = 1 })
      C.hint = function() error("bad hint") end
      local server = service:start(C)
      server.gateway:hint()
      s.sim:advance(10)
      server.endpoint:run_async(function() error("bad work") end)
      s.sim:advance(10)
      assert.are.equal(3, lives)
    end)

    it("RPC-30 always: an end that the endpoint wanted itself is followed by a "
      .. "new life, its owner's is not", function()
      local lives = 0
      local server = service:start(restarting({
        init = function() lives = lives + 1 end,
        on_stop = function() note("on_stop") end,
      }, { policy = "always" }))
      s.sim:advance(1)
      server.endpoint:close_async()
      s.sim:advance(500)
      assert.are.equal(2, lives)
      assert.are.equal("pong", s.sim:run(server.gateway:ping()))
      assert.is_true(s.sim:run(server:stop()))
      assert.are.equal(2, lives)
    end)

    it("RPC-30 an end while it waits for its next life is the crash", function()
      local server = service:start(restarting({}, { policy = "on_failure",
        fatal = { "fatal" }, backoff = "1min" }))
      code_of(server.gateway:fatal())
      s.sim:advance(100)
      local other = service:start(restarting({}, { policy = "on_failure",
        fatal = { "fatal" }, backoff = "1min" }))
      assert.are.equal("crashed", (code_of(server:stop())))
      code_of(other.gateway:fatal())
      assert.are.equal("crashed", (code_of(service:stop())))
    end)

    it("RPC-30 a bad policy is refused with the reason", function()
      for _, case in ipairs({
        { { policy = "sometimes" }, "always" }, { { max = 0 }, "restart.max" },
        { { fatal = 7 }, "restart.fatal" }, { { backof = 1 }, "backof; it" },
        { { within = "soon" }, "not a duration" }, { 1, "restart is a table" },
      }) do
        assert.error_matches(function()
          class({}, { restart = case[1] })
        end, case[2])
        assert.error_matches(function()
          service:start(class(), { restart = case[1] })
        end, case[2])
      end
    end)
  end)
end)
