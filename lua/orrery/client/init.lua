--- A cluster seen from outside: connect, submit jobs, ask about them.
--
-- Methods wait: in a task they suspend it, on the main chunk they run the loop.
-- They answer a value or nil, err. The path of a call: the directory `leaders`
-- at the given address names the dispatcher and its token; when the dispatcher
-- is gone or another one leads (unreachable, fenced), it is looked up again
-- once. A submission may be repeated, because the client draws the job id.

local core = require("orrery.core")
local uv = require("luv")
local bundle = require("orrery.job.bundle")
local errors = require("orrery.util.errors")
local ids = require("orrery.util.ids")
local job_result = require("orrery.job.result")
local orrery = require("orrery")
local plan_module = require("orrery.job.plan")
local sha256 = require("orrery.native.sha256")

local M = {}

local TIMEOUT_MS = 60000
local RETRY_MS = 500
local PREFIX_MIN = 1
local LEADER_GONE = { unreachable = true, fenced = true, not_started = true,
  callee_died = true }

-- Prepared jobs --------------------------------------------------------------

--- A job file that was loaded and planned, ready to be submitted.
local Prepared = {}
Prepared.__index = Prepared

--- Loads a job file. options.parallelism: that of operators that name none.
---@param file string
---@param args string[]|nil
---@param options table|nil
function M.prepare(file, args, options)
  local loaded, err = bundle.load(file, args)
  if not loaded then return nil, err end
  local job = loaded.job
  if options and options.parallelism then
    job:set_default_parallelism(options.parallelism)
  end
  local ok
  ok, err = job:check()
  if not ok then return nil, err end
  local bytes, key = bundle.pack(loaded, core, sha256.hex)
  local plan
  plan, err = plan_module.make(job, { job_id = ids.new(uv.random),
    bundle = key, entry = loaded.entry, args = loaded.args })
  if not plan then return nil, err end
  return setmetatable({ name = plan.name, job_id = plan.job_id, plan = plan,
    _job = job, _bytes = bytes, _key = key }, Prepared)
end

--- The result as handlers of the job file see it.
function Prepared:user_result(result)
  return job_result.for_user(result or {})
end

function Prepared:has_on_result()
  return self._job:has_on_result()
end

--- Runs the on_result handler of the job file.
function Prepared:on_result(result, print_line)
  return self._job:run_on_result(result, print_line)
end

-- Clusters -------------------------------------------------------------------

local Cluster = {}
Cluster.__index = Cluster

local function host_of(address)
  return address:match("^([^/]+)")
end

local function look_up(self)
  local leaders, err = self._service:connect(self.address .. "/leaders",
    "leaders", { timeout = self._timeout }):await()
  if not leaders then return nil, err end
  local leader
  leader, err = leaders:with { timeout = self._timeout }
    :leader("dispatcher"):await()
  if err then return nil, err end
  if not leader then
    return nil, errors.new("no_leader", ("the cluster at %s has no leading "
      .. "dispatcher now"):format(self.address))
  end
  return self._service:connect(leader.address, "dispatcher",
    { token = leader.token, timeout = self._timeout }):await()
end

-- The gateway of the leading dispatcher.
function Cluster:_gateway()
  if self._dispatcher then return self._dispatcher end
  local gateway, err = look_up(self)
  self._dispatcher = gateway
  return gateway, err
end

local EXPIRED = { expired_unsent = true, expired_in_queue = true,
  expired_in_handler = true, expired_unknown = true }

local function cannot_reach(self, err)
  if err.code == "unreachable" then
    return errors.new("unreachable", ("no cluster answers at %s"):format(
      self.address), { cause = err })
  elseif EXPIRED[err.code] then
    return errors.new("timeout", ("no answer from %s in time"):format(
      self.address), { cause = err })
  end
  return err
end

-- What the dispatcher itself answered is more useful than that it failed.
local function unwrapped(err)
  if err.code == "remote" and errors.is(err.cause) then return err.cause end
  return err
end

-- Calls the dispatcher; looks it up again once when it is gone.
function Cluster:_call(timeout, name, ...)
  local err
  for _ = 1, 2 do
    local gateway, value
    gateway, err = self:_gateway()
    if not gateway then break end
    gateway = gateway:with { timeout = timeout }
    value, err = gateway[name](gateway, ...):await()
    if err == nil then return value end
    if not LEADER_GONE[err.code] then return nil, unwrapped(err) end
    self._dispatcher = nil
  end
  return nil, unwrapped(cannot_reach(self, err))
end

