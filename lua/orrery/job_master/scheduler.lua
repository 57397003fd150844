--- The scheduler: decides what happens to a job. Pure: events come in as method
-- calls, what is to be done comes out of `take()` as a list of actions, and
-- time comes from the clock seam `{ now = fn, wall = fn }` (milliseconds).
--
-- The happy path: start -> a requirement is declared -> slots are offered ->
-- when every slot of a region is there its tasks are submitted, consumers
-- first, one level after the other -> their states are reported -> all are
-- FINISHED -> results are merged -> FINISHED.
--
-- Failures: a task fails, its slot or its TaskExecutor is lost -> the restart
-- strategy is asked once -> the region is cancelled; when the delay is over and
-- every task of it has ended it is reset and scheduled again. Slots do not come
-- -> the job waits and says so (`reason`), up to the slot request timeout,
-- which counts as a failure. Restarts are used up -> FAILING -> FAILED.
--
-- Actions:
--   { kind = "require", slots }           declare to the ResourceManager
--   { kind = "submit", slot, task, attempt }      answer: submit_done
--   { kind = "cancel", owner, attempt }           answer: cancel_done
--   { kind = "free_slot", slot, cause }
--   { kind = "timer", key, delay_ms }             answer: timer
--   { kind = "cancel_timer", key }
--   { kind = "status", status }
--   { kind = "terminal", status }                 nothing follows it
local errors = require("orrery.util.errors")
local results = require("orrery.job.result")
local sorted = require("orrery.util.sorted")
local graphs = require("orrery.job_master.graph")
local pools = require("orrery.job_master.slot_pool")
local splits = require("orrery.job_master.splits")
local states = require("orrery.job_master.states")

local Scheduler = {}
Scheduler.__index = Scheduler

local M = {}

M.EXCEPTIONS_MAX = 16 -- roots kept, and concurrent ones at each root

--- @param options { plan: table, strategy: table, clock: table,
---   slot_request_timeout_ms: number, slot_idle_ms: number,
---   fail_fast: boolean? }
--- @return table?, table? nil and `bad_plan` when the plan is wrong
function M.new(options)
  local clock = options.clock
  local job = states.job:machine(
    ("job %q"):format(tostring(options.plan.name)), clock.wall())
  local graph, err = graphs.new(options.plan, clock.wall())
  if not graph then return nil, err end
  local self = setmetatable({
    plan = options.plan, graph = graph, pool = pools.new(), job = job,
    restarts = 0, exceptions = {}, _strategy = options.strategy,
    _clock = clock, _actions = {}, _assigned = {}, _restarting = {},
    _restart_next = 1, _splits = {}, _timers = {},
    _slot_timeout_ms = options.slot_request_timeout_ms,
    _slot_idle_ms = options.slot_idle_ms, _fail_fast = options.fail_fast,
  }, Scheduler)
  for _, vertex in ipairs(options.plan.vertices) do
    if vertex.splits then
      self._splits[vertex.id] = splits.new(vertex.splits)
    end
  end
  return self
end

--- The actions since the last call, in order.
function Scheduler:take()
  local actions = self._actions
  self._actions = {}
  return actions
end

