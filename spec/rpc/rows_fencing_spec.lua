-- Rows 74 to 86 of docs/rpc_rows.md: connect, handshake, fencing.

local orrery = require("orrery")
local raw_peer = require("support.raw_peer")
local simulated = require("support.simulated")

local function token(epoch, letter)
  return { epoch = epoch, session = (letter or "s"):rep(16) }
end

local Echo = orrery.endpoint("echo", { echo = {} })
function Echo:echo(x) return x end

local Leader = orrery.fenced_endpoint("leader", { whoami = {},
  note = { tell = true }, slow = {}, take = {} })
function Leader:init() self.notes = 0 end
function Leader:whoami() return self.id end
function Leader:note() self.notes = self.notes + 1 end
function Leader:slow() orrery.sleep(50) return "slow" end
function Leader:take(x) return x end

describe("connect:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b

  before_each(function() a, b = s.sim:service("a"), s.sim:service("b") end)

  it("RPC-74 is a future; it is limited by the service's timeout or its own",
    function()
      a:start(Echo, { id = "echo" })
      local future = b:connect("a:1/echo", "echo")
      assert.is_false(future:is_done())
      assert.are.equal("x", s.sim:run(s.sim:run(future):echo("x")))
      s.sim:partition({ "a" }, { "b" })
      for _, case in ipairs({ { nil, 10000 }, { { timeout = "2s" }, 2000 } }) do
        local before = s.sim:now_ms()
        local _, err = s.sim:run(b:connect("a:1/echo", "echo", case[1]))
        assert.is_truthy(err.code:match("^expired_"), err.code)
        local took = s.sim:now_ms() - before
        assert.is_true(took >= case[2] and took < case[2] + 300, tostring(took))
      end
    end)

  it("RPC-75 a failure names the address and what was wrong", function()
    a:start(Echo, { id = "echo" })
    for address, words in pairs({
      ["a:1/nobody"] = "no endpoint nobody", ["nobody"] = "no endpoint nobody",
      ["a:9/echo"] = "a:9", ["nowhere:1/echo"] = "nowhere:1",
    }) do
      local gateway, err = s.sim:run(b:connect(address, "echo"))
      assert.is_nil(gateway)
      assert.are.equal("unreachable", err.code)
      assert.is_truthy(err.message:find("cannot connect to " .. address, 1,
        true))
      assert.is_truthy(err.message:find(words, 1, true), err.message)
      assert.are.equal(address, err.context.address)
    end
    assert.error_matches(function() b:connect("") end, "an address")
  end)

  it("RPC-77 the endpoint must speak the gateway; both are named", function()
    a:start(Echo, { id = "echo" })
    local _, err = s.sim:run(b:connect("a:1/echo", "counter"))
    assert.are.equal("version_mismatch", err.code)
    assert.is_truthy(err.message:find(
      "endpoint echo speaks the gateway echo, not counter", 1, true))
  end)

  it("RPC-78 works before the start and with a wrong token, tells the state",
    function()
      local server = a:create_server(Leader, { id = "l", token = token(7) })
      local gateway = assert(s.sim:run(b:connect("a:1/l", "leader",
        { token = token(6) })))
      assert.are.same({ state = "created", fenced = true }, gateway.connected)
      assert.are.equal("not_started",
        select(2, s.sim:run(gateway:whoami())).code)
      server:start()
      s.sim:advance(1)
      local again = s.sim:run(b:connect("a:1/l", "leader"))
      assert.are.equal("started", again.connected.state)
      assert.are.equal("fenced", select(2, s.sim:run(gateway:whoami())).code)
      a:start(Echo, { id = "echo" })
      assert.is_false(s.sim:run(b:connect("a:1/echo")).connected.fenced)
    end)
end)

describe("handshake over TCP:", function()
  it("RPC-76 a different protocol version is refused with both numbers",
    function()
      local service = assert(orrery.service({ bind = "127.0.0.1:0" }))
      local peer = raw_peer.open(service.address, raw_peer.hello(99))
      local text = assert(peer.closed:with_timeout("20s"):await())
      peer.close()
      assert.is_truthy(text:find("its protocol is 1, ours is 99", 1, true),
        text)
      -- The right one is not refused: nothing comes but the other's HELLO.
      peer = raw_peer.open(service.address, raw_peer.hello(1))
      local _, err = peer.closed:with_timeout(300):await()
      assert.are.equal("timeout", err.code)
      peer.close()
      service:stop():await()
    end)
end)

