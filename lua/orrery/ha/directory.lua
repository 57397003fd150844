--- Who leads what, as this process knows it: records `{ address, token }` by
-- role, written by elections, read by the endpoint `leaders`.
local sorted = require("orrery.util.sorted")

local Directory = {}
Directory.__index = Directory

local M = {}

function M.new()
  return setmetatable({ _records = {}, _observers = {} }, Directory)
end

function M.same_token(a, b)
  if a == nil or b == nil then return a == b end
  return a.epoch == b.epoch and a.session == b.session
end

--- Calls fn(role) after each change.
function Directory:observe(fn)
  self._observers[#self._observers + 1] = fn
end

function Directory:_changed(role)
  for _, fn in ipairs(self._observers) do fn(role) end
end

--- A leader is confirmed. An epoch below the known one is refused (false).
function Directory:confirm(role, record)
  local current = self._records[role]
  if current and record.token.epoch < current.token.epoch then return false end
  self._records[role] = record
  self:_changed(role)
  return true
end

--- The leadership with this token is over; another one is left alone.
function Directory:revoke(role, token)
  local current = self._records[role]
  if not current or not M.same_token(current.token, token) then return false
  end
  self._records[role] = nil
  self:_changed(role)
  return true
end

function Directory:leader(role)
  return self._records[role]
end

function Directory:roles()
  local list = {}
  for role, record in sorted.pairs(self._records) do
    list[#list + 1] = { role = role, address = record.address }
  end
  return list
end

return M
