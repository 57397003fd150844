local Future = require("orrery.util.future")
local orrery = require("orrery")
local peer = require("support.wire_peer")
local wire = require("support.wire")

local Echo = orrery.endpoint("echo", {
  echo = {}, size = {}, note = { tell = true }, halt = { lane = "control" },
})
function Echo:init() self.notes = {} end
function Echo:echo(...) return ... end
function Echo:size(s) return #s end
function Echo:note(s) self.notes[#self.notes + 1] = #s end
function Echo:halt() return #self.notes end

describe("compatibility", function()
  local closes = {}

  local function service(options)
    options = options or {}
    if options.bind == nil then options.bind = "127.0.0.1:0" end
    options.bind = options.bind or nil
    local made = assert(orrery.service(options))
    closes[#closes + 1] = function() made:stop():await() end
    return made
  end

  local function closing(first, ...)
    local list = { ... }
    closes[#closes + 1] = list[#list]
    return first, ...
  end

  local function keep(socket)
    closes[#closes + 1] = function() socket:close() end
    return socket
  end

  after_each(function()
    for i = #closes, 1, -1 do closes[i]() end
    closes = {}
  end)

  it("captured frames say what docs/wire_format.md says", function()
    local server = service()
    local started = server:start(Echo, { id = "echo",
      token = { epoch = 77, session = "0123456789abcdef" } })
    local address, tap = closing(peer.tap(started.address))
    local client = service({ bind = false })
    local gateway = assert(client:connect(address .. "/echo", "echo", {
      token = { epoch = 77, session = "0123456789abcdef" },
      timeout = "3s" }):await())
    local value = { id = 7, list = { 1, -2, 2.5 }, text = "täxt", flag = true }
    assert.are.same(value,
      gateway:with({ timeout = "2s" }):echo(value):await())
    assert.is_true(gateway:note("abc"))
    local big = ("0123456789"):rep(40000)
    assert.are.equal(400000, gateway:size(big):await())
    assert.are.equal(1, gateway:halt():await())
    client:stop():await()

    assert(tap.ended:with_timeout("5s"):await()) -- the goodbye came through
    local sent, received = tap.bytes()
    local ours, theirs = wire.frames(sent), wire.frames(received)
    for _, frame in ipairs(ours) do
      assert.are.equal(1, frame.version)
      assert.is_true(wire.checksum_holds(frame), frame.kind)
    end
    for _, frame in ipairs(theirs) do
      assert.is_true(wire.checksum_holds(frame), frame.kind)
    end

    assert.are.equal("HELLO", ours[1].kind)
    local hello = wire.unpack(ours[1].body)[1]
    assert.are.equal(1, hello.protocol)
    assert.are.same({ 1, 1 }, hello.wire)
    assert.are.equal("orrery", hello.cluster)
    assert.are.same({ "chunks", "trace" }, hello.features)
    assert.are.equal(16777216, hello.frame_max)
    assert.are.equal(268435456, hello.body_max)
    assert.are.equal(64, hello.bodies_max)
    assert.are.equal(524288, hello.window)
    assert.are.equal(65536, hello.body_first)
    assert.are.equal(16, #hello.nonce)
    assert.are.equal("HELLO", theirs[1].kind)

    assert.are.equal("RESOLVE", ours[2].kind)
    assert.are.same({ "echo", "echo" }, wire.unpack(ours[2].body))
    local description = wire.unpack(theirs[2].body)[1]
    assert.are.equal("REPLY", theirs[2].kind)
    assert.are.equal(1, description.state)
    assert.are.equal("echo", description.methods[1][1])
    assert.are.equal(4, #description.methods)

    local ask = ours[3]
    assert.are.equal("ASK", ask.kind)
    assert.are.equal(2, ask.flags) -- the token is set
    assert.are.equal(77, ask.token_epoch)
    assert.are.equal("0123456789abcdef", ask.token_session)
    assert.are.equal(0, ask.method)
    assert.is_true(ask.budget_us > 0 and ask.budget_us <= 2000001)
    assert.are.equal(theirs[2].endpoint, ask.endpoint)
    assert.are.equal(theirs[2].incarnation, ask.incarnation)
    assert.are.same({ value }, wire.unpack(ask.body))
    assert.are.equal("REPLY", theirs[3].kind)
    assert.are.equal(0, theirs[3].method)
    assert.are.equal(ask.call_slot, theirs[3].call_slot)
    assert.are.equal(ask.call_generation, theirs[3].call_generation)
    assert.are.same({ value }, wire.unpack(theirs[3].body))

    assert.are.equal("TELL", ours[4].kind)
    assert.are.same({ "abc" }, wire.unpack(ours[4].body))
    local opening = ours[5]
    assert.are.equal("ASK", opening.kind)
    assert.are.equal(2 + 8, opening.flags)
    assert.are.equal(12, opening.length)
    local stream = wire.number(opening.body, 0, 4)
    local total = wire.number(opening.body, 4, 8)
    local pieces, control = {}, nil
    for i = 6, #ours do
      if ours[i].kind == "DATA" then
        assert.are.equal(stream, ours[i].call_slot)
        pieces[#pieces + 1] = ours[i].body
      elseif ours[i].kind == "ASK" then
        control = ours[i]
      end
    end
    assert.are.equal(65536, #pieces[1]) -- the first grant
    assert.are.equal(262144, #pieces[2]) -- a whole piece
    assert.are.equal(3, #pieces)
    local whole = table.concat(pieces)
    assert.are.equal(total, #whole)
    assert.are.same({ big }, wire.unpack(whole))
    assert.are.equal(1 + 2, control.flags)
    local credits = {}
    for _, frame in ipairs(theirs) do
      if frame.kind == "CREDIT" then
        credits[frame.call_slot] = (credits[frame.call_slot] or 0)
          + frame.budget_us
      end
    end
    assert.are.equal(total - 65536, credits[stream])
    assert.is_true(credits[0] > 0 and credits[0] <= total)
    assert.are.equal("GOODBYE", ours[#ours].kind)
    assert.are.equal("string", type(wire.unpack(ours[#ours].body)[1]))
  end)

  it("a server of a later version serves us", function()
    local address = closing(peer.serve(wire.hello({ wire = { 1, 2 },
      features = { "chunks2", "quanta" }, colour = { "blue" } }), {
      double = function(args) return { body = wire.pack(args[1] * 2) } end,
    }))
    local client = service({ bind = false })
    local gateway = assert(client:connect(address .. "/far", "far"):await())
    assert.are.equal(42, gateway:double(21):await())
  end)

  it("a server of an earlier version serves us", function()
    local address = closing(peer.serve(wire.hello(), {
      double = function(args) return { body = wire.pack(args[1] * 2) } end,
    }))
    local client = service({ bind = false })
    local gateway = assert(client:connect(address .. "/far", "far"):await())
    assert.are.equal(42, gateway:double(21):await())
  end)

  local function refused(more, part)
    local address = closing(peer.serve(wire.hello(more), {}))
    local client = service({ bind = false })
    local gateway, err = client:connect(address .. "/far", "far"):await()
    assert.is_nil(gateway)
    assert.are.equal("version_mismatch", err.code)
    assert.is_truthy(err.message:find(part, 1, true), err.message)
  end

  it("RPC-76 a server of another version is refused with both", function()
    refused({ wire = { 2, 4 } }, "its wire version is 2 to 4, ours is 1")
    refused({ protocol = 2 }, "its protocol is 2, ours is 1")
  end)

  it("a server that insists on what is unknown is refused by name", function()
    refused({ features = { "quanta", "!teleport" } },
      'insists on the feature "teleport", which is not known here')
    refused({ ["!colour"] = 1 }, 'insists on the field "colour"')
  end)

  it("a caller that insists on what is unknown is told", function()
    local server = service()
    local socket = keep(peer.connect(server.address))
    socket:send(wire.hello({ features = { "!teleport" } }))
    assert.are.equal("HELLO", socket:next().kind)
    local goodbye = socket:next()
    assert.are.equal("GOODBYE", goodbye.kind)
    assert.are.equal(-43, goodbye.method)
    assert.is_truthy(wire.unpack(goodbye.body)[1]:find(
      'you insist on the feature "teleport"', 1, true))
    assert.are.same({}, socket:rest())
  end)

  it("frames of unknown kinds are skipped when they say so", function()
    local server = service()
    local started = server:start(Echo, { id = "echo" })
    local socket = keep(peer.connect(started.address))
    socket:send(wire.hello())
    socket:next()
    socket:send(wire.frame({ kind = 99, flags = 0x8000, body = "later" }),
      wire.frame({ kind = "RESOLVE", call_slot = 5, call_generation = 6,
        body = wire.pack("echo", "echo") }))
    local answer = socket:next()
    assert.are.equal("REPLY", answer.kind)
    assert.are.equal(5, answer.call_slot)
    assert.are.equal(6, answer.call_generation)
    socket:send(wire.frame({ kind = 99, body = "later" }))
    local rest = socket:rest()
    assert.are.equal("GOODBYE", rest[1].kind)
    assert.is_truthy(wire.unpack(rest[1].body)[1]:find("kind 99", 1, true))
  end)

  it("a peer of another make calls us", function()
    local server = service()
    local started = server:start(Echo, { id = "echo" })
    local socket = keep(peer.connect(started.address))
    socket:send(wire.hello())
    socket:next()
    socket:send(wire.frame({ kind = "RESOLVE", call_slot = 1,
      body = wire.pack("echo", "") }))
    local at = socket:next()
    socket:send(wire.frame({ kind = "ASK", call_slot = 2, endpoint =
      at.endpoint, incarnation = at.incarnation, method = 0,
      body = wire.pack({ a = { 1, 2 } }) }))
    local answer = socket:next()
    assert.are.equal(0, answer.method)
    assert.are.same({ { a = { 1, 2 } } }, wire.unpack(answer.body))
  end)

  it("garbage and half frames end within the handshake's time", function()
    local server = service({ net = { handshake_timeout_ns = 2e8 } })
    local half = keep(peer.connect(server.address))
    half:send(wire.hello():sub(1, 70))
    local silent = keep(peer.connect(server.address))
    local garbage = keep(peer.connect(server.address))
    garbage:send(("GET / HTTP/1.1\r\nHost: nobody\r\n"):rep(4))
    assert.are.equal(1, #garbage:rest()) -- our HELLO, no answer
    half:rest()
    silent:rest()
    local info = server:net_info()
    assert.are.equal(3, info.handshake_failures)
    assert.are.equal(0, info.connections)
  end)

  it("a body that never comes whole holds no more than was granted", function()
    local server = service({ net = { keepalive_ns = 1e8 } })
    local started = server:start(Echo, { id = "echo" })
    local socket = keep(peer.connect(started.address))
    socket:send(wire.hello({ features = { "chunks" }, body_max = 2 ^ 28,
      bodies_max = 8, window = 2 ^ 20, body_first = 65536 }))
    socket:next()
    socket:send(wire.frame({ kind = "TELL", flags = 8,
      body = wire.le(1, 4) .. wire.le(2 ^ 28, 8) }),
      wire.frame({ kind = "DATA", call_slot = 1, body = "some" }))
    -- It answers pings, so that only the standstill can end it.
    local goodbye = Future.new()
    socket.on_frame = function(frame)
      if frame.kind == "PING" then
        socket:send(wire.frame({ kind = "PONG" }))
      elseif frame.kind == "GOODBYE" then
        goodbye:resolve(wire.unpack(frame.body)[1])
      end
    end
    local text = assert(goodbye:with_timeout("5s"):await())
    assert.is_truthy(text:find("stands still", 1, true))
    assert.are.equal(0, server:net_info().assembling)
    assert.are.equal(0, server:net_info().connections)
  end)
end)
