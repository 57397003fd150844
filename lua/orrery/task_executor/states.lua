--- The states of a task on its TaskExecutor. A failure while CANCELING ends as
-- CANCELED.
local state_table = require("orrery.util.state_table")

return state_table.new("task", {
  initial = "CREATED",
  moves = {
    CREATED = { "DEPLOYING", "CANCELING", "FAILED" },
    DEPLOYING = { "INITIALIZING", "FINISHED", "CANCELING", "CANCELED",
      "FAILED" },
    INITIALIZING = { "RUNNING", "FINISHED", "CANCELING", "CANCELED",
      "FAILED" },
    RUNNING = { "FINISHED", "CANCELING", "CANCELED", "FAILED" },
    CANCELING = { "CANCELED" },
    FINISHED = {}, CANCELED = {}, FAILED = {},
  },
})
