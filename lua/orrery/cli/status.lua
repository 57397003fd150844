--- `orrery status JOB`.

local output = require("orrery.cli.output")
local session = require("orrery.cli.session")
local show = require("orrery.cli.show")

local M = {}

function M.run(context)
  return session.with_cluster(context, function(cluster)
    local job, err = cluster:job(context.parameters[1])
    if not job then return nil, err end
    local details
    details, err = cluster:details(job.job_id)
    if not details then return nil, err end
    if context.options.json then
      local ok, bad = output.json(show.document(details))
      return ok and 0, bad
    end
    output.write(show.job_page(details))
    return 0
  end)
end

return M
