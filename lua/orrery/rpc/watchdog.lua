--- The watchdog: says in the log which handler keeps its executor for longer
-- than a threshold, who called it and where it is, and, at its end, how long it
-- took. One a process, for all of its executors; it costs nothing when nothing
-- is slow. Off until start.
--
-- The stack of a handler whose code is compiled cannot be had while it stays in
-- machine code; the line then names where the handler begins.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local time = require("orrery.util.time")

local M = {}

M.DEFAULT_THRESHOLD_MS = 1000

--- Starts it, or changes its threshold (a duration; one second). true, or
-- nil, err when the system gives no thread.
function M.start(threshold)
  local ms = time.check_ms(threshold or M.DEFAULT_THRESHOLD_MS,
    "watchdog.start")
  if ms <= 0 then
    error("watchdog.start: a threshold above 0 is needed; stop() ends it", 2)
  end
  local ok, code, text = core.watchdog(ms)
  if ok then return true end
  return nil, errors.new(core.code_name(code),
    "the watchdog cannot be started: " .. text)
end

function M.stop()
  core.watchdog(0)
end

return M
