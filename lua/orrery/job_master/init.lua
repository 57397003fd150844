--- The JobMaster: runs one job. What happens is decided by scheduler.lua; this
-- endpoint carries its actions out and brings it events.
--
--   service:start(JobMaster, { id = "job_master/" .. job_id, token = token,
--     args = { { plan = plan, config = config, token = token, directory = "",
--       blob = "host:port/blob" } } })
--
-- The happy path: register at the ResourceManager, declare slots ->
-- TaskExecutors register here and offer slots -> tasks are submitted to them,
-- their states come back -> the result is ready for `request_result`, the
-- ResourceManager is told, slots are freed. The endpoint stays, for questions,
-- until it is stopped.
--
-- Failures: ResourceManager lost -> registered again, the job runs on.
-- TaskExecutor lost (heartbeat, connection, told by the ResourceManager) -> its
-- slots and tasks fail, it is told. A call to a TaskExecutor fails -> the task
-- fails (submit), or it is tried CANCEL_TRIES times (cancel).
local orrery = require("orrery")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")
local connections = require("orrery.ha.connection")
local seams = require("orrery.ha.seams")
local heartbeats = require("orrery.heartbeat.manager")
local details = require("orrery.job_master.details")
local restart = require("orrery.job_master.restart")
local schedulers = require("orrery.job_master.scheduler")
local states = require("orrery.job_master.states")

local CANCEL_TRIES = 3
local EXECUTORS_MAX = 10000
local DECLARE_DELAY_MAX_MS = 10000
local METRICS_AGE_MS = 500 -- how long pulled counters are shown again
local METRICS_TIMEOUT_MS = 1000
local GOODBYE_MS = 1000 -- how long stopping waits for peers

local JobMaster = orrery.endpoint(require("orrery.gateway.job_master"))

-- Restart options of the plan, or else of the configuration.
local function restart_options(plan, config)
  local own = plan.options and plan.options.restart
  if own then return own end
  local kind = config("restart-strategy.type")
  local options = { type = kind }
  for _, key in ipairs({
    "fixed-delay.attempts", "fixed-delay.delay",
    "failure-rate.max-failures-per-interval",
    "failure-rate.failure-rate-interval", "failure-rate.delay",
    "exponential-delay.initial-backoff", "exponential-delay.max-backoff",
    "exponential-delay.backoff-multiplier",
    "exponential-delay.reset-backoff-threshold",
    "exponential-delay.jitter-factor",
    "exponential-delay.attempts-before-reset-backoff",
  }) do
    local name, option = key:match("^([^.]+)%.(.+)$")
    if name == kind then
      options[option] = config("restart-strategy." .. key)
    end
  end
  return options
end

function JobMaster:init(args)
  self._plan, self._config = args.plan, args.config
  self._token, self._directory = args.token, args.directory or ""
  self._blob = args.blob
  self._executors, self._timers, self._registering = {}, {}, {}
  self._waiting = {}
  self._pulled_at = -math.huge
end

function JobMaster:_open_scheduler()
  local config, clock = self._config, self._seams
  local strategy, err = restart.new(restart_options(self._plan, config),
    function() return clock:real() end)
  if not strategy then return nil, err end
  return schedulers.new({
    plan = self._plan, strategy = strategy,
    clock = {
      now = function() return clock:now_ms() end,
      wall = function() return clock:wall_ms() end,
    },
    slot_request_timeout_ms = config("slot.request.timeout"),
    slot_idle_ms = config("slot.idle.timeout"),
  })
end

function JobMaster:on_start()
  self._seams = seams.of(self.service)
  local scheduler, err = self:_open_scheduler()
  if not scheduler then return nil, err end
  self._scheduler = scheduler
  self._beats = heartbeats.new({
    endpoint = self, config = self._config,
    send = function(id) return self:_beat(id) end,
    on_payload = function(id, payload) self:_on_payload(id, payload) end,
    on_lost = function(id, lost) self:_lose_executor(id, lost) end,
  })
  self._rm_beats = heartbeats.new({
    endpoint = self, config = self._config,
    on_lost = function() self._rm:reconnect() end,
  })
  self._rm = connections.new({
    endpoint = self, config = self._config, directory = self._directory,
    role = "resource_manager", gateway = "resource_manager",
    register = function(gateway, timeout_ms)
      return gateway:with({ timeout = timeout_ms })
        :register_job_master(self._plan.job_id, self._token, self.address)
    end,
    on_connected = function()
      self._rm_beats:monitor("resource_manager")
      self:_declare(1)
    end,
    on_lost = function() self._rm_beats:unmonitor("resource_manager") end,
  })
  self._rm:start()
  self:_do("start")
