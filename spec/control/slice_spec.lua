local support = require("support.cluster")

describe("a cluster", function()
  local cluster

  local function start(options)
    cluster = support.new(options)
    return cluster
  end

  after_each(function()
    if cluster then cluster:free() end
    cluster = nil
  end)

  it("runs a job to its end with the exact result", function()
    local c = start()
    local splits = {}
    for i = 1, 20 do splits[i] = i end
    local id = c:submit(c:plan({ splits = splits }))
    c:await_status(id, "RUNNING")
    local outcome = c:result(id)
    assert.equal("FINISHED", outcome.status)
    table.sort(outcome.result.collected.read)
    assert.same(splits, outcome.result.collected.read)
    assert.equal(4, outcome.result.accumulators.tasks[2])
    assert.equal("FINISHED", c:status(id).status)
    assert.same({}, c.fatal)
  end)
end)
