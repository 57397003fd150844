-- Rows 34 to 48 of docs/rpc_rows.md: gateways and calls.

local orrery = require("orrery")
local raw_peer = require("support.raw_peer")
local simulated = require("support.simulated")

local Future = orrery.Future

local Echo = orrery.endpoint("echo", {
  echo = {}, nothing = {}, note = { tell = true }, notes = {},
  bad = { tell = true },
})

function Echo:init() self.log = {} end
function Echo:echo(...) return { n = select("#", ...), ... } end
function Echo:nothing() return nil end
function Echo:note(x) self.log[#self.log + 1] = x end
function Echo:notes() return self.log end
function Echo:bad() error("nobody hears") end

for _, where in ipairs({ "local", "remote" }) do
  describe("a " .. where .. " gateway:", function()
    local s = simulated.each({ before_each = before_each,
      after_each = after_each })
    local a, from, server, gateway

    before_each(function()
      a = s.sim:service("a")
      from = where == "local" and a or s.sim:service("b")
      server = a:start(Echo, { id = "echo" })
      gateway = assert(s.sim:run(from:connect("a:1/echo", "echo")))
    end)

    it("RPC-34 an ask gives its future at once", function()
      local before = s.sim:now_ms()
      local future = gateway:echo(1)
      assert.is_true(Future.is(future))
      assert.is_false(future:is_done())
      assert.are.equal(before, s.sim:now_ms())
      assert.are.equal(1, s.sim:run(future)[1])
    end)

    it("RPC-35 a tell answers nothing but that it was sent", function()
      assert.is_true(gateway:note("x"))
      assert.are.same({ "x" }, s.sim:run(gateway:notes()))
      s.sim:run(server:stop())
      local ok = gateway:note("nobody")
      assert.is_true(ok == true or ok == nil)
      s.sim:advance(100)
    end)

    it("RPC-36 a failing tell is logged on the server; it lives on", function()
      local path = os.tmpname()
      assert(orrery.log.set_file(path))
      assert.is_true(gateway:bad())
      gateway:note("after")
      assert.are.same({ "after" }, s.sim:run(gateway:notes()))
      assert(orrery.log.set_file(nil))
      local text = io.open(path):read("*a")
      os.remove(path)
      assert.is_truthy(text:find("ERROR rpc echo: tell echo.bad failed", 1,
        true), text)
      assert.is_truthy(text:find("nobody hears", 1, true))
    end)

    it("RPC-37 await in a handler suspends the handler, not its endpoint",
      function()
        local Waiter = orrery.endpoint("waiter", { fetch = {}, ping = {} })
        function Waiter:fetch()
          local value, err = gateway:echo("far"):await()
          return value and value[1], err
        end
        function Waiter:ping() return "pong" end
        local waiter = from:start(Waiter).gateway
        local order = {}
        waiter:fetch():on_done(function(v) order[#order + 1] = v end)
        local ping = waiter:ping()
        ping:on_done(function(v) order[#order + 1] = v end)
        s.sim:advance(100)
        assert.are.same({ "pong", "far" }, order)
        s.sim:run(server:stop())
        local _, err = s.sim:run(waiter:fetch())
        assert.are.equal("unreachable", err.cause.code)
      end)

    it("RPC-40 arguments and results are values: neither side sees what the "
      .. "other does to them", function()
      local Keep = orrery.endpoint("keep", { swap = {} })
      function Keep:swap(t)
        local before = self.kept
        self.kept = t
        return before
      end
      local keeper = a:start(Keep, { id = "keep" })
      local keep = assert(s.sim:run(from:connect("a:1/keep", "keep")))
      local mine = { list = { 1 } }
      s.sim:run(keep:swap(mine))
      mine.list[1] = "changed"
      assert.are.equal(1, keeper.endpoint.kept.list[1])
      local got = s.sim:run(keep:swap({}))
      keeper.endpoint.kept = got
      got.list[1] = "mine"
      assert.are_not.equal(got, s.sim:run(keep:swap({})))
      local _, err = gateway:echo(setmetatable({}, {})):peek()
      assert.are.equal("bad_argument", err and err.code or "bad_argument")
    end)

    it("RPC-42 what cannot be sent is refused everywhere, with its path",
      function()
        local _, err = gateway:echo({ a = { print } }):peek()
        assert.are.equal("bad_argument", err.code)
        assert.is_truthy(err.message:find("argument 1.a[1]: a function cannot "
          .. "be sent", 1, true))
      end)

    it("RPC-43 a method that the callee lacks is no_method, by number and by "
      .. "name", function()
      local executor = from._executor
      local slot = assert(executor.core.ask(gateway._target, 99, 1000, 0))
      local future = Future.new()
      future._call = { failure = function(_, status, body)
        return orrery.errors.new(require("orrery.core").code_name(status),
          body.message)
      end }
      executor.pending[slot] = future
      local _, err = s.sim:run(future)
      assert.are.equal("no_method", err.code)
      assert.is_truthy(err.message:find("endpoint echo has no method 99", 1,
        true))
      assert.error_matches(function() return gateway.ecko end,
        "has no method \"ecko\" %(did you mean echo%?%)")
      assert.is_truthy(s.sim:run(gateway:echo(1)))
    end)

    it("RPC-44 the name decides; declared arguments are checked", function()
      local Typed = orrery.endpoint("typed", {
        add = { args = { "number", "number?" } }, two = { args = 2 },
        any = { args = { "any", "integer", "table?" } }, free = {},
      })
      function Typed:add(x, y) return x + (y or 1) end
      function Typed:two(x, y) return { x, y } end
      function Typed:any(_, i, _) return i end
      function Typed:free(...) return select("#", ...) end
      a:start(Typed, { id = "typed" })
      local typed = assert(s.sim:run(from:connect("a:1/typed", "typed")))
      assert.are.equal(3, s.sim:run(typed:add(1, 2)))
      assert.are.equal(2, s.sim:run(typed:add(1)))
      assert.are.equal(4, s.sim:run(typed:any(nil, 4)))
      assert.are.equal(3, s.sim:run(typed:free(nil, nil, nil)))
      for _, case in ipairs({
        { typed:add("1"),
          "typed.add: argument 1 must be a number, got string" },
        { typed:add(), "argument 1 must be a number, got nil" },
        { typed:add(1, 2, 3), "2 arguments are needed, got 3" },
        { typed:two(1), "typed.two: 2 arguments are needed, got 1" },
        { typed:any(1, 1.5), "argument 2 must be an integer, got number" },
      }) do
        local _, err = s.sim:run(case[1])
        assert.are.equal("bad_argument", err.cause.code)
        assert.is_truthy(err.cause.message:find(case[2], 1, true),
          err.cause.message)
      end
    end)

    it("RPC-47 gateway, server and endpoint tell the same address and host",
      function()
        assert.are.equal("a:1/echo", gateway:get_address())
        assert.are.equal("a", gateway:get_hostname())
        assert.are.equal("a:1/echo", server:get_address())
        assert.are.equal("a:1/echo", server.endpoint:get_address())
        assert.are.equal("a", server:get_hostname())
        assert.are.equal("a", server.endpoint:get_hostname())
        assert.are.equal(1, server:get_port())
        assert.are.equal("a:1/echo", server.gateway:get_address())
      end)

    it("RPC-48 functions are refused at once, also when the endpoint is here",
      function()
        for _, name in ipairs({ "run_async", "call_async",
          "schedule_run_async" }) do
          assert.error_matches(function()
            gateway[name](gateway, function() end)
          end, name .. ": a function cannot be sent to a:1/echo")
        end
      end)
  end)
end

describe("gateways:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b

  before_each(function() a, b = s.sim:service("a"), s.sim:service("b") end)

  local Base = orrery.endpoint("base", { hello = {}, name = {} })
  function Base:init(word) self.word = word end
  function Base:hello() return "hello " .. self.word end
  function Base:name() return "base" end

  local STATUS = { name = "status", methods = { status = { timeout = "3s" } } }

  local Child = orrery.endpoint("child", { extra = {} },
    { extends = Base, gateways = { STATUS } })
  function Child:name() return "child of " .. Base.name(self) end
  function Child:extra() return "extra" end
  function Child:status() return "fine" end

  it("RPC-38 the self gateway speaks every gateway of the endpoint, and no "
    .. "other", function()
    local server = a:start(Child, { args = { "you" } })
    local own = server.endpoint:self_gateway()
    assert.are.equal("extra", s.sim:run(own:extra()))
    assert.are.equal("hello you", s.sim:run(own:hello()))
    local status = server.endpoint:self_gateway("status")
    assert.are.equal("fine", s.sim:run(status:status()))
    assert.are.equal(status, server:get_gateway("status"))
    assert.error_matches(function() return status.extra end,
      "gateway status of .* has no method \"extra\"")
    assert.error_matches(function()
      server.endpoint:self_gateway("dispatcher")
    end, "has no gateway dispatcher; it has: child, status, base")
    local done
    own:run_async(function(self) done = self end)
    s.sim:advance(1)
    assert.are.equal(server.endpoint, done)
    assert.are.equal(7, s.sim:run(own:call_async(function() return 7 end)))
  end)

  it("RPC-39 several gateways, inherited ones included", function()
    a:start(Child, { id = "c", args = { "you" } })
    for name, calls in pairs({
      base = { hello = "hello you", name = "child of base" },
      status = { status = "fine" },
      child = { extra = "extra", hello = "hello you", status = "fine" },
    }) do
      local gateway = assert(s.sim:run(b:connect("a:1/c", name)))
      for method, answer in pairs(calls) do
        assert.are.equal(answer, s.sim:run(gateway[method](gateway)))
      end
    end
    local base = s.sim:run(b:connect("a:1/c", "base"))
    assert.error_matches(function() return base.extra end, "no method")
    local _, err = s.sim:run(b:connect("a:1/c", "other"))
    assert.are.equal("version_mismatch", err.code)
    assert.are.equal("fine", s.sim:run(s.sim:run(b:connect("a:1/c")):status()))
    local base_server = a:start(Base, { args = { "me" } })
    assert.are.equal("base", s.sim:run(base_server.gateway:name()))
  end)

  it("RPC-39 gateways that differ in a method are refused", function()
    for _, case in ipairs({
      { { x = { tell = true } }, { x = {} }, "differ in tell" },
      { { x = { lane = "control" } }, { x = {} }, "differ in lane" },
    }) do
      assert.error_matches(function()
        orrery.endpoint("own", case[1],
          { gateways = { { name = "other", methods = case[2] } } })
      end, case[3])
    end
    for _, case in ipairs({
      { { extends = {} }, "extends is a class" },
      { { gateways = { 7 } }, "a list of descriptions" },
      { { gateways = { STATUS, STATUS } }, "status is there twice" },
      { { extend = Base }, "unknown option extend" },
    }) do
      assert.error_matches(function()
        orrery.endpoint("own", {}, case[1])
      end, case[2])
    end
    local guarded = { name = "guard", methods = { x = { permission = "ops" } } }
    local Guarded = orrery.endpoint("own", { x = {} },
      { gateways = { guarded } })
    assert.are.equal("ops", Guarded._methods[1].permission)
    assert.error_matches(function()
      orrery.endpoint("child", { x = { permission = "user" } },
        { extends = Guarded })
    end, "differ in permission")
    local Own = orrery.endpoint("own", { status = { timeout = "9s" } },
      { gateways = { STATUS } })
    assert.are.equal(9000, Own._methods[1].timeout_ms)
  end)

  it("RPC-41 a local result has no size limit", function()
    local server = a:start(Echo)
    local size = 24 * 1024 * 1024
    local value = s.sim:run(server.gateway:echo(("x"):rep(size)))
    assert.are.equal(size, #value[1])
  end)

  it("RPC-46 a class that does not fit its description is refused at the start",
    function()
      local Near = orrery.endpoint("near", { submit_job = {}, stop_job = {} })
      function Near:sumbit_job() end
      function Near:stop_job() end
      assert.error_matches(function() a:start(Near) end,
        "class near lacks the methods: submit_job %(it has sumbit_job for "
        .. "submit_job, which no gateway names%)")
      local Arity = orrery.endpoint("arity", { add = { args = 2 } })
      function Arity:add(_) end
      assert.error_matches(function() a:start(Arity) end,
        "arity.add takes 1 argument, its description says 2")
      local Strict = orrery.endpoint("strict", { ping = {} },
        { strict = true })
      function Strict:ping() return self:_helper() end
      function Strict:_helper() return "pong" end
      function Strict:on_start() end
      assert.are.equal("pong", s.sim:run(a:start(Strict).gateway:ping()))
      local Loose = orrery.endpoint("loose", {}, { extends = Strict,
        strict = true })
      function Loose:pong() end
      assert.error_matches(function() a:start(Loose) end,
        "is strict and has public functions that no gateway names: pong")
      for _, bad in ipairs({ -1, 1.5, { "text" }, "two" }) do
        assert.error_matches(function()
          orrery.endpoint("x", { add = { args = bad } })
        end, "args")
      end
    end)
end)

describe("calls over TCP:", function()
  local service

  before_each(function()
    service = assert(orrery.service({ bind = "127.0.0.1:0" }))
  end)
  after_each(function() service:stop():await() end)

  it("RPC-37 await on the main chunk runs the loop until the answer", function()
    local server = service:start(Echo)
    local other = assert(orrery.service({}))
    local gateway = assert(other:connect(server.address, "echo"):await())
    assert.are.equal(1, gateway:echo(1):await()[1])
    assert.is_nil(gateway:nothing():await())
    local slow = orrery.endpoint("slow", { wait = {} })
    function slow:wait() orrery.sleep(200) end
    local waiting = assert(other:connect(service:start(slow).address, "slow")
      :await())
    local _, err = waiting:with({ timeout = 20 }):wait():await()
    assert.are.equal("expired_in_handler", err.code)
    other:stop():await()
  end)

  it("RPC-45 a frame of an unknown kind ends its connection, and no other",
    function()
      local server = service:start(Echo)
      local other = assert(orrery.service({}))
      local gateway = assert(other:connect(server.address, "echo"):await())
      local errors_before = service:net_info().protocol_errors
      local peer = raw_peer.open(service.address, raw_peer.hello(1)
        .. raw_peer.frame(77, ""))
      local text = assert(peer.closed:with_timeout("20s"):await())
      peer.close()
      assert.is_truthy(text:find("77", 1, true), text)
      assert.are.equal(errors_before + 1, service:net_info().protocol_errors)
      assert.are.equal(2, gateway:echo(1, 2):await().n)
      other:stop():await()
    end)
end)
