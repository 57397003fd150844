--- The endpoint `leaders`: the directory of who leads what. Whoever wins an
-- election in this process confirms it here with `confirm`; others ask or watch.
--
-- `watch` is a long poll: it answers when the leader differs from the one the
-- caller knows, or after HOLD_MS. At most WATCHERS_MAX calls are held; more are
-- answered at once, which makes their callers poll.
local rpc = require("orrery.rpc")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")

local HOLD_MS = 30000
local WATCHERS_MAX = 10000
local RETRY_MS = 1000 -- how long a watcher that cannot be held waits

local Leaders = rpc.endpoint(require("orrery.gateway.leaders"))

function Leaders:init()
  self._records, self._watchers, self._watching = {}, {}, 0
end

local function is_known(record, token)
  if record == nil or token == nil then return record == nil and token == nil
  end
  return record.token.epoch == token.epoch
    and record.token.session == token.session
end

function Leaders:_tell(role)
  local watchers = self._watchers[role]
  self._watchers[role] = nil
  for _, watcher in ipairs(watchers or {}) do
    self._watching = self._watching - 1
    watcher.timer:cancel()
    watcher.future:resolve(self._records[role])
  end
end

--- Not a gateway method: `record` is `{ address, token }`, nil when the role
-- has no leader any more. A revocation names the token it ends, so that it
-- cannot remove a newer leader.
function Leaders:confirm(role, record, ended_token)
  local current = self._records[role]
  if not record and current and ended_token
    and not is_known(current, ended_token) then
    return
  end
  self._records[role] = record
  self:_tell(role)
end

function Leaders:leader(role)
  return self._records[role]
end

function Leaders:_hold(role)
  local watcher = { future = Future.new() }
  self._watchers[role] = self._watchers[role] or {}
  table.insert(self._watchers[role], watcher)
  self._watching = self._watching + 1
  watcher.timer = self:schedule_run_async(HOLD_MS, function()
    local list = self._watchers[role] or {}
    for i, other in ipairs(list) do
      if other == watcher then
        table.remove(list, i)
        self._watching = self._watching - 1
        if #list == 0 then self._watchers[role] = nil end
        return watcher.future:resolve(self._records[role])
      end
    end
  end)
  return watcher.future
end

function Leaders:watch(role, known_token)
  local record = self._records[role]
  if not is_known(record, known_token) then return record end
  if self._watching >= WATCHERS_MAX then
    rpc.sleep(RETRY_MS)
    return self._records[role]
  end
  return self:_hold(role)
end

function Leaders:roles()
  local list = {}
  for role, record in sorted.pairs(self._records) do
    list[#list + 1] = { role = role, address = record.address }
  end
  return list
end

function Leaders:on_stop()
  for role in sorted.pairs(self._watchers) do self:_tell(role) end
end

return Leaders
