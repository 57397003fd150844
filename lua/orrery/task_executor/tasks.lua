--- The tasks of a TaskExecutor: each an endpoint `task/<attempt>` on the
-- executor of its slot. This is the part that starts, cancels and ends them.
--
--   submit -> bundle fetched -> endpoint spawned -> start -> states come by
--   `notify` -> each is reported -> an end is reported -> endpoint stopped,
--   task removed
--
-- Failures: fetch, spawn or start fails -> FAILED; the end of an executor that
-- nobody asked for -> FAILED; a report that is refused -> the task is failed;
-- a task that does not end within the time limit of a cancel is stopped with
-- its executor, and when that does not end either it is fatal for the process,
-- because a thread cannot be killed.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")
local states = require("orrery.task_executor.states")

local M = {}

M.CANCEL_LIMIT_MS = 180000
M.STOP_LIMIT_MS = 30000

local COUNTERS_MS = 1000

local Tasks = {}
Tasks.__index = Tasks

--- @param options { endpoint: table, seams: table, module: string,
---   executor: fun(allocation): table, bundle: fun(descriptor): table,
---   report: fun(task, report: table): table,
---   removed: fun(task), fatal: fun(err) }
---   report answers a future; bundle a future of bytes; executor a future of
---   what service:spawn takes as executor
function M.new(options)
  return setmetatable({
    _endpoint = options.endpoint, _seams = options.seams,
    _module = options.module, _bundle = options.bundle,
    _executor = options.executor,
    _report = options.report, _removed = options.removed,
    _fatal = options.fatal, _tasks = {}, _ended = {},
  }, Tasks)
end

function Tasks:get(attempt)
  return self._tasks[attempt]
end

