--- The TaskExecutor: slots and tasks of one process.
--
--   service:start(TaskExecutor, { id = "task_executor", args = { {
--     id = "tm-1", slots = 4, config = config, directory = "host:port",
--     task_module = "orrery.task.endpoint", fatal = function(err) end } } })
--
-- directory is the address of the jobmanager ("" = the own service); fatal is
-- called when this process should end.
--
-- The happy path: follow the ResourceManager's leader, register, report slots
-- -> request_slot from it -> follow that job's leader, register there, offer
-- the slot -> submit_task -> states are passed on -> free_slot.
--
-- Failures: ResourceManager lost -> register anew, tasks run on; never
-- registered for taskmanager.registration.timeout -> fatal. JobMaster lost ->
-- its tasks fail, its slots wait taskmanager.slot.timeout for the next leader.
-- Tokens that are not those registered with are refused: this endpoint is not
-- fenced.
local orrery = require("orrery")
local sha256 = require("orrery.native.sha256")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local ids = require("orrery.util.ids")
local sorted = require("orrery.util.sorted")
local connections = require("orrery.ha.connection")
local heartbeats = require("orrery.heartbeat.manager")
local seams = require("orrery.ha.seams")
local bundles = require("orrery.task_executor.bundles")
local executors = require("orrery.task_executor.executors")
local slot_tables = require("orrery.task_executor.slot_table")
local task_lists = require("orrery.task_executor.tasks")
local same_token = require("orrery.ha.directory").same_token

-- Outcomes after which a call may have been carried out or not.
local PASSING = {
  expired_in_queue = true, expired_in_handler = true, expired_unknown = true,
  expired_unsent = true, unreachable = true, overloaded = true,
}
local RETRY_MS = 200
local REPORT_TRIES = 5
local GOODBYE_MS = 1000
local WATCH_MS = 300000
local STOP_MS = 10000 -- how long stopping waits for tasks to end

local TaskExecutor = orrery.endpoint(require("orrery.gateway.task_executor"))

local function ignore() end

-- A call whose failure is found out by heartbeats anyway.
local function send(call)
  call:on_done(ignore)
end

function TaskExecutor:init(args)
  self._id, self._config = args.id, args.config
  self._directory = args.directory or ""
  self._task_module = args.task_module or "orrery.task.endpoint"
  self._fatal = args.fatal or ignore
  self._jobs, self._slot_timers = {}, {}
  self._slots = slot_tables.new(args.slots,
    self._config("taskmanager.slot.timeout"))
end

function TaskExecutor:on_start()
  self._seams = seams.of(self.service)
  self._session = ids.new(function(n) return self._seams:bytes(n) end)
  self._bundles = bundles.new({
    sha256_hex = sha256.hex,
    fetch = function(address, key) return self:_fetch(address, key) end,
  })
  self._executors = executors.new(self.service)
  self._tasks = task_lists.new({
    endpoint = self, seams = self._seams, module = self._task_module,
    executor = function(allocation) return self._executors:get(allocation) end,
    bundle = function(d) return self._bundles:get(d.blob.address, d.bundle) end,
    report = function(task, report) return self:_report(task, report) end,
    removed = function(task)
      self._slots:remove_task(task.attempt)
      self:_act()
    end,
    fatal = self._fatal,
  })
  self._rm_beats = heartbeats.new({
    endpoint = self, config = self._config,
    on_lost = function() self._rm:reconnect() end,
  })
  self._job_beats = heartbeats.new({
    endpoint = self, config = self._config,
    on_lost = function(id, err) self:_lose_job_master(id, err) end,
  })
  self:_follow_rm()
end

function TaskExecutor:_fetch(address, key)
  return self:connect_to(address, "blob"):and_then(function(blob)
    return blob:get(key)
  end)
end

-- ResourceManager ------------------------------------------------------------

function TaskExecutor:_follow_rm()
  self._rm = connections.new({
    endpoint = self, config = self._config, directory = self._directory,
    role = "resource_manager", gateway = "resource_manager",
    register = function(gateway, timeout_ms)
      return gateway:with({ timeout = timeout_ms }):register_task_executor({
        id = self._id, address = self.address, session = self._session,
        slots = self._slots.count,
      })
    end,
    on_connected = function(gateway, answer)
      self:_on_registered(gateway, answer)
    end,
    on_lost = function()
      self._rm_beats:unmonitor("resource_manager")
      self._instance = nil
      self:_arm_registration()
    end,
    on_rejected = function(answer)
      self._fatal(errors.new("rejected",
        "the ResourceManager refuses this TaskExecutor",
        { cause = errors.from_table(answer.error) }))
    end,
  })
  self:_arm_registration()
  self._rm:start()
end