end

-- Actions of the scheduler ---------------------------------------------------

local function ignore() end

-- A call whose failure is found out by heartbeats anyway.
local function send(call)
  call:on_done(ignore)
end

-- The newest declaration, tried until it is acknowledged.
function JobMaster:_declare(delay_ms)
  local gateway, wanted = self._rm.gateway, self._wanted
  if not gateway or not wanted then return end
  self._declaration = (self._declaration or 0) + 1
  local number = self._declaration
  gateway:declare_required_resources(self._plan.job_id, self._token, wanted)
    :on_done(function(_, err)
      if not err or number ~= self._declaration or self._is_stopping then
        return
      end
      self:_timer("declare", delay_ms, function()
        self:_declare(math.min(delay_ms * 2, DECLARE_DELAY_MAX_MS))
      end)
    end)
end

function JobMaster:_timer(key, delay_ms, fn)
  self:_cancel_timer(key)
  local handle
  handle = self:schedule_run_async(delay_ms, function()
    if self._timers[key] ~= handle then return end
    self._timers[key] = nil
    fn()
  end)
  self._timers[key] = handle
end

function JobMaster:_cancel_timer(key)
  if self._timers[key] then self._timers[key]:cancel() end
  self._timers[key] = nil
end

-- "host:port/" of a TaskExecutor's address; "" within a local service.
local function base_of(address)
  return address:match("^(.*/)[^/]*$") or ""
end

function JobMaster:_submit(action)
  local executor = self._executors[action.slot.owner]
  if not executor then
    return self:_do("submit_done", action.attempt, errors.new(
      "unknown_task_executor", action.slot.owner .. " is not connected"))
  end
  local descriptor = self._scheduler.graph:descriptor(action.task,
    function(task)
      local owner = self._executors[task.execution.slot.owner]
      return (owner and base_of(owner.address) or "")
        .. "task/" .. task.execution.attempt
    end)
  descriptor.job_master = { address = self.address, token = self._token }
  descriptor.blob = { address = self._blob }
  executor.gateway
    :submit_task(self._token, action.slot.allocation, descriptor)
    :on_done(function(_, err) self:_do("submit_done", action.attempt, err) end)
end

function JobMaster:_cancel_task(owner, attempt, tries)
  local executor = self._executors[owner]
  if not executor then
    return self:_do("cancel_done", attempt, errors.new(
      "unknown_task_executor", owner .. " is not connected"))
  end
  executor.gateway:cancel_task(attempt):on_done(function(_, err)
    local is_unknown = err and errors.find(err, "unknown_task")
    if err and not is_unknown and tries < CANCEL_TRIES then
      return self:_cancel_task(owner, attempt, tries + 1)
    end
    self:_do("cancel_done", attempt, err)
  end)
end

local perform = {}

function perform.require(self, action)
  self._wanted = action.slots
  self:_declare(1)
end

function perform.submit(self, action) self:_submit(action) end

function perform.cancel(self, action)
  self:_cancel_task(action.owner, action.attempt, 1)
end

function perform.free_slot(self, action)
  local executor = self._executors[action.slot.owner]
  if executor then
    send(executor.gateway:free_slot(action.slot.allocation, errors.to_table(
      errors.new("slot_freed", action.cause))))
  end
end

function perform.timer(self, action)
  self:_timer("scheduler:" .. action.key, action.delay_ms, function()
    self:_do("timer", action.key)
  end)
end

function perform.cancel_timer(self, action)
  self:_cancel_timer("scheduler:" .. action.key)
end

perform.status = ignore

function perform.terminal(self, action)
  self:_goodbye(action.status)
  self._is_ended = true
  local waiting = self._waiting
  self._waiting = {}
  for _, future in ipairs(waiting) do future:resolve(self:_ended()) end
end

