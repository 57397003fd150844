--- `orrery list`.

local output = require("orrery.cli.output")
local session = require("orrery.cli.session")
local show = require("orrery.cli.show")

local M = {}

function M.run(context)
  return session.with_cluster(context, function(cluster)
    local jobs, err = cluster:jobs()
    if not jobs then return nil, err end
    if context.options.json then
      local ok, bad = output.json { jobs = show.document(jobs) }
      return ok and 0, bad
    end
    if #jobs == 0 then
      output.note("no jobs")
    else
      output.write(show.job_table(jobs))
    end
    return 0
  end)
end

return M
