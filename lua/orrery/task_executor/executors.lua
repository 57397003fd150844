--- The executors of slots: all tasks of a slot share one.
--
-- Made when the first task of a slot comes, dropped when the slot is freed. One
-- that dies is forgotten: its tasks fail by their own termination, and the next
-- task of the slot gets a new one.
local ANCHOR = "orrery.task_executor.slot"

local Executors = {}
Executors.__index = Executors

local M = {}

---@param service table that spawns them
function M.new(service)
  return setmetatable({ _service = service, _by_allocation = {} }, Executors)
end

--- Future of the handle that keeps the slot's executor: for service:spawn.
function Executors:get(allocation)
  local future = self._by_allocation[allocation]
  if future then return future end
  future = self._service:spawn(ANCHOR, { id = "slot/" .. allocation })
  self._by_allocation[allocation] = future
  local function forget()
    if self._by_allocation[allocation] == future then
      self._by_allocation[allocation] = nil
    end
  end
  future:on_done(function(handle, err)
    if err then return forget() end
    handle.termination:on_done(forget)
  end)
  return future
end

--- The slot is freed: its executor ends when its last task has.
function Executors:drop(allocation)
  local future = self._by_allocation[allocation]
  if not future then return end
  self._by_allocation[allocation] = nil
  future:on_done(function(handle) if handle then handle:stop() end end)
end

return M
