local print_value = require("orrery.repl.print").format
local errors = require("orrery.util.errors")

describe("repl printing", function()
  it("shows scalars as they would be written", function()
    assert.equal("nil", print_value(nil))
    assert.equal("3", print_value(3))
    assert.equal("0.1", print_value(0.1))
    assert.equal("\"a\\\"b\\n\\027[2J\"", print_value("a\"b\n\27[2J"))
  end)

  it("shows tables sorted, on one line while they fit", function()
    assert.equal("{ 1, 2, a = 1, b = { c = \"x\" }, [\"d e\"] = true }",
      print_value { 1, 2, b = { c = "x" }, a = 1, ["d e"] = true })
    assert.equal("{}", print_value {})
    local long = ("x"):rep(60)
    assert.equal("{\n  \"" .. long .. "\",\n  \"" .. long .. "\"\n}",
      print_value { long, long })
  end)

  it("is bounded in depth, items and length", function()
    assert.equal("{ { { { { ... } } } } }",
      print_value { { { { { 1 } } } } })
    local many = {}
    for i = 1, 50 do many[i] = i end
    assert.truthy(print_value(many):find("... 10 more", 1, true))
    assert.truthy(print_value(("a"):rep(500)):find("... (500 bytes)", 1, true))
  end)

  it("survives cycles and broken __tostring", function()
    local loop = {}
    loop.me = loop
    assert.equal("{ me = <the table itself> }", print_value(loop))
    local broken = setmetatable({}, { __tostring = function() error("x") end })
    assert.equal("<table whose __tostring fails>", print_value(broken))
  end)

  it("shows errors with their code", function()
    assert.equal("job_not_found: no job x",
      print_value(errors.new("job_not_found", "no job x")))
  end)
end)
