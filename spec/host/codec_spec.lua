local core = require("orrery.core")

local function round(...) return core.decode(core.encode(...)) end

describe("the codec", function()
  it("keeps values", function()
    for _, v in ipairs({ 0, 1, -1, 127, 128, -32, -33, 65535, 65536, 2 ^ 31,
      -2 ^ 31, 2 ^ 32, 2 ^ 52, -2 ^ 52, 2 ^ 60, 0.5, -1.25, 1e300, 1 / 0,
      "", "abc", ("x"):rep(31), ("x"):rep(32), ("x"):rep(256),
      ("x"):rep(65536), "\0\255", true, false }) do
      assert.are.equal(v, (round(v)))
    end
    local nan = round(0 / 0)
    assert.is_true(nan ~= nan)
    assert.are.equal(-1 / 0, 1 / round(-0.0))
  end)

  it("keeps nil arguments, also trailing ones", function()
    assert.are.equal(4, select("#", round(nil, 1, nil, nil)))
    assert.are.equal(0, select("#", round()))
  end)

  it("tells arrays from maps", function()
    assert.are.equal("\147\1\2\3", core.encode({ 1, 2, 3 }))
    assert.are.equal("\144", core.encode({}))
    assert.are.equal("\129\161a\1", core.encode({ a = 1 }))
    local scrambled = {}
    for i = 40, 1, -1 do scrambled[i] = i end
    assert.are.equal("\220\0\40", core.encode(scrambled):sub(1, 3))
    assert.are.same({ 1, nil, 3 }, (round({ 1, nil, 3 })))
    assert.are.same({ 1, 2, x = 3 }, (round({ 1, 2, x = 3 })))
    assert.are.same({ [0] = "z", "a" }, (round({ [0] = "z", "a" })))
    assert.are.same({ [2.5] = 1 }, (round({ [2.5] = 1 })))
  end)

  it("keeps nested tables and large maps", function()
    local t = { list = {}, map = {} }
    for i = 1, 300 do
      t.list[i] = { i, tostring(i) }
      t.map["k" .. i] = { v = i }
    end
    assert.are.same(t, (round(t)))
  end)

  it("refuses what cannot be sent, with its path", function()
    local function message(...)
      local ok, text = pcall(core.encode, ...)
      assert.is_false(ok)
      return text
    end
    assert.are.equal(
      "bad_argument: argument 2.items[3]: a function cannot be sent",
      message(1, { items = { 1, 2, print } }))
    assert.is_truthy(message(coroutine.create(print)):find("coroutine"))
    assert.is_truthy(message({ a = { b = io.stdout } }):find("%.a%.b: a user"))
    assert.is_truthy(message(setmetatable({}, {})):find("metatable"))
    assert.is_truthy(message({ [true] = 1 }):find("key must be"))
    assert.is_truthy(message(require("ffi").new("int[1]")):find("cdata"))
    local cycle = {}
    cycle.x = cycle
    assert.is_truthy(message(cycle):find("deeper than 64"))
  end)

  it("takes a depth of 64 and refuses 65", function()
    local function nested(n)
      local t = {}
      for _ = 2, n do t = { t } end
      return t
    end
    assert.is_table((round(nested(64))))
    assert.is_false((pcall(core.encode, nested(65))))
    assert.is_nil((core.decode(("\145"):rep(64) .. "\144")))
  end)

  it("refuses broken bytes and never trusts counts", function()
    for _, bytes in ipairs({ "\193", "\221\255\255\255\255",
      "\223\255\255\255\255", "\219\255\255\255\255", "\146\1", "\129\161a",
      "\129\192\1", "\129\144\1", "\203\0", "\199\0\0", "\212\1\1" }) do
      local v, message = core.decode(bytes)
      assert.is_nil(v)
      assert.is_truthy(message:find("broken MessagePack", 1, true))
    end
  end)

  it("survives mutations of a valid message", function()
    math.randomseed(5)
    local text = core.encode({ id = 1, op = "add", args = { 1, 2, 3.5, "abc" },
      ok = true }, "tail", { { {} } })
    for _ = 1, 20000 do
      local at = math.random(#text)
      local bytes = text:sub(1, at - 1) .. string.char(math.random(0, 255))
        .. text:sub(at + 1, math.random(at, #text))
      core.decode(bytes) -- must answer, whatever it answers
    end
  end)

  it("decodes from an offset and refuses one outside", function()
    assert.are.equal(2, (core.decode("\1\2", 2)))
    assert.are.equal(0, select("#", core.decode("\1", 2)))
    assert.is_false((pcall(core.decode, "\1", 3)))
    assert.is_false((pcall(core.decode, "\1", 0)))
  end)
end)

describe("a batch", function()
  it("collects values and is empty after take", function()
    local b = core.batch()
    assert.are.equal(1, b:append(1))
    assert.is_true(b:append({ "x" }) > 1)
    assert.are.equal(2, b:count())
    local bytes, n = b:take()
    assert.are.equal(2, n)
    assert.are.equal(0, b:count())
    local values, count = core.decode_batch(bytes)
    assert.are.same({ 1, { "x" } }, values)
    assert.are.equal(2, count)
  end)

  it("holds more values than a stack", function()
    local b = core.batch()
    for i = 1, 20000 do b:append(i) end
    local values, count = core.decode_batch((b:take()))
    assert.are.equal(20000, count)
    assert.are.equal(20000, values[20000])
  end)

  it("stays whole when a value is refused", function()
    local b = core.batch()
    b:append("a")
    assert.is_false((pcall(b.append, b, { print })))
    b:append("b")
    assert.are.same({ "a", "b" }, (core.decode_batch((b:take()))))
  end)

  it("that is cut is refused", function()
    local values, message = core.decode_batch("\1\146\1")
    assert.is_nil(values)
    assert.is_truthy(message:find("broken", 1, true))
  end)
end)

describe("the self test", function()
  it("answers facts with details", function()
    local names = {}
    for _, fact in ipairs(core.self_test()) do
      names[fact.name] = true
      assert.are.equal("boolean", type(fact.ok))
      assert.are.equal("string", type(fact.detail))
    end
    for _, name in ipairs({ "luajit", "gc64", "string.buffer", "LuaJIT#1125",
      "interrupt", "libuv" }) do
      assert.is_true(names[name])
    end
  end)
end)
