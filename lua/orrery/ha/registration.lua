--- The registration loop: when to try again, and how long to wait for an
-- answer. Pure; connection.lua runs it against a peer.
--
--   begin               -> { kind = "attempt", timeout_ms = initial }
--   timeout             -> the next attempt at once, with twice the time, up to
--                          the maximum
--   failure (refused)   -> after the refused delay, from the start
--   error               -> after the error delay, from the start
--   success, rejection  -> over
local M = {}

M.DEFAULTS = {
  initial_timeout_ms = 100, max_timeout_ms = 30000, error_delay_ms = 10000,
  refused_delay_ms = 30000,
}

local Loop = {}
Loop.__index = Loop

---@param options table? as DEFAULTS
function M.new(options)
  local self = setmetatable({ is_over = false }, Loop)
  for key, value in pairs(M.DEFAULTS) do
    self["_" .. key] = options and options[key] or value
  end
  return self
end

function Loop:_attempt(timeout_ms)
  self._timeout_ms = timeout_ms
  return { kind = "attempt", timeout_ms = timeout_ms }
end

function Loop:begin()
  return self:_attempt(self._initial_timeout_ms)
end

--- The outcome of an attempt: "success", "rejection", "failure", "timeout" or
-- "error". Answers what to do: attempt, wait (`delay_ms`, then begin), done,
-- rejected, or nothing (nil) when the loop was cancelled meanwhile.
function Loop:outcome(kind)
  if self.is_over then return nil end
  if kind == "success" or kind == "rejection" then
    self.is_over = true
    return { kind = kind == "success" and "done" or "rejected" }
  elseif kind == "timeout" then
    return self:_attempt(math.min(self._max_timeout_ms, self._timeout_ms * 2))
  elseif kind == "failure" then
    return { kind = "wait", delay_ms = self._refused_delay_ms }
  elseif kind == "error" then
    return { kind = "wait", delay_ms = self._error_delay_ms }
  end
  error("registration: unknown outcome " .. tostring(kind), 2)
end

function Loop:cancel()
  self.is_over = true
end

return M