function TaskExecutor:_arm_registration()
  if self._is_stopping or self._registration then return end
  local limit = self._config("taskmanager.registration.timeout")
  self._registration = self:schedule_run_async(limit, function()
    self._registration = nil
    self._fatal(errors.new("registration_timeout",
      ("no ResourceManager took this TaskExecutor within %g s; is the "
        .. "jobmanager at %s running?"):format(limit / 1000, self._directory)))
  end)
end

function TaskExecutor:_on_registered(gateway, answer)
  if self._registration then self._registration:cancel() end
  self._registration = nil
  self._instance = answer.instance
  self._rm_beats:monitor("resource_manager")
  local instance = answer.instance
  gateway:send_slot_report(self._id, instance, self._slots:report())
    :on_done(function(_, err)
      if err and self._instance == instance and not self._is_stopping then
        self._rm:reconnect()
      end
    end)
end

function TaskExecutor:_is_rm(token)
  return self._instance ~= nil and type(token) == "table"
    and same_token(self._rm.token, token)
end

function TaskExecutor:request_slot(request)
  if type(request) ~= "table" or not self:_is_rm(request.token) then
    return nil, errors.new("not_registered",
      ("TaskExecutor %s is not registered at this ResourceManager")
        :format(self._id))
  end
  local slot, err = self._slots:allocate(request.index or -1,
    request.allocation, request.job_id)
  if not slot then return nil, err end
  self:_act()
  self:_follow_job(request.job_id)
  return { index = slot.index }
end

function TaskExecutor:free_inactive_slots(job_id)
  self._slots:free_job(job_id, errors.new("slot_freed",
    "the job needs it no more"), true)
  self:_act()
  return true
end

function TaskExecutor:heartbeat_from_resource_manager(token)
  if not self:_is_rm(token) then
    return nil, errors.new("not_registered",
      ("TaskExecutor %s is not registered at this ResourceManager")
        :format(self._id))
  end
  self._rm_beats:heard("resource_manager")
  return { instance = self._instance, slots = self._slots:report() }
end

function TaskExecutor:disconnect_resource_manager(token)
  if self:_is_rm(token) and not self._is_stopping then self._rm:reconnect() end
  return true
end

-- Slots ----------------------------------------------------------------------

function TaskExecutor:_disarm_slot(allocation)
  if self._slot_timers[allocation] then
    self._slot_timers[allocation]:cancel()
  end
  self._slot_timers[allocation] = nil
end

local perform = {}

function perform.arm(self, action)
  self:_disarm_slot(action.allocation)
  self._slot_timers[action.allocation] =
    self:schedule_run_async(action.delay_ms, function()
      self._slot_timers[action.allocation] = nil
      self._slots:expired(action.allocation)
      self:_act()
    end)
end

function perform.disarm(self, action)
  self:_disarm_slot(action.allocation)
end

function perform.fail_task(self, action)
  self._tasks:fail(action.attempt, action.cause)
end

function perform.freed(self, action)
  self._executors:drop(action.allocation)
  if self._rm.gateway and self._instance then
    send(self._rm.gateway:notify_slot_available(self._id, self._instance,
      action.allocation))
  end
  if not self._slots:has_job(action.job) then self:_drop_job(action.job) end
  if self._slots:is_empty() and self._emptied then
    self._emptied:resolve(true)
  end
end

function TaskExecutor:_act()
  local actions = self._slots:take()
  while #actions > 0 do
    for _, action in ipairs(actions) do perform[action.kind](self, action) end
    actions = self._slots:take()
  end
end

function TaskExecutor:free_slot(allocation, cause)
  self._slots:free(allocation, errors.from_table(cause))
  self:_act()
  return true
end

-- JobMasters -----------------------------------------------------------------

function TaskExecutor:_follow_job(job_id)
  if self._jobs[job_id] then
    if self._jobs[job_id].connection.gateway then self:_offer(job_id) end
    return
  end
  local job = { id = job_id, offer = 0 }
  self._jobs[job_id] = job
  job.connection = connections.new({
    endpoint = self, config = self._config, directory = self._directory,
    role = "job_master/" .. job_id, gateway = "job_master",
    register = function(gateway, timeout_ms)
      return gateway:with({ timeout = timeout_ms }):register_task_manager(
        job_id, { id = self._id, address = self.address,
          session = self._session })
    end,
    on_connected = function()
      self._job_beats:monitor(job_id)
      self:_offer(job_id)
    end,
    on_lost = function() self:_job_master_lost(job_id) end,
    on_rejected = function()
      self:_free_job(job_id, errors.new("rejected",
        "the JobMaster refuses this TaskExecutor"))
    end,
  })
  job.connection:start()
end

