--- The slots of a TaskExecutor. Pure.
--
-- ALLOCATED (given by the ResourceManager, its timer runs) -> ACTIVE (the
-- JobMaster took it, no timer) -> ALLOCATED again (the JobMaster is lost) ->
-- RELEASING (its tasks are ending) -> gone. An empty slot goes at once.
--
-- Actions, from `take()`:
--   { kind = "arm", allocation, delay_ms }    then call expired(allocation)
--   { kind = "disarm", allocation }
--   { kind = "fail_task", attempt, cause }    then call remove_task
--   { kind = "freed", allocation, job, index }
local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")

local SlotTable = {}
SlotTable.__index = SlotTable

local M = {}

---@param count integer how many slots there are
---@param timeout_ms number how long an allocated slot waits to become active
function M.new(count, timeout_ms)
  return setmetatable({
    count = count, _timeout_ms = timeout_ms, _slots = {}, _by_index = {},
    _by_attempt = {}, _actions = {}, _is_closed = false,
  }, SlotTable)
end

function SlotTable:take()
  local actions = self._actions
  self._actions = {}
  return actions
end

function SlotTable:_act(action)
  self._actions[#self._actions + 1] = action
end

function SlotTable:_arm(slot)
  self:_act({
    kind = "arm", allocation = slot.allocation, delay_ms = self._timeout_ms,
  })
end

function SlotTable:_disarm(slot)
  self:_act({ kind = "disarm", allocation = slot.allocation })
end

function SlotTable:get(allocation)
  return self._slots[allocation]
end

function SlotTable:_free_index()
  for index = 0, self.count - 1 do
    if not self._by_index[index] then return index end
  end
end

local function occupied(text, slot)
  return nil, errors.new("slot_occupied", text, { context = {
    allocation = slot and slot.allocation, job = slot and slot.job,
  } })
end

--- Gives a slot to an allocation of a job. index -1 is any free slot. The same
-- allocation again answers its slot. Answers nil and `slot_occupied` (naming
-- the holder) or `bad_argument`.
function SlotTable:allocate(index, allocation, job)
  local known = self._slots[allocation]
  if known then
    if known.job == job and (index == -1 or index == known.index) then
      return known
    end
    return occupied(("allocation %s has slot %d of job %s already")
      :format(allocation, known.index, known.job), known)
  end
  if self._is_closed then
    return nil, errors.new("stopping", "the TaskExecutor is stopping")
  end
  if index == -1 then
    index = self:_free_index()
    if not index then
      return occupied(("all %d slots are taken"):format(self.count))
    end
  elseif index < 0 or index >= self.count then
    return nil, errors.new("bad_argument", ("slot %d does not exist; there "
      .. "are slots 0 to %d"):format(index, self.count - 1))
  end
  local holder = self._by_index[index]
  if holder then
    return occupied(("slot %d is held by allocation %s of job %s")
      :format(index, holder.allocation, holder.job), holder)
  end
  local slot = {
    allocation = allocation, job = job, index = index, state = "ALLOCATED",
    tasks = {},
  }
  self._slots[allocation], self._by_index[index] = slot, slot
  self:_arm(slot)
  return slot
end

local function unknown(allocation)
  return nil, errors.new("unknown_allocation",
    ("there is no slot with allocation %s"):format(tostring(allocation)))
end

--- The JobMaster took the slot. True, or nil and `unknown_allocation`.
function SlotTable:activate(allocation)
  local slot = self._slots[allocation]
  if not slot or slot.state == "RELEASING" then return unknown(allocation) end
  if slot.state == "ALLOCATED" then
    slot.state = "ACTIVE"
    self:_disarm(slot)
  end
  return true
end

--- The JobMaster is lost: its active slots wait for the next one.
function SlotTable:deactivate_job(job)
  for _, slot in sorted.pairs(self._slots) do
    if slot.job == job and slot.state == "ACTIVE" then
      slot.state = "ALLOCATED"
      self:_arm(slot)
    end
  end
end

function SlotTable:_gone(slot)
  self._slots[slot.allocation] = nil
  self._by_index[slot.index] = nil
  self:_act({
    kind = "freed", allocation = slot.allocation, job = slot.job,
    index = slot.index,
  })
end

--- Frees a slot; with tasks inside these are failed first and the slot is
-- RELEASING until they end. False when it is unknown.
function SlotTable:free(allocation, cause)
  local slot = self._slots[allocation]
  if not slot then return false end
  if slot.state == "RELEASING" then return true end
  if slot.state == "ALLOCATED" then self:_disarm(slot) end
  slot.state = "RELEASING"
  if next(slot.tasks) == nil then
    self:_gone(slot)
    return true
  end
  for attempt in sorted.pairs(slot.tasks) do
    self:_act({ kind = "fail_task", attempt = attempt, cause = cause })
  end
  return true
end

function SlotTable:free_job(job, cause, only_inactive)
  for _, slot in sorted.pairs(self._slots) do
    if slot.job == job
      and (not only_inactive or slot.state == "ALLOCATED") then
      self:free(slot.allocation, cause)
    end
  end
end

--- The timer of a slot fired. True when it was freed.
function SlotTable:expired(allocation)
  local slot = self._slots[allocation]
  if not slot or slot.state ~= "ALLOCATED" then return false end
  return self:free(allocation, errors.new("slot_timeout",
    ("no JobMaster took slot %d within %g s"):format(
      slot.index, self._timeout_ms / 1000)))
end

--- A task moves into an active slot. True, or nil and `unknown_allocation`,
-- `slot_inactive` or `duplicate_attempt`.
function SlotTable:add_task(allocation, attempt)
  local slot = self._slots[allocation]
  if not slot then return unknown(allocation) end
  if slot.state ~= "ACTIVE" then
    return nil, errors.new("slot_inactive", ("slot %d of allocation %s is %s")
      :format(slot.index, allocation, slot.state))
  end
  if self._by_attempt[attempt] then
    return nil, errors.new("duplicate_attempt",
      ("attempt %s is here already"):format(attempt))
  end
  slot.tasks[attempt] = true
  self._by_attempt[attempt] = slot
  return true
end

--- A task has ended and is away.
function SlotTable:remove_task(attempt)
  local slot = self._by_attempt[attempt]
  if not slot then return end
  self._by_attempt[attempt] = nil
  slot.tasks[attempt] = nil
  if slot.state == "RELEASING" and next(slot.tasks) == nil then
    self:_gone(slot)
  end
end

--- Frees everything; nothing is allocated any more.
function SlotTable:close(cause)
  self._is_closed = true
  for _, slot in sorted.pairs(self._slots) do
    self:free(slot.allocation, cause)
  end
end

function SlotTable:is_empty()
  return next(self._slots) == nil
end

--- Whether a job has any slot here.
function SlotTable:has_job(job)
  for _, slot in pairs(self._slots) do
    if slot.job == job then return true end
  end
  return false
end

--- Slots of a job in a state (nil: any), by allocation id.
function SlotTable:slots_of(job, state)
  local found = {}
  for _, slot in sorted.pairs(self._slots) do
    if slot.job == job and (state == nil or slot.state == state) then
      found[#found + 1] = slot
    end
  end
  return found
end

--- The slots in use, as the ResourceManager wants to know them.
function SlotTable:report()
  local list = {}
  for _, slot in sorted.pairs(self._slots) do
    list[#list + 1] = {
      allocation = slot.allocation, job = slot.job, index = slot.index,
      state = slot.state,
    }
  end
  return list
end

return M
