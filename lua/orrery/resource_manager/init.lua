--- The ResourceManager: knows the TaskExecutors and their slots, and gives
-- slots to the jobs that declare a need. The matching is slot_manager.lua.
--
--   service:start(ResourceManager, { id = "resource_manager", token = token,
--     args = { { config = config, directory = "", blob = "host:port/blob" } }
--     })
--
-- directory is where `leaders` is ("" = the own service). Nothing is stored: a
-- new leader learns slots from reports and requirements from declarations.
--
-- TaskExecutor: register -> instance id -> slot report -> heartbeats. Lost,
-- unreachable or leaving -> its slots are gone, every JobMaster and the
-- TaskExecutor itself are told.
-- JobMaster: register (checked against the directory) -> declare -> heartbeats.
-- Lost -> the connection ends, what it declared stays until resourcemanager's
-- job timeout; ended with its job -> requirements are cleared.
local orrery = require("orrery")
local errors = require("orrery.util.errors")
local ids = require("orrery.util.ids")
local sorted = require("orrery.util.sorted")
local seams = require("orrery.ha.seams")
local heartbeats = require("orrery.heartbeat.manager")
local slot_managers = require("orrery.resource_manager.slot_manager")
local same_token = require("orrery.ha.directory").same_token

local EXECUTORS_MAX = 10000
local JOBS_MAX = 10000

local ResourceManager =
  orrery.endpoint(require("orrery.gateway.resource_manager"))

function ResourceManager:init(args)
  self._config, self._directory = args.config, args.directory or ""
  self._blob = args.blob
  self._executors, self._jobs, self._registering = {}, {}, {}
  self._token = args.token
end

function ResourceManager:on_start()
  self._seams = seams.of(self.service)
  self._slots = slot_managers.new(function()
    return ids.new(function(n) return self._seams:bytes(n) end)
  end)
  self._started = self._seams:now_ms()
  self._executor_beats = heartbeats.new({
    endpoint = self, config = self._config,
    send = function(id) return self:_beat_executor(id) end,
    on_payload = function(id, payload) self:_on_report(id, payload) end,
    on_lost = function(id, err) self:_lose_executor(id, err) end,
  })
  self._job_beats = heartbeats.new({
    endpoint = self, config = self._config,
    send = function(id) return self:_beat_job(id) end,
    on_lost = function(id, err) self:_lose_job_master(id, err) end,
  })
end

-- Slots --------------------------------------------------------------------

local function ignore() end

-- A call whose failure is found out by heartbeats anyway.
local function send(call)
  call:on_done(ignore)
end

function ResourceManager:_check_later()
  local delay = self._config("slotmanager.requirement-check.delay")
  self._check = self:schedule_run_async(delay, function()
    self._check = nil
    self._slots:check()
    self:_act()
  end)
end

function ResourceManager:_request_slot(action)
  local executor = self._executors[action.executor]
  executor.gateway:request_slot({
    token = self._token, index = -1, job_id = action.job,
    allocation = action.allocation,
  }):on_done(function(_, err)
    self._slots:requested(action.executor, action.instance,
      action.allocation, err)
    if err and executor == self._executors[action.executor] then
      -- Whether the slot was given is unknown after a timeout.
      send(executor.gateway:free_slot(action.allocation,
        errors.to_table(err)))
    end
    self:_act()
  end)
end

function ResourceManager:_not_enough(action)
  local job = self._jobs[action.job]
  local grace = self._config("slot.request.timeout")
  if not job or not job.gateway
    or self._seams:now_ms() - self._started < grace then
    return
  end
  send(job.gateway:notify_not_enough_resources(action.acquired))
end

function ResourceManager:_act()
  for _, action in ipairs(self._slots:take()) do
    if action.kind == "check" then
      self:_check_later()
    elseif action.kind == "request_slot" then
      self:_request_slot(action)
    elseif action.kind == "free_inactive" then
      send(self._executors[action.executor].gateway
        :free_inactive_slots(action.job))
    elseif action.kind == "not_enough" then
      self:_not_enough(action)
    end
  end
end

-- TaskExecutors ------------------------------------------------------------

function ResourceManager:_beat_executor(id)
  local executor = self._executors[id]
  return executor
    and executor.gateway:heartbeat_from_resource_manager(self._token)
end

function ResourceManager:_on_report(id, payload)
  local executor = self._executors[id]
  if executor and executor.is_reported and type(payload) == "table"
    and payload.slots then
    self._slots:report(id, payload.instance, payload.slots)
    self:_act()
  end
