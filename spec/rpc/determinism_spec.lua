local host = require("support.host")

local function history(seed)
  local output = host.run("spec/support/determinism_script.lua", seed)
  local hash, events = output:match("^(%d+)%s+(%d+)")
  assert.is_truthy(hash, output)
  assert.is_true(tonumber(events) > 200)
  return hash
end

describe("a simulation", function()
  it("replays one history from one seed, in any process", function()
    local first = history(42)
    assert.are.equal(first, history(42))
    assert.are.equal(first, history(42))
  end)

  it("has another history with another seed", function()
    assert.are_not.equal(history(1), history(2))
  end)
end)
