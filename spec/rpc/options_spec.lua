--- RpcOptions, RpcServiceUtils, RpcService by its names, and the exceptions.

local exceptions = require("orrery.rpc.exceptions")
local log = require("orrery.native.log")
local options = require("orrery.rpc.options")
local orrery = require("orrery")
local simulated = require("support.simulated")
local spec_log = require("support.log_file")
local utils = require("orrery.rpc.utils")

local Echo = orrery.endpoint("echo", { echo = {}, slow = {}, throw = {},
  note = { tell = true } })
function Echo:echo(x) return x end
function Echo:slow(ms) orrery.sleep(ms) return "slow" end
function Echo:throw() error("bang") end
function Echo:note() end

describe("RPC options", function()
  it("have the defaults of the framework", function()
    assert.are.same({
      bind_address = "", port = "0", ask_timeout_ms = 10000,
      ask_callstack = true, lookup_timeout_ms = 10000, connect_retries = 5,
      connect_retry_delay_ms = 1000, tcp_timeout_ms = 20000,
      retry_gate_ms = 50, framesize = 10485760, ssl_enabled = false,
      log_lifecycle_events = false, cluster_id = "orrery",
      shutdown_timeout_ms = 30000, insecure = false,
    }, options.read())
    assert.are.equal("rpc.ask-timeout", options.RPC_ASK_TIMEOUT.key)
    assert.are.equal(10000, options.RPC_ASK_TIMEOUT.default)
    assert.are.equal(15, #options.list())
  end)

  it("take both spellings of Flink's actor systems", function()
    for _, option in ipairs(options.list()) do
      for _, key in ipairs(option.aliases) do
        local given = option.type == "bool" and not option.default
          or option.type == "size" and "1mb" or "7 s"
        if option.type == "bool" then given = not option.default end
        local values, err = options.read({ [key] = given,
          ["rpc.ssl.certificate"] = "c", ["rpc.ssl.key"] = "k",
          ["rpc.ssl.authority"] = "a" })
        assert(values, tostring(err))
        assert.are.equal(option.type == "duration" and 7000
          or option.type == "size" and 1048576 or given, values[option.field],
          key)
      end
    end
    assert.are.equal(300000,
      options.read({ ["akka.ask.timeout"] = "5min" }).ask_timeout_ms)
    assert.are.equal(10485760,
      options.read({ ["pekko.framesize"] = "10485760b" }).framesize)
    assert.are.same({ "pekko.ask.timeout", "akka.ask.timeout" },
      options.RPC_ASK_TIMEOUT.aliases)
  end)

  it("refuse wrong values and keys, with what would be right", function()
    for _, case in ipairs({
      { "rpc.ask-timeout", "soon", 'expected a duration such as "250ms"' },
      { "rpc.ask-timeout", -1, "at least 1 ms" },
      { "rpc.port", "7-3", "expected a port, a range" },
      { "rpc.port", 70000, "expected a port, a range" },
      { "rpc.connect.retries", 1.5, "expected a whole number" },
      { "rpc.ssl.enabled", "maybe", "expected true or false" },
      { "rpc.framesize", "10 parsecs", "expected a size" },
      { "rpc.ask-timeot", 1, 'did you mean "rpc.ask-timeout"' },
      { "pekko.ask.timeot", 1, 'did you mean "pekko.ask.timeout"' },
      { "rpc.connect.retry", 1, 'did you mean "rpc.connect.retr' },
      { "pekko.throughput", 15, "16 messages" },
      { "akka.fork-join-executor.parallelism-max", 64, "no pool" },
      { "pekko.jvm-exit-on-fatal-error", true, "event loop" },
    }) do
      local values, err = options.read({ [case[1]] = case[2] })
      assert.is_nil(values, case[1])
      assert.are.equal("bad_configuration", err.code)
      assert.is_truthy(err.message:find(case[3], 1, true), err.message)
    end
    assert.are.equal("bad_argument", select(2, options.read(5)).code)
  end)
end)

describe("RpcServiceUtils", function()
  local services = {}
  local function create(...)
    local service, err = utils.create_rpc_service(...)
    if service then services[#services + 1] = service end
    return service, err
  end
  after_each(function()
    for _, service in ipairs(services) do service:stop():await() end
    services = {}
  end)

  it("create_rpc_service takes host, port and configuration", function()
    local leaders = {}
    local service = assert(create("localhost", 0, {
      ["rpc.bind-address"] = "127.0.0.1", ["rpc.ask-timeout"] = "70 ms",
      ["rpc.connect.retries"] = 1, ["rpc.connect.retry-delay"] = "10ms",
    }, leaders))
    assert.are.equal("localhost:" .. service:get_port(), service:get_address())
    assert.are.equal("localhost", utils.get_hostname(service))
    assert.are.equal(leaders, service.leaders)
    local echo = service:start(Echo).gateway
    local _, err = echo:slow(1000):await()
    assert.are.equal(70, err.context.limit_ms)
    _, err = service:connect("nobody"):await()
    assert.are.equal(2, err.context.attempts)
    local base = utils.get_random_port()
    assert.is_true(base > 0 and base < 65536)
    local range = assert(create("127.0.0.1", ("%d-%d"):format(base,
      math.min(base + 9, 65535))))
    assert.is_true(range:get_port() >= base)
    assert.are.equal(-1, assert(create()):get_port())
  end)

  it("create_rpc_service tells what is wrong", function()
    local service, err = create("localhost", 0, { ["rpc.ask-timeot"] = 1 })
    assert.is_nil(service)
    assert.is_truthy(err.message:find("did you mean", 1, true))
    service, err = create("no host", 0)
    assert.is_nil(service)
    assert.are.equal("bad_argument", err.code)
    service, err = create("127.0.0.1", 0, { ["rpc.ssl.enabled"] = true })
    assert.is_nil(service)
    assert.are.equal("bad_configuration", err.code)
  end)

  it("makes names", function()
    assert.are.equal("0.0.0.0", utils.create_wildcard_address())
    assert.are.equal("task_*", utils.create_wildcard_name("task"))
    local name = utils.create_random_name("task")
    assert.is_truthy(name:match("^task_%x+$"))
    assert.are_not.equal(name, utils.create_random_name("task"))
  end)

  it("a service of it logs the life of its endpoints when asked", function()
    local text = spec_log.capture(function()
      local service = assert(create(nil, nil,
        { ["pekko.log.lifecycle.events"] = true }))
      local server = service:start(Echo, { id = "seen" })
      server.gateway:echo(1):await()
      server:stop():await()
    end, "info")
    assert.is_truthy(text:find("endpoint seen has started", 1, true), text)
    assert.is_truthy(text:find("endpoint seen has ended", 1, true))
  end)
end)

describe("RpcServiceUtils in simulation", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  before_each(function() log.set_level("off") end)
  after_each(function() log.set_level("warn") end)

  local Stuck = orrery.endpoint("stuck", {})
  function Stuck:on_stop() orrery.sleep(5000) end

  it("terminate_rpc_endpoint, _service and _services keep to a limit",
    function()
      local a, b = s.sim:service("a"), s.sim:service("b")
      local stuck = a:start(Stuck)
      local before = s.sim:now_ms()
      local _, err = s.sim:run(utils.terminate_rpc_endpoint(stuck, "1 s"))
      assert.are.equal("timeout", err.code)
      assert.are.equal(1000, math.floor(s.sim:now_ms() - before + 0.5))
      assert.is_true(s.sim:run(utils.terminate_rpc_endpoint(stuck.endpoint,
        "1 min")))
      a:start(Stuck)
      local _, late = s.sim:run(utils.terminate_rpc_service(a, "1 s"))
      assert.are.equal("timeout", late.code)
      b:start(Echo)
      assert.is_true(s.sim:run(utils.terminate_rpc_services("1 min", a, b)))
      assert.are.same({ 0, 0 }, { #a:endpoints(), #b:endpoints() })
      assert.is_true(s.sim:run(utils.terminate_rpc_services("1 s")))
      assert.error_matches(function() utils.terminate_rpc_endpoint({}, 1) end,
        "an endpoint or a server is needed")
    end)

  it("get_synchronous_rpc_gateway waits in a task and outside", function()
    local a, b = s.sim:service("a"), s.sim:service("b")
    a:start(Echo, { id = "echo" })
    local gateway = assert(s.sim:run(b:connect("a:1/echo")))
    local sync = utils.get_synchronous_rpc_gateway(gateway, "200 ms")
    assert.are.equal(7, sync:echo(7))
    assert.are.equal("a:1/echo", sync.address)
    assert.is_true(sync:note())
    assert.are.equal(7, s.sim:run(orrery.async(function()
      return (sync:echo(7))
    end)))
    local value, err = sync:slow(1000)
    assert.is_nil(value)
    assert.are.equal(200, err.context.limit_ms)
    assert.are.equal("slow",
      utils.get_synchronous_rpc_gateway(gateway):slow(1000))
    assert.error_matches(function() sync:ekho() end, "did you mean echo")
  end)
end)

describe("exceptions", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  before_each(function() log.set_level("off") end)
  after_each(function() log.set_level("warn") end)

  local function families(err)
    local out = {}
    for _, name in ipairs(exceptions.names(err)) do out[name] = true end
    return out
  end

  it("RPC-60 failures are known by their code, never by their text", function()
    local Fenced = orrery.endpoint({ name = "fenced", fenced = true,
      methods = { x = {} } })
    function Fenced:x() end
    local a, b = s.sim:service("a"), s.sim:service("b")
    local token = { epoch = 1, session = ("s"):rep(16) }
    local echo = a:start(Echo, { id = "echo" })
    a:start(Fenced, { id = "fenced", token = token })
    local function failure(future)
      local value, err = s.sim:run(future)
      assert.is_nil(value)
      return err
    end
    local gateway = s.sim:run(b:connect("a:1/echo"))
    local err = failure(b:connect("a:1/nobody", "echo"))
    assert.is_true(exceptions.is(err, "RpcConnectionException"))
    assert.is_true(exceptions.is(err, "RecipientUnreachableException"))
    assert.are.equal("a:1/nobody", exceptions.target_address(err))
    assert.are.equal("echo", exceptions.gateway_class(err))
    err = failure(b:connect("a:1/echo", "other"))
    assert.is_true(exceptions.is(err, "HandshakeException"))
    assert.is_true(exceptions.is(err, "RpcConnectionException"))
    local fenced = s.sim:run(b:connect("a:1/fenced", nil, { token = {
      epoch = 1, session = ("t"):rep(16) } }))
    err = failure(fenced:x())
    assert.is_true(exceptions.is(err, "FencingTokenException"))
    assert.is_false(exceptions.is(err, "RpcConnectionException"))
    err = failure(gateway:with({ timeout = 10 }):slow(1000))
    assert.is_true(exceptions.is(err, "TimeoutException"))
    assert.is_true(exceptions.is(err, "RpcException"))
    err = failure(gateway:throw())
    assert.are.same({}, families(err))
    assert.is_truthy(exceptions.root(err).message:find("bang", 1, true))
    s.sim:run(echo:stop())
    err = failure(gateway:echo(1))
    assert.is_true(exceptions.is(err, "RecipientUnreachableException"))
    assert.is_false(exceptions.is(err, "RpcRuntimeException"))
    local _, exists = a:start(Fenced, { id = "fenced", token = token })
    assert.is_true(exceptions.is(exists, "RpcRuntimeException"))
  end)

  it("are made by name, nest, and survive the wire", function()
    local cause = orrery.errors.new("io", "broken pipe")
    local err = exceptions.RpcConnectionException("h:1/x", "echo", cause)
    assert.are.equal("h:1/x", exceptions.target_address(err))
    assert.are.equal("echo", exceptions.gateway_class(err))
    assert.are.equal(cause, err.cause)
    for _, name in ipairs({ "RpcException", "RpcConnectionException",
      "HandshakeException", "EndpointNotStartedException",
      "FencingTokenException", "RecipientUnreachableException",
      "RpcTimeoutException" }) do
      local made = exceptions[name]("a sentence", cause)
      assert.is_true(exceptions.is(made, name))
      assert.is_true(exceptions.is(made, "RpcException"), name)
      local sent = orrery.errors.from_table(orrery.errors.to_table(made))
      assert.is_true(exceptions.is(sent, name))
      local wrapped = orrery.errors.new("remote", "x", { cause = sent })
      assert.is_false(exceptions.is(wrapped, name))
      assert.are.equal(sent, exceptions.find(wrapped, name))
    end
    for _, name in ipairs({ "UnknownMessageException",
      "RpcInvalidStateException" }) do
      assert.is_true(exceptions.is(exceptions[name]("x"),
        "RpcRuntimeException"))
      assert.is_false(exceptions.is(exceptions[name]("x"), "RpcException"))
    end
    assert.are.same({ "fenced" }, exceptions.codes("FencingTokenException"))
    assert.is_false(exceptions.is("text", "RpcException"))
    assert.error_matches(function() exceptions.is(err, "RpcExeption") end,
      "did you mean RpcException")
    assert.error_matches(function() exceptions.RpcException(5) end,
      "must be a string")
  end)
end)
