--- A registered connection to the leader of a role: follow the leader, connect,
-- register, and begin again when the leader changes or the owner says so.
--
-- Every try has a number; answers of earlier tries are ignored, so a late
-- success after a change of leader or after `stop` does nothing.
local registration = require("orrery.ha.registration")
local retrieval = require("orrery.ha.retrieval")

local Connection = {}
Connection.__index = Connection

local M = {}

local TIMEOUTS = {
  timeout = true, expired_in_queue = true, expired_in_handler = true,
  expired_unknown = true,
}

--- @param options { endpoint: table, config: fun(key), directory: string,
---   role: string, gateway: string,
---   register: fun(gateway, timeout_ms: number): table,
---   on_connected: fun(gateway, answer: table, token: table),
---   on_lost: fun(), on_rejected: fun(answer: table)? }
---   register answers a future of { type = success | failure | rejection }
function M.new(options)
  local config = options.config
  local self = setmetatable({
    _endpoint = options.endpoint, _gateway_name = options.gateway,
    _register = options.register, _on_connected = options.on_connected,
    _on_lost = options.on_lost, _on_rejected = options.on_rejected,
    _number = 0, _lookup_timeout = config("rpc.lookup-timeout"),
    _timing = {
      initial_timeout_ms = config("cluster.registration.initial-timeout"),
      max_timeout_ms = config("cluster.registration.max-timeout"),
      error_delay_ms = config("cluster.registration.error-delay"),
      refused_delay_ms =
        config("cluster.registration.refused-registration-delay"),
    },
  }, Connection)
  self._retrieval = retrieval.new({
    endpoint = options.endpoint, directory = options.directory,
    role = options.role, on_error = options.on_error,
    on_leader = function(address, token) self:_leader(address, token) end,
  })
  return self
end

function Connection:start()
  self._retrieval:start()
end

-- Ends the current try or connection; tells of the loss of a connection.
function Connection:_drop()
  self._number = self._number + 1
  if self._timer then self._timer:cancel() end
  local call, was_connected = self._call, self.gateway ~= nil
  self._timer, self._call, self.gateway = nil, nil, nil
  if call then call:cancel() end
  if was_connected then self._on_lost() end
end

-- Runs fn(value, err) for a call, unless the try is over by then.
function Connection:_follow(call, fn)
  local number = self._number
  self._call = call
  call:on_done(function(value, err)
    if number ~= self._number then return end
    self._call = nil
    fn(value, err)
  end)
end

function Connection:_do(action, gateway)
  if not action then return end
  if action.kind == "attempt" then
    if not gateway then return self:_connect(action) end
    return self:_attempt(gateway, action.timeout_ms)
  elseif action.kind == "wait" then
    local number = self._number
    self._timer = self._endpoint:schedule_run_async(action.delay_ms,
      function()
        if number ~= self._number then return end
        self._timer = nil
        self:_do(self._loop:begin())
      end)
  end
end

function Connection:_attempt(gateway, timeout_ms)
  self:_follow(self._register(gateway, timeout_ms), function(answer, err)
    if err then
      local kind = TIMEOUTS[err.code] and "timeout" or "error"
      return self:_do(self._loop:outcome(kind),
        kind == "timeout" and gateway or nil)
    end
    local action = self._loop:outcome(answer.type)
    if answer.type == "success" then
      self.gateway = gateway
      self._on_connected(gateway, answer, self.token)
    elseif answer.type == "rejection" then
      if self._on_rejected then self._on_rejected(answer) end
    else
      self:_do(action)
    end
  end)
end

function Connection:_connect(action)
  self:_follow(self._endpoint:connect_to(self.address, self._gateway_name,
    { token = self.token, timeout = self._lookup_timeout }),
    function(gateway, err)
      if err then return self:_do(self._loop:outcome("error")) end
      self:_attempt(gateway, action.timeout_ms)
    end)
end

function Connection:_begin()
  if self._is_stopped or not self.address then return end
  self._loop = registration.new(self._timing)
  self:_do(self._loop:begin())
end

function Connection:_leader(address, token)
  self:_drop()
  self.address, self.token = address, token
  self:_begin()
end

--- The connection is of no use any more: register again at the known leader.
function Connection:reconnect()
  if self._is_stopped then return end
  self:_drop()
  self:_begin()
end

--- Ends it without telling of a loss.
function Connection:stop()
  self._is_stopped = true
  self._retrieval:stop()
  self._on_lost = function() end
  self:_drop()
end

return M
