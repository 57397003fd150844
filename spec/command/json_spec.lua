local json = require("orrery.util.json")

describe("json", function()
  it("sorts keys and keeps whole numbers whole", function()
    assert.equal(
      '{"a":[1,2.5,"x"],"b":{"c":true,"d":null},"n":1700000000000}',
      json.encode { n = 1700000000000, b = { d = json.null, c = true },
        a = { 1, 2.5, "x" } })
  end)

  it("tells an empty object from an empty array", function()
    assert.equal('{"a":[],"o":{}}',
      json.encode { a = {}, o = json.object() })
  end)

  it("escapes what must be escaped", function()
    assert.equal('"a\\"b\\n\\u0001"', json.encode("a\"b\n\1"))
  end)

  it("refuses with the path what JSON cannot say", function()
    local _, err = json.encode { a = { { f = print } } }
    assert.equal("$.a[1].f: a function is no JSON", err)
    _, err = json.encode { x = 0 / 0 }
    assert.equal("$.x: not a finite number", err)
    _, err = json.encode { [3] = 1 }
    assert.equal("$: a key of type number is no JSON", err)
    local loop = {}
    loop.loop = loop
    _, err = json.encode(loop)
    assert.truthy(err:find("deeper than 64 levels", 1, true))
  end)

  it("reads what it wrote", function()
    local value = { a = { 1, 2 }, s = "é", x = 0.1 }
    assert.same(value, json.decode(json.encode(value)))
    local nothing, err = json.decode("{")
    assert.is_nil(nothing)
    assert.is_string(err)
  end)
end)
