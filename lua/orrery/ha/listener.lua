--- What a listener hears of a leader. Pure: records of the directory come in,
-- notifications go out only when address or session differ from what was told
-- last. A loss is told as (nil, nil), but only after a leader was known.
local errors = require("orrery.util.errors")
local same_token = require("orrery.ha.directory").same_token

local M = {}

local Listener = {}
Listener.__index = Listener

---@param listener { on_leader: fun(address: string?, token: table?),
---                  on_error: fun(err: table)? }
function M.new(role, listener)
  return setmetatable({
    role = role, _listener = listener, _state = "new",
  }, Listener)
end

function Listener:start()
  if self._state ~= "new" then
    error(("leader listener of %s: started twice"):format(self.role), 2)
  end
  self._state = "started"
end

function Listener:stop()
  self._state = "stopped"
end

--- The directory says: `{ address, token }`, or nil when there is no leader.
-- Answers whether the listener was told.
function Listener:record(leader)
  if self._state ~= "started" then return false end
  local address = leader and leader.address or nil
  local token = leader and leader.token or nil
  if address == self.address and same_token(token, self.token) then
    return false
  end
  self.address, self.token = address, token
  self._listener.on_leader(address, token)
  return true
end

--- The connection to the directory is lost.
function Listener:lost()
  return self:record(nil)
end

function Listener:error(err)
  if self._state ~= "started" or not self._listener.on_error then return end
  self._listener.on_error(errors.new("leader_retrieval",
    ("the leader of %s cannot be found"):format(self.role), { cause = err }))
end

return M
