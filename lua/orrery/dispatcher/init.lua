--- The Dispatcher: takes jobs, runs a JobMaster for each, answers for all.
--
--   service:start(Dispatcher, { id = "dispatcher", token = token, args = { {
--     config = config, directory = "", elections = services,
--     start_job_master = function(plan, token) return server end } } })
--
-- elections is ha.election's services; start_job_master starts the endpoint
-- `job_master/<id>` in this process and answers its server, or nil, err.
--
-- One job: unknown -> reserved (checks, bundle retained, runner made) ->
-- running -> archived (for jobstore.expiration-time, at most
-- jobstore.max-capacity) -> unknown. A job whose runner is stopped with the
-- Dispatcher is SUSPENDED.
--
-- Failures: a duplicate id -> `duplicate_job`, nothing of the other is touched;
-- anything else until the acknowledgement -> everything is taken back and
-- `submission_failed` says why; a JobMaster that cannot start -> the job is
-- FAILED and archived.
local orrery = require("orrery")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local ids = require("orrery.util.ids")
local sorted = require("orrery.util.sorted")
local archives = require("orrery.dispatcher.archive")
local runners = require("orrery.dispatcher.runner")
local seams = require("orrery.ha.seams")

local RUNNING_MAX = 10000
local QUESTION_MS = 5000 -- how long a list waits for one JobMaster
local CLIENT_CHECK_MS = 1000

local Dispatcher = orrery.endpoint(require("orrery.gateway.dispatcher"))

function Dispatcher:init(args)
  self._config, self._elections = args.config, args.elections
  self._directory = args.directory or ""
  self._start_job_master = args.start_job_master
  self._jobs, self._closing = {}, {}
end

function Dispatcher:on_start()
  self._seams = seams.of(self.service)
  self._archive = archives.new({
    count_max = self._config("jobstore.max-capacity"),
    age_max_ms = self._config("jobstore.expiration-time"),
  })
end

local function not_found(id)
  return nil, errors.new("job_not_found",
    ("there is no job %s"):format(tostring(id)), { context = { job_id = id } })
end

function Dispatcher:_archived(id)
  return self._archive:get(id, self._seams:now_ms())
end

-- Submission ----------------------------------------------------------------

function Dispatcher:_check(plan)
  if type(plan) ~= "table" or type(plan.name) ~= "string"
    or type(plan.vertices) ~= "table" then
    return nil, errors.new("bad_plan",
      "a plan needs a name and vertices")
  end
  if plan.job_id == nil then
    plan.job_id = ids.new(function(n) return self._seams:bytes(n) end)
  end
  local id, err = ids.check(plan.job_id, "plan.job_id")
  if not id then return nil, err end
  local archived = self:_archived(id)
  if archived then
    return nil, errors.new("duplicate_job",
      ("job %s was run already and is %s"):format(id,
        archived.outcome.status),
      { context = { job_id = id, globally_terminated = true } })
  end
  if self._jobs[id] then
    return nil, errors.new("duplicate_job",
      ("job %s is running already"):format(id),
      { context = { job_id = id, globally_terminated = false } })
  end
  if sorted.count(self._jobs) >= RUNNING_MAX then
    return nil, errors.new("overloaded",
      ("there are %d jobs already"):format(RUNNING_MAX))
  end
  return id
end

function Dispatcher:_blob()
  local address = self._directory == "" and "blob"
    or self._directory .. "/blob"
  return self:connect_to(address, "blob")
end

function Dispatcher:_release_bundle(id)
  self:_blob():and_then(function(blob) return blob:release(id) end)
    :on_done(function() end)
end

function Dispatcher:_retain_bundle(plan)
  if plan.bundle == nil then return true end
  local blob, err = self:_blob():await()
  if not blob then return nil, err end
  return blob:retain(plan.job_id, plan.bundle):await()
end

function Dispatcher:_new_runner(job)
  local plan = job.plan
  return runners.new({
    job_id = plan.job_id,
    election = self._elections:election("job_master/" .. plan.job_id),
    start = function(token) return self._start_job_master(plan, token) end,
    on_end = function(ended) self:_on_end(job, ended) end,
  })
end

