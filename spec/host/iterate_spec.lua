-- LuaJIT 2.1.0-beta3 compiles next() and pairs() wrongly: LuaJIT#827, #829.
describe("iteration over a table", function()
  local function nothing(...) -- luacheck: ignore 212
    for _ = 1, 100 do end
  end

  it("visits every key however often the loop has run", function()
    local inner = { 1, 2, 3, 4, 5 }
    local outer = { a = inner, b = inner, c = inner, d = inner, e = inner }
    for i = 1, 100000 do
      nothing() -- back to the interpreter
      local n = 0
      for _, list in pairs(outer) do
        for _ in pairs(list) do end
        n = n + 1
      end
      if n ~= 5 then error("round " .. i .. " saw " .. n .. " of 5 keys") end
    end
  end)

  it("is never machine code where the compiler is faulty", function()
    if not jit.version:find("^LuaJIT 2%.1%.0%-beta") then return end
    local info = require("jit.util").funcinfo
    local a_c_function = info(require("orrery.core").encode).ffid
    assert.are.equal(a_c_function, info(next).ffid)
    assert.are.equal(a_c_function, info((pairs({}))).ffid)
  end)

  it("behaves as in the manual", function()
    assert.is_nil(next({}))
    assert.are.same({ 1, "x" }, { next({ "x" }) })
    assert.is_nil(next({ "x" }, 1))
    local iterate, t, first = pairs({ k = 1 })
    assert.are.equal("k", (iterate(t, first)))
    assert.is_nil(iterate(t, "k"))
    for _, call in ipairs({ function() pairs() end, function() pairs(1) end,
      function() next("x") end }) do
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #1 to .%a+. %(table "))
    end
    local ok, message = pcall(next, { 1 }, "absent")
    assert.is_false(ok)
    assert.is_truthy(message:find("invalid key to 'next'", 1, true))
  end)

  it("lets a loop clear what it visits", function()
    local t, n = {}, 0
    for i = 1, 100 do t["k" .. i] = i end
    for k in pairs(t) do
      t[k] = nil
      n = n + 1
    end
    assert.are.equal(100, n)
    assert.is_nil(next(t))
  end)
end)
