--- A gateway of a role: it follows the leader of the role.
--
--   local rm = service:role_gateway("resource_manager", leaders)
--   rm:register(...):await()
--
-- `leaders` says who leads; rpc knows nothing of elections, so it is given:
-- leaders:follow(role, on_leader(address, token)) answers a handle with stop().
-- on_leader is called with nil when there is no leader. orrery.ha.leader_source
-- makes one of a directory.
--
-- States: searching (no leader) - connecting - connected. A call waits for
-- `connected` up to its deadline, which is one for everything: the search, the
-- connect and the call. Then
--
--   fenced, not_started   it did not run: the gateway is dropped, the leader
--                         looked up again, the call made again
--   unreachable,          dropped and looked up too; as it may have run it is
--   callee_died           made again only if the peer said that it has not, or
--                         the method is declared idempotent (with "key": under
--                         one idempotency key)
--   anything else         is the answer
--
-- Who connected to a leader that is not known to have changed waits RETRY_MS
-- before it connects again. At most WAITING_MAX calls wait.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local Gateway = require("orrery.rpc.gateway")
local time = require("orrery.util.time")

local M = {}

local RETRY_MS = 50
local WAITING_MAX = 4096

local OPTIONS = { gateway = true, timeout = true }
local NOT_RUN = { fenced = true, not_started = true }
local LOST = { unreachable = true, callee_died = true }

local Role = {}
Role.__index = Role

local function now(role) return role.executor:now_ms() end

local function later(role, ms, fn)
  return role.executor:timer(ms, role.executor.context, fn)
end

-- The leader ------------------------------------------------------------------

-- Wakes those who wait for a connection; in their order.
function Role:wake()
  local waiting = self.waiting
  self.waiting, self.waiting_count = {}, 0
  for _, call in ipairs(waiting) do
    call.is_waiting = false
    if not call.out:is_done() then self:try(call) end
  end
end

function Role:connect()
  if self.connecting or self.gateway or self.pause or not self.address
    or self.stopped then
    return
  end
  local number = self.number
  local call = self.service:connect(self.address, self.gateway_name, {
    token = self.token, retries = 0,
  })
  self.connecting = call
  call:_watch(function(gateway, err)
    if self.number ~= number or self.stopped then return end
    self.connecting = nil
    if err ~= nil then
      self.last = err
      return self:retry_later()
    end
    self.gateway, self.last = gateway, nil
    self:wake()
  end)
end

function Role:retry_later()
  if self.pause or self.stopped then return end
  local number = self.number
  self.pause = later(self, RETRY_MS, function()
    if self.number ~= number then return end
    self.pause = nil
    self:connect()
  end)
end

-- Forgets the connection; the leader may still be the same one.
function Role:drop(gateway, err)
  if self.gateway ~= gateway then return end
  self.gateway, self.last = nil, err
  gateway:disconnect()
  self:retry_later()
end

function Role:leader(address, token)
  if self.stopped then return end
  self.number = self.number + 1
  if self.connecting then self.connecting:cancel() end
  if self.pause then self.executor:cancel_timer(self.pause) end
  if self.gateway then self.gateway:disconnect() end
  self.connecting, self.pause, self.gateway = nil, nil, nil
  self.address, self.token = address, token
  self:connect()
end

-- Calls -----------------------------------------------------------------------

local function too_late(role, call)
  local why = not role.address and "no leader is known"
    or "the leader at " .. role.address .. " did not take it"
  return errors.new("expired_unsent", string.format(
    "%s.%s was not answered within %s: %s. For a longer limit: "
    .. "gateway:with{ timeout = } or rpc.ask-timeout", role.name, call.method,
    time.format_ms(call.limit_ms), why), {
      cause = role.last,
      context = { method = call.method, role = role.name,
        limit_ms = call.limit_ms, address = role.address,
        phase = role.address and "before a connection stood"
          or "before there was a leader" },
    })
end

local function finish(role, call, value, err)
  if call.timer then role.executor:cancel_timer(call.timer) end
  call.timer = nil
  if err ~= nil then call.out:reject(err) else call.out:resolve(value) end
end

