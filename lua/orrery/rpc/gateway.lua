--- Gateways: a caller's proxy for an endpoint.
--
-- A gateway is made when a connect succeeds, from the method table that the
-- endpoint's side sent: one closure a method, so that a call looks nothing up.
-- It stays usable across connection losses: the core dials again.
--
-- A call: encode, hand to the core, park the future in the slot that the core
-- answers. Failures before that come as a rejected future too (a tell answers
-- nil, err), so that callers have one path.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local time = require("orrery.util.time")

local M = {}

-- Names that a gateway needs for itself.
M.RESERVED = {
  address = true, endpoint = true, hostname = true, token = true,
  with = true, disconnect = true, connected = true, get_address = true,
  get_hostname = true, get_fencing_token = true, run_async = true,
  call_async = true, schedule_run_async = true,
}

local CONTROL = 1
local OWN_DEADLINE = 0x10000 -- ORR_ASK_OWN

local PHASES = {
  expired_unsent = "before a connection stood",
  expired_in_queue = "in the callee's mailbox",
  expired_in_handler = "in the handler",
  expired_unknown = "in a phase that the peer did not tell",
}

local function caller_traceback(future)
  local waiter = future._waiter
  if waiter then return debug.traceback(waiter.co, "", 1) end
  return nil
end

-- What went wrong, with the words of the caller's side added.
-- limit_ms: the time limit when it was not that of the method.
local function failure(entry, future, status, body, limit_ms)
  local gateway = entry.gateway
  local name = gateway.endpoint .. ": " .. entry.gateway_name .. "."
    .. entry.name
  local where = gateway._place
  local e = errors.from_table(body or {})
  local code = core.code_name(status)
  local context = {
    method = entry.name, endpoint = gateway.endpoint, address = where,
  }
  local phase = PHASES[code]
  limit_ms = limit_ms or entry.timeout_ms
  if phase then
    context.limit_ms, context.phase = limit_ms, phase
    return errors.new(code, string.format(
      "%s at %s was not answered within %s; it expired %s: %s", name, where,
      time.format_ms(limit_ms), phase, e.message),
      { context = context, traceback = caller_traceback(future) })
  end
  return errors.new(code, code == "remote" and e.message
    or string.format("%s at %s: %s", name, where, e.message),
    { context = context, cause = e.cause, traceback = e.traceback })
end

local function refused(entry, code, text)
  local gateway = entry.gateway
  local name = core.code_name(code)
  return errors.new(name, string.format("%s: %s.%s: %s", gateway.endpoint,
    entry.gateway_name, entry.name, text), {
    context = { method = entry.name, endpoint = gateway.endpoint },
  })
end

local function check_self(given, view, entry)
  if given == view then return end
  error(string.format("%s.%s: call it with a colon: gateway:%s(...)",
    entry.gateway_name, entry.name, entry.name), 3)
end

local function ask_method(view, entry, executor, target)
  local ask, pending = executor.core.ask, executor.pending
  local id, timeout, flags = entry.id, entry.timeout_ms, entry.flags
  return function(self, ...)
    if self ~= view then check_self(self, view, entry) end
    local slot, code, text = ask(target, id, timeout, flags, ...)
    if slot then
      -- All its fields at once: a table that grows is hashed again.
      local future = setmetatable({ _call = entry, _slot = slot,
        _state = nil, _value = nil, _waiter = nil }, Future)
      pending[slot] = future
      return future
    end
    return Future.rejected(refused(entry, code, text))
  end
end

local function tell_method(view, entry, executor, target)
  local tell = executor.core.tell
  local id, flags = entry.id, entry.flags
  return function(self, ...)
    if self ~= view then check_self(self, view, entry) end
    local ok, code, text = tell(target, id, flags, ...)
    if ok then return true end
    return nil, refused(entry, code, text)
  end
end

local function make_method(view, entry, executor, target)
  if entry.tell then return tell_method(view, entry, executor, target) end
  return ask_method(view, entry, executor, target)
end

