--- Endpoints: the class of what serves calls, and what every endpoint can do.
--
-- Its states and what happens between them are in orrery.rpc.life_cycle, its
-- methods and gateways in orrery.rpc.description.

local description = require("orrery.rpc.description")
local errors = require("orrery.util.errors")
local executors = require("orrery.rpc.executors")
local fenced = require("orrery.rpc.fenced")
local Future = require("orrery.util.future")
local Gateway = require("orrery.rpc.gateway")
local idempotency = require("orrery.rpc.idempotency")
local log = require("orrery.native.log")
local life_cycle = require("orrery.rpc.life_cycle")
local log_context = require("orrery.rpc.log_context")
local restart_policy = require("orrery.rpc.restart_policy")
local Server = require("orrery.rpc.server")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local METHODS_MAX = 1024
local OPTIONS = {
  timeout = true, tell = true, lane = true, args = true, permission = true,
  idempotent = true,
}
local IDEMPOTENT = { key = "key", [true] = "safe" }
local CLASS_OPTIONS = {
  extends = true, gateways = true, fenced = true, strict = true,
  restart = true,
}
local ROLE_MAX = 64
local LANES = { control = true, bulk = true }
local HOOKS = { init = true, on_start = true, on_stop = true }
M.HOOKS = HOOKS

-- What every endpoint inherits.
local Endpoint = {}
Endpoint.__index = Endpoint
M.base = Endpoint

local function live_cell(self, who)
  local cell = rawget(self, "_cell")
  if not cell then
    error(who .. ": the endpoint was not made by service:start", 3)
  end
  return cell
end

local function check_function(fn, who)
  if type(fn) ~= "function" then
    error(who .. ": a function is needed, got " .. type(fn), 3)
  end
end

local function post(cell, fn, scope)
  if cell.gone then return nil, errors.new("unreachable",
    "endpoint " .. cell.name .. " has ended") end
  return cell.executor:post(cell, { fn = fn, scope = scope })
end

local function call(cell, fn, timeout, scope)
  local future = Future.new()
  if cell.gone then
    future:reject(errors.new("unreachable", "endpoint " .. cell.name
      .. " has ended"))
    return future
  end
  local ok, err = cell.executor:post(cell, { fn = fn, future = future,
    scope = scope })
  if not ok then future:reject(err) end
  if timeout then return future:with_timeout(timeout) end
  return future
end

--- Runs fn(self) on this endpoint after the messages that wait now. Errors are
-- logged. Nothing happens once the endpoint is gone.
function Endpoint:run_async(fn)
  check_function(fn, "run_async")
  return post(live_cell(self, "run_async"), fn)
end

--- Like run_async; future of what fn returns. timeout limits the wait.
function Endpoint:call_async(fn, timeout)
  check_function(fn, "call_async")
  return call(live_cell(self, "call_async"), fn, timeout)
end

local Handle = {}
Handle.__index = Handle

--- False when it ran already.
function Handle:cancel()
  return self._entry ~= nil and self._executor:cancel_timer(self._entry)
end

M.Handle = Handle

local UNITS = {
  ns = true, us = true, ms = true, s = true, min = true, h = true, d = true,
}

local function schedule(cell, delay, fn, unit, scope)
  if unit ~= nil then
    if type(delay) ~= "number" or not UNITS[unit] then
      error("schedule_run_async: a number and its unit are needed: one of d, "
        .. "h, min, ms, ns, s, us", 3)
    end
    if delay >= 0 then delay = ("%.17f%s"):format(delay, unit) end
  end
  local ms = time.check_ms(delay, "schedule_run_async", 2)
  if cell.gone then
    log.warn("rpc", "%s has ended: scheduled work will never run", cell.name)
    return setmetatable({}, Handle)
  end
  return setmetatable({
    _executor = cell.executor,
    _entry = cell.executor:timer(ms, cell, fn, nil, scope),
  }, Handle)
end

