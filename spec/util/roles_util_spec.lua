local ids = require("orrery.util.ids")
local sorted = require("orrery.util.sorted")

describe("ids", function()
  it("are 32 hex digits of the chance given", function()
    local id = ids.new(function(n) return ("\0\255"):rep(n / 2) end)
    assert.equal(("00ff"):rep(8), id)
    assert.is_true(ids.is_id(id))
    for _, bad in ipairs({ id:upper(), id .. "0", "", 5 }) do
      assert.is_nil((ids.check(bad, "x")))
    end
    local _, err = ids.check("zz", "plan.job_id")
    assert.matches('plan.job_id: "zz" is not an id', err.message)
  end)

  it("of attempts print and parse", function()
    local text = ids.attempt(("ab"):rep(16), 3, 0, 12)
    assert.equal(("ab"):rep(16) .. "_3_0_12", text)
    assert.same({ graph = ("ab"):rep(16), vertex = 3, subtask = 0,
      attempt = 12 }, ids.parse_attempt(text))
    local _, err = ids.parse_attempt("x_1_2")
    assert.equal("bad_argument", err.code)
  end)
end)

describe("sorted", function()
  it("walks in the order of keys, numbers first", function()
    local t = { b = 1, a = 2, [10] = 3, [2] = 4 }
    assert.same({ 2, 10, "a", "b" }, sorted.keys(t))
    assert.same({ 4, 3, 2, 1 }, sorted.values(t))
    assert.equal(4, sorted.count(t))
  end)

  it("skips entries removed on the way", function()
    local t, seen = { 1, 2, 3 }, {}
    for k in sorted.pairs(t) do
      seen[#seen + 1] = k
      t[2] = nil
    end
    assert.same({ 1, 3 }, seen)
  end)
end)
