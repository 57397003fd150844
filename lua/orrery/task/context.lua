--- What functions of a job see of their task: numbers, counters, clock.

local errors = require("orrery.util.errors")
local result = require("orrery.job.result")

local M = {}

local NAMES_MAX = 1000 -- accumulators of one task

---@class orrery.job.Accumulator
---@field add fun(self, value: number|nil)
local Accumulator = {}
Accumulator.__index = Accumulator

function Accumulator:add(value)
  if value == nil then value = 1 end
  if type(value) ~= "number" then
    error(string.format("accumulator %q: add needs a number, not a %s",
      self.name, type(value)), 2)
  end
  local have = self.value
  if have == nil then
    self.value = value
  else
    self.value = self.join(have, value)
  end
end

--- The accumulators of one task.
function M.accumulators()
  local by_name, names = {}, {}
  local set = {}

  function set.get(kind, name)
    if type(name) ~= "string" or name == "" then
      error("an accumulator needs a name", 3)
    end
    local found = by_name[name]
    if found then
      if found.kind ~= kind then
        error(string.format("accumulator %q is a %s, not a %s", name,
          found.kind, kind), 3)
      end
      return found
    end
    if #names >= NAMES_MAX then
      error(string.format("a task may have at most %d accumulators", NAMES_MAX),
        3)
    end
    found = setmetatable({
      kind = kind,
      name = name,
      value = kind == "counter" and 0 or nil,
      join = result.KINDS[kind],
    }, Accumulator)
    by_name[name] = found
    names[#names + 1] = name
    return found
  end

  function set.values()
    local out = {}
    for _, name in ipairs(names) do
      local a = by_name[name]
      if a.value ~= nil then out[name] = { a.kind, a.value } end
    end
    return out
  end

  return set
end

---@class orrery.job.Context
local Context = {}
Context.__index = Context

--- Counts over all subtasks: ctx:counter("name"):add(1).
function Context:counter(name)
  return self._accumulators.get("counter", name)
end
--- The largest value that was added.
function Context:maximum(name)
  return self._accumulators.get("maximum", name)
end
--- The smallest value that was added.
function Context:minimum(name)
  return self._accumulators.get("minimum", name)
end

--- task: subtask, parallelism, attempt, attempt_number, job_name, accumulators,
-- now, wake.
function M.new(task, operator)
  return setmetatable({
    subtask = task.subtask,
    parallelism = task.parallelism,
    attempt = task.attempt,
    attempt_number = task.attempt_number,
    job_name = task.job_name,
    operator = operator.name,
    now = task.now,
    wake = task.wake,
    _accumulators = task.accumulators,
  }, Context)
end

--- `self` of a process operator: a context with the user's definition behind
-- it. Fields that the user sets stay with this subtask.
function M.instance(context, definition)
  return setmetatable(context, {
    __index = function(_, word)
      local method = Context[word]
      if method ~= nil then return method end
      return definition[word]
    end,
  })
end

-- Where the error happened ---------------------------------------------------

--- A message handler for xpcall: finds the operator whose function is nearest
-- to the error. owners: function -> operator.
function M.catcher(owners, describe)
  return function(thrown)
    local found
    for level = 2, 60 do
      local info = debug.getinfo(level, "f")
      if not info then break end
      found = owners[info.func]
      if found then break end
    end
    return describe(found, thrown, debug.traceback("", 2))
  end
end

--- The error of a task as people read it.
function M.failure(task, operator, record, thrown, traceback)
  local where = string.format("subtask %d", task.subtask)
  if operator then
    where = string.format("operator %q, %s", operator.name, where)
  end
  if record and record > 0 then
    where = string.format("%s, record %d", where, record)
  end
  local text, cause
  if errors.is(thrown) then
    text, cause = thrown.message, thrown
  elseif type(thrown) == "string" then
    text = thrown
  else
    text = "a " .. type(thrown) .. " was thrown: " .. tostring(thrown)
  end
  return errors.new("task_failed", where .. ": " .. text, {
    context = {
      operator = operator and operator.name or nil,
      vertex = task.vertex_name,
      subtask = task.subtask,
      record = record,
      attempt = task.attempt,
    },
    cause = cause,
    traceback = traceback,
  })
end

return M