-- The connection is gone: tasks fail, slots wait for the next leader.
function TaskExecutor:_job_master_lost(job_id)
  self._job_beats:unmonitor(job_id)
  local err = errors.new("job_master_lost",
    ("the JobMaster of %s is lost"):format(job_id))
  for _, task in ipairs(self._tasks:list(job_id)) do
    self._tasks:fail(task.attempt, err)
  end
  self._slots:deactivate_job(job_id)
  self:_act()
end

function TaskExecutor:_lose_job_master(job_id)
  local job = self._jobs[job_id]
  if job then job.connection:reconnect() end
end

function TaskExecutor:_free_job(job_id, cause)
  self._slots:free_job(job_id, cause)
  self:_act()
end

-- The last slot of a job is gone.
function TaskExecutor:_drop_job(job_id)
  local job = self._jobs[job_id]
  if not job then return end
  self._jobs[job_id] = nil
  self._job_beats:unmonitor(job_id)
  job.connection:stop()
end

-- Offers every slot that is not active; only the newest round counts.
function TaskExecutor:_offer(job_id)
  local job = self._jobs[job_id]
  local slots = self._slots:slots_of(job_id, "ALLOCATED")
  if #slots == 0 then return end
  job.offer = job.offer + 1
  local round, gateway, offers = job.offer, job.connection.gateway, {}
  for i, slot in ipairs(slots) do
    offers[i] = { allocation = slot.allocation, index = slot.index }
  end
  gateway:offer_slots(self._id, self._session, offers)
    :on_done(function(accepted, err)
      if self._jobs[job_id] ~= job or job.offer ~= round
        or job.connection.gateway ~= gateway then
        return
      end
      self:_on_offered(job, offers, accepted, err)
    end)
end

function TaskExecutor:_on_offered(job, offers, accepted, err)
  if err and PASSING[err.code] then
    -- Whether the offer arrived is unknown; offering again is harmless.
    local round = job.offer
    self:schedule_run_async(RETRY_MS, function()
      if self._jobs[job.id] == job and job.offer == round
        and job.connection.gateway then
        self:_offer(job.id)
      end
    end)
    return
  end
  local is_accepted = {}
  for _, allocation in ipairs(accepted or {}) do
    is_accepted[allocation] = true
    local ok, refused = self._slots:activate(allocation)
    if not ok then
      send(job.connection.gateway:fail_slot(self._id, allocation,
        errors.to_table(refused)))
    end
  end
  for _, offer in ipairs(offers) do
    local slot = self._slots:get(offer.allocation)
    if not is_accepted[offer.allocation] and slot
      and slot.state == "ALLOCATED" then
      self._slots:free(offer.allocation,
        err or errors.new("offer_rejected", "the JobMaster took no slot"))
    end
  end
  self:_act()
end

function TaskExecutor:_is_job_master(job_id, token)
  local job = self._jobs[job_id]
  return job ~= nil and job.connection.gateway ~= nil
    and type(token) == "table" and same_token(job.connection.token, token)
end

local function not_connected(self, job_id)
  return nil, errors.new("not_connected",
    ("TaskExecutor %s is not connected to this JobMaster of %s")
      :format(self._id, tostring(job_id)))
end

-- Frees active slots that the JobMaster does not list, tells it of those that
-- it lists and that are not here.
function TaskExecutor:_sync_slots(job_id, allocations)
  local listed = {}
  for _, allocation in ipairs(allocations) do
    listed[allocation] = true
    if not self._slots:get(allocation) then
      send(self._jobs[job_id].connection.gateway:fail_slot(self._id,
        allocation, errors.to_table(errors.new("unknown_allocation",
          ("TaskExecutor %s has no such slot"):format(self._id)))))
    end
  end
  for _, slot in ipairs(self._slots:slots_of(job_id, "ACTIVE")) do
    if not listed[slot.allocation] then
      self._slots:free(slot.allocation, errors.new("slot_freed",
        "the JobMaster does not know this slot"))
    end
  end
  self:_act()
end