--- The executor of this endpoint's own messages: execute, submit, schedule,
-- schedule_at_fixed_rate, schedule_with_fixed_delay (orrery.rpc.executors).
function Endpoint:get_main_thread_executor()
  local cell = live_cell(self, "get_main_thread_executor")
  cell.main_executor = cell.main_executor or executors.of_endpoint(self)
  return cell.main_executor
end

Endpoint[Gateway.ONCE] = idempotency.handler

--- Runs fn(self) on this endpoint not earlier than delay, a duration, or a
-- number of unit ("s", "min", ...); handle:cancel(). Before the start it is
-- held until then; after the end it never runs.
function Endpoint:schedule_run_async(delay, fn, unit)
  check_function(fn, "schedule_run_async")
  return schedule(live_cell(self, "schedule_run_async"), delay, fn, unit)
end

-- Work with more logging context than its endpoint has.
local Scope = {}
Scope.__index = Scope

function Scope:run_async(fn)
  check_function(fn, "run_async")
  return post(self._cell, fn, self._context)
end

function Scope:call_async(fn, timeout)
  check_function(fn, "call_async")
  return call(self._cell, fn, timeout, self._context)
end

function Scope:schedule_run_async(delay, fn, unit)
  check_function(fn, "schedule_run_async")
  return schedule(self._cell, delay, fn, unit, self._context)
end

--- run_async, call_async and schedule_run_async whose log lines carry more
-- fields: self:scoped({ job = id }):run_async(fn).
function Endpoint:scoped(fields)
  local cell = live_cell(self, "scoped")
  return setmetatable({ _cell = cell,
    _context = log_context.below(cell, fields, "scoped") }, Scope)
end

--- Keys and values in front of the log lines of its handlers.
function Endpoint:set_log_context(fields)
  log_context.set(live_cell(self, "set_log_context"), fields,
    "set_log_context")
end

function Endpoint:get_address() return self.address end
function Endpoint:get_endpoint_id() return self.id end
function Endpoint:get_rpc_service() return self.service end

--- The host of its service; "" for one without network.
function Endpoint:get_hostname()
  return (Server.split(self.service.address))
end

--- A gateway to this endpoint itself, with its own token. name: one of those
-- that its class speaks; throws for others.
function Endpoint:self_gateway(name)
  local cell = live_cell(self, "self_gateway")
  return cell.service:_gateway_of(cell, name)
end

--- Future of a gateway; see service:connect.
function Endpoint:connect_to(address, gateway, options)
  return live_cell(self, "connect_to").service:connect(address, gateway,
    options)
end

--- Ends this endpoint; its termination future.
function Endpoint:close_async()
  return life_cycle.stop(live_cell(self, "close_async"), true)
end

--- Ends this endpoint and waits: true, or nil, err. Not for its own handlers:
-- they end with it.
function Endpoint:close()
  local cell = live_cell(self, "close")
  if task.context().object == self then
    error("close: a handler of " .. cell.name .. " would wait for its own end; "
      .. "use close_async", 2)
  end
  return life_cycle.stop(cell, true):await()
end

--- Ends this life with an error, after what runs now; its restart policy says
-- what is next.
function Endpoint:crash(err)
  life_cycle.crash(live_cell(self, "crash"), err or "crashed")
end

--- Registers what is closed before on_stop, the last first: a function, or
-- something with a method close. Answers it, or nil, err.
function Endpoint:register_closeable(closeable)
  local cell = live_cell(self, "register_closeable")
  local is_closeable = type(closeable) == "function"
  if not is_closeable then
    local ok, close = pcall(function() return closeable.close end)
    is_closeable = ok and close ~= nil
  end
  if not is_closeable then
    error("register_closeable: a function or something with a method close is "
      .. "needed, got " .. type(closeable), 2)
  end
  return life_cycle.register(cell, closeable)
end

--- False when it is not registered.
function Endpoint:unregister_closeable(closeable)
  return life_cycle.unregister(live_cell(self, "unregister_closeable"),
    closeable)
end