local function unknown_method(gateway, key)
  if type(key) ~= "string" or key:sub(1, 1) == "_" or M.RESERVED[key] then
    return nil
  end
  local names = {}
  for _, entry in ipairs(gateway._entries) do names[#names + 1] = entry.name end
  table.sort(names)
  local near = errors.nearest(key, names)
  error(string.format("gateway %s of %s has no method %q%s; it has: %s",
    gateway._gateway_name, rawget(gateway, "endpoint"), key,
    near and " (did you mean " .. near .. "?)" or "",
    table.concat(names, ", ")), 3)
end

-- What every gateway can do besides its methods.
local Base = {}

-- Only for keys that the gateway lacks.
local Gateway = { __index = function(self, key)
  local own = Base[key]
  if own then return own end
  return unknown_method(self, key)
end }

function Gateway.__tostring(self)
  return "gateway " .. self._gateway_name .. " of " .. self.address
end

local function entry_of(gateway, id, method, executor, timeout_ms)
  return {
    id = id, name = method.name, tell = method.tell, gateway = gateway,
    gateway_name = gateway._gateway_name, timeout_ms = timeout_ms,
    flags = method.control and CONTROL or 0,
    failure = function(future, status, body, limit_ms)
      return failure(future._call, future, status, body, limit_ms)
    end,
    cancel = function(future) executor.core.cancel(future._slot) end,
  }
end

-- deadline = "own": the call does not end with the one being served.
local function check_deadline(options)
  local deadline = options and options.deadline
  if deadline == nil then return false end
  if deadline ~= "own" then
    error("gateway:with: deadline is \"own\" or nothing, got "
      .. tostring(deadline), 4)
  end
  return true
end

-- A view of the gateway with other options; its methods are made when used.
local function with(gateway, options)
  for key in pairs(options or {}) do
    if key ~= "timeout" and key ~= "deadline" then
      error("gateway:with: unknown option " .. tostring(key)
        .. "; it knows: deadline, timeout", 3)
    end
  end
  local own_deadline = check_deadline(options)
  local ms = time.check_ms(options and options.timeout or 0, "gateway:with", 2)
  local keep = own_deadline and options.timeout == nil
  local key_of_view = own_deadline and (keep and "own" or "own " .. ms) or ms
  local view = gateway._views[key_of_view]
  if view then return view end
  view = setmetatable({}, { __index = function(self, key)
    local entry = gateway._by_name[key]
    if not entry then return gateway[key] end
    local own = entry_of(gateway, entry.id, entry, gateway._executor,
      keep and entry.timeout_ms or ms)
    own.flags = entry.flags + (own_deadline and OWN_DEADLINE or 0)
    local method = make_method(self, own, gateway._executor, gateway._target)
    rawset(self, key, method)
    return method
  end })
  gateway._views[key_of_view] = view
  return view
end

Base.with = with

--- Forgets the peer; later calls fail.
function Base:disconnect()
  self._executor.core.disconnect(self._target)
end

function Base:get_address() return self.address end

function Base:get_hostname() return self.hostname end

--- The token that its calls carry; throws when it was connected without.
function Base:get_fencing_token()
  local token = self.token
  if token then return { epoch = token.epoch, session = token.session } end
  error("get_fencing_token: the gateway " .. self._gateway_name .. " of "
    .. self.address .. " is not fenced: it carries no token", 2)
end

-- Functions cannot be sent: only the gateway of an endpoint to itself takes
-- them.
local function posts(name)
  Base[name] = function(self, ...)
    local cell = self._cell
    if cell then
      local object = cell.server and cell.server.endpoint or cell.object
      return object[name](object, ...)
    end
    error(name .. ": a function cannot be sent to " .. self.address
      .. "; only an endpoint itself and its self_gateway take one", 2)
  end
end

for _, name in ipairs({ "run_async", "call_async", "schedule_run_async" }) do
  posts(name)
end

-- Does a method belong to this gateway? Without the list it is in all.
local function belongs(raw, gateway)
  local gateways = raw[5]
  if gateway == nil or type(gateways) ~= "table" then return true end
  for _, name in ipairs(gateways) do
    if name == gateway then return true end
  end
  return false
end

local STATES = { [0] = "created", "started", "stopping" }

-- The wire form of one method: { name, timeout_ms, tell, control, gateways };
-- gateways: those that have it, nil = all.
local function read_method(raw)
  if type(raw) ~= "table" or type(raw[1]) ~= "string" then return nil end
  return {
    name = raw[1],
    timeout_ms = type(raw[2]) == "number" and raw[2] or 0,
    tell = raw[3] == true,
    control = raw[4] == true,
  }
end

--- Makes a gateway. options: executor, target, gateway (name or nil: all
-- methods), endpoint, address ("host:port" or ""), methods (wire form), token,
-- timeout_ms (default of asks), state and fenced (of the endpoint when it was
-- connected), cell (of a gateway to an endpoint of this executor).
function M.new(options)
  local executor = options.executor
  local address = options.address
  local gateway = setmetatable({
    address = address == "" and options.endpoint
      or address .. "/" .. options.endpoint,
    endpoint = options.endpoint,
    hostname = address:match("^%[?(.-)%]?:%d+$") or "",
    token = options.token,
    _place = address == "" and "this process" or address,
    connected = options.state and { state = STATES[options.state] or "unknown",
      fenced = options.fenced == true },
    _cell = options.cell or false,
    _gateway_name = options.gateway or "endpoint",
    _executor = executor,
    _target = options.target,
    _entries = {},
    _by_name = {},
    _views = {},
  }, Gateway)
  for i, raw in ipairs(options.methods) do
    local method = read_method(raw)
    if method and not M.RESERVED[method.name]
      and belongs(raw, options.gateway) and method.name:sub(1, 1) ~= "_" then
      local timeout_ms = method.timeout_ms
      if timeout_ms == 0 then timeout_ms = options.timeout_ms end
      local entry = entry_of(gateway, i - 1, method, executor, timeout_ms)
      gateway._entries[#gateway._entries + 1] = entry
      gateway._by_name[method.name] = entry
      rawset(gateway, method.name,
        make_method(gateway, entry, executor, options.target))
    end
  end
  return gateway
end

return M
