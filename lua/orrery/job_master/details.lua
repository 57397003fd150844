--- What a scheduler shows of its job: plain data for status pages, the archive
-- and the job's result.
local errors = require("orrery.util.errors")
local graphs = require("orrery.job_master.graph")
local states = require("orrery.job_master.states")

local M = {}

local function copy(t)
  local out = {}
  for key, value in pairs(t) do out[key] = value end
  return out
end

local function subtask_view(task)
  local execution = task.execution
  local numbers = execution.counters or {}
  return {
    subtask = task.subtask, attempt = execution.attempt,
    attempt_number = execution.attempt_number,
    state = execution.machine.state,
    taskmanager = execution.slot and execution.slot.owner or nil,
    timestamps = copy(execution.machine.timestamps),
    records_in = numbers.records_in or 0,
    records_out = numbers.records_out or 0,
    error = execution.error and errors.to_table(execution.error) or nil,
  }
end

local function vertex_view(graph, vertex)
  local counts = states.counts()
  local view = {
    id = vertex.id, name = vertex.name, parallelism = vertex.parallelism,
    counts = counts, records_in = 0, records_out = 0, subtasks = {},
  }
  for _, task in ipairs(graph:tasks_of(vertex.id)) do
    local subtask = subtask_view(task)
    counts[subtask.state] = counts[subtask.state] + 1
    view.records_in = view.records_in + subtask.records_in
    view.records_out = view.records_out + subtask.records_out
    view.subtasks[#view.subtasks + 1] = subtask
  end
  view.status = states.aggregate(counts, vertex.parallelism)
  return view
end

local function exception_view(entry)
  local view = copy(entry)
  view.error = errors.to_table(entry.error)
  if entry.concurrent then
    view.concurrent = {}
    for i, other in ipairs(entry.concurrent) do
      view.concurrent[i] = exception_view(other)
    end
  end
  return view
end

local function ended_at(job)
  return job:is_terminal() and job.timestamps[job.state] or nil
end

--- The short form, for lists.
function M.summary(scheduler, wall)
  local job, tasks = scheduler.job, states.counts()
  for _, task in ipairs(scheduler.graph.tasks) do
    local state = task.execution.machine.state
    tasks[state] = tasks[state] + 1
  end
  local started = job.timestamps.INITIALIZING
  return {
    job_id = scheduler.plan.job_id, name = scheduler.plan.name,
    status = job.state, reason = scheduler:reason(), start_time = started,
    end_time = ended_at(job), duration = (ended_at(job) or wall) - started,
    tasks = tasks, tasks_total = #scheduler.graph.tasks,
    restarts = scheduler.restarts,
  }
end

--- The long form. Counters of tasks are those last known of each execution.
function M.details(scheduler, wall)
  local view = M.summary(scheduler, wall)
  view.timestamps = copy(scheduler.job.timestamps)
  view.vertices, view.exceptions = {}, {}
  for i, vertex in ipairs(scheduler.plan.vertices) do
    view.vertices[i] = vertex_view(scheduler.graph, vertex)
  end
  view.edges = scheduler.plan.edges or {}
  for i, entry in ipairs(scheduler.exceptions) do
    view.exceptions[i] = exception_view(entry)
  end
  local count, free = scheduler.pool:counts()
  view.slots = {
    required = scheduler.pool.required, held = count, free = free,
  }
  view.failure = scheduler.failure and errors.to_table(scheduler.failure)
    or nil
  return view
end

--- How the job ended: `{ status, result, failure }`.
function M.outcome(scheduler)
  return {
    job_id = scheduler.plan.job_id, status = scheduler.job.state,
    result = scheduler.result,
    failure = scheduler.failure and errors.to_table(scheduler.failure) or nil,
  }
end

M.task_name = graphs.task_name

return M
