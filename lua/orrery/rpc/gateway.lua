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
local spill = require("orrery.rpc.spill")
local time = require("orrery.util.time")

local M = {}

-- Names that a gateway needs for itself.
M.RESERVED = {
  address = true, endpoint = true, hostname = true, token = true,
  with = true, disconnect = true, connected = true, get_address = true,
  get_hostname = true, get_fencing_token = true, run_async = true,
  call_async = true, schedule_run_async = true,
}

--- The hidden method of endpoints that keep replies (rpc.idempotency); its
-- wire form has a fifth part, the idempotence of each method by name.
M.ONCE = "_once"

local CONTROL = 1
local OWN_DEADLINE = 0x10000 -- ORR_ASK_OWN

local PHASES = {
  expired_unsent = "before a connection stood",
  expired_in_queue = "in the callee's mailbox",
  expired_in_handler = "in the handler",
  expired_unknown = "in a phase that the peer did not tell",
}

local VIEWS_MAX = 64 -- views kept for their timeout; then all are made anew

-- The stack of who waits, taken only now that the call has failed: calls that
-- succeed pay nothing. Switched off by rpc.ask-callstack.
local function caller_traceback(gateway, future)
  local waiter = future._waiter
  if waiter and gateway._ask_callstack then
    return debug.traceback(waiter.co, "", 1)
  end
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
  -- Said by the peer's core: no handler has seen the call.
  if type(body) == "table" and body.never_ran == true then
    context.never_ran = true
  end
  local phase = PHASES[code]
  limit_ms = limit_ms or entry.timeout_ms
  if phase then
    context.limit_ms, context.phase = limit_ms, phase
    return errors.new(code, string.format(
      "%s at %s was not answered within %s; it expired %s: %s. For a longer "
      .. "limit: gateway:with{ timeout = }, the timeout of the method, or "
      .. "rpc.ask-timeout", name, where, time.format_ms(limit_ms),
      phase, e.message),
      { context = context, traceback = caller_traceback(gateway, future) })
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
      -- As Future.new: all its fields at once, none of them nil.
      local future = setmetatable({ _call = entry, _slot = slot,
        _state = false, _value = false, _waiter = false,
        _callbacks = false }, Future)
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

local spill_tools = { check_self = check_self, refused = refused }

local function make_method(view, entry, executor, target)
  if entry.gateway._spill then
    local make = entry.tell and spill.tell_method or spill.ask_method
    return make(view, entry, executor, target, spill_tools)
  end
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

local WITH = { timeout = true, idempotency_key = true, deadline = true }
local KEY_MAX = 128

local function check_with(gateway, options)
  for key in pairs(options or {}) do
    if not WITH[key] then
      error("gateway:with: unknown option " .. tostring(key)
        .. "; it knows: deadline, idempotency_key, timeout", 4)
    end
  end
  local key = options and options.idempotency_key
  if key ~= nil and (type(key) ~= "string" or key == "" or #key > KEY_MAX) then
    error("gateway:with: an idempotency_key is a text of 1 to " .. KEY_MAX
      .. " bytes", 4)
  end
  if key ~= nil and not gateway._once then
    error(string.format("gateway:with: %s keeps no replies; declare a method "
      .. "of it with idempotent = \"key\"", gateway._gateway_name), 4)
  end
  local deadline = options and options.deadline
  if deadline ~= nil and deadline ~= "own" then
    error("gateway:with: deadline is \"own\" or nothing, got "
      .. tostring(deadline), 4)
  end
  return options and options.timeout
    and time.check_ms(options.timeout, "gateway:with", 3), key,
    deadline and OWN_DEADLINE or 0
end

-- How a method is called again safely: "key", "safe" or nil.
local function idempotence(gateway, name)
  return gateway._once and gateway._once.modes[name] or nil
end

-- A method that is asked for through the reply cache of its endpoint: a call
-- of the method _once with the key, the name, and the arguments.
local function keyed_method(view, gateway, entry, ms, key, own_deadline)
  if idempotence(gateway, entry.name) ~= "key" then
    error(string.format("gateway:with: method %s of %s takes no "
      .. "idempotency_key; declare it with idempotent = \"key\"", entry.name,
      gateway._gateway_name), 3)
  end
  local own = entry_of(gateway, gateway._once.id, entry, gateway._executor,
    ms or entry.timeout_ms)
  own.flags, own.tell = entry.flags + own_deadline, false
  local ask = make_method(view, own, gateway._executor, gateway._target)
  local name = entry.name
  return function(self, ...) return ask(self, key, name, ...) end
end

-- own_deadline: the flag of calls that do not end with the one being served.
local function new_view(gateway, ms, key, own_deadline)
  own_deadline = own_deadline or 0
  return setmetatable({}, { __index = function(self, name)
    local entry = gateway._by_name[name]
    if not entry then return gateway[name] end
    local method
    if key then
      method = keyed_method(self, gateway, entry, ms, key, own_deadline)
    else
      local own = entry_of(gateway, entry.id, entry, gateway._executor,
        ms or entry.timeout_ms)
      own.flags = entry.flags + own_deadline
      method = make_method(self, own, gateway._executor, gateway._target)
    end
    rawset(self, name, method)
    return method
  end })
end

-- A view of the gateway with other options; its methods are made when used.
-- Views of a timeout are kept, those of a key are for one logical call.
local function with(gateway, options)
  local ms, key, own_deadline = check_with(gateway, options)
  if key then return new_view(gateway, ms, key, own_deadline) end
  local is_own = own_deadline ~= 0
  if not is_own then ms = ms or 0 end
  local name = is_own and "own " .. tostring(ms) or ms
  local view = gateway._views[name]
  if view then return view end
  if gateway._view_count >= VIEWS_MAX then
    gateway._views, gateway._view_count = {}, 0
  end
  view = new_view(gateway, ms, nil, own_deadline)
  gateway._views[name] = view
  gateway._view_count = gateway._view_count + 1
  return view
end

--- One call by the method's name, for callers that are programs themselves.
-- options: timeout_ms, key. A tell answers a future too.
function M.invoke(gateway, name, options, ...)
  local entry = gateway._by_name[name]
  if not entry then return gateway[name] end -- throws with the nearest name
  if entry.tell then
    local ok, err = gateway[name](gateway, ...)
    if ok then return Future.resolved(true) end
    return Future.rejected(err)
  end
  local view = new_view(gateway, options.timeout_ms or entry.timeout_ms,
    options.key)
  return view[name](view, ...)
end

--- "key", "safe" or nil: may the method be called again when nobody knows
-- whether it ran?
M.idempotence = idempotence

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
  local gateways = raw[6]
  if gateway == nil or type(gateways) ~= "table" then return true end
  for _, name in ipairs(gateways) do
    if name == gateway then return true end
  end
  return false
end

local STATES = { [0] = "created", "started", "stopping" }

-- The wire form of one method: { name, timeout_ms, tell, control, false,
-- gateways }; gateways: those that have it, nil = all.
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
-- timeout_ms (default of asks), ask_callstack, state and fenced (of the
-- endpoint when it was connected), cell (of a gateway to one of this executor).
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
    _spill = options.spill or false,
    _executor = executor,
    _target = options.target,
    _entries = {},
    _by_name = {},
    _views = {},
    _view_count = 0,
    _once = false,
    _ask_callstack = options.ask_callstack ~= false,
  }, Gateway)
  for i, raw in ipairs(options.methods) do
    local method = read_method(raw)
    if method and method.name == M.ONCE and type(raw[5]) == "table" then
      gateway._once = { id = i - 1, modes = raw[5] }
    end
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