function Dispatcher:submit_job(plan)
  local id, err = self:_check(plan)
  if not id then return nil, err end
  local job = { plan = plan, submitted = self._seams:wall_ms() }
  self._jobs[id] = job
  local ok
  if self._closing[id] then self._closing[id]:await() end
  ok, err = self:_retain_bundle(plan)
  if ok and self._is_stopping then
    ok, err = nil, errors.new("stopping", "the Dispatcher is stopping")
  end
  if not ok then
    self._jobs[id] = nil
    self:_release_bundle(id)
    return nil, errors.new("submission_failed",
      ("job %q was not taken"):format(plan.name), { cause = err })
  end
  job.runner = self:_new_runner(job)
  job.runner:start()
  self:_watch_client(job)
  return id
end

-- Ends ----------------------------------------------------------------------

-- What is known of a job that has no JobMaster (yet, or any more).
function Dispatcher:_stub(job, status)
  return {
    job_id = job.plan.job_id, name = job.plan.name, status = status,
    start_time = job.submitted, duration = self._seams:wall_ms()
      - job.submitted, tasks = {}, tasks_total = 0, restarts = 0,
    vertices = {}, edges = {}, exceptions = {}, timestamps = {},
  }
end

function Dispatcher:_on_end(job, ended)
  local id = job.plan.job_id
  if self._jobs[id] ~= job then return end
  local status = ended.outcome.status
  local stub = self:_stub(job, status)
  stub.failure, stub.end_time = ended.outcome.failure, self._seams:wall_ms()
  self._jobs[id] = nil
  if status ~= "SUSPENDED" then
    self._archive:add(id, {
      outcome = ended.outcome, summary = ended.summary or stub,
      details = ended.details or stub,
    }, self._seams:now_ms())
    self:_release_bundle(id)
  end
  for _, future in ipairs(job.waiting or {}) do
    future:resolve(ended.outcome)
  end
  local closing = job.runner:close()
  self._closing[id] = closing
  closing:on_done(function()
    if self._closing[id] == closing then self._closing[id] = nil end
  end)
end

-- Clients that vanish -------------------------------------------------------

function Dispatcher:_watch_client(job)
  local options = job.plan.options or {}
  if type(options.client_heartbeat_timeout) == "number" then
    job.client_deadline =
      self._seams:now_ms() + options.client_heartbeat_timeout
    self:_check_clients_later()
  end
end

function Dispatcher:_check_clients_later()
  if self._client_timer or self._is_stopping then return end
  self._client_timer = self:schedule_run_async(CLIENT_CHECK_MS, function()
    self._client_timer = nil
    self:_check_clients()
  end)
end

function Dispatcher:_check_clients()
  local now, is_watching = self._seams:now_ms(), false
  for _, job in sorted.pairs(self._jobs) do
    if job.client_deadline and job.client_deadline <= now then
      job.client_deadline = nil
      self:_cancel(job)
    elseif job.client_deadline then
      is_watching = true
    end
  end
  if is_watching then self:_check_clients_later() end
end

function Dispatcher:report_job_client_heartbeat(id, expires_ms)
  local job = self._jobs[id]
  if not job then return false end
  if type(expires_ms) ~= "number" or expires_ms <= 0 then
    return nil, errors.new("bad_argument",
      "report_job_client_heartbeat: how many milliseconds until the next?")
  end
  job.client_deadline = self._seams:now_ms() + expires_ms
  self:_check_clients_later()
  return true
end

-- Control -------------------------------------------------------------------

-- Cancels as soon as the JobMaster serves; while it does not the job shows
-- CANCELLING.
function Dispatcher:_cancel(job)
  if job.is_cancelling then return end
  job.is_cancelling = true
  local runner = job.runner
  if not runner then return end
  runner.gateway:and_then(function(gateway) return gateway:cancel() end)
    :on_done(function() job.is_cancelling = false end)
end

function Dispatcher:cancel_job(id)
  local job = self._jobs[id]
  if job then
    if not job.runner then
      return nil, errors.new("job_unavailable",
        ("job %s is being submitted; try again"):format(id))
    end
    self:_cancel(job)
    return true
  end
  local archived = self:_archived(id)
  if not archived then return not_found(id) end
  if archived.outcome.status == "CANCELED" then return true end
  return nil, errors.new("job_terminated",
    ("job %s has ended as %s and cannot be cancelled"):format(id,
      archived.outcome.status),
    { context = { job_id = id, status = archived.outcome.status } })
end

-- Questions -----------------------------------------------------------------

local function initial_status(job)
  return job.is_cancelling and "CANCELLING" or "INITIALIZING"
end

local function is_ready(job)
  return job.runner ~= nil and job.runner.is_ready
