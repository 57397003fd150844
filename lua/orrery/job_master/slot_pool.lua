--- The slots a job holds and how many it wants. Pure.
--
-- A slot is free or reserved for a sharing group (the number of the subtask
-- whose tasks share it). The pool accepts offers up to what is required;
-- losing a slot does not lower the requirement, which is the business of who
-- set it. All slots have the same profile.
local sorted = require("orrery.util.sorted")

local Pool = {}
Pool.__index = Pool

local M = {}

function M.new()
  return setmetatable({ required = 0, _slots = {}, _count = 0 }, Pool)
end

--- Sets how many slots the job wants.
function Pool:require(count)
  self.required = count
end

--- How many slots are there, and how many of them are free.
function Pool:counts()
  local free = 0
  for _, slot in pairs(self._slots) do
    if slot.group == nil then free = free + 1 end
  end
  return self._count, free
end

function Pool:get(allocation)
  return self._slots[allocation]
end

--- Takes offers `{ allocation, index }` of an owner; answers the allocation ids
-- that were accepted. With `take_all` (the job is restarting) surplus offers
-- are kept for the coming deployment.
---@param owner string resource id of the TaskExecutor
function Pool:offer(owner, offers, now, take_all)
  local accepted = {}
  for _, offer in ipairs(offers) do
    local id = offer.allocation
    local known = self._slots[id]
    if known then
      if known.owner == owner then accepted[#accepted + 1] = id end
    elseif take_all or self._count < self.required then
      self._slots[id] = {
        allocation = id, owner = owner, index = offer.index, since = now,
      }
      self._count = self._count + 1
      accepted[#accepted + 1] = id
    end
  end
  return accepted
end

--- Reserves a free slot for a group; the one that is free the longest, of the
-- owner with the fewest reserved slots, so that groups are spread. Answers the
-- slot or nil.
function Pool:reserve(group)
  local load = {}
  for _, slot in pairs(self._slots) do
    if slot.group ~= nil then load[slot.owner] = (load[slot.owner] or 0) + 1 end
  end
  local best
  for _, slot in sorted.pairs(self._slots) do
    if slot.group == nil then
      local mine, other = load[slot.owner] or 0, best and load[best.owner] or 0
      if not best or mine < other
        or (mine == other and slot.since < best.since) then
        best = slot
      end
    end
  end
  if best then best.group = group end
  return best
end

--- Makes a reserved slot free; unknown allocations are ignored.
function Pool:unreserve(allocation, now)
  local slot = self._slots[allocation]
  if slot then slot.group, slot.since = nil, now end
end

--- Drops a slot; answers it, or nil when it is not here (a stale message).
function Pool:remove(allocation)
  local slot = self._slots[allocation]
  if not slot then return nil end
  self._slots[allocation] = nil
  self._count = self._count - 1
  return slot
end

--- Drops all slots of an owner and answers them.
function Pool:remove_owner(owner)
  local removed = {}
  for id, slot in sorted.pairs(self._slots) do
    if slot.owner == owner then
      removed[#removed + 1] = self:remove(id)
    end
  end
  return removed
end

--- All slots, or those of one owner, by allocation id.
function Pool:slots(owner)
  local found = {}
  for _, slot in sorted.pairs(self._slots) do
    if owner == nil or slot.owner == owner then found[#found + 1] = slot end
  end
  return found
end

--- Drops free slots that are idle for at least `idle_ms` and exceed the
-- requirement; answers them, oldest first. They are to be freed at their
-- owners.
function Pool:take_idle(now, idle_ms)
  local idle = {}
  for _, slot in sorted.pairs(self._slots) do
    if slot.group == nil and now - slot.since >= idle_ms then
      idle[#idle + 1] = slot
    end
  end
  table.sort(idle, function(a, b)
    if a.since ~= b.since then return a.since < b.since end
    return a.allocation < b.allocation
  end)
  local taken = {}
  for _, slot in ipairs(idle) do
    if self._count <= self.required then break end
    taken[#taken + 1] = self:remove(slot.allocation)
  end
  return taken
end

return M
