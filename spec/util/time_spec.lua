local time = require("orrery.util.time")

describe("durations", function()
  it("are milliseconds, or have a unit", function()
    for text, ms in pairs({ ["250ms"] = 250, ["10 s"] = 10000,
      ["5min"] = 300000, ["1h"] = 3600000, ["1.5 s"] = 1500, ["7"] = 7,
      ["2d"] = 172800000, ["10us"] = 0.01 }) do
      assert.are.equal(ms, time.duration_ms(text))
    end
    assert.are.equal(12.5, time.duration_ms(12.5))
  end)

  it("are refused with a hint", function()
    for _, bad in ipairs({ "soon", "10 fortnights", "", "-5s", -1, true,
      0 / 0, 1 / 0 }) do
      local ms, err = time.duration_ms(bad)
      assert.is_nil(ms)
      assert.are.equal("bad_argument", err.code)
    end
    local _, err = time.duration_ms("soon")
    assert.is_truthy(err.message:find('"soon" is not a duration', 1, true))
  end)

  it("are printed for people", function()
    assert.are.equal("250 ms", time.format_ms(250))
    assert.are.equal("10 s", time.format_ms(10000))
    assert.are.equal("1.5 min", time.format_ms(90000))
  end)
end)

describe("sizes", function()
  it("are bytes, or have a unit", function()
    assert.are.equal(65536, time.size("64kb"))
    assert.are.equal(10485760, time.size("10 mb"))
    assert.are.equal(5, time.size(5))
    assert.are.equal(1024, time.size("1 KiB"))
  end)

  it("are refused with a hint", function()
    local size, err = time.size("lots")
    assert.is_nil(size)
    assert.is_truthy(err.message:find("is not a size", 1, true))
  end)
end)