function TaskExecutor:heartbeat_from_job_manager(job_id, token, allocations)
  if not self:_is_job_master(job_id, token) then
    return not_connected(self, job_id)
  end
  self._job_beats:heard(job_id)
  self:_sync_slots(job_id, allocations)
  local attempts = {}
  for _, task in ipairs(self._tasks:list(job_id)) do
    attempts[#attempts + 1] = task.attempt
  end
  return { attempts = attempts }
end

function TaskExecutor:disconnect_job_manager(job_id, token, cause)
  if not self:_is_job_master(job_id, token) then return true end
  local err = errors.from_table(cause)
  if err.code == "job_ended" then
    self:_free_job(job_id, err)
  else
    self:_lose_job_master(job_id)
  end
  return true
end

-- Tasks ----------------------------------------------------------------------

local function check_descriptor(d)
  if type(d) == "table" and type(d.attempt) == "string"
    and ids.parse_attempt(d.attempt) and type(d.job_id) == "string"
    and type(d.blob) == "table" and type(d.blob.address) == "string"
    and type(d.bundle) == "string" then
    return true
  end
  return nil, errors.new("bad_argument", "submit_task: the descriptor lacks "
    .. "job_id, attempt, bundle or blob.address")
end

function TaskExecutor:submit_task(token, allocation, descriptor)
  local ok, err = check_descriptor(descriptor)
  if not ok then return nil, err end
  if not self:_is_job_master(descriptor.job_id, token) then
    return not_connected(self, descriptor.job_id)
  end
  local slot = self._slots:get(allocation)
  if not slot or slot.job ~= descriptor.job_id then
    return nil, errors.new("unknown_allocation", ("there is no slot with "
      .. "allocation %s for this job"):format(tostring(allocation)))
  end
  ok, err = self._slots:activate(allocation)
  if ok then ok, err = self._slots:add_task(allocation, descriptor.attempt) end
  if not ok then return nil, err end
  self:_act()
  return self._tasks:submit(descriptor, allocation)
end

function TaskExecutor:cancel_task(attempt)
  return self._tasks:cancel(attempt)
end

function TaskExecutor:notify_task_state(attempt, state, err, result)
  return self._tasks:notify(attempt, state, err and errors.from_table(err),
    result)
end

-- Tells the JobMaster of a task's state; without one there is nobody to tell.
-- A report is idempotent, so one whose answer may be lost is sent again.
function TaskExecutor:_report(task, report, tries)
  local job = self._jobs[task.job_id]
  local gateway = job and job.connection.gateway
  if not gateway then
    return Future.rejected(errors.new("not_connected",
      ("the JobMaster of %s is not connected"):format(task.job_id)))
  end
  tries = tries or 1
  return gateway:update_task_execution_state(report):or_else(function(err)
    if not PASSING[err.code] or tries >= REPORT_TRIES then return nil, err end
    return self:_after(RETRY_MS * tries):and_then(function()
      return self:_report(task, report, tries + 1)
    end)
  end)
end

-- Future of true after a delay.
function TaskExecutor:_after(delay_ms)
  local future = Future.new()
  self:schedule_run_async(delay_ms, function() future:resolve(true) end)
  return future
end

function TaskExecutor:request_task_metrics(job_id)
  return self._tasks:metrics(job_id)
end

-- Views and the end ----------------------------------------------------------

function TaskExecutor:request_details()
  local view = {
    id = self._id, slots_total = self._slots.count,
    slots = self._slots:report(), tasks = {},
    is_registered = self._instance ~= nil,
  }
  for _, task in ipairs(self._tasks:list()) do
    table.insert(view.tasks, {
      attempt = task.attempt, job_id = task.job_id,
      state = task.machine.state, allocation = task.allocation,
    })
  end
  return view
end

function TaskExecutor:_answer_watchers(has_ended)
  local watchers = self._watchers
  if not watchers then return end
  self._watchers = nil
  self._watch_timer:cancel()
  watchers:resolve(has_ended)
end

-- Held so that its caller learns of the end of this process by the end of the
-- connection. Answered false after a while, so that calls of callers that
-- went away do not pile up.
function TaskExecutor:watch()
  if not self._watchers then
    self._watchers = Future.new()
    self._watch_timer = self:schedule_run_async(WATCH_MS, function()
      self:_answer_watchers(false)
    end)
  end
  return self._watchers
end

-- Tells everybody, fails the tasks, waits for their ends.
function TaskExecutor:on_stop()
  if not self._rm then return end
  self._is_stopping = true
  local err = errors.new("stopping",
    ("TaskExecutor %s is stopped"):format(self._id))
  local cause, calls = errors.to_table(err), {}
  local function tell(call)
    calls[#calls + 1] = call:or_else(function() return false end)
  end
  for _, job in sorted.pairs(self._jobs) do
    local gateway = job.connection.gateway
    if gateway then
      tell(gateway:with({ timeout = GOODBYE_MS })
        :disconnect_task_manager(self._id, cause))
    end
  end
  if self._rm.gateway then
    tell(self._rm.gateway:with({ timeout = GOODBYE_MS })
      :disconnect_task_manager(self._id, cause))
  end
  Future.all(calls):await()
  self._slots:close(err)
  if not self._slots:is_empty() then self._emptied = Future.new() end
  self:_act()
  if self._emptied then
    local _, late = self._emptied:with_timeout(STOP_MS):await()
    if late then self._fatal(late) end
  end
  for job_id in sorted.pairs(self._jobs) do self:_drop_job(job_id) end
  self._rm:stop()
  self._rm_beats:stop()
  self._job_beats:stop()
  if self._registration then self._registration:cancel() end
  for allocation in sorted.pairs(self._slot_timers) do
    self:_disarm_slot(allocation)
  end
  self:_answer_watchers(true)
end

return TaskExecutor
