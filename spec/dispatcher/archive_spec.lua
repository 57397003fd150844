local archives = require("orrery.dispatcher.archive")

describe("archive", function()
  local function entry(status)
    return { outcome = { status = status or "FINISHED" } }
  end

  it("keeps the newest, up to its capacity", function()
    local a = archives.new({ count_max = 2 })
    for i = 1, 3 do assert.is_true(a:add("j" .. i, entry(), i)) end
    assert.is_nil(a:get("j1", 3))
    assert.truthy(a:get("j2", 3))
    assert.equal(2, #a:list(3))
    assert.is_false(a:add("j3", entry("FAILED"), 4))
    assert.equal("FINISHED", a:get("j3", 4).outcome.status)
  end)

  it("forgets what is too old", function()
    local a = archives.new({ age_max_ms = 100 })
    a:add("old", entry(), 0)
    a:add("new", entry(), 60)
    assert.truthy(a:get("old", 99))
    assert.is_nil(a:get("old", 100))
    assert.truthy(a:get("new", 100))
    assert.equal(1, #a:list(100))
    assert.is_true(a:add("old", entry(), 101))
  end)

  it("counts how jobs ended, also those forgotten", function()
    local a = archives.new({ count_max = 1 })
    for i, status in ipairs({ "FINISHED", "FAILED", "CANCELED", "FAILED" }) do
      a:add("j" .. i, entry(status), i)
    end
    assert.same({ FINISHED = 1, FAILED = 2, CANCELED = 1 }, a.counts)
  end)
end)
