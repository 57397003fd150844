--- What a handler may know of the call that it serves: the time left, and
-- whether the caller still waits.
--
-- A call made by a handler has at most the time that the call being served has
-- left, and is cancelled when that is; gateway:with{ deadline = "own" } makes
-- one that lives by its own time limit. Both hold until the handler returns,
-- across awaits; callbacks given to futures are not the handler any more.
--
-- When the caller gives up (it cancelled, its deadline passed, its own caller
-- gave up) the handler is not stopped: what waits for a call that it made gets
-- `cancelled`, what waits for anything else goes on. `on_cancel` tells it.

local Executor = require("orrery.rpc.executor")
local task = require("orrery.util.task")

local M = {}

--- Milliseconds until the caller stops waiting, 0 when it has; nil when there
-- is no limit or no call is being served.
function M.remaining_ms()
  return Executor.current().core.remaining()
end

--- Has the caller of the call being served given up?
function M.cancelled()
  local t = task.current()
  return t ~= nil and Executor.is_serving(t)
    and t.context.executor.core.abandoned(t.call)
end

--- Runs fn(endpoint) as a task of the endpoint when the caller gives up before
-- the answer; at most one a call, the last one counts. False when no call is
-- being served (a tell has no caller that waits).
function M.on_cancel(fn)
  if type(fn) ~= "function" then
    error("orrery.on_cancel: a function is needed, got " .. type(fn), 2)
  end
  local t = task.current()
  if not t or not Executor.is_serving(t) then return false end
  t.context.executor:on_cancel(t, fn)
  return true
end

return M
