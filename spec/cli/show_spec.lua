local show = require("orrery.cli.show")

local JOB = {
  job_id = "3f2a00000000", name = "words", status = "RUNNING",
  tasks = { RUNNING = 2 }, tasks_total = 4, restarts = 0, duration = 1500,
  vertices = {
    { id = 1, name = "files", status = "RUNNING", parallelism = 2,
      counts = { RUNNING = 2 }, records_in = 1000, records_out = 4000 },
    { id = 2, name = "count", status = "CREATED", parallelism = 2,
      counts = {}, records_in = 4000, records_out = 0 },
  },
  edges = { { id = 1, from = 1, to = 2, kind = "hash" } },
}

local function changed(fields)
  return setmetatable(fields, { __index = JOB })
end

describe("jobs as text", function()
  it("are listed with ids short enough to type", function()
    local text = show.job_table {
      changed { job_id = ("a"):rep(32) },
      changed { job_id = ("a"):rep(9) .. ("b"):rep(23) },
    }
    assert.truthy(text:find("^JOB           NAME   STATE    RUNNING"), text)
    assert.truthy(text:find("\naaaaaaaaaaaa  words  RUNNING      2/4"), text)
    assert.truthy(text:find("\naaaaaaaaabbb  words"), text)
  end)

  it("show their operators and the failure with its causes", function()
    local text = show.job_page(changed { status = "FAILED", failure = {
      code = "task_failed", message = "task 1 failed",
      cause = { code = "user", message = "job.lua:4: boom" } } })
    assert.truthy(text:find("failure   task 1 failed: job.lua:4: boom", 1,
      true), text)
    assert.truthy(text:find("files      RUNNING      2/2       1,000", 1,
      true), text)
  end)

  it("count records once, at the sources, and rates over a second", function()
    local line, before = show.progress_line(JOB, 0, nil)
    assert.equal("RUNNING  tasks 2/4  records 1,000", line)
    line, before = show.progress_line(JOB, 500, before)
    assert.equal("RUNNING  tasks 2/4  records 1,000", line)
    local more = changed { restarts = 1, reason = "waits for slots",
      vertices = { { id = 1, records_in = 5000 } } }
    line, before = show.progress_line(more, 2000, before)
    assert.equal("RUNNING  tasks 2/4  records 5,000  2,000/s  restarts 1  "
      .. "(waits for slots)", line)
    line = show.progress_line(JOB, 4000, before)
    assert.equal("RUNNING  tasks 2/4  records 1,000", line)
  end)
end)