function Scheduler:_act(action)
  self._actions[#self._actions + 1] = action
end

function Scheduler:_arm(key, delay_ms)
  if self._timers[key] then return end
  self._timers[key] = true
  self:_act({ kind = "timer", key = key, delay_ms = delay_ms })
end

function Scheduler:_disarm(key)
  if not self._timers[key] then return end
  self._timers[key] = nil
  self:_act({ kind = "cancel_timer", key = key })
end

function Scheduler:_disarm_all()
  for key in sorted.pairs(self._timers) do self:_disarm(key) end
end

-- A move that the job's table refuses is a mistake of this file.
function Scheduler:_move_job(status)
  assert(self.job:move(status, self._clock.wall()))
  self:_act({ kind = "status", status = status })
end

function Scheduler:_move(execution, state)
  return execution.machine:move(state, self._clock.wall())
end

local function is_over(execution)
  return execution.machine:is_terminal()
end

function Scheduler:_all(test)
  for _, task in ipairs(self.graph.tasks) do
    if not test(task.execution) then return false end
  end
  return true
end

function Scheduler:is_terminal()
  return self.job:is_terminal()
end

function Scheduler:_end_job(status)
  self:_move_job(status)
  self:_disarm_all()
  for _, slot in ipairs(self.pool:slots()) do
    self.pool:remove(slot.allocation)
    self:_act({ kind = "free_slot", slot = slot, cause = "job is " .. status })
  end
  self._assigned = {}
  self:_act({ kind = "require", slots = 0 })
  self:_act({ kind = "terminal", status = status })
end

-- Exceptions ---------------------------------------------------------------

function Scheduler:_record(task, err, concurrent)
  local entry = {
    timestamp = self._clock.wall(), error = err,
    task = task and graphs.task_name(task) or nil,
    attempt = task and task.execution.attempt or nil,
    location = task and task.execution.slot and task.execution.slot.owner
      or nil,
    concurrent = {},
  }
  local last = self.exceptions[#self.exceptions]
  if concurrent and last then
    if #last.concurrent < M.EXCEPTIONS_MAX then
      entry.concurrent = nil
      table.insert(last.concurrent, entry)
    end
    return
  end
  table.insert(self.exceptions, entry)
  if #self.exceptions > M.EXCEPTIONS_MAX then
    table.remove(self.exceptions, 1)
  end
end

-- An error, at any depth, that no restart can cure.
local function is_unrecoverable(err)
  local at, depth = err, 0
  while type(at) == "table" and depth < 16 do
    if at.code == "job_invalid"
      or (at.context and at.context.recoverable == false) then
      return true
    end
    at, depth = at.cause, depth + 1
  end
  return false
end

-- Ending attempts ----------------------------------------------------------

function Scheduler:_cancel_execution(execution)
  local state = execution.machine.state
  if is_over(execution) or state == "CANCELING" then return end
  self:_move(execution, "CANCELING")
  if execution.submitted and execution.slot and not execution.lost then
    self:_act({
      kind = "cancel", owner = execution.slot.owner,
      attempt = execution.attempt,
    })
  else
    self:_move(execution, "CANCELED")
  end
end

-- Cancels what is left of tasks and makes everything planned for them void.
function Scheduler:_void(tasks)
  for _, task in ipairs(tasks) do
    task.version = task.version + 1
    self:_cancel_execution(task.execution)
  end
end

function Scheduler:_check_ended()
  local status = self.job.state
  if status == "CANCELLING" or status == "FAILING" then
    if self:_all(is_over) then
      self:_end_job(status == "FAILING" and "FAILED" or "CANCELED")
    end
  elseif status == "RUNNING" then
    if self:_all(function(e) return e.machine.state == "FINISHED" end) then
      self:_finish()
    end
  else
    for _, restart in sorted.pairs(self._restarting) do
      self:_check_restart(restart)
    end
  end
end

function Scheduler:_finish()
  local list = {}
  for _, task in ipairs(self.graph.tasks) do
    list[#list + 1] = task.execution.result
  end
  local result, err = results.merge(list)
  if not result then return self:fail_global(err) end
  self.result = result
  self:_end_job("FINISHED")
end

function Scheduler:_fail_job(err)
  self.failure = err
  self._restarting = {}
  self:_move_job("FAILING")
  self:_disarm_all()
  self:_void(self.graph.tasks)
  self:_check_ended()
end

-- Restarting ---------------------------------------------------------------

function Scheduler:_check_restart(restart)
  if not restart.due or not self._restarting[restart.id] then return end
  for _, task in ipairs(restart.tasks) do
    if not is_over(task.execution) then return end
  end
  self._restarting[restart.id] = nil
  for _, task in ipairs(restart.tasks) do
    local assigner = self._splits[task.vertex.id]
    if assigner then assigner:give_back(task.execution.attempt) end
    task.restart = nil
    self.graph:reset(task, self._clock.wall())
  end
  self:_schedule(restart.tasks)
end

function Scheduler:_restart(tasks, delay_ms)
  local id = self._restart_next
  self._restart_next = id + 1
  local restart = {
    id = id, tasks = tasks, due = false,
    at = self._clock.now() + delay_ms,
  }
  for _, task in ipairs(tasks) do task.restart = restart end
  self._restarting[id] = restart
  self.restarts = self.restarts + 1
  if self.job.state == "RUNNING" then self:_move_job("RESTARTING") end
  self:_arm("restart:" .. id, delay_ms)
  self:_void(tasks)
end

-- The regions of some tasks that do not wait for a restart already.
function Scheduler:_regions_of(tasks)
  local seen, all = {}, {}
  for _, task in ipairs(tasks) do
    if not task.restart and not seen[task.region] then
      seen[task.region] = true
      for _, member in ipairs(self.graph:region(task)) do
        all[#all + 1] = member
      end
    end
  end
  table.sort(all, function(a, b) return a.number < b.number end)
  return all
end

-- One failure, of one or more tasks at once; their executions have ended.
function Scheduler:_handle_failure(tasks, err, region)
  local status = self.job.state
  local settled = status == "CANCELLING" or status == "FAILING"
  region = region or self:_regions_of(tasks)
  self:_record(tasks[1], err, settled or #region == 0)
  if settled then return self:_check_ended() end
  if #region == 0 then return self:_check_ended() end
  if is_unrecoverable(err) then return self:_fail_job(err) end
  local decision = self._strategy:decide(self._clock.now())
  if not decision.restart then
    return self:_fail_job(errors.new("restarts_used_up",
      "the job is not restarted: " .. decision.reason, { cause = err }))
  end
  self:_restart(region, decision.delay_ms)
  self:_check_ended()
end

-- Ends executions as failed and handles that as one failure.
function Scheduler:_fail_tasks(tasks, err, is_known_to_owner)
  local failed = {}
  for _, task in ipairs(tasks) do
    local execution = task.execution
    if not is_over(execution) then
      local canceling = execution.machine.state == "CANCELING"
      self:_move(execution, canceling and "CANCELED" or "FAILED")
      execution.error = err
      if not canceling then
        failed[#failed + 1] = task
        if execution.submitted and not execution.lost
          and not is_known_to_owner then
          self:_act({
            kind = "cancel", owner = execution.slot.owner,
            attempt = execution.attempt,
          })
        end
      end
    end
  end
  if #failed > 0 then return self:_handle_failure(failed, err) end
  self:_check_ended()
end

-- Scheduling and deployment ------------------------------------------------

function Scheduler:_schedule(tasks)
  for _, task in ipairs(tasks) do self:_move(task.execution, "SCHEDULED") end
  self:_try_deploy()
end

-- Regions that wait for slots, in order: lists of tasks.
function Scheduler:_waiting_regions()
  local seen, waiting = {}, {}
  for _, task in ipairs(self.graph.tasks) do
    if not seen[task.region] and not task.restart
      and task.execution.machine.state == "SCHEDULED" then
      seen[task.region] = true
      waiting[#waiting + 1] = self.graph:region(task)
    end
  end
  return waiting
end

-- Reserves a slot for every group of a region, or none and answers false.
function Scheduler:_reserve(region)
  local missing, seen = {}, {}
  for _, task in ipairs(region) do
    local group = task.subtask
    if not self._assigned[group] and not seen[group] then
      seen[group] = true
      missing[#missing + 1] = group
    end
  end
  local _, free = self.pool:counts()
  if free < #missing then return false end
  table.sort(missing)
  for _, group in ipairs(missing) do
    self._assigned[group] = self.pool:reserve(group)
  end
  return true
end

function Scheduler:_try_deploy()
  local waiting = false
  for _, region in ipairs(self:_waiting_regions()) do
    if self:_reserve(region) then
      self:_deploy(region)
    else
      waiting = true
    end
  end
  self.is_waiting = waiting
  if waiting then
    self:_arm("slots", self._slot_timeout_ms)
  else
    self:_disarm("slots")
    if self.job.state == "RESTARTING" and next(self._restarting) == nil then
      self:_move_job("RUNNING")
    end
  end
  if self.pool:counts() > self.pool.required then
    self:_arm("idle", self._slot_idle_ms)
  end
end

function Scheduler:_deploy(region)
  if self.job.state == "CREATED" then self:_move_job("RUNNING") end
  local deployment = {
    tasks = region, level = self.graph.levels + 1, waiting = 0, versions = {},
  }
  for _, task in ipairs(region) do
    local execution = task.execution
    self:_move(execution, "DEPLOYING")
    execution.slot = self._assigned[task.subtask]
    execution.deployment = deployment
    deployment.versions[task] = task.version
  end
  self:_next_level(deployment)
end

-- Consumers before producers: a producer finds its targets when it starts.
function Scheduler:_next_level(deployment)
  while deployment.waiting == 0 and deployment.level > 1 do
    deployment.level = deployment.level - 1
    for _, task in ipairs(deployment.tasks) do
      if task.level == deployment.level
        and task.version == deployment.versions[task]
        and task.execution.machine.state == "DEPLOYING" then
        task.execution.submitted = true
        deployment.waiting = deployment.waiting + 1
        self:_act({
          kind = "submit", slot = task.execution.slot, task = task,
          attempt = task.execution.attempt,
        })
      end
    end
  end
end

-- Events ---------------------------------------------------------------------

--- The JobMaster is up: declare and schedule.
function Scheduler:start()
  self:_move_job("CREATED")
  self.pool:require(self.graph.slots_required)
  self:_act({ kind = "require", slots = self.graph.slots_required })
  self:_schedule(self.graph.tasks)
end

--- A TaskExecutor offers slots; answers the accepted allocation ids.
function Scheduler:offer_slots(owner, offers)
  if self:is_terminal() then return {} end
  local accepted = self.pool:offer(owner, offers, self._clock.now(),
    self.job.state == "RESTARTING")
  self:_try_deploy()
  return accepted
end

function Scheduler:_drop_slots(slots, err)
  local tasks = {}
  for _, slot in ipairs(slots) do
    if slot.group ~= nil then self._assigned[slot.group] = nil end
    for _, task in ipairs(self.graph.tasks) do
      local execution = task.execution
      if execution.slot == slot and not is_over(execution) then
        execution.lost = true
        tasks[#tasks + 1] = task
      end
    end
  end
  if #tasks > 0 then self:_fail_tasks(tasks, err) end
  if not self:is_terminal() then self:_try_deploy() end
end

--- Everything on a TaskExecutor is lost.
function Scheduler:owner_lost(owner, err)
  self:_drop_slots(self.pool:remove_owner(owner), err)
end

--- A slot is lost; a stale allocation id is ignored (false).
function Scheduler:slot_failed(owner, allocation, err)
  local slot = self.pool:get(allocation)
  if not slot or slot.owner ~= owner then return false end
  self.pool:remove(allocation)
  self:_drop_slots({ slot }, err)
  return true
end

--- The answer to a submit; err nil when the task exists now.
function Scheduler:submit_done(attempt, err)
  local execution = self.graph:execution(attempt)
  if not execution then return end
  execution.deployed = err == nil
  if err then
    return self:_fail_tasks({ execution.vertex }, err)
  end
  local deployment = execution.deployment
  deployment.waiting = deployment.waiting - 1
  self:_next_level(deployment)
end

--- A cancel could not be brought to its task (err), or was.
function Scheduler:cancel_done(attempt, err)
  local execution = self.graph:execution(attempt)
  if not err or not execution then return end
  if execution.machine.state == "CANCELING" then
    self:_move(execution, "CANCELED")
    self:_check_ended()
  end
end

local reported = {
  DEPLOYING = true, INITIALIZING = true, RUNNING = true, FINISHED = true,
  CANCELED = true, FAILED = true, CANCELING = true,
}

function Scheduler:_progress(execution, state)
  local ok, err = self:_move(execution, state)
  if ok then return true end
  self:_fail_tasks({ execution.vertex }, err)
  return nil, err
end

--- The TaskExecutor says what state a task is in. Answers true, or nil and
-- `unknown_attempt`, `illegal_state` or `bad_argument`: the TaskExecutor then
-- fails the task.
function Scheduler:task_state(attempt, state, err, result)
  local execution = self.graph:execution(attempt)
  if not execution then
    return nil, errors.new("unknown_attempt",
      ("attempt %s is unknown or outdated"):format(tostring(attempt)))
  end
  if not reported[state] then
    return nil, errors.new("bad_argument",
      ("%s is no state a task reports"):format(tostring(state)))
  end
  local current = execution.machine.state
  if current == state then return true end
  if is_over(execution) then
    return states.execution:check(current, state, attempt)
  end
  if current == "CANCELING" then
    if states.execution:is_terminal(state) then
      self:_move(execution, "CANCELED")
      self:_check_ended()
    end
    return true
  end
  if state == "FAILED" then
    self:_fail_tasks({ execution.vertex },
      err or errors.new("task_failed", "the task failed without a cause"),
      true)
    return true
  elseif state == "CANCELED" then
    self:_move(execution, "CANCELED")
    self:_handle_failure({ execution.vertex }, err or errors.new(
      "task_canceled", "the task was cancelled by its TaskExecutor"))
    return true
  elseif state == "FINISHED" then
    execution.result = result or {}
    local ok, refused = self:_progress(execution, state)
    if not ok then return nil, refused end
    self:_check_ended()
    return true
  end
  return self:_progress(execution, state)
end

--- What a TaskExecutor runs, compared with what is believed: tasks that are
-- missing there fail, tasks only it knows are cancelled there, deployments
-- without an answer yet are left alone.
function Scheduler:reconcile(owner, attempts)
  local there = {}
  for _, attempt in ipairs(attempts) do
    there[attempt] = true
    local execution = self.graph:execution(attempt)
    if not execution or not execution.slot or execution.slot.owner ~= owner
    then
      self:_act({ kind = "cancel", owner = owner, attempt = attempt })
    end
  end
  local missing = {}
  for _, task in ipairs(self.graph.tasks) do
    local execution = task.execution
    if execution.deployed and not is_over(execution) and execution.slot
      and execution.slot.owner == owner and not there[execution.attempt] then
      execution.lost = true
      missing[#missing + 1] = task
    end
  end
  if #missing > 0 then
    self:_fail_tasks(missing, errors.new("task_lost",
      ("%s is not known to TaskExecutor %s any more")
        :format(graphs.task_name(missing[1]), owner)))
  end
end

function Scheduler:_slots_did_not_come(code, text)
  local tasks = {}
  for _, region in ipairs(self:_waiting_regions()) do
    for _, task in ipairs(region) do tasks[#tasks + 1] = task end
  end
  if #tasks == 0 then return end
  self.is_waiting = false
  self:_fail_tasks(tasks, errors.new(code, text))
end

--- The ResourceManager cannot give more slots now. The job waits, unless it
-- was told to fail fast.
function Scheduler:not_enough(acquired)
  self.acquired = acquired
  if not self._fail_fast or not self.is_waiting then return end
  self:_disarm("slots")
  self:_slots_did_not_come("no_resource", self:reason())
end

function Scheduler:timer(key)
  if not self._timers[key] then return end
  self._timers[key] = nil
  local id = key:match("^restart:(%d+)$")
  if id then
    local restart = self._restarting[tonumber(id)]
    if not restart then return end
    restart.due = true
    self:_check_restart(restart)
  elseif key == "slots" then
    self:_slots_did_not_come("slot_request_timeout",
      ("%s after %g s"):format(self:reason(), self._slot_timeout_ms / 1000))
  elseif key == "idle" then
    local now = self._clock.now()
    for _, slot in ipairs(self.pool:take_idle(now, self._slot_idle_ms)) do
      self:_act({ kind = "free_slot", slot = slot, cause = "slot is idle" })
    end
    local count, free = self.pool:counts()
    if count > self.pool.required and free > 0 then
      self:_arm("idle", self._slot_idle_ms)
    end
  end
end

--- Asks for the end; repeated calls change nothing.
function Scheduler:cancel()
  local status = self.job.state
  if self:is_terminal() or status == "CANCELLING" then return end
  self._restarting = {}
  self:_move_job("CANCELLING")
  self:_disarm_all()
  self:_void(self.graph.tasks)
  self:_check_ended()
end

--- A failure of the whole job: everything restarts, or the job fails.
function Scheduler:fail_global(err)
  if self:is_terminal() then return end
  for _, restart in sorted.pairs(self._restarting) do
    self:_disarm("restart:" .. restart.id)
  end
  self._restarting = {}
  local all = {}
  for _, task in ipairs(self.graph.tasks) do
    task.restart = nil
    all[#all + 1] = task
  end
  self:_handle_failure({}, err, all)
end

--- The JobMaster ends: tasks are given up, the job is SUSPENDED here.
function Scheduler:suspend(err)
  if self:is_terminal() then return end
  self.failure = err
  self._restarting = {}
  for _, task in ipairs(self.graph.tasks) do
    task.version = task.version + 1
    self:_cancel_execution(task.execution)
    if not is_over(task.execution) then self:_move(task.execution, "CANCELED")
    end
  end
  self:_end_job("SUSPENDED")
end

--- The next split of a vertex for an attempt that has received so many, or nil
-- when there is none left;
-- nil and an error when the attempt is outdated or the vertex has no splits.
function Scheduler:next_split(vertex_id, attempt, received)
  local execution = self.graph:execution(attempt)
  if not execution or is_over(execution) then
    return nil, errors.new("unknown_attempt",
      ("attempt %s is unknown or has ended"):format(tostring(attempt)))
  end
  local assigner = self._splits[vertex_id]
  if not assigner or execution.vertex.vertex.id ~= vertex_id then
    return nil, errors.new("bad_argument",
      ("vertex %s has no splits for attempt %s")
        :format(tostring(vertex_id), attempt))
  end
  return assigner:take(attempt, received)
end

--- Why the job does not run now, for people; nil when there is nothing to say.
function Scheduler:reason()
  if self:is_terminal() then return nil end
  if self.job.state == "FAILING" then return tostring(self.failure) end
  local restart = self._restarting[sorted.keys(self._restarting)[1]]
  if restart then
    local last = self.exceptions[#self.exceptions]
    local seconds = math.max(0, restart.at - self._clock.now()) / 1000
    return ("%s after: %s"):format(
      seconds > 0 and ("restarts in %.1f s"):format(seconds)
        or "restarts when the tasks have ended",
      last and last.error.message or "a failure")
  end
  if self.is_waiting then
    return ("waiting for %d slots, %d available")
      :format(self.pool.required, (self.pool:counts()))
  end
end

return M
