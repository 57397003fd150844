--- Follows the leader of a role through a directory.
--
-- The happy path: connect to `<directory>/leaders`, ask for the leader, tell
-- the listener, ask again and be held back until it changes.
-- Failures: the directory cannot be reached -> tried again every RETRY_MS;
-- after FAILURES_MAX in a row the leader counts as lost and the listener is
-- told (nil, nil). Until then nothing is told: a connection that broke and
-- came back is no change of leader.
local listeners = require("orrery.ha.listener")

local RETRY_MS = 1000
local FAILURES_MAX = 3

local Retrieval = {}
Retrieval.__index = Retrieval

local M = {}

--- @param options { endpoint: table, directory: string, role: string,
---   on_leader: fun(address: string?, token: table?),
---   on_error: fun(err: table)? }
---   directory: "host:port", or "" for the own service
function M.new(options)
  local directory = options.directory
  return setmetatable({
    role = options.role, _endpoint = options.endpoint,
    _address = directory == "" and "leaders" or directory .. "/leaders",
    _listener = listeners.new(options.role, options), _failures = 0,
    _is_stopped = false,
  }, Retrieval)
end

function Retrieval:_again(delay_ms)
  if self._is_stopped then return end
  self._timer = self._endpoint:schedule_run_async(delay_ms, function()
    self._timer = nil
    self:_ask()
  end)
end

function Retrieval:_failed(err)
  if self._is_stopped then return end
  self._gateway = nil
  self._failures = self._failures + 1
  self._listener:error(err)
  if self._failures >= FAILURES_MAX then self._listener:lost() end
  self:_again(RETRY_MS)
end

function Retrieval:_watch()
  local call = self._gateway:watch(self.role, self._listener.token)
  self._call = call
  call:on_done(function(leader, err)
    if self._call ~= call or self._is_stopped then return end
    self._call = nil
    if err then return self:_failed(err) end
    self._failures = 0
    self._listener:record(leader)
    self:_ask()
  end)
end

function Retrieval:_ask()
  if self._is_stopped then return end
  if self._gateway then return self:_watch() end
  local call = self._endpoint:connect_to(self._address, "leaders")
  self._call = call
  call:on_done(function(gateway, err)
    if self._call ~= call or self._is_stopped then return end
    self._call = nil
    if err then return self:_failed(err) end
    self._gateway = gateway
    self:_watch()
  end)
end

function Retrieval:start()
  self._listener:start()
  self:_ask()
end

function Retrieval:stop()
  self._is_stopped = true
  self._listener:stop()
  if self._timer then self._timer:cancel() end
  local call = self._call
  self._timer, self._call = nil, nil
  if call then call:cancel() end
end

return M
