local evaluate = require("orrery.repl.evaluate")

local function not_a_future() return false end

local function value_of(source, environment)
  local state, chunk = evaluate.compile(source, environment or {})
  assert.equal("ready", state)
  local ok, results = evaluate.run(chunk, not_a_future)
  assert.is_true(ok, results)
  return results
end

describe("repl evaluation", function()
  it("takes an expression first, then a statement", function()
    assert.equal(3, value_of("1 + 2")[1])
    assert.equal(3, value_of("= 1 + 2")[1])
    local environment = {}
    assert.equal(0, value_of("x = 4", environment).n)
    assert.equal(4, environment.x)
    assert.same({ n = 3, 1, nil, 3 }, value_of("1, nil, 3"))
    assert.equal(0, value_of("  ").n)
  end)

  it("wants more while the end is missing", function()
    assert.equal("more", (evaluate.compile("for i = 1, 2 do", {})))
    assert.equal("more", (evaluate.compile("f(1,", {})))
    assert.equal("more", (evaluate.compile("x = [[ab", {})))
    assert.equal("more", (evaluate.compile("--[[ab", {})))
  end)

  it("tells a syntax error with its line", function()
    local state, err = evaluate.compile("x = = 1", {})
    assert.equal("bad", state)
    assert.truthy(err:find("input:1:", 1, true))
  end)

  it("refuses bytecode", function()
    local state = evaluate.compile(string.dump(function() end), {})
    assert.equal("bad", state)
  end)

  it("gives what was thrown, with the frames of the input only", function()
    local _, chunk = evaluate.compile("error('boom')", { error = error })
    local ok, fault = evaluate.run(chunk, not_a_future)
    assert.is_false(ok)
    assert.truthy(fault:find("input:1: boom", 1, true))
    assert.is_nil(fault:find("evaluate.lua", 1, true))
    local thrown = {}
    _, chunk = evaluate.compile("error(t)", { error = error, t = thrown })
    ok, fault = evaluate.run(chunk, not_a_future)
    assert.is_false(ok)
    assert.equal(thrown, fault)
  end)

  it("waits for a future", function()
    local future = { await = function() return nil, "an error" end }
    local _, chunk = evaluate.compile("f", { f = future })
    local ok, results = evaluate.run(chunk, function(v) return v == future end)
    assert.is_true(ok)
    assert.same({ n = 2, nil, "an error" }, results)
  end)
end)
