--- Matches what jobs require with the slots that TaskExecutors have. Pure.
--
-- A slot as seen from here: FREE (not listed) -> PENDING (requested at its
-- TaskExecutor) -> ALLOCATED (acknowledged or reported) -> FREE. The report of
-- a TaskExecutor is the truth about it.
--
-- Changes only mark that a check is due; the owner runs `check()` a little
-- later, so that many declarations cause one. Actions:
--   { kind = "check" }                          call check() after the delay
--   { kind = "request_slot", executor, instance, job, allocation }
--                                               answer: requested
--   { kind = "free_inactive", executor, job }
--   { kind = "not_enough", job, acquired }      at each check while it is so
local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")

local SlotManager = {}
SlotManager.__index = SlotManager

local M = {}

M.SLOTS_MAX = 65536 -- of one TaskExecutor

---@param new_id fun(): string draws an allocation id
function M.new(new_id)
  return setmetatable({
    _new_id = new_id, _executors = {}, _jobs = {}, _actions = {},
    _check_due = false, _order = 0,
  }, SlotManager)
end

function SlotManager:take()
  local actions = self._actions
  self._actions = {}
  return actions
end

function SlotManager:_act(action)
  self._actions[#self._actions + 1] = action
end

function SlotManager:_changed()
  if self._check_due then return end
  self._check_due = true
  self:_act({ kind = "check" })
end

local function used(executor)
  return sorted.count(executor.slots)
end

-- Jobs ---------------------------------------------------------------------

--- Sets how many slots a job wants; 0 clears it, and inactive slots that were
-- given for it are freed.
function SlotManager:declare(job, count)
  local known = self._jobs[job]
  if count == 0 then
    if not known then return end
    self._jobs[job] = nil
    for id, executor in sorted.pairs(self._executors) do
      for _, slot in sorted.pairs(executor.slots) do
        if slot.job == job then
          self:_act({ kind = "free_inactive", executor = id, job = job })
          break
        end
      end
    end
  elseif known then
    known.required = count
  else
    self._order = self._order + 1
    self._jobs[job] = { required = count, order = self._order }
  end
  self:_changed()
end

function SlotManager:required(job)
  return self._jobs[job] and self._jobs[job].required or 0
end

-- TaskExecutors ------------------------------------------------------------

--- A TaskExecutor's first slot report with this instance id.
function SlotManager:add_executor(id, instance, slot_count, report)
  self:remove_executor(id)
  self._executors[id] = { instance = instance, total = slot_count, slots = {} }
  self:report(id, instance, report)
end

function SlotManager:remove_executor(id)
  if not self._executors[id] then return false end
  self._executors[id] = nil
  self:_changed()
  return true
end

--- A slot report: `{ { allocation, job, index } ... }`, only the slots in use.
-- False when the TaskExecutor or its instance is not registered.
function SlotManager:report(id, instance, report)
  local executor = self._executors[id]
  if not executor or executor.instance ~= instance then return false end
  local slots, changed = {}, false
  for _, entry in ipairs(report) do
    local before = executor.slots[entry.allocation]
    slots[entry.allocation] = { job = entry.job, state = "ALLOCATED" }
    if not before then changed = true end
  end
  for allocation, slot in pairs(executor.slots) do
    if not slots[allocation] then
      if slot.state == "PENDING" then
        slots[allocation] = slot
      else
        changed = true
      end
    end
  end
  executor.slots = slots
  if changed or next(report) == nil then self:_changed() end
  return true
end

--- A slot became free. An outdated instance id is ignored.
function SlotManager:slot_free(id, instance, allocation)
  local executor = self._executors[id]
  if not executor or executor.instance ~= instance then return false end
  executor.slots[allocation] = nil
  self:_changed()
  return true
end

--- The answer to a request: err nil when the slot is allocated. Answers for
-- slots that were freed or removed meanwhile are ignored.
function SlotManager:requested(id, instance, allocation, err)
  local executor = self._executors[id]
  if not executor or executor.instance ~= instance then return end
  local slot = executor.slots[allocation]
  if not slot or slot.state ~= "PENDING" then return end
  if err then
    executor.slots[allocation] = nil
    self:_changed()
  else
    slot.state = "ALLOCATED"
  end
end

-- Matching -----------------------------------------------------------------

function SlotManager:_held(job)
  local held = 0
  for _, executor in pairs(self._executors) do
    for _, slot in pairs(executor.slots) do
      if slot.job == job then held = held + 1 end
    end
  end
  return held
end

-- The executor with a free slot that is used least, so that load is spread.
function SlotManager:_pick()
  local best, best_id, best_load
  for id, executor in sorted.pairs(self._executors) do
    local in_use = used(executor)
    if in_use < executor.total then
      local load = in_use / executor.total
      if not best or load < best_load then
        best, best_id, best_load = executor, id, load
      end
    end
  end
  return best, best_id
end

function SlotManager:_request(job)
  local executor, id = self:_pick()
  if not executor then return false end
  local allocation = self._new_id()
  executor.slots[allocation] = { job = job, state = "PENDING" }
  self:_act({
    kind = "request_slot", executor = id, instance = executor.instance,
    job = job, allocation = allocation,
  })
  return true
end

--- Compares requirements with what is there; older jobs first.
function SlotManager:check()
  self._check_due = false
  local jobs = {}
  for id, job in pairs(self._jobs) do
    jobs[#jobs + 1] = { id = id, required = job.required, order = job.order }
  end
  table.sort(jobs, function(a, b) return a.order < b.order end)
  for _, job in ipairs(jobs) do
    local held = self:_held(job.id)
    while held < job.required and self:_request(job.id) do
      held = held + 1
    end
    if held < job.required then
      self:_act({ kind = "not_enough", job = job.id, acquired = held })
    end
  end
end

-- Views --------------------------------------------------------------------

function SlotManager:overview()
  local view = { taskmanagers = 0, slots_total = 0, slots_available = 0 }
  for _, executor in pairs(self._executors) do
    view.taskmanagers = view.taskmanagers + 1
    view.slots_total = view.slots_total + executor.total
    view.slots_available =
      view.slots_available + executor.total - used(executor)
  end
  return view
end

--- Slots of one TaskExecutor, or nil and `unknown_task_executor`.
function SlotManager:executor(id)
  local executor = self._executors[id]
  if not executor then
    return nil, errors.new("unknown_task_executor",
      ("TaskExecutor %s is not registered"):format(tostring(id)))
  end
  local view = { total = executor.total, free = 0, slots = {} }
  for allocation, slot in sorted.pairs(executor.slots) do
    table.insert(view.slots,
      { allocation = allocation, job = slot.job, state = slot.state })
  end
  view.free = executor.total - #view.slots
  return view
end

return M