describe("fencing:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b, server

  before_each(function()
    a, b = s.sim:service("a"), s.sim:service("b")
    server = a:start(Leader, { id = "leader", token = token(7) })
  end)

  local function connect(t)
    return assert(s.sim:run(b:connect("a:1/leader", "leader", { token = t })))
  end

  it("RPC-79 a wrong token is refused with both, when the message is taken",
    function()
      assert.are.equal("leader", s.sim:run(connect(token(7)):whoami()))
      for _, wrong in ipairs({ token(6), token(8), token(7, "t") }) do
        local _, err = s.sim:run(connect(wrong):whoami())
        assert.are.equal("fenced", err.code)
        for _, words in ipairs({ "serves epoch 7 session " .. ("73"):rep(16),
          ("carries epoch %d session %s"):format(wrong.epoch,
            ("%02x"):format(wrong.session:byte()):rep(16)) }) do
          assert.is_truthy(err.message:find(words, 1, true), err.message)
        end
      end
      -- Behind what waits: the refusal comes when its turn has come.
      local order, wrong = {}, connect(token(6))
      local blocked = server.endpoint:call_async(function()
        order[#order + 1] = "before"
      end)
      wrong:whoami():on_done(function() order[#order + 1] = "refused" end)
      s.sim:run(blocked)
      s.sim:advance(50)
      assert.are.same({ "before", "refused" }, order)
    end)

  it("RPC-80 a fenced endpoint without a token cannot be: not leader is no "
    .. "endpoint", function()
    assert.error_matches(function() a:start(Leader) end,
      "leader is fenced: it needs a token")
    for _, bad in ipairs({ { epoch = 1 }, { epoch = -1, session = "s" }, 7,
      { epoch = 1.5, session = ("s"):rep(16) },
      { epoch = 2 ^ 53, session = ("s"):rep(16) },
      { epoch = 1, session = "short" } }) do
      assert.error_matches(function() a:start(Leader, { token = bad }) end,
        "a token is { epoch = whole number, session = 16 bytes }")
      assert.error_matches(function() b:connect("x", nil, { token = bad }) end,
        "a token is")
    end
    s.sim:run(server:stop())
    assert.are.equal("unreachable",
      select(2, s.sim:run(b:connect("a:1/leader"))).code)
  end)

  it("RPC-81 a call without a token is refused; its gateway has none to tell",
    function()
      local gateway = connect(nil)
      local _, err = s.sim:run(gateway:whoami())
      assert.are.equal("fenced", err.code)
      assert.is_truthy(err.message:find("the call carries no token", 1, true))
      assert.error_matches(function() gateway:get_fencing_token() end,
        "the gateway leader of a:1/leader is not fenced")
      gateway:note()
      s.sim:advance(10)
      assert.are.equal(0, server.endpoint.notes)
    end)

  it("RPC-82 a remote gateway keeps its token, the self gateway has that of "
    .. "its endpoint", function()
    local given = token(7)
    local far = connect(given)
    given.epoch = 8
    assert.are.same(token(7), far:get_fencing_token())
    assert.are.equal("leader", s.sim:run(far:whoami()))
    far:get_fencing_token().epoch = 9
    assert.are.same(token(7), far:get_fencing_token())
    assert.are.same(token(7),
      server.endpoint:self_gateway():get_fencing_token())
    assert.are.same(token(7), server.endpoint:get_fencing_token())
    s.sim:run(server:stop())
    local next_one = a:start(Leader, { id = "leader", token = token(8) })
    assert.are.same(token(8), next_one.gateway:get_fencing_token())
    assert.are.equal("leader", s.sim:run(next_one.gateway:whoami()))
    local _, err = s.sim:run(far:whoami())
    assert.are.equal("unreachable", err.code)
    _, err = s.sim:run(connect(token(7)):whoami())
    assert.are.equal("fenced", err.code)
  end)

  it("RPC-83 work that an old session posted ends with it: nothing runs in the "
    .. "new one", function()
    local ran = {}
    local old = server.endpoint
    s.sim:advance(1)
    old:schedule_run_async(100, function() ran[#ran + 1] = "scheduled" end)
    local queued, late
    old:run_async(function()
      server:stop()
      old:run_async(function() ran[#ran + 1] = "posted" end)
      queued = old:call_async(function() ran[#ran + 1] = "called" end)
    end)
    s.sim:run(server.termination)
    a:start(Leader, { id = "leader", token = token(8) })
    old:run_async(function() ran[#ran + 1] = "late" end)
    late = old:call_async(function() ran[#ran + 1] = "late" end)
    s.sim:advance(500)
    assert.are.same({}, ran)
    for _, future in ipairs({ queued, late }) do
      local _, err = s.sim:run(future)
      assert.are.equal("unreachable", err.code)
    end
  end)

  it("RPC-84 the unfenced variants are the same here: there is one token for "
    .. "life", function()
    local ran
    server.endpoint:run_async_without_fencing(function(self) ran = self end)
    assert.are.equal(3, s.sim:run(
      server.endpoint:call_async_without_fencing(function() return 3 end)))
    assert.are.equal(server.endpoint, ran)
    local plain = a:start(Echo)
    assert.is_nil(plain.endpoint.run_async_without_fencing)
    assert.is_nil(plain.endpoint.get_fencing_token)
  end)

  it("RPC-85 the token is final: nothing that is done to the giver's table or "
    .. "to the object changes it", function()
    local given = token(3)
    local one = a:start(Leader, { id = "one", token = given })
    given.epoch = 99
    one.endpoint:get_fencing_token().epoch = 98
    one.endpoint.token = token(97)
    assert.are.same(token(3), one.endpoint:get_fencing_token())
    local far = s.sim:run(b:connect("a:1/one", "leader", { token = token(3) }))
    assert.are.equal("one", s.sim:run(far:whoami()))
  end)

  it("RPC-86 what a fenced call carries must be sendable, told at the call",
    function()
      local future = connect(token(7)):take({ fn = print })
      assert.is_true(future:is_done())
      local _, err = future:peek()
      assert.are.equal("bad_argument", err.code)
      assert.is_truthy(err.message:find("argument 1.fn", 1, true))
    end)

  it("RPC-39 a fenced class can extend one that is not", function()
    local Base = orrery.endpoint("plain", { hello = {} })
    function Base:hello() return "hello" end
    local Child = orrery.fenced_endpoint({ name = "child", methods = {} },
      { extends = Base })
    local child = a:start(Child, { token = token(1) })
    assert.are.equal("hello", s.sim:run(child.gateway:hello()))
    assert.are.same(token(1), child.endpoint:get_fencing_token())
  end)
end)
