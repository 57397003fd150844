--- The endpoint `leaders`: answers from a directory (directory.lua).
--
--   service:start(Leaders, { id = "leaders", args = { { directory = d } } })
--
-- `watch` is a long poll: it answers when the leader differs from the one the
-- caller knows, or after HOLD_MS. At most WATCHERS_MAX calls are held; more are
-- answered after RETRY_MS, which makes their callers poll.
local orrery = require("orrery")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")
local directories = require("orrery.ha.directory")

local HOLD_MS = 30000
local WATCHERS_MAX = 10000
local RETRY_MS = 1000

local Leaders = orrery.endpoint(require("orrery.gateway.leaders"))

function Leaders:init(args)
  self._directory = args.directory
  self._watchers, self._watching = {}, 0
  self._directory:observe(function(role) self:_tell(role) end)
end

function Leaders:_tell(role)
  local watchers = self._watchers[role]
  self._watchers[role] = nil
  for _, watcher in ipairs(watchers or {}) do
    self._watching = self._watching - 1
    watcher.timer:cancel()
    watcher.future:resolve(self._directory:leader(role))
  end
end

function Leaders:leader(role)
  return self._directory:leader(role)
end

function Leaders:_expire(role, watcher)
  local list = self._watchers[role] or {}
  for i, other in ipairs(list) do
    if other == watcher then
      table.remove(list, i)
      self._watching = self._watching - 1
      if #list == 0 then self._watchers[role] = nil end
      return watcher.future:resolve(self._directory:leader(role))
    end
  end
end

function Leaders:_hold(role)
  local watcher = { future = Future.new() }
  self._watchers[role] = self._watchers[role] or {}
  table.insert(self._watchers[role], watcher)
  self._watching = self._watching + 1
  watcher.timer = self:schedule_run_async(HOLD_MS, function()
    self:_expire(role, watcher)
  end)
  return watcher.future
end

function Leaders:watch(role, known_token)
  local record = self._directory:leader(role)
  if not directories.same_token(record and record.token, known_token) then
    return record
  end
  if self._watching >= WATCHERS_MAX then
    orrery.sleep(RETRY_MS)
    return self._directory:leader(role)
  end
  return self:_hold(role)
end

function Leaders:roles()
  return self._directory:roles()
end

function Leaders:on_stop()
  for role in sorted.pairs(self._watchers) do self:_tell(role) end
end

return Leaders
