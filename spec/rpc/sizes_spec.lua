local core = require("orrery.core")
local Future = require("orrery.util.future")
local orrery = require("orrery")
local peer = require("support.wire_peer")
local wire = require("support.wire")

local Box = orrery.endpoint("box", {
  echo = {}, size = {}, make = {}, bad = {}, note = { tell = true }, notes = {},
})
function Box:init() self.seen = {} end
function Box:echo(...) return ... end
function Box:size(s) return #s end
function Box:make(n) return ("y"):rep(n) end
function Box:bad() return { list = { function() end } } end
function Box:note(v)
  self.seen[#self.seen + 1] = type(v) == "string" and #v or v
end
function Box:notes(v)
  self.seen[#self.seen + 1] = v
  return self.seen
end

local SMALL = { frame_max = 8192, chunk_size = 4096, body_max = 65536,
  sending_max = 262144 }

describe("sizes", function()
  local closes = {}

  local function service(options)
    local made = assert(orrery.service(options))
    closes[#closes + 1] = function() made:stop():await() end
    return made
  end

  local function pair(options)
    options = options or {}
    local server = service({ bind = "127.0.0.1:0", net = options.net,
      spill = options.server_spill or options.spill })
    local started = assert(server:start(Box, { id = "box" }))
    local client = service({ net = options.net, spill = options.spill })
    local gateway = assert(client:connect(started.address, "box"):await())
    return gateway, server, client
  end

  after_each(function()
    for i = #closes, 1, -1 do closes[i]() end
    closes = {}
  end)

  it("RPC-63 an argument that cannot be sent fails at the call, by its path",
    function()
      local gateway = pair()
      local future = gateway:echo({ items = { 1, { f = print } } })
      assert.is_true(future:is_done())
      local _, err = future:await()
      assert.are.equal("bad_argument", err.code)
      assert.is_truthy(err.message:find(
        "argument 1.items[2].f: a function cannot be sent", 1, true))
      local ok
      ok, err = gateway:note(coroutine.create(print))
      assert.is_nil(ok)
      assert.is_truthy(err.message:find("argument 1: a coroutine", 1, true))
    end)

  it("RPC-64 a result that cannot be sent fails the caller's future",
    function()
      local gateway = pair()
      local _, err = gateway:bad():await()
      assert.are.equal("bad_argument", err.code)
      assert.is_truthy(err.message:find("the result of box.bad", 1, true))
      assert.is_truthy(err.message:find(".list[1]: a function", 1, true))
    end)

  it("RPC-65 an oversized result fails with both sizes", function()
    local gateway, server = pair({ net = SMALL })
    assert.are.equal(65000, #gateway:make(65000):await())
    local _, err = gateway:make(70000):await()
    assert.are.equal("too_large", err.code)
    assert.is_truthy(err.message:find(
      "the result has 70005 bytes, the limit is 65536", 1, true), err.message)
    assert.are.equal(1, server:net_info().too_large)
  end)

  it("RPC-66 an oversized request fails at the call with both sizes",
    function()
      local gateway, _, client = pair({ net = SMALL })
      local _, err = gateway:size(("x"):rep(70000)):await()
      assert.are.equal("too_large", err.code)
      assert.is_truthy(err.message:find(
        "the arguments have 70005 bytes, the limit is 65536", 1, true))
      local ok
      ok, err = gateway:note(("x"):rep(70000))
      assert.is_nil(ok)
      assert.is_truthy(err.message:find(
        "the arguments have 70005 bytes, the limit is 65536", 1, true))
      assert.are.equal(2, client:net_info().too_large)
      assert.are.equal(5, gateway:size("still"):await())
    end)

  it("RPC-66 a peer without pieces sets its frame as the limit", function()
    local address, close = peer.serve(wire.hello({ frame_max = 4096 }), {
      size = function(args) return { body = wire.pack(#args[1]) } end,
    })
    closes[#closes + 1] = close
    local client = service({})
    local gateway = assert(client:connect(address .. "/box", "box"):await())
    assert.are.equal(4000, gateway:size(("x"):rep(4000)):await())
    local _, err = gateway:size(("x"):rep(5000)):await()
    assert.are.equal("too_large", err.code)
    assert.is_truthy(err.message:find(
      "the arguments have 5003 bytes, the limit is 4096", 1, true))
  end)

  it("RPC-67 what is measured is what travels: the border is exact",
    function()
      local gateway = pair({ net = SMALL })
      -- Three bytes of MessagePack before the string.
      assert.are.equal(65533, gateway:size(("x"):rep(65533)):await())
      local _, err = gateway:size(("x"):rep(65534)):await()
      assert.is_truthy(err.message:find("65537 bytes, the limit is 65536", 1,
        true), err.message)
      assert.are.equal(65533, #gateway:make(65533):await())
      _, err = gateway:make(65534):await()
      assert.are.equal("too_large", err.code)
    end)

  it("RPC-68 the limit is an option of the service, for both directions",
    function()
      local gateway, server, client = pair()
      local big = ("z"):rep(20 * 1024 * 1024) -- above the default frame
      assert.are.equal(big, gateway:echo(big):await())
      assert.are.equal(1, client:net_info().chunked_out)
      assert.are.equal(1, client:net_info().chunked_in)
      assert.are.equal(1, server:net_info().chunked_out)
      local made, err = orrery.service({ net = { chunk_size = 10 } })
      assert.is_nil(made)
      assert.is_truthy(err.message:find("chunk_size is 10, must be", 1, true))
    end)

  it("RPC-69 a result that cannot be decoded fails the future", function()
    local address, close = peer.serve(wire.hello(), {
      broken = function() return { body = "\146\1" } end,
      extension = function() return { body = "\212\1\1" } end,
    })
    closes[#closes + 1] = close
    local client = service({})
    local gateway = assert(client:connect(address .. "/box", "box"):await())
    local _, err = gateway:broken():await()
    assert.are.equal("protocol", err.code:match("^%a+"), err.code)
    assert.is_truthy(err.message:find("the result cannot be decoded: broken "
      .. "MessagePack at byte", 1, true), err.message)
    _, err = gateway:extension():await()
    assert.is_truthy(err.message:find("cannot be decoded", 1, true))
  end)

  it("RPC-41 local results have no limit", function()
    local server = service({ net = SMALL })
    assert(server:start(Box, { id = "box" }))
    local gateway = assert(server:connect("box", "box"):await())
    local size = 70 * 1024 * 1024
    assert.are.equal(size, #gateway:make(size):await())
  end)

  it("RPC-70 nil travels in both ways", function()
    local gateway = pair()
    local value, err = gateway:echo(nil):await()
    assert.is_nil(value)
    assert.is_nil(err)
  end)

  it("RPC-73 the sizes of bodies are counted", function()
    local gateway, server, client = pair()
    gateway:size(("x"):rep(1000)):await()
    gateway:make(5000):await()
    assert.are.equal(1003, client:net_info().body_out_max)
    assert.are.equal(5003, client:net_info().body_in_max)
    gateway:size(("x"):rep(300000)):await()
    assert.are.equal(300005, client:net_info().body_out_max)
    assert.are.equal(300005, server:net_info().body_in_max)
    assert.are.equal(0, server:net_info().too_large)
    assert.are.equal(0, server:net_info().assembling)
    assert.are.equal(0, client:net_info().sending)
  end)

  it("one sender's messages to one endpoint keep their order", function()
    local gateway = pair()
    for i = 1, 9 do
      gateway:note(i % 3 == 0 and ("x"):rep(300000 + i) or i)
    end
    assert.are.same({ 1, 2, 300003, 4, 5, 300006, 7, 8, 300009, "end" },
      gateway:notes("end"):await())
  end)

  it("small calls are answered while a large body is on its way", function()
    local gateway, server, client = pair({ net = { window = 65536 } })
    assert(server:start(Box, { id = "other" }))
    local other = assert(client:connect(server.address .. "/other",
      "box"):await())
    local big = gateway:size(("x"):rep(8 * 1024 * 1024))
    local answered = 0
    while not big:is_done() do
      assert.are.equal(1, other:size("x"):await())
      answered = answered + 1
    end
    assert.are.equal(8 * 1024 * 1024, big:await())
    assert.is_true(answered >= 3, tostring(answered))
  end)

  it("a call that is cancelled frees its body", function()
    local gateway, server, client = pair({ net = { window = 65536 } })
    local big = gateway:size(("x"):rep(8 * 1024 * 1024))
    big:cancel()
    assert.are.equal(1, gateway:size("x"):await())
    assert.are.equal(0, client:net_info().sending)
    assert.are.equal(0, server:net_info().assembling)
    assert.are.equal(1, client:net_info().chunked_dropped)
  end)

  it("memory of decoding is a small multiple of the body", function()
    -- 64 open heads, each of which claims all bytes that are left.
    local size = 4 * 1024 * 1024
    for _, head in ipairs({ "\221", "\223" }) do
      local heads = {}
      for i = 1, 60 do
        local claim = math.floor((size - i * 5) / (head == "\223" and 2 or 1))
        heads[i] = head .. string.char(math.floor(claim / 2 ^ 24) % 256,
          math.floor(claim / 2 ^ 16) % 256, math.floor(claim / 2 ^ 8) % 256,
          claim % 256) .. (head == "\223" and "\1" or "")
      end
      local bomb = table.concat(heads)
      bomb = bomb .. ("\193"):rep(size - #bomb)
      collectgarbage()
      collectgarbage("stop")
      local before = collectgarbage("count")
      local value, message = core.decode(bomb)
      local used = (collectgarbage("count") - before) * 1024
      collectgarbage("restart")
      assert.is_nil(value)
      assert.is_truthy(message:find("broken MessagePack", 1, true))
      assert.is_true(used < size, tostring(used))
    end
  end)
end)

describe("spill", function()
  local closes = {}

  local function store()
    local self = { blobs = {}, puts = 0, gets = 0, drops = 0, fail = false }
    function self.option(threshold)
      return {
        threshold = threshold or 1000,
        put = function(bytes)
          orrery.sleep(5)
          if self.fail then return nil, orrery.errors.new("io", "disk full") end
          self.puts = self.puts + 1
          local key = "blob-" .. self.puts
          self.blobs[key] = bytes
          return Future.resolved(key)
        end,
        get = function(key)
          orrery.sleep(5)
          self.gets = self.gets + 1
          local bytes = self.blobs[key]
          if bytes then return bytes end
          return nil, orrery.errors.new("not_found", "no blob " .. key)
        end,
        drop = function(key)
          self.drops = self.drops + 1
          self.blobs[key] = nil
        end,
      }
    end
    return self
  end

  local function pair(client_spill, server_spill)
    local server = assert(orrery.service({ bind = "127.0.0.1:0",
      spill = server_spill }))
    local started = assert(server:start(Box, { id = "box" }))
    local client = assert(orrery.service({ spill = client_spill }))
    closes[#closes + 1] = function() server:stop():await() end
    closes[#closes + 1] = function() client:stop():await() end
    return assert(client:connect(started.address, "box"):await()), server,
      client
  end

  after_each(function()
    for i = #closes, 1, -1 do closes[i]() end
    closes = {}
  end)

  it("RPC-72 large arguments and results go through the store", function()
    local blobs = store()
    local gateway, server = pair(blobs.option(), blobs.option())
    local value = { text = ("x"):rep(5000), list = { 1, 2, 3 } }
    assert.are.same(value, gateway:echo(value):await())
    assert.are.equal(2, blobs.puts)
    assert.are.equal(2, blobs.gets)
    assert.are.equal(2, blobs.drops)
    assert.is_nil(next(blobs.blobs))
    assert.is_true(server:net_info().body_in_max < 200)
    assert.are.equal("small", gateway:echo("small"):await())
    assert.are.equal(2, blobs.puts)
  end)

  it("RPC-71 no value of a user is taken for the envelope", function()
    local blobs = store()
    local gateway = pair(blobs.option(), blobs.option())
    for _, value in ipairs({ "blob-1", { key = "blob-1", spilled = true },
      { "blob-1" }, { flags = 16 } }) do
      assert.are.same(value, gateway:echo(value):await())
    end
    assert.are.equal(0, blobs.gets)
  end)

  it("a peer without the option gets the body itself", function()
    local blobs = store()
    local gateway = pair(blobs.option(), nil)
    assert.are.equal(5000, gateway:size(("x"):rep(5000)):await())
    assert.are.equal(0, blobs.puts)
    gateway = pair(nil, blobs.option())
    assert.are.equal(5000, #gateway:make(5000):await())
    assert.are.equal(0, blobs.puts)
  end)

  it("keeps the order of one sender to one endpoint", function()
    local blobs = store()
    local gateway = pair(blobs.option(), blobs.option())
    for i = 1, 9 do gateway:note(i % 3 == 0 and ("x"):rep(3000 + i) or i) end
    assert.are.same({ 1, 2, 3003, 4, 5, 3006, 7, 8, 3009, "end" },
      gateway:notes("end"):await())
    assert.are.equal(3, blobs.puts)
  end)

  it("a store that cannot put is no failure of the call", function()
    local blobs = store()
    local gateway = pair(blobs.option(), blobs.option())
    blobs.fail = true
    local value = ("x"):rep(5000)
    assert.are.equal(value, gateway:echo(value):await())
    assert.are.equal(0, blobs.puts)
  end)

  it("a blob that is lost fails the call with the store's error", function()
    local blobs = store()
    local other = store()
    local gateway = pair(blobs.option(), other.option())
    local _, err = gateway:size(("x"):rep(5000)):await()
    assert.are.equal("remote", err.code)
    assert.is_truthy(err.message:find("no blob blob-1", 1, true), err.message)
    _, err = gateway:make(5000):await()
    assert.are.equal("remote", err.code)
    assert.is_truthy(err.message:find("no blob", 1, true), err.message)
    assert.are.equal("after", gateway:echo("after"):await())
  end)

  it("its options are checked", function()
    for _, row in ipairs({
      { 5, "spill must be a table" },
      { { put = print }, "spill.get must be a function, got nil" },
      { { put = print, get = print, treshold = 5 }, "unknown field treshold" },
      { { put = print, get = print, threshold = 0 }, "from 1 on" },
    }) do
      local ok, message = pcall(orrery.service, { spill = row[1] })
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(row[2], 1, true), message)
    end
  end)
end)
