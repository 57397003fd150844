--- What a REPL session can name: the cluster's operations as Lua functions and
-- jobs as objects. Everything is made for one attached cluster.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local show = require("orrery.cli.show")
local text_table = require("orrery.util.text_table")

local M = {}

-- A failed operation stops what was typed with its typed error.
local function check(value, err)
  if err ~= nil then error(err, 0) end
  return value
end

--- A list that prints as a table.
local function listing(rows, print_rows)
  return setmetatable(rows, { __tostring = function()
    if #rows == 0 then return "(none)" end
    return (print_rows(rows):gsub("\n$", ""))
  end })
end

local function job_class(cluster)
  local Job = {}
  Job.__index = Job
  function Job:status() return check(cluster:details(self.job_id)).status end
  function Job:details() return check(cluster:details(self.job_id)) end
  function Job:cancel() return check(cluster:cancel(self.job_id)).status end
  function Job:wait() return check(cluster:outcome(self.job_id):await()) end
  function Job:result() return check(cluster:result(self.job_id)) end
  function Job:__tostring()
    local details = cluster:details(self.job_id)
    return (show.job_page(details or self):gsub("\n$", ""))
  end
  return Job
end

local function endpoint_rows(list)
  local rows = {}
  for i, endpoint in ipairs(list) do
    rows[i] = { endpoint.name, endpoint.state, endpoint.executor,
      endpoint.waiting, text_table.count(endpoint.handled), endpoint.refused,
      endpoint.running_ms > 0 and text_table.span(endpoint.running_ms) or nil }
  end
  return text_table.format({ { title = "ENDPOINT" }, { title = "STATE" },
    { title = "EXECUTOR", right = true }, { title = "WAITING", right = true },
    { title = "HANDLED", right = true }, { title = "REFUSED", right = true },
    { title = "RUNNING", right = true } }, rows)
end

local HELP = [[
Lua, evaluated as you type it: an expression prints its value, _ is the last
one, futures are awaited. Ctrl-C drops the input, Ctrl-D leaves.

  jobs()                  the jobs of the cluster
  job("3f2a")             one job, by the beginning of its id or its name:
                          :status() :details() :cancel() :wait() :result()
  run("job.lua", {args})  submits a job and gives it
  endpoints()             what lives in the jobmanager process
  endpoints("host:port")  ... or in another process of the cluster
  taskmanagers()          the taskmanagers and their slots
  overview()              numbers of the cluster
  connect("host:port/endpoint", "gateway")   any endpoint: a gateway to call
  cluster, orrery         the client and the module]]

--- The environment of a session; reads fall back to the globals.
function M.environment(cluster, print_line)
  local Job = job_class(cluster)
  local function job_object(summary)
    return setmetatable(summary, Job)
  end
  local environment = { cluster = cluster, orrery = require("orrery"),
    print = print_line }
  function environment.jobs()
    local list = check(cluster:jobs())
    for i, summary in ipairs(list) do list[i] = job_object(summary) end
    return listing(list, show.job_table)
  end
  function environment.job(word)
    if type(word) ~= "string" then
      error("job: the beginning of an id or a name is needed, as a text", 2)
    end
    return job_object(check(cluster:job(word)))
  end
  function environment.run(file, args)
    local client = require("orrery.client")
    local prepared = check(client.prepare(file, args))
    local job_id = check(cluster:submit(prepared))
    return job_object(check(cluster:job(job_id)))
  end
  function environment.endpoints(address)
    return listing(check(cluster:endpoints(address)), endpoint_rows)
  end
  function environment.taskmanagers()
    return check(cluster:task_managers())
  end
  function environment.overview()
    return check(cluster:overview())
  end
  function environment.connect(address, gateway)
    return cluster:service():connect(address, gateway)
  end
  function environment.help()
    return setmetatable({}, { __tostring = function() return HELP end })
  end
  return setmetatable(environment, { __index = _G })
end

M.is_future = Future.is
M.is_error = errors.is

return M
