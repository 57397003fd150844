--- `orrery cancel JOB`.

local errors = require("orrery.util.errors")
local output = require("orrery.cli.output")
local session = require("orrery.cli.session")

local M = {}

function M.run(context)
  return session.with_cluster(context, function(cluster)
    local job, err = cluster:job(context.parameters[1])
    if not job then return nil, err end
    local outcome
    outcome, err = cluster:cancel(job.job_id)
    if not outcome then return nil, err end
    if context.options.json then
      local ok, bad = output.json { job_id = job.job_id,
        status = outcome.status }
      if not ok then return nil, bad end
    elseif outcome.status == "CANCELED" then
      output.note("job " .. job.job_id .. " is canceled")
    end
    if outcome.status ~= "CANCELED" then
      return nil, errors.new("not_canceled", ("job %s ended %s before it could "
        .. "be canceled"):format(job.job_id, outcome.status))
    end
    return 0
  end)
end

return M