function Role:wait(call)
  if self.waiting_count >= WAITING_MAX then
    return finish(self, call, nil, errors.new("overloaded", WAITING_MAX
      .. " calls wait for the leader of " .. self.name .. " already"))
  end
  call.is_waiting = true
  self.waiting_count = self.waiting_count + 1
  self.waiting[#self.waiting + 1] = call
  self:connect()
end

function Role:may_repeat(gateway, call, err)
  if NOT_RUN[err.code] or err.context and err.context.never_ran then
    return true
  end
  if not LOST[err.code] then return false end
  return Gateway.idempotence(gateway, call.method) ~= nil
end

function Role:try(call)
  local gateway = self.gateway
  if not gateway then return self:wait(call) end
  local left
  if call.deadline then
    left = call.deadline - now(self)
    if left <= 0 then return finish(self, call, nil, too_late(self, call)) end
  end
  local key = Gateway.idempotence(gateway, call.method) == "key"
    and (call.key or self.executor.chance:hex(16)) or nil
  call.key = key
  local ok, attempt = pcall(Gateway.invoke, gateway, call.method, {
    timeout_ms = left or 0, key = key,
  }, unpack(call.args, 1, call.args.n))
  if not ok then
    return finish(self, call, nil, errors.new("no_method", tostring(attempt)))
  end
  call.attempt = attempt
  attempt:_watch(function(value, err)
    call.attempt = nil
    if call.out:is_done() then return end
    if err == nil then return finish(self, call, value) end
    if NOT_RUN[err.code] or LOST[err.code] then self:drop(gateway, err) end
    if self.stopped or not self:may_repeat(gateway, call, err) then
      return finish(self, call, nil, err)
    end
    self:try(call)
  end)
end

function Role:call(method, limit_ms, key, ...)
  local call = {
    method = method, limit_ms = limit_ms, key = key, out = Future.new(),
    args = { n = select("#", ...), ... },
  }
  if self.stopped then
    call.out:reject(errors.new("closed", "the gateway of " .. self.name
      .. " was stopped"))
    return call.out
  end
  if limit_ms > 0 then
    call.deadline = now(self) + limit_ms
    -- Only for the wait: a call under way has its own deadline, which knows
    -- the phase; it is never later.
    call.timer = later(self, limit_ms, function()
      call.timer = nil
      if call.is_waiting then
        finish(self, call, nil, too_late(self, call))
      end
    end)
  end
  call.out._on_cancel = function()
    if call.timer then self.executor:cancel_timer(call.timer) end
    if call.attempt then call.attempt:cancel() end
  end
  self:try(call)
  return call.out
end

function Role:stop()
  if self.stopped then return end
  self.stopped = true
  self.number = self.number + 1
  if self.follower then self.follower:stop() end
  if self.connecting then self.connecting:cancel() end
  if self.pause then self.executor:cancel_timer(self.pause) end
  if self.gateway then self.gateway:disconnect() end
  local waiting = self.waiting
  self.waiting, self.waiting_count = {}, 0
  for _, call in ipairs(waiting) do
    if not call.out:is_done() then
      finish(self, call, nil, errors.new("closed", "the gateway of "
        .. self.name .. " was stopped"))
    end
  end
end

-- The proxy -------------------------------------------------------------------

local function limit_of(role, method, ms)
  if ms then return ms end
  local declared = role.methods and role.methods[method]
  if declared and declared.timeout then
    return time.check_ms(declared.timeout, role.name)
  end
  local entry = role.gateway and role.gateway._by_name[method]
  return entry and entry.timeout_ms or role.service._timeout_ms
end

local function check_method(role, method)
  if not role.methods or role.methods[method] then return end
  local names = {}
  for name in pairs(role.methods) do names[#names + 1] = name end
  table.sort(names)
  local near = errors.nearest(method, names)
  error(string.format("gateway of role %s has no method %q%s; it has: %s",
    role.name, method, near and " (did you mean " .. near .. "?)" or "",
    table.concat(names, ", ")), 3)
end

local function proxy_of(role, ms, key)
  local proxy = {}
  --- The same with a limit, or a key, of its own.
  function proxy.with(_, options)
    for name in pairs(options or {}) do
      if name ~= "timeout" and name ~= "idempotency_key" then
        error("gateway:with: unknown option " .. tostring(name)
          .. "; it knows: idempotency_key, timeout", 2)
      end
    end
    return proxy_of(role, options and options.timeout
      and time.check_ms(options.timeout, "gateway:with") or ms,
      options and options.idempotency_key or key)
  end
  --- Ends it: calls that wait fail, nobody is followed any more.
  function proxy.stop() role:stop() end
  --- Address and token of the leader that is known, or nil.
  function proxy.leader() return role.address, role.token end
  return setmetatable(proxy, {
    __index = function(self, method)
      if type(method) ~= "string" or method:sub(1, 1) == "_"
        or Gateway.RESERVED[method] then
        if method == "address" then return role.address end
        if method == "token" then return role.token end
        return nil
      end
      check_method(role, method)
      local function fn(given, ...)
        if given ~= self then
          error(string.format("%s.%s: call it with a colon: gateway:%s(...)",
            role.name, method, method), 2)
        end
        return role:call(method, limit_of(role, method, ms), key, ...)
      end
      rawset(self, method, fn)
      return fn
    end,
    __tostring = function() return "gateway of role " .. role.name end,
  })
end

--- Makes one. leaders: see above. options: gateway (its name, or its
-- description: then methods and limits are known before a leader is), timeout.
function M.new(service, name, leaders, options)
  local who = "service:role_gateway"
  options = options or {}
  if type(name) ~= "string" then
    error(who .. ": the name of a role is needed", 3)
  end
  if type(leaders) ~= "table" or type(leaders.follow) ~= "function" then
    error(who .. ": leaders must have follow(role, on_leader); see "
      .. "orrery.ha.leader_source", 3)
  end
  for key in pairs(options) do
    if not OPTIONS[key] then
      error(who .. ": unknown option " .. tostring(key)
        .. "; it knows: gateway, timeout", 3)
    end
  end
  local gateway = options.gateway or name
  local is_description = type(gateway) == "table"
  local role = setmetatable({
    service = service, executor = service._executor, name = name,
    gateway_name = is_description and gateway.name or gateway,
    methods = is_description and gateway.methods or nil,
    number = 0, waiting = {}, waiting_count = 0, stopped = false,
  }, Role)
  role.follower = leaders:follow(name, function(address, token)
    role:leader(address, token)
  end)
  service._role_gateways = service._role_gateways or {}
  table.insert(service._role_gateways, role)
  return proxy_of(role, options.timeout
    and time.check_ms(options.timeout, who) or nil)
end

--- Ends all of a service.
function M.close(service)
  for _, role in ipairs(service._role_gateways or {}) do role:stop() end
  service._role_gateways = nil
end

--- service:role_gateway(role, leaders [, options]).
function M.install(Service)
  function Service:role_gateway(name, leaders, options)
    if self._stopping then
      error("service:role_gateway: the service was stopped", 2)
    end
    return M.new(self, name, leaders, options)
  end
end

return M
