--- `orrery taskmanager`.

local cluster = require("orrery.cluster")
local process = require("orrery.cli.process")

local M = {}

function M.run(context)
  return process.run(context, cluster.start_taskmanager, function(running)
    return ("Taskmanager %s serves at %s with %d slot%s.\nCtrl-C stops it.\n")
      :format(running.id, running.address, running.slots,
        running.slots == 1 and "" or "s")
  end)
end

return M