--- Tasks of a job (nil: all), by attempt.
function Tasks:list(job_id)
  local list = {}
  for _, task in sorted.pairs(self._tasks) do
    if job_id == nil or task.job_id == job_id then list[#list + 1] = task end
  end
  return list
end

function Tasks:_move(task, state)
  return task.machine:move(state, self._seams:wall_ms())
end

-- Future of what a task has counted, nil when it does not answer.
function Tasks:_counters(task)
  return task.gateway:with({ timeout = COUNTERS_MS }):counters()
    :and_then(function(counters)
      return {
        records_in = counters.records_in or 0,
        records_out = counters.records_out or 0,
      }
    end):or_else(function() return nil end)
end

-- Reports of one task go out one after the other. Future of the answer.
function Tasks:_tell(task, state, err, result)
  local report = {
    attempt = task.attempt, state = state,
    error = err and errors.to_table(err), result = result,
  }
  local before = task.told or Future.resolved(true)
  if states:is_terminal(state) and task.gateway then
    -- What the task counted would be gone with it.
    local last = self:_counters(task)
    before = before:or_else(function() return true end)
      :and_then(function() return last end)
      :and_then(function(counters) report.counters = counters end)
  end
  task.told = before:or_else(function() return true end):and_then(function()
    return self._report(task, report)
  end)
  return task.told
end

-- Ending ---------------------------------------------------------------------

function Tasks:_remove(task)
  if self._tasks[task.attempt] ~= task then return end
  if task.timer then task.timer:cancel() end
  task.timer = nil
  self._tasks[task.attempt] = nil
  self._removed(task)
end

-- Stops the endpoint, then forgets the task.
function Tasks:_stop(task)
  if task.is_stopping then return end
  task.is_stopping = true
  if task.timer then task.timer:cancel() end
  task.timer = nil
  if not task.handle then return self:_remove(task) end
  task.timer = self._endpoint:schedule_run_async(M.STOP_LIMIT_MS, function()
    task.timer = nil
    self._fatal(errors.new("task_stuck",
      ("%s does not end, its executor is busy"):format(task.attempt)))
  end)
  task.handle:stop():on_done(function() self:_remove(task) end)
end

-- The end of a task: reported, then stopped and removed.
function Tasks:_end(task, state, err, result)
  local ok, refused = self:_move(task, state)
  if not ok then return nil, refused end
  self:_tell(task, state, err, result)
    :on_done(function() self:_stop(task) end)
  return true
end

--- Fails a task from here: it is told to end, FAILED is reported.
function Tasks:fail(attempt, err)
  local task = self._tasks[attempt]
  if not task or task.machine:is_terminal() then return end
  task.is_failing = true
  local state = task.machine.state == "CANCELING" and "CANCELED" or "FAILED"
  if task.gateway then
    task.gateway:with({ timeout = M.STOP_LIMIT_MS }):cancel()
      :on_done(function() end)
  end
  self:_end(task, state, err)
end

--- Cancels: true, or nil and `unknown_task`. The end follows.
function Tasks:cancel(attempt)
  local task = self._tasks[attempt]
  if not task then
    return nil, errors.new("unknown_task",
      ("there is no task %s here"):format(tostring(attempt)))
  end
  if not task.machine:allows("CANCELING") then return true end
  self:_move(task, "CANCELING")
  if not task.gateway then return true end
  self:_tell_cancel(task)
  return true
end

function Tasks:_tell_cancel(task)
  task.timer = self._endpoint:schedule_run_async(M.CANCEL_LIMIT_MS, function()
    task.timer = nil
    if not task.machine:is_terminal() then
      self:_end(task, "CANCELED", errors.new("task_stuck",
        ("%s did not end within %g s of its cancellation")
          :format(task.attempt, M.CANCEL_LIMIT_MS / 1000)))
    end
  end)
  task.gateway:cancel():on_done(function(_, err)
    if not err or task.machine:is_terminal() then return end
    -- The task cannot be asked: its executor is stopped instead.
    self:_end(task, "CANCELED", err)
  end)
end

-- Starting -------------------------------------------------------------------

function Tasks:_start_failed(task, err)
  if task.machine:is_terminal() then return end
  local state = task.machine.state == "CANCELING" and "CANCELED" or "FAILED"
  self:_end(task, state, err)
end

-- True while the task is still wanted; otherwise its end is on the way.
function Tasks:_is_wanted(task)
  if task.machine:is_terminal() then return false end
  if task.machine.state ~= "CANCELING" then return true end
  self:_end(task, "CANCELED")
  return false
end

-- An end of the endpoint, or of its executor, that did not come from here.
function Tasks:_watch(task)
  task.handle.termination:on_done(function(_, err)
    if task.is_stopping or task.machine:is_terminal() then return end
    self:_start_failed(task, errors.new("executor_died",
      ("%s ended unasked"):format(task.attempt), { cause = err }))
  end)
end

function Tasks:_start(task, bytes)
  task.gateway:start(task.descriptor, bytes):on_done(function(_, err)
    if err then self:_start_failed(task, err) end
  end)
end

-- Future of the handle of the task's endpoint.
function Tasks:_spawn(task)
  return self._executor(task.allocation):and_then(function(executor)
    return self._endpoint.service:spawn(self._module, {
      id = "task/" .. task.attempt, args = {}, executor = executor,
    })
  end)
end

--- Makes a task; future of true when its endpoint exists. It counts as here
-- from the call on.
---@param descriptor table
---@param allocation string
function Tasks:submit(descriptor, allocation)
  local attempt = descriptor.attempt
  local task = {
    attempt = attempt, job_id = descriptor.job_id, allocation = allocation,
    descriptor = descriptor,
    machine = states:machine(attempt, self._seams:wall_ms()),
  }
  self._tasks[attempt] = task
  self:_move(task, "DEPLOYING")
  local out = Future.new()
  local function failed(err)
    self:_start_failed(task, err)
    out:reject(err)
  end
  local function unwanted()
    out:reject(errors.new("cancelled",
      ("%s was ended before it began"):format(attempt)))
  end
  self._bundle(descriptor):on_done(function(bytes, err)
    if err then return failed(err) end
    if not self:_is_wanted(task) then return unwanted() end
    self:_spawn(task):on_done(function(handle, spawn_err)
      if spawn_err then return failed(spawn_err) end
      task.handle, task.gateway = handle, handle.gateway
      if self._tasks[attempt] ~= task or task.is_stopping then
        -- It was removed while it was spawned: nobody else stops it.
        handle:stop()
        return unwanted()
      end
      if not self:_is_wanted(task) then return unwanted() end
      self:_watch(task)
      out:resolve(true)
      self:_start(task, bytes)
    end)
  end)
  return out
end

-- States ---------------------------------------------------------------------

--- A task tells its state. Answers true, a future, or nil and an error.
function Tasks:notify(attempt, state, err, result)
  local task = self._tasks[attempt]
  if not task then
    return nil, errors.new("unknown_task",
      ("there is no task %s here"):format(tostring(attempt)))
  end
  local current = task.machine.state
  if current == state or task.machine:is_terminal() then return true end
  if not states:knows(state) then
    return nil, errors.new("bad_argument",
      ("%s is no state of a task"):format(tostring(state)))
  end
  if states:is_terminal(state) then
    if current == "CANCELING" then state, err = "CANCELED", nil end
    return self:_end(task, state, err, result)
  end
  if current == "CANCELING" then return true end
  local ok, refused = self:_move(task, state)
  if not ok then return nil, refused end
  self:_tell(task, state):on_done(function(_, report_err)
    if report_err then self:fail(attempt, report_err) end
  end)
  return true
end

--- Future of { [attempt] = counters } of a job's tasks.
function Tasks:metrics(job_id)
  local calls, attempts = {}, {}
  for _, task in ipairs(self:list(job_id)) do
    if task.gateway and not task.machine:is_terminal() then
      attempts[#attempts + 1] = task.attempt
      calls[#calls + 1] = self:_counters(task)
    end
  end
  return Future.all(calls):and_then(function(answers)
    local numbers = {}
    for i, attempt in ipairs(attempts) do numbers[attempt] = answers[i] end
    return numbers
  end)
end

return M
