--- The states of an attempt and of a job as the JobMaster sees them: the
-- legal moves, and what a vertex shows for the states of its subtasks.
local state_table = require("orrery.util.state_table")

local M = {}

-- CREATED to FINISHED is a vertex restored as finished. A failure report that
-- finds an attempt CANCELING ends it as CANCELED, so CANCELING never fails.
M.execution = state_table.new("execution", {
  initial = "CREATED",
  moves = {
    CREATED = { "SCHEDULED", "CANCELING", "CANCELED", "FAILED", "FINISHED" },
    SCHEDULED = { "DEPLOYING", "CANCELING", "CANCELED", "FAILED" },
    DEPLOYING = {
      "INITIALIZING", "FINISHED", "CANCELING", "CANCELED", "FAILED",
    },
    INITIALIZING = { "RUNNING", "FINISHED", "CANCELING", "CANCELED", "FAILED" },
    RUNNING = { "FINISHED", "CANCELING", "CANCELED", "FAILED" },
    CANCELING = { "CANCELED" },
    FINISHED = {},
    CANCELED = {},
    FAILED = {},
  },
})

M.job = state_table.new("job", {
  initial = "INITIALIZING",
  moves = {
    INITIALIZING = { "CREATED", "FAILED", "SUSPENDED" },
    CREATED = { "RUNNING", "CANCELLING", "FAILING", "SUSPENDED" },
    RUNNING = {
      "RESTARTING", "FINISHED", "CANCELLING", "FAILING", "SUSPENDED",
    },
    RESTARTING = { "RUNNING", "CANCELLING", "FAILING", "SUSPENDED" },
    CANCELLING = { "CANCELED", "FAILING", "SUSPENDED" },
    FAILING = { "FAILED", "CANCELLING", "SUSPENDED" },
    FINISHED = {},
    CANCELED = {},
    FAILED = {},
    SUSPENDED = {},
  },
})

--- Ended for the whole cluster; SUSPENDED is ended only here.
function M.is_globally_terminal(status)
  return status == "FINISHED" or status == "FAILED" or status == "CANCELED"
end

--- All names that a count map shows. RECONCILING is there for clients that
-- expect it; nothing enters it.
M.count_names = {
  "CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED",
  "CANCELING", "CANCELED", "FAILED", "RECONCILING",
}

--- A count map with every name at 0.
function M.counts()
  local counts = {}
  for _, name in ipairs(M.count_names) do counts[name] = 0 end
  return counts
end

--- The state a vertex shows for the counts of its subtasks' states.
---@param counts table<string, integer>
---@param parallelism integer
function M.aggregate(counts, parallelism)
  for _, name in ipairs({
    "FAILED", "CANCELING", "CANCELED", "INITIALIZING", "RUNNING",
  }) do
    if counts[name] > 0 then return name end
  end
  if counts.FINISHED > 0 then
    return counts.FINISHED == parallelism and "FINISHED" or "RUNNING"
  end
  return "CREATED"
end

return M
