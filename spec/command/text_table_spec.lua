local text_table = require("orrery.util.text_table")

describe("text table", function()
  it("pads columns to their widest cell and trims line ends", function()
    local text = text_table.format(
      { { title = "JOB" }, { title = "TASKS", right = true },
        { title = "NAME" } },
      { { "ab", 12, "word count" }, { "abcdef", 3, "x" }, { "c", nil, "y" } })
    assert.equal(table.concat({
      "JOB     TASKS  NAME",
      "ab         12  word count",
      "abcdef      3  x",
      "c           -  y", "" }, "\n"), text)
  end)

  it("counts characters, not bytes, and removes control bytes", function()
    local text = text_table.format({ { title = "A" }, { title = "B" } },
      { { "é", "1" }, { "a\27[31m", "2" } })
    assert.equal("A       B\né       1\na?[31m  2\n", text)
  end)

  it("aligns fields", function()
    assert.equal("state  RUNNING\nid     -\n",
      text_table.fields { { "state", "RUNNING" }, { "id", nil } })
  end)

  it("writes spans and counts for people", function()
    assert.equal("850 ms", text_table.span(850))
    assert.equal("12.3 s", text_table.span(12340))
    assert.equal("4 min 10 s", text_table.span(250000))
    assert.equal("2 h 5 min", text_table.span(7500000))
    assert.equal("0", text_table.count(0))
    assert.equal("999", text_table.count(999))
    assert.equal("1,234,567", text_table.count(1234567))
    assert.equal("-123,456", text_table.count(-123456))
  end)
end)
