local nearest = require("orrery.util.nearest")

describe("nearest match", function()
  it("counts insertions, deletions, replacements and swaps", function()
    assert.equal(0, nearest.distance("run", "run"))
    assert.equal(1, nearest.distance("run", "rum"))
    assert.equal(1, nearest.distance("run", "urn"))
    assert.equal(1, nearest.distance("run", "ru"))
    assert.equal(3, nearest.distance("", "run"))
  end)

  it("finds the word that was meant", function()
    local words = { "cancel", "list", "run", "status", "taskmanager" }
    assert.equal("cancel", nearest.find("cansel", words))
    assert.equal("taskmanager", nearest.find("taskmanger", words))
    assert.equal("status", nearest.find("STATUS", words))
    assert.equal("taskmanager", nearest.find("task", words))
  end)

  it("suggests nothing for words that are far off or too long", function()
    assert.is_nil(nearest.find("frobnicate", { "run", "list" }))
    assert.is_nil(nearest.find("", { "run" }))
    assert.is_nil(nearest.find(("r"):rep(65), { ("r"):rep(65) }))
  end)

  it("takes the first in the alphabet of equals", function()
    assert.equal("car", nearest.find("cat", { "cay", "car" }))
  end)
end)