--- Connects to the jobmanager at host:port. options: timeout (ms, of every
-- call), cluster_id, tls (see orrery.service).
---@return table|nil cluster, table|nil error
function M.connect(address, options)
  options = options or {}
  local service, err = orrery.service { name = "client",
    cluster_id = options.cluster_id, tls = options.tls }
  if not service then return nil, err end
  local cluster = setmetatable({ address = address,
    _timeout = options.timeout or TIMEOUT_MS, _service = service }, Cluster)
  local gateway
  gateway, err = cluster:_gateway()
  if not gateway then
    cluster:close()
    return nil, unwrapped(cannot_reach(cluster, err))
  end
  return cluster
end

--- Ends the connections.
function Cluster:close()
  return self._service:stop():await()
end

--- The service that this client calls from; for connections of one's own.
function Cluster:service()
  return self._service
end

local function store_bundle(self, prepared)
  local gateway, err = self:_gateway()
  if not gateway then return nil, cannot_reach(self, err) end
  local blobs
  blobs, err = self._service:connect(host_of(gateway.address) .. "/blob",
    "blob", { timeout = self._timeout }):await()
  if not blobs then return nil, err end
  local key
  key, err = blobs:put(prepared._key, prepared._bytes):await()
  return key, err and unwrapped(err)
end

--- Submits a prepared job and answers its id.
function Cluster:submit(prepared)
  local key, err = store_bundle(self, prepared)
  if not key then return nil, err end
  local job_id, bad = self:_call(self._timeout, "submit_job", prepared.plan)
  if bad then return nil, bad end
  return job_id
end

--- Summaries of all jobs, newest first.
function Cluster:jobs()
  local answer, err = self:_call(self._timeout, "request_multiple_job_details")
  if not answer then return nil, err end
  return answer.jobs
end

--- The summary of one job by its id, the beginning of its id, or its name.
function Cluster:job(word)
  local jobs, err = self:jobs()
  if not jobs then return nil, err end
  local found = {}
  for _, job in ipairs(jobs) do
    if job.job_id == word then return job end
    local is_prefix = #word >= PREFIX_MIN
      and job.job_id:sub(1, #word) == word:lower()
    if is_prefix or job.name == word then found[#found + 1] = job end
  end
  if #found == 1 then return found[1] end
  if #found == 0 then
    return nil, errors.new("job_not_found", ("there is no job \"%s\"; "
      .. "\"orrery list\" shows the jobs"):format(word))
  end
  local matches = {}
  for i = 1, math.min(#found, 5) do
    matches[i] = found[i].job_id .. " (" .. found[i].name .. ")"
  end
  return nil, errors.new("job_ambiguous", ("\"%s\" can mean %d jobs: %s%s")
    :format(word, #found, table.concat(matches, ", "),
      #found > 5 and ", ..." or ""))
end

--- Everything about one job.
function Cluster:details(job_id, timeout)
  return self:_call(timeout or self._timeout, "request_job", job_id)
end

--- Future of { job_id, status, result, failure } when the job has ended. A lost
-- connection is made again for as long as the time limit of calls.
function Cluster:outcome(job_id)
  return orrery.async(function()
    local lost_at
    while true do
      local outcome, err = self:_call(0, "request_job_result", job_id)
      if outcome then return outcome end
      if not LEADER_GONE[err.code] then return nil, err end
      lost_at = lost_at or uv.now()
      if uv.now() - lost_at > self._timeout then return nil, err end
      orrery.sleep(RETRY_MS)
    end
  end)
end

--- Cancels a job and waits until it has ended: its outcome.
function Cluster:cancel(job_id)
  local _, err = self:_call(self._timeout, "cancel_job", job_id)
  if err and err.code ~= "job_terminated" then return nil, err end
  return self:outcome(job_id):with_timeout(self._timeout):await()
end

--- Waits for the end of a job: its result as a job file's on_result sees it.
function Cluster:result(job_id)
  local outcome, err = self:outcome(job_id):await()
  if not outcome then return nil, err end
  if outcome.status ~= "FINISHED" then
    return nil, errors.new("job_failed", "job " .. outcome.status,
      { cause = outcome.failure and errors.from_table(outcome.failure) })
  end
  return job_result.for_user(outcome.result or {})
end

--- Numbers of slots, taskmanagers and jobs.
function Cluster:overview()
  return self:_call(self._timeout, "request_cluster_overview")
end

function Cluster:task_managers()
  return self:_call(self._timeout, "request_task_managers")
end

--- What lives in a process of the cluster, by its address (default: that of
-- the dispatcher).
function Cluster:endpoints(address)
  local gateway, err = self:_gateway()
  if not gateway then return nil, cannot_reach(self, err) end
  local node
  node, err = self._service:connect(
    (address or host_of(gateway.address)) .. "/introspection",
    "introspection", { timeout = self._timeout }):await()
  if not node then return nil, err end
  local list
  list, err = node:endpoints():await()
  return list, err and unwrapped(err)
end

return M
