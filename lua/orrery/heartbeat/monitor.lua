--- Watches peers by their heartbeats. Pure: time comes in, actions come out.
--
-- A target is RUNNING until it is TIMEOUT (silent for too long), UNREACHABLE
-- (too many calls in a row found nobody there) or CANCELED (unmonitored); these
-- are final, and the first two are told once, as the action
--   { kind = "lost", id, state, reason }
-- Every message from a target re-arms its timeout. Messages of ids that are not
-- monitored are ignored.
local sorted = require("orrery.util.sorted")
local state_table = require("orrery.util.state_table")

local M = {}

M.states = state_table.new("heartbeat target", {
  initial = "RUNNING",
  moves = {
    RUNNING = { "TIMEOUT", "UNREACHABLE", "CANCELED" },
    TIMEOUT = {}, UNREACHABLE = {}, CANCELED = {},
  },
})

local Monitor = {}
Monitor.__index = Monitor

--- @param options { timeout_ms: number, failure_threshold: integer }
---   failure_threshold -1: unreachable answers do not count
function M.new(options)
  return setmetatable({
    _timeout_ms = options.timeout_ms,
    _threshold = options.failure_threshold, _targets = {}, _actions = {},
  }, Monitor)
end

function Monitor:take()
  local actions = self._actions
  self._actions = {}
  return actions
end

--- Begins to watch; an id that is watched already keeps its state.
function Monitor:monitor(id, now)
  if self._targets[id] then return end
  self._targets[id] = {
    machine = M.states:machine("heartbeat of " .. id, now),
    last = now, failures = 0,
  }
end

function Monitor:unmonitor(id, now)
  local target = self._targets[id]
  if not target then return end
  target.machine:move("CANCELED", now)
  self._targets[id] = nil
end

function Monitor:is_monitored(id)
  return self._targets[id] ~= nil
end

--- When a monitored id was heard of last; nil for others.
function Monitor:last_heard(id)
  return self._targets[id] and self._targets[id].last
end

function Monitor:_lose(id, state, reason, now)
  local target = self._targets[id]
  target.machine:move(state, now)
  self._targets[id] = nil
  self._actions[#self._actions + 1] =
    { kind = "lost", id = id, state = state, reason = reason }
end

--- Something came from the target.
function Monitor:heard(id, now)
  local target = self._targets[id]
  if not target then return false end
  target.last, target.failures = now, 0
  return true
end

--- A call found nobody there.
function Monitor:unreachable(id, now)
  local target = self._targets[id]
  if not target or self._threshold < 0 then return end
  target.failures = target.failures + 1
  if target.failures >= self._threshold then
    self:_lose(id, "UNREACHABLE", ("%d calls in a row found nobody there")
      :format(target.failures), now)
  end
end

--- Ends targets that are silent for too long.
function Monitor:tick(now)
  for id, target in sorted.pairs(self._targets) do
    if now - target.last >= self._timeout_ms then
      self:_lose(id, "TIMEOUT", ("no heartbeat for %g s")
        :format((now - target.last) / 1000), now)
    end
  end
end

--- When `tick` has something to do next, or nil.
function Monitor:deadline()
  local first
  for _, target in pairs(self._targets) do
    local at = target.last + self._timeout_ms
    if not first or at < first then first = at end
  end
  return first
end

--- The monitored ids, sorted.
function Monitor:ids()
  return sorted.keys(self._targets)
end

return M
