--- Traces: which handlers a call went through, and how long each took.
--
-- While tracing is on in a process, a call made outside of handlers begins a
-- trace (with an empty filter), and so does a call taken by an endpoint whose
-- name begins with the filter, unless it is part of a trace already. The trace
-- goes with all calls and tells that its handlers make, into other processes
-- too, whether tracing is on there or not; each process keeps the spans of its
-- own handlers, the last 4,096. A tell's handler passes it on until it first
-- awaits.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local native = require("orrery.native.introspection")
local time = require("orrery.util.time")

local M = {}

M.LIMIT_MS = 3600 * 1000

--- Begins for this long (a duration; at most an hour); filter: what names of
-- endpoints begin with, "" = all. true, or nil, err.
function M.start(filter, duration)
  if type(filter) ~= "string" or #filter > 127 then
    error("trace.start: a filter is a text of at most 127 bytes", 2)
  end
  local ms = time.check_ms(duration, "trace.start")
  if ms <= 0 or ms > M.LIMIT_MS then
    return nil, errors.new("bad_argument",
      "tracing goes on for more than 0 and at most "
      .. time.format_ms(M.LIMIT_MS) .. ", not " .. time.format_ms(ms))
  end
  return native.trace(filter, Executor.current():now_ms() + ms)
end

function M.stop()
  return native.trace("", 0)
end

--- The spans kept here, oldest first: trace, span, parent (of the calling
-- handler, or nil), endpoint, method, queue_ms, run_ms, status ("ok" or a
-- code), executor, wall_ms. trace: an id, or nil for all. nil, err.
function M.spans(trace)
  local list, message = native.spans(trace)
  if not list then return nil, errors.new("bad_argument", message) end
  for _, span in ipairs(list) do span.status = core.code_name(span.status) end
  return list
end

return M
