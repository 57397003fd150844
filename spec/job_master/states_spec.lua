local states = require("orrery.job_master.states")
local state_table = require("orrery.util.state_table")

-- The legal moves, written out a second time: from -> set of to.
local EXECUTION = {
  CREATED = "SCHEDULED CANCELING CANCELED FAILED FINISHED",
  SCHEDULED = "DEPLOYING CANCELING CANCELED FAILED",
  DEPLOYING = "INITIALIZING FINISHED CANCELING CANCELED FAILED",
  INITIALIZING = "RUNNING FINISHED CANCELING CANCELED FAILED",
  RUNNING = "FINISHED CANCELING CANCELED FAILED",
  CANCELING = "CANCELED", FINISHED = "", CANCELED = "", FAILED = "",
}
local JOB = {
  INITIALIZING = "CREATED FAILED SUSPENDED",
  CREATED = "RUNNING CANCELLING FAILING SUSPENDED",
  RUNNING = "RESTARTING FINISHED CANCELLING FAILING SUSPENDED",
  RESTARTING = "RUNNING CANCELLING FAILING SUSPENDED",
  CANCELLING = "CANCELED FAILING SUSPENDED",
  FAILING = "FAILED CANCELLING SUSPENDED",
  FINISHED = "", CANCELED = "", FAILED = "", SUSPENDED = "",
}

local function each_pair(definition, fn)
  for from, targets in pairs(definition) do
    for to in pairs(definition) do
      local padded = " " .. targets .. " "
      fn(from, to, padded:find(" " .. to .. " ", 1, true) ~= nil)
    end
  end
end

describe("job states", function()
  for name, definition in pairs({ execution = EXECUTION, job = JOB }) do
    it(name .. ": every legal move is made, every other is refused and named",
      function()
        local legal, illegal = 0, 0
        each_pair(definition, function(from, to, is_legal)
          local ok, err = states[name]:check(from, to, "x")
          if is_legal then
            legal = legal + 1
            assert.is_true(ok, from .. " -> " .. to)
          else
            illegal = illegal + 1
            assert.is_nil(ok, from .. " -> " .. to)
            assert.equal("illegal_state", err.code)
            assert.truthy(err.message:find(from, 1, true))
            assert.truthy(err.message:find(to, 1, true))
          end
        end)
        assert.truthy(legal > 15 and illegal > 50)
      end)
  end

  it("X-08 a machine records when each state was entered, 0 for never",
    function()
      local m = states.job:machine("j", 5)
      assert.equal(5, m.timestamps.INITIALIZING)
      assert.equal(0, m.timestamps.RUNNING)
      assert.is_true(m:move("CREATED", 7))
      assert.is_nil((m:move("FINISHED", 9)))
      assert.equal("CREATED", m.state)
      assert.equal(7, m.timestamps.CREATED)
      assert.equal(0, m.timestamps.FINISHED)
    end)

  it("a vertex shows failed before canceling before the rest", function()
    local function show(parallelism, counts)
      local all = states.counts()
      for k, v in pairs(counts) do all[k] = v end
      return states.aggregate(all, parallelism)
    end
    assert.equal("FAILED", show(3, { FAILED = 1, CANCELING = 1, RUNNING = 1 }))
    assert.equal("CANCELING", show(2, { CANCELING = 1, CANCELED = 1 }))
    assert.equal("CANCELED", show(2, { CANCELED = 1, RUNNING = 1 }))
    assert.equal("INITIALIZING", show(2, { INITIALIZING = 1, RUNNING = 1 }))
    assert.equal("RUNNING", show(2, { RUNNING = 1, FINISHED = 1 }))
    assert.equal("RUNNING", show(2, { FINISHED = 1, CREATED = 1 }))
    assert.equal("FINISHED", show(2, { FINISHED = 2 }))
    assert.equal("CREATED", show(2, { DEPLOYING = 2 }))
    assert.equal(0, states.counts().RECONCILING)
  end)

  it("a table with a move to nowhere is a mistake of the programmer", function()
    assert.error_matches(function()
      state_table.new("t", { initial = "A", moves = { A = { "B" } } })
    end, "A moves to B")
  end)
end)