end

-- Forgets a TaskExecutor; answers what it was.
function ResourceManager:_remove_executor(id)
  local executor = self._executors[id]
  if not executor then return nil end
  self._executors[id] = nil
  self._executor_beats:unmonitor(id)
  self._slots:remove_executor(id)
  self:_act()
  return executor
end

function ResourceManager:_lose_executor(id, err)
  local executor = self:_remove_executor(id)
  if not executor then return end
  local cause = errors.to_table(err)
  for _, job in sorted.pairs(self._jobs) do
    if job.gateway then send(job.gateway:disconnect_task_manager(id, cause))
    end
  end
  send(executor.gateway:disconnect_resource_manager(self._token, cause))
end

local function check_info(info)
  if type(info) ~= "table" or type(info.id) ~= "string" or #info.id > 200
    or type(info.address) ~= "string" or type(info.slots) ~= "number"
    or info.slots < 1 or info.slots > slot_managers.SLOTS_MAX then
    return nil, errors.new("bad_argument", "a TaskExecutor registers with "
      .. "id, address, session and a number of slots from 1 to "
      .. slot_managers.SLOTS_MAX)
  end
  return true
end

local function failure(err)
  return { type = "failure", error = errors.to_table(err) }
end

function ResourceManager:register_task_executor(info)
  local ok, err = check_info(info)
  if not ok then return nil, err end
  if not self._executors[info.id]
    and sorted.count(self._executors) >= EXECUTORS_MAX then
    return failure(errors.new("overloaded",
      ("there are %d TaskExecutors already"):format(EXECUTORS_MAX)))
  end
  -- Of several registrations under way only the newest may win.
  local mine = {}
  self._registering[info.id] = mine
  local gateway
  gateway, err = self:connect_to(info.address, "task_executor"):await()
  if self._registering[info.id] ~= mine then
    return failure(errors.new("outdated",
      ("a newer registration of %s is under way"):format(info.id)))
  end
  self._registering[info.id] = nil
  if not gateway then return failure(err) end
  return self:_add_executor(info, gateway)
end

function ResourceManager:_add_executor(info, gateway)
  self:_remove_executor(info.id)
  local executor = {
    id = info.id, address = info.address, slots = info.slots,
    gateway = gateway, registered = self._seams:wall_ms(),
    instance = ids.new(function(n) return self._seams:bytes(n) end),
  }
  self._executors[info.id] = executor
  self._executor_beats:monitor(info.id)
  self._executor_beats:watch(info.id, function()
    return gateway:with({ timeout = 0, deadline = "own" }):watch()
  end)
  return {
    type = "success", instance = executor.instance,
    cluster = { blob = self._blob },
  }
end

-- The TaskExecutor with this instance, or nil and an error.
function ResourceManager:_executor(id, instance)
  local executor = self._executors[id]
  if not executor then
    return nil, errors.new("unknown_task_executor",
      ("TaskExecutor %s is not registered"):format(tostring(id)))
  end
  if instance and executor.instance ~= instance then
    return nil, errors.new("outdated",
      ("TaskExecutor %s registered anew since"):format(id))
  end
  return executor
end

function ResourceManager:send_slot_report(id, instance, report)
  local executor, err = self:_executor(id, instance)
  if not executor then return nil, err end
  if executor.is_reported then
    self._slots:report(id, instance, report)
  else
    executor.is_reported = true
    self._slots:add_executor(id, instance, executor.slots, report)
  end
  self:_act()
  return true
end

function ResourceManager:notify_slot_available(id, instance, allocation)
  self._slots:slot_free(id, instance, allocation)
  self:_act()
  return true
end

function ResourceManager:disconnect_task_manager(id, cause)
  self:_lose_executor(id, errors.from_table(cause))
  return true
end

-- JobMasters ---------------------------------------------------------------

function ResourceManager:_beat_job(id)
  local job = self._jobs[id]
  return job and job.gateway
    and job.gateway:heartbeat_from_resource_manager(self._token)
end

function ResourceManager:_remove_job(id)
  local job = self._jobs[id]
  if not job then return end
  self._jobs[id] = nil
  self._job_beats:unmonitor(id)
  if job.timer then job.timer:cancel() end
  self._slots:declare(id, 0)
  self:_act()
end

