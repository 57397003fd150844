--- Hands out the input splits of a vertex, each to one attempt. The splits of
-- an attempt that failed are handed out again, before the others. Pure.
local Splits = {}
Splits.__index = Splits

local M = {}

---@param list any[] the splits of a vertex, as planned
function M.new(list)
  local self = setmetatable({ _list = list, _handed = {} }, Splits)
  self:reset()
  return self
end

--- All splits are handed out again.
function Splits:reset()
  self._returned, self._next, self._handed = {}, 1, {}
end

--- The next split for a reader, or nil when there are none left. A reader that
-- says how many it has received gets the same answer again when that answer was
-- lost on its way: otherwise the split would be nobody's.
---@param reader string who reads it; an attempt
---@param received integer?
function Splits:take(reader, received)
  local before = self._handed[reader]
  if received and before and received < #before then
    return self._list[before[received + 1]]
  end
  local index = table.remove(self._returned, 1)
  if not index then
    if self._next > #self._list then return nil end
    index = self._next
    self._next = index + 1
  end
  local mine = self._handed[reader]
  if not mine then
    mine = {}
    self._handed[reader] = mine
  end
  mine[#mine + 1] = index
  return self._list[index]
end

--- The reader failed: what it had is handed out again.
function Splits:give_back(reader)
  local mine = self._handed[reader]
  if not mine then return end
  self._handed[reader] = nil
  for _, index in ipairs(mine) do
    self._returned[#self._returned + 1] = index
  end
  table.sort(self._returned)
end

--- How many were handed out, and how many there are.
function Splits:progress()
  return self._next - 1 - #self._returned, #self._list
end

return M