-- Brings the scheduler one event and carries out what follows. Actions may
-- bring further events; these queue up behind.
function JobMaster:_do(event, ...)
  local value, err = self._scheduler[event](self._scheduler, ...)
  if self._is_acting then return value, err end
  self._is_acting = true
  local actions = self._scheduler:take()
  while #actions > 0 do
    for _, action in ipairs(actions) do perform[action.kind](self, action) end
    actions = self._scheduler:take()
  end
  self._is_acting = false
  return value, err
end

-- TaskExecutors --------------------------------------------------------------

function JobMaster:_beat(id)
  local executor = self._executors[id]
  if not executor then return nil end
  local allocations = {}
  for _, slot in ipairs(self._scheduler.pool:slots(id)) do
    allocations[#allocations + 1] = slot.allocation
  end
  return executor.gateway:heartbeat_from_job_manager(self._plan.job_id,
    self._token, allocations)
end

function JobMaster:_on_payload(id, payload)
  if type(payload) == "table" and type(payload.attempts) == "table" then
    self:_do("reconcile", id, payload.attempts)
  end
end

function JobMaster:_lose_executor(id, err)
  local executor = self._executors[id]
  if not executor then return end
  self._executors[id] = nil
  self._beats:unmonitor(id)
  self:_do("owner_lost", id, err)
  send(executor.gateway:disconnect_job_manager(self._plan.job_id, self._token,
    errors.to_table(err)))
end

local function failure(err)
  return { type = "failure", error = errors.to_table(err) }
end

function JobMaster:register_task_manager(job_id, info)
  if job_id ~= self._plan.job_id then
    return { type = "rejection", error = errors.to_table(errors.new(
      "wrong_job", ("this is the JobMaster of %s, not of %s")
        :format(self._plan.job_id, tostring(job_id)))) }
  end
  if self._is_stopping then
    return { type = "rejection", error = errors.to_table(errors.new(
      "job_ended", ("job %s has ended"):format(job_id))) }
  end
  if type(info) ~= "table" or type(info.id) ~= "string"
    or type(info.address) ~= "string" then
    return nil, errors.new("bad_argument",
      "a TaskExecutor registers with id, address and session")
  end
  local known = self._executors[info.id]
  if known and known.session == info.session then
    return { type = "success" }
  end
  if not known and sorted.count(self._executors) >= EXECUTORS_MAX then
    return failure(errors.new("overloaded",
      ("there are %d TaskExecutors already"):format(EXECUTORS_MAX)))
  end
  local mine = {}
  self._registering[info.id] = mine
  local gateway, err =
    self:connect_to(info.address, "task_executor"):await()
  if self._registering[info.id] ~= mine then
    return failure(errors.new("outdated", "a newer registration is under way"))
  end
  self._registering[info.id] = nil
  if not gateway then return failure(err) end
  return self:_add_executor(info, gateway)
end

function JobMaster:_add_executor(info, gateway)
  self:_lose_executor(info.id, errors.new("replaced",
    ("TaskExecutor %s registered with a new session"):format(info.id)))
  local executor = {
    id = info.id, address = info.address, session = info.session,
    gateway = gateway,
  }
  self._executors[info.id] = executor
  self._beats:monitor(info.id)
  self._beats:watch(info.id, function()
    return gateway:with({ timeout = 0, deadline = "own" }):watch()
  end)
  return { type = "success" }
end

function JobMaster:offer_slots(id, session, offers)
  local executor = self._executors[id]
  if not executor or executor.session ~= session then
    return nil, errors.new("unknown_task_executor",
      ("TaskExecutor %s is not registered here"):format(tostring(id)))
  end
  return self:_do("offer_slots", id, offers)
end

function JobMaster:fail_slot(id, allocation, cause)
  if not self._executors[id] then return true end
  self:_do("slot_failed", id, allocation, errors.from_table(cause))
  if not self:_is_used(id) then
    self:_lose_executor(id, errors.new("no_slots",
      ("TaskExecutor %s has no slot of this job any more"):format(id)))
  end
  return true
end

function JobMaster:_is_used(id)
  return #self._scheduler.pool:slots(id) > 0
end

function JobMaster:disconnect_task_manager(id, cause)
  self:_lose_executor(id, errors.from_table(cause))
  return true
end

function JobMaster:update_task_execution_state(report)
  if type(report) ~= "table" then
    return nil, errors.new("bad_argument", "a state report is a table")
  end
  self:_count(report.attempt, report.counters)
  return self:_do("task_state", report.attempt, report.state,
    report.error and errors.from_table(report.error), report.result)
end

function JobMaster:request_next_input_split(vertex_id, attempt, received)
  return self:_do("next_split", vertex_id, attempt, received)
end

-- ResourceManager ------------------------------------------------------------

function JobMaster:_is_current_rm(token)
  local current = self._rm.token
  return self._rm.gateway ~= nil and type(token) == "table"
    and current.epoch == token.epoch and current.session == token.session
end

function JobMaster:heartbeat_from_resource_manager(token)
  if self:_is_current_rm(token) then
    self._rm_beats:heard("resource_manager")
  end
  return true
end

function JobMaster:disconnect_resource_manager(token)
  if self:_is_current_rm(token) and not self._is_stopping then
    self._rm:reconnect()
  end
  return true
end

function JobMaster:notify_not_enough_resources(acquired)
  self:_do("not_enough", acquired)
  return true
end

-- Dispatcher -----------------------------------------------------------------

function JobMaster:cancel()
  self:_do("cancel")
  return true
end

function JobMaster:request_job_status()
  return {
    job_id = self._plan.job_id, status = self._scheduler.job.state,
    reason = self._scheduler:reason(),
  }
end

function JobMaster:request_job_summary()
  return details.summary(self._scheduler, self._seams:wall_ms())
end

-- Asks every TaskExecutor for the counters of this job's tasks; those that do
-- not answer in time keep their last ones.
function JobMaster:_pull_metrics()
  local now = self._seams:now_ms()
  if now - self._pulled_at < METRICS_AGE_MS then return end
  self._pulled_at = now
  local calls = {}
  for _, executor in sorted.pairs(self._executors) do
    calls[#calls + 1] = executor.gateway
      :with({ timeout = METRICS_TIMEOUT_MS })
      :request_task_metrics(self._plan.job_id)
      :or_else(function() return {} end)
  end
  for _, numbers in ipairs(Future.all(calls):await()) do
    for attempt, counters in sorted.pairs(numbers) do
      self:_count(attempt, counters)
    end
  end
end

function JobMaster:_count(attempt, counters)
  local execution = self._scheduler.graph:execution(attempt)
  if execution and type(counters) == "table" then
    execution.counters = counters
  end
end

function JobMaster:_details()
  return details.details(self._scheduler, self._seams:wall_ms())
end

function JobMaster:request_job()
  if not self._is_ended then self:_pull_metrics() end
  return self:_details()
end

function JobMaster:_ended()
  return {
    outcome = details.outcome(self._scheduler),
    summary = details.summary(self._scheduler, self._seams:wall_ms()),
    details = self:_details(),
  }
end

function JobMaster:request_result()
  if self._is_ended then return self:_ended() end
  local future = Future.new()
  self._waiting[#self._waiting + 1] = future
  return future
end

-- Ending --------------------------------------------------------------------

-- Tells everybody that this job is over; nothing is registered any more.
function JobMaster:_goodbye(status)
  if self._is_stopping then return end
  self._is_stopping = true
  local calls = {}
  local function tell(call)
    calls[#calls + 1] = call:or_else(function() return false end)
  end
  if self._rm.gateway then
    tell(self._rm.gateway:with({ timeout = GOODBYE_MS })
      :disconnect_job_manager(self._plan.job_id, self._token, status))
  end
  local cause = errors.to_table(errors.new("job_ended",
    ("the job is %s"):format(status)))
  for _, executor in sorted.pairs(self._executors) do
    tell(executor.gateway:with({ timeout = GOODBYE_MS })
      :disconnect_job_manager(self._plan.job_id, self._token, cause))
  end
  self._said_goodbye = Future.all(calls)
  self._beats:stop()
  self._rm_beats:stop()
  self._rm:stop()
  for key in sorted.pairs(self._timers) do self:_cancel_timer(key) end
end

function JobMaster:on_stop()
  if not self._scheduler then return end
  if not states.job:is_terminal(self._scheduler.job.state) then
    self:_do("suspend", errors.new("stopped", "the JobMaster was stopped"))
  end
  self._said_goodbye:await()
end

return JobMaster