-- The JobMaster is gone, its job perhaps not.
function ResourceManager:_close_job(id)
  local job = self._jobs[id]
  if not job then return end
  self._job_beats:unmonitor(id)
  job.gateway, job.token = nil, nil
  if job.timer then job.timer:cancel() end
  job.timer = self:schedule_run_async(
    self._config("resourcemanager.job.timeout"), function()
      job.timer = nil
      if self._jobs[id] == job and not job.gateway then
        self:_remove_job(id)
      end
    end)
end

function ResourceManager:_lose_job_master(id, err)
  local job = self._jobs[id]
  if not job or not job.gateway then return end
  send(job.gateway:disconnect_resource_manager(self._token,
    errors.to_table(err)))
  self:_close_job(id)
end

-- The leader of a job as the directory knows it.
function ResourceManager:_leader_of(job_id)
  local address = self._directory == "" and "leaders"
    or self._directory .. "/leaders"
  local leaders, err = self:connect_to(address, "leaders"):await()
  if not leaders then return nil, err end
  return leaders:leader("job_master/" .. job_id):await()
end

function ResourceManager:register_job_master(job_id, token, address)
  local ok, err = ids.check(job_id, "job id")
  if not ok then return nil, err end
  local known = self._jobs[job_id]
  if known and known.gateway and same_token(known.token, token) then
    return { type = "success" }
  end
  if not known and sorted.count(self._jobs) >= JOBS_MAX then
    return failure(errors.new("overloaded",
      ("there are %d jobs already"):format(JOBS_MAX)))
  end
  local leader
  leader, err = self:_leader_of(job_id)
  if err then return failure(err) end
  if not leader or not same_token(leader.token, token) then
    return failure(errors.new("not_leader",
      ("%s does not lead job %s"):format(tostring(address), job_id)))
  end
  local gateway
  gateway, err =
    self:connect_to(address, "job_master", { token = token }):await()
  if not gateway then return failure(err) end
  return self:_add_job_master(job_id, token, gateway)
end

function ResourceManager:_add_job_master(job_id, token, gateway)
  local job = self._jobs[job_id] or {}
  if job.timer then job.timer:cancel() end
  self._job_beats:unmonitor(job_id)
  job.timer, job.gateway, job.token = nil, gateway, token
  self._jobs[job_id] = job
  self._job_beats:monitor(job_id)
  return { type = "success" }
end

-- The job served by this JobMaster, or nil and `unknown_job_master`.
function ResourceManager:_job(job_id, token)
  local job = self._jobs[job_id]
  if job and job.gateway and same_token(job.token, token) then return job end
  return nil, errors.new("unknown_job_master",
    ("the JobMaster of %s is not registered with this token")
      :format(tostring(job_id)))
end

function ResourceManager:declare_required_resources(job_id, token, count)
  local job, err = self:_job(job_id, token)
  if not job then return nil, err end
  if type(count) ~= "number" or count < 0 or count ~= math.floor(count) then
    return nil, errors.new("bad_argument",
      ("%s is not a number of slots"):format(tostring(count)))
  end
  self._slots:declare(job_id, count)
  self:_act()
  return true
end

local ENDED = { FINISHED = true, FAILED = true, CANCELED = true }

function ResourceManager:disconnect_job_manager(job_id, token, status)
  if not self:_job(job_id, token) then return true end
  if ENDED[status] then
    self:_remove_job(job_id)
  else
    self:_close_job(job_id)
  end
  return true
end

-- Views --------------------------------------------------------------------

function ResourceManager:request_resource_overview()
  local view = self._slots:overview()
  view.taskmanagers = sorted.count(self._executors)
  return view
end

function ResourceManager:_view(executor)
  local slots = self._slots:executor(executor.id)
  return {
    id = executor.id, address = executor.address,
    slots_total = executor.slots,
    slots_free = slots and slots.free or 0,
    slots = slots and slots.slots or {}, registered = executor.registered,
    silence_ms = self._executor_beats:silence_ms(executor.id),
  }
end

function ResourceManager:request_task_managers()
  local list = {}
  for _, executor in sorted.pairs(self._executors) do
    list[#list + 1] = self:_view(executor)
  end
  return list
end

function ResourceManager:request_task_manager_details(id)
  local executor, err = self:_executor(id)
  if not executor then return nil, err end
  return self:_view(executor)
end

function ResourceManager:on_stop()
  self._executor_beats:stop()
  self._job_beats:stop()
  if self._check then self._check:cancel() end
  for _, job in sorted.pairs(self._jobs) do
    if job.timer then job.timer:cancel() end
  end
end

return ResourceManager