end

-- Asks the JobMaster of a job; answers fallback() while it initialises.
function Dispatcher:_ask(job, method, fallback)
  if not is_ready(job) then return Future.resolved(fallback()) end
  return job.runner.gateway:and_then(function(gateway)
    local view = gateway:with({ timeout = QUESTION_MS })
    return view[method](view)
  end)
end

function Dispatcher:list_jobs()
  return sorted.keys(self._jobs)
end

function Dispatcher:request_job_status(id)
  local job = self._jobs[id]
  if job then
    return self:_ask(job, "request_job_status", function()
      return { job_id = id, status = initial_status(job) }
    end)
  end
  local archived = self:_archived(id)
  if not archived then return not_found(id) end
  return { job_id = id, status = archived.outcome.status }
end

function Dispatcher:request_job(id)
  local job = self._jobs[id]
  if job then
    return self:_ask(job, "request_job", function()
      return self:_stub(job, initial_status(job))
    end):or_else(function(err)
      local archived = self:_archived(id)
      if archived then return archived.details end
      return nil, err
    end)
  end
  local archived = self:_archived(id)
  if not archived then return not_found(id) end
  return archived.details
end

function Dispatcher:request_job_result(id)
  local job = self._jobs[id]
  if job then
    local future = Future.new()
    job.waiting = job.waiting or {}
    table.insert(job.waiting, future)
    return future
  end
  local archived = self:_archived(id)
  if not archived then return not_found(id) end
  return archived.outcome
end

local function newest_first(a, b)
  if a.start_time ~= b.start_time then return a.start_time > b.start_time end
  return a.job_id < b.job_id
end

function Dispatcher:request_multiple_job_details()
  local questions, asked = {}, sorted.keys(self._jobs)
  for i, id in ipairs(asked) do
    local job = self._jobs[id]
    questions[i] = self:_ask(job, "request_job_summary", function()
      return self:_stub(job, initial_status(job))
    end):or_else(function() return false end)
  end
  return Future.all(questions):and_then(function(answers)
    local jobs, omitted, seen = {}, {}, {}
    for i, summary in ipairs(answers) do
      if summary then
        seen[asked[i]] = true
        jobs[#jobs + 1] = summary
      end
    end
    for _, entry in ipairs(self._archive:list(self._seams:now_ms())) do
      local id = entry.outcome.job_id
      if not seen[id] then
        seen[id] = true
        jobs[#jobs + 1] = entry.summary
      end
    end
    for _, id in ipairs(asked) do
      if not seen[id] then omitted[#omitted + 1] = id end
    end
    table.sort(jobs, newest_first)
    return { jobs = jobs, omitted = omitted }
  end)
end

-- A gateway of the leading ResourceManager.
function Dispatcher:_resource_manager()
  local address = self._directory == "" and "leaders"
    or self._directory .. "/leaders"
  return self:connect_to(address, "leaders"):and_then(function(leaders)
    return leaders:leader("resource_manager")
  end):and_then(function(leader)
    if not leader then
      return nil, errors.new("unreachable",
        "there is no ResourceManager at the moment")
    end
    return self:connect_to(leader.address, "resource_manager",
      { token = leader.token })
  end)
end

function Dispatcher:request_cluster_overview()
  return self:_resource_manager():and_then(function(rm)
    return rm:request_resource_overview()
  end):and_then(function(view)
    local counts = self._archive.counts
    view.jobs_running = sorted.count(self._jobs)
    view.jobs_finished, view.jobs_failed = counts.FINISHED, counts.FAILED
    view.jobs_cancelled = counts.CANCELED
    return view
  end)
end

function Dispatcher:request_task_managers()
  return self:_resource_manager():and_then(function(rm)
    return rm:request_task_managers()
  end)
end

-- Suspends every job and waits for the JobMasters to end.
function Dispatcher:on_stop()
  self._is_stopping = true
  if self._client_timer then self._client_timer:cancel() end
  local ends = {}
  for id, job in sorted.pairs(self._jobs) do
    if job.runner then ends[#ends + 1] = job.runner:close() end
    for _, future in ipairs(job.waiting or {}) do
      future:resolve({ job_id = id, status = "SUSPENDED" })
    end
    job.waiting = nil
  end
  for _, closing in sorted.pairs(self._closing) do
    ends[#ends + 1] = closing
  end
  return Future.all(ends)
end

return Dispatcher
