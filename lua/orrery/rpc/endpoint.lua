--- Endpoints: the class of what serves calls, and what every endpoint can do.
--
-- States: created -> starting (on_start runs; calls are held) -> started ->
-- stopping (on_stop runs; it still serves) -> gone. An error of on_start goes
-- from starting to gone at once, without on_stop. The life cycle itself is in
-- orrery.rpc.service, which owns the cell of each endpoint.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local executors = require("orrery.rpc.executors")
local Gateway = require("orrery.rpc.gateway")
local idempotency = require("orrery.rpc.idempotency")
local log = require("orrery.native.log")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local METHODS_MAX = 1024
local OPTIONS = {
  timeout = true, tell = true, lane = true, idempotent = true,
  permission = true,
}
local IDEMPOTENT = { key = "key", [true] = "safe" }
local ROLE_MAX = 64
local LANES = { control = true, bulk = true }
local HOOKS = { init = true, on_start = true, on_stop = true }

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

--- Runs fn(self) on this endpoint after the messages that wait now. Errors are
-- logged. Nothing happens once the endpoint is gone.
function Endpoint:run_async(fn)
  check_function(fn, "run_async")
  local cell = live_cell(self, "run_async")
  if cell.gone then return nil, errors.new("unreachable",
    "endpoint " .. cell.name .. " has ended") end
  return cell.executor:post(cell, { fn = fn })
end

--- Like run_async; future of what fn returns. timeout limits the wait.
function Endpoint:call_async(fn, timeout)
  check_function(fn, "call_async")
  local cell = live_cell(self, "call_async")
  local future = Future.new()
  if cell.gone then
    future:reject(errors.new("unreachable", "endpoint " .. cell.name
      .. " has ended"))
    return future
  end
  local ok, err = cell.executor:post(cell, { fn = fn, future = future })
  if not ok then future:reject(err) end
  if timeout then return future:with_timeout(timeout) end
  return future
end

local Handle = {}
Handle.__index = Handle

--- False when it ran already.
function Handle:cancel()
  return self._entry ~= nil and self._executor:cancel_timer(self._entry)
end

M.Handle = Handle

--- Runs fn(self) on this endpoint not earlier than delay; handle:cancel().
-- Before the start it is held until then; after the end it never runs.
function Endpoint:schedule_run_async(delay, fn)
  check_function(fn, "schedule_run_async")
  local cell = live_cell(self, "schedule_run_async")
  local ms = time.check_ms(delay, "schedule_run_async")
  if cell.gone then
    log.warn("rpc", "%s has ended: scheduled work will never run", cell.name)
    return setmetatable({}, Handle)
  end
  return setmetatable({
    _executor = cell.executor,
    _entry = cell.executor:timer(ms, cell, fn),
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

--- A gateway to this endpoint itself, with its own token.
function Endpoint:self_gateway()
  return live_cell(self, "self_gateway").service:_gateway_of(self._cell)
end

--- Future of a gateway; see service:connect.
function Endpoint:connect_to(address, gateway, options)
  return live_cell(self, "connect_to").service:connect(address, gateway,
    options)
end

--- Ends this endpoint; its termination future.
function Endpoint:close_async()
  local cell = live_cell(self, "close_async")
  return cell.service:_terminate(cell)
end

--- True from before on_start until on_stop has begun to wait or ended.
function Endpoint:is_running()
  local state = live_cell(self, "is_running").state
  return state == "starting" or state == "started"
end

--- Throws unless a handler of this endpoint runs now.
function Endpoint:validate_runs_in_main_thread()
  local cell = live_cell(self, "validate_runs_in_main_thread")
  if task.context() ~= cell then
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
  if Gateway.RESERVED[name] or Endpoint[name] or HOOKS[name] then
    error(where .. ": the name is taken by every endpoint or gateway", 4)
  end
  if type(options) ~= "table" then
    error(where .. ": options must be a table, got " .. type(options), 4)
  end
  for key in pairs(options) do
    if not OPTIONS[key] then
      error(where .. ": unknown option " .. tostring(key)
        .. "; it knows idempotent, lane, permission, tell, timeout", 4)
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
  return {
    name = name, timeout_ms = timeout_ms, tell = options.tell == true,
    control = options.lane == "control",
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
  idempotency.declare(list)
  return list
end

--- Makes an endpoint class: endpoint(name, methods) or endpoint(description),
-- a description being { name = , methods = , fenced = }.
function M.class(name, methods)
  local fenced = false
  if type(name) == "table" then
    name, methods, fenced = name.name, name.methods, name.fenced == true
  end
  if type(name) ~= "string" or not name:match("^[%w_.$-]+$")
    or #name > 64 then
    error("orrery.endpoint: a name of letters, digits, _ . $ - is needed", 3)
  end
  local class = setmetatable({
    _name = name, _methods = check_methods(name, methods), _fenced = fenced,
  }, Endpoint)
  class.__index = class
  return class
end

--- Is v a class made by orrery.endpoint?
function M.is_class(v)
  return type(v) == "table" and getmetatable(v) == Endpoint
    and rawget(v, "_methods") ~= nil
end

return M
