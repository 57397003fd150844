local errors = require("orrery.util.errors")

describe("errors", function()
  it("print their code, message and causes", function()
    local e = errors.new("remote", "it failed", {
      cause = errors.new("job_not_found", "no job 7"),
    })
    assert.are.equal(
      "remote: it failed\n  caused by job_not_found: no job 7", tostring(e))
  end)

  it("survive the way through a plain table", function()
    local e = errors.new("a", "top", { context = { n = 1 },
      cause = errors.new("b", "below", { traceback = "tb" }) })
    local back = errors.from_table(errors.to_table(e))
    assert.is_true(errors.is(back))
    assert.are.equal("a", back.code)
    assert.are.equal(1, back.context.n)
    assert.are.equal("b", back.cause.code)
    assert.are.equal("tb", back.cause.traceback)
    assert.is_nil(getmetatable(errors.to_table(e)))
  end)

  it("are made of anything that comes from outside", function()
    assert.are.equal("error: 7", tostring(errors.from_table(7)))
    assert.are.equal("no message", errors.from_table({ code = 1 }).message)
    assert.are.equal("no message", errors.from_table(nil).message)
  end)

  it("cut endless chains of causes", function()
    local e = { code = "x", message = "loop" }
    e.cause = e
    local n, at = 0, errors.from_table(e)
    while at do n, at = n + 1, at.cause end
    assert.is_true(n <= 16)
  end)

  it("turn contexts into what can be sent", function()
    local t = errors.to_table(errors.new("x", "y",
      { context = { f = print, inner = { g = io.stdout } } }))
    assert.are.equal("string", type(t.context.f))
    assert.are.equal("string", type(t.context.inner.g))
  end)

  it("wrap what was thrown and keep what is one already", function()
    local e = errors.new("x", "y")
    assert.are.equal(e, errors.wrap(e))
    assert.are.equal("error", errors.wrap("text").code)
    assert.are.equal("z", errors.wrap({ code = "z", message = "m" }).code)
  end)

  it("find a code in the chain", function()
    local below = errors.new("b", "below")
    local e = errors.new("a", "top", { cause = below })
    assert.are.equal(below, errors.find(e, "b"))
    assert.is_nil(errors.find(e, "c"))
  end)

  it("refuse to be made of something else", function()
    assert.has_error(function() errors.new("x") end,
      "errors.new: code and message must be strings")
  end)

  it("name the nearest word, or none", function()
    local words = { "submit", "status", "cancel" }
    assert.are.equal("status", errors.nearest("stauts", words))
    assert.is_nil(errors.nearest("xyzzy", words))
  end)
end)