--- True from before on_start until on_stop has returned or begun to wait.
function Endpoint:is_running()
  return life_cycle.is_running(live_cell(self, "is_running"))
end

--- Throws unless a handler of this endpoint runs now.
function Endpoint:validate_runs_in_main_thread()
  local cell = live_cell(self, "validate_runs_in_main_thread")
  if task.context().object ~= self then
    error("validate_runs_in_main_thread: this is not a handler of "
      .. cell.name .. " but of " .. (task.context().name or "nothing"), 2)
  end
end

--- Runs module[fn](...) in a worker state of its own thread; future of the
-- result. For work that would keep this executor from its messages.
function Endpoint:offload(module, fn, ...)
  local cell = live_cell(self, "offload")
  return require("orrery.rpc.worker").offload(cell.service, module, fn, ...)
end

-- Classes ---------------------------------------------------------------------

-- The roles that may call a method over TLS: a text of words, or nil.
local function check_permission(permission, where)
  if permission == nil then return nil end
  local roles = type(permission) == "table" and permission or { permission }
  if #roles == 0 then
    error(where .. ": permission names no role; leave it out to let "
      .. "everybody call", 5)
  end
  for _, role in ipairs(roles) do
    if type(role) ~= "string" or not role:match("^[%w_.-]+$")
      or #role > ROLE_MAX then
      error(where .. ": permission is a role or a list of roles, each of "
        .. "letters, digits, _ . -", 5)
    end
  end
  return table.concat(roles, " ")
end

local function check_method(class_name, name, options)
  local where = string.format("orrery.endpoint(%q): method %q", class_name,
    tostring(name))
  if type(name) ~= "string" or not name:match("^[%a][%w_]*$") then
    error(where .. ": a name is letters, digits and _", 4)
  end
  if Gateway.RESERVED[name] or Endpoint[name] or HOOKS[name]
    or fenced.base[name] then
    error(where .. ": the name is taken by every endpoint or gateway", 4)
  end
  if type(options) ~= "table" then
    error(where .. ": options must be a table, got " .. type(options), 4)
  end
  for key in pairs(options) do
    if not OPTIONS[key] then
      error(where .. ": unknown option " .. tostring(key)
        .. "; it knows args, idempotent, lane, permission, tell, timeout", 4)
    end
  end
  if options.lane and not LANES[options.lane] then
    error(where .. ": lane is \"control\" or \"bulk\"", 4)
  end
  local timeout_ms = 0
  if options.timeout then
    local ms, err = time.duration_ms(options.timeout)
    if not ms then error(where .. ": " .. err.message, 4) end
    timeout_ms = ms
  end
  local idempotent = options.idempotent
  if idempotent and (not IDEMPOTENT[idempotent] or options.tell) then
    error(where .. ": idempotent is true (it may simply run again) or \"key\" "
      .. "(replies are kept by key), and not for a tell", 4)
  end
  local signature, message
  if options.args ~= nil then
    signature, message = description.signature(options.args)
    if not signature then error(where .. ": " .. message, 4) end
  end
  return {
    name = name, timeout_ms = timeout_ms, tell = options.tell == true,
    control = options.lane == "control", signature = signature,
    idempotent = idempotent and IDEMPOTENT[idempotent] or nil,
    permission = check_permission(options.permission, where),
  }
end

