--- `orrery jobmanager`.

local cluster = require("orrery.cluster")
local process = require("orrery.cli.process")

local M = {}

function M.run(context)
  return process.run(context, cluster.start_jobmanager, function(running)
    return ("The jobmanager serves at %s.\n"):format(running.address)
      .. ("Add slots:  orrery taskmanager --jobmanager %s\n"):format(
        running.address)
      .. "Ctrl-C stops it.\n"
  end)
end

return M
