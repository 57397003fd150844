-- A keyed process: state of each key, at work on one key at a time.
--
--     orrery run examples/10_sessions.lua
--
-- Visits of users are joined into sessions: a pause of more than 30 minutes
-- begins a new one. The records of one user always meet in the same subtask,
-- and `self.state` is the table of that user.

local orrery = require("orrery")

local PAUSE = 30 -- minutes
local visits = {
  { user = "ada", at = 0 }, { user = "grace", at = 5 },
  { user = "ada", at = 12 }, { user = "ada", at = 90 },
  { user = "grace", at = 31 }, { user = "ada", at = 95 },
}

-- One source subtask keeps the visits in order; the keyed half runs twice.
local job = orrery.job("sessions", { parallelism = 2 })

job:source(orrery.sources.list(visits), { parallelism = 1, name = "visits" })
  :key_by("user")
  :process("sessions", {
    each = function(self, visit, emit)
      local open = self.state.open
      if open and visit.at - open.last > PAUSE then
        emit(open)
        open = nil
      end
      open = open or { user = visit.user, first = visit.at, visits = 0 }
      open.last, open.visits = visit.at, open.visits + 1
      self.state.open = open
      self:counter("visits"):add(1)
    end,
    -- At the end of the input: the sessions that are still open.
    close_key = function(self, _, emit) emit(self.state.open) end,
  })
  :sink(orrery.sinks.collect("sessions"))

job:on_result(function(result, print)
  table.sort(result.collected.sessions, function(a, b)
    if a.user ~= b.user then return a.user < b.user end
    return a.first < b.first
  end)
  for _, s in ipairs(result.collected.sessions) do
    print(string.format("%-6s minute %2d to %2d, %d visits", s.user, s.first,
      s.last, s.visits))
  end
  print(result.accumulators.visits .. " visits in all")
end)

return job
