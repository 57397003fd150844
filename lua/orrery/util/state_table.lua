--- State machines as data: a table of legal moves, and machines that follow it.
-- A move that the table does not list is refused with an error that names the
-- machine, both states and what would have been legal; nothing changes then.
-- A state without moves is terminal.
local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")

local StateTable = {}
StateTable.__index = StateTable

local Machine = {}
Machine.__index = Machine

local M = {}

--- @param name string what these states describe, for error messages
--- @param definition { initial: string, moves: table<string, string[]> }
function M.new(name, definition)
  local moves = {}
  for state, targets in pairs(definition.moves) do
    moves[state] = {}
    for _, target in ipairs(targets) do
      if not definition.moves[target] then
        error(("state_table.new: %s: %s moves to %s, which is not listed")
          :format(name, state, target), 2)
      end
      moves[state][target] = true
    end
  end
  if not moves[definition.initial] then
    error(("state_table.new: %s: unknown initial state %s")
      :format(name, tostring(definition.initial)), 2)
  end
  return setmetatable({
    name = name, initial = definition.initial, _moves = moves,
  }, StateTable)
end

--- All states, sorted.
function StateTable:states()
  return sorted.keys(self._moves)
end

function StateTable:knows(state)
  return self._moves[state] ~= nil
end

function StateTable:allows(from, to)
  local moves = self._moves[from]
  return moves ~= nil and moves[to] == true
end

function StateTable:is_terminal(state)
  local moves = self._moves[state]
  return moves ~= nil and next(moves) == nil
end

--- True, or nil and `illegal_state`.
---@param what string whose move this is, for the message
function StateTable:check(from, to, what)
  if self:allows(from, to) then return true end
  local legal = sorted.keys(self._moves[from] or {})
  local hint = #legal == 0 and "it is never left"
    or "legal from there: " .. table.concat(legal, ", ")
  return nil, errors.new("illegal_state",
    ("%s: %s cannot move from %s to %s (%s)"):format(
      what or "?", self.name, tostring(from), tostring(to), hint),
    { context = { from = from, to = to, what = what } })
end

--- A machine in the initial state; `timestamps[state]` is when each state was
-- entered last, 0 when never.
---@param what string
---@param now number
function StateTable:machine(what, now)
  local timestamps = {}
  for state in pairs(self._moves) do timestamps[state] = 0 end
  timestamps[self.initial] = now or 0
  return setmetatable({
    table = self, what = what, state = self.initial, timestamps = timestamps,
  }, Machine)
end

function Machine:allows(to)
  return self.table:allows(self.state, to)
end

function Machine:is_terminal()
  return self.table:is_terminal(self.state)
end

--- Moves, or answers nil and `illegal_state` and stays.
function Machine:move(to, now)
  local ok, err = self.table:check(self.state, to, self.what)
  if not ok then return nil, err end
  self.state = to
  self.timestamps[to] = now or 0
  return true
end

return M