local function check_methods(class_name, methods)
  if type(methods) ~= "table" then
    error(string.format("orrery.endpoint(%q): methods must be a table "
      .. "{ name = options, ... }", class_name), 3)
  end
  local names = {}
  for name in pairs(methods) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  if #names > METHODS_MAX then
    error(string.format("orrery.endpoint(%q): %d methods; at most %d",
      class_name, #names, METHODS_MAX), 3)
  end
  local list = {}
  for i, name in ipairs(names) do
    list[i] = check_method(class_name, name, methods[name])
  end
  return list
end

local function check_name(name)
  if type(name) ~= "string" or not name:match("^[%w_.$-]+$")
    or #name > 64 then
    error("orrery.endpoint: a name of letters, digits, _ . $ - is needed", 4)
  end
end

local function check_class_options(name, options)
  if options == nil then return {} end
  local where = string.format("orrery.endpoint(%q): ", name)
  if type(options) ~= "table" then
    error(where .. "options must be a table, got " .. type(options), 4)
  end
  for key in pairs(options) do
    if not CLASS_OPTIONS[key] then
      error(where .. "unknown option " .. tostring(key)
        .. "; it knows: extends, fenced, gateways, restart, strict", 4)
    end
  end
  if options.extends ~= nil and not M.is_class(options.extends) then
    error(where .. "extends is a class made by orrery.endpoint", 4)
  end
  if options.gateways ~= nil and type(options.gateways) ~= "table" then
    error(where .. "gateways is a list of descriptions", 4)
  end
  return options
end

-- The methods of the class, of the descriptions, and of what it extends.
local function parts_of(name, own, options)
  local parts, seen = { { name = name, methods = own } }, { [name] = true }
  for _, other in ipairs(options.gateways or {}) do
    if type(other) ~= "table" then
      error(string.format("orrery.endpoint(%q): gateways is a list of "
        .. "descriptions, got %s", name, type(other)), 4)
    end
    check_name(other.name)
    if seen[other.name] then
      error(string.format("orrery.endpoint(%q): gateway %s is there twice",
        name, other.name), 4)
    end
    seen[other.name] = true
    parts[#parts + 1] = { name = other.name,
      methods = check_methods(other.name, other.methods) }
  end
  for _, inherited in ipairs(options.extends and options.extends._gateways
    or {}) do
    if not seen[inherited] then
      local methods = {}
      for _, m in ipairs(options.extends._methods) do
        if m.gateways[inherited] then methods[#methods + 1] = m end
      end
      parts[#parts + 1] = { name = inherited, methods = methods }
    end
  end
  return parts
end

-- Endpoints that are fenced have more.
local function with_fencing(base)
  local own = {}
  for key, value in pairs(fenced.base) do own[key] = value end
  return setmetatable(own, { __index = base })
end

local FencedEndpoint = with_fencing(Endpoint)

-- Where a class finds what it has not.
local function base_of(parent, is_fenced)
  if not parent then return is_fenced and FencedEndpoint or Endpoint end
  if is_fenced and not parent._fenced then return with_fencing(parent) end
  return parent
end

local CLASS = {} -- marks classes

--- Makes an endpoint class: endpoint(name, methods [, options]) or
-- endpoint(description [, options]), a description being { name = , methods = ,
-- fenced = }. options: extends (a class), gateways (descriptions that it serves
-- as well), fenced, strict (public functions must be methods), restart (see
-- orrery.rpc.restart_policy).
function M.class(name, methods, options)
  local is_fenced = false
  if type(name) == "table" then
    options = methods
    name, methods, is_fenced = name.name, name.methods, name.fenced == true
  end
  check_name(name)
  options = check_class_options(name, options)
  local parent = options.extends
  local list, gateways = description.join(parts_of(name,
    check_methods(name, methods), options))
  if not list then
    error(string.format("orrery.endpoint(%q): %s", name, gateways), 3)
  end
  idempotency.declare(list)
  is_fenced = is_fenced or options.fenced == true
    or parent ~= nil and parent._fenced
  local class = {
    _class = CLASS, _name = name, _methods = list, _gateways = gateways,
    _fenced = is_fenced, _strict = options.strict == true, _parent = parent,
    super = parent,
    _restart = options.restart and restart_policy.read(options.restart,
      ("orrery.endpoint(%q)"):format(name)) or parent and parent._restart,
  }
  class.__index = class
  return setmetatable(class, { __index = base_of(parent, is_fenced) })
end

--- Is v a class made by orrery.endpoint?
function M.is_class(v)
  return type(v) == "table" and rawget(v, "_class") == CLASS
end

return M
