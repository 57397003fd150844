--- Jobs that have ended: what they were and how they ended, bounded in number
-- and age. Pure.
local M = {}

M.COUNT_MAX = 1000
M.AGE_MAX_MS = 3600000

local Archive = {}
Archive.__index = Archive

---@param options { count_max: integer?, age_max_ms: number? }?
function M.new(options)
  options = options or {}
  return setmetatable({
    _count_max = options.count_max or M.COUNT_MAX,
    _age_max_ms = options.age_max_ms or M.AGE_MAX_MS,
    _entries = {}, _order = {}, _first = 1, _last = 0, _count = 0,
    counts = { FINISHED = 0, FAILED = 0, CANCELED = 0 },
  }, Archive)
end

function Archive:_drop_first()
  local id = self._order[self._first]
  self._order[self._first] = nil
  self._first = self._first + 1
  self._entries[id] = nil
  self._count = self._count - 1
end

--- Drops what is too old.
function Archive:expire(now)
  while true do
    local id = self._order[self._first]
    if not id then return end
    if now - self._entries[id].archived < self._age_max_ms then return end
    self:_drop_first()
  end
end

--- Keeps `{ summary, details, outcome }` of a job.
function Archive:add(id, entry, now)
  self:expire(now)
  if self._entries[id] then return false end
  while self._count >= self._count_max do self:_drop_first() end
  entry.archived = now
  self._entries[id] = entry
  self._last = self._last + 1
  self._order[self._last] = id
  self._count = self._count + 1
  local status = entry.outcome.status
  if self.counts[status] then
    self.counts[status] = self.counts[status] + 1
  end
  return true
end

function Archive:get(id, now)
  self:expire(now)
  return self._entries[id]
end

--- All entries, oldest first.
function Archive:list(now)
  self:expire(now)
  local list = {}
  for at = self._first, self._last do
    list[#list + 1] = self._entries[self._order[at]]
  end
  return list
end

return M
