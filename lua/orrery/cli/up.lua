--- `orrery up`: a whole cluster in one process.

local cluster = require("orrery.cluster")
local process = require("orrery.cli.process")

local M = {}

function M.run(context)
  return process.run(context, cluster.start_all, function(running)
    local slots = running.slots
    return ("Orrery is up at %s with %d slot%s.\n"):format(running.address,
      slots, slots == 1 and "" or "s")
      .. "Run a job:  orrery run JOB.lua"
      .. (running.port == 6123 and "" or " --address " .. running.address)
      .. "\nCtrl-C stops it.\n"
  end)
end

return M
