--- A service: the RPC address of a process, as one executor sees it.
--
-- The first service object of an address owns the core's service and its
-- listener; executors spawned for it have objects of their own that borrow the
-- core's service (orrery.rpc.spawn).
--
-- Start of an endpoint: the name is taken, the object made, init called, the
-- state set to started, on_start queued before anything else. Calls that come
-- while on_start waits are held. Stop: a run in the mailbox behind the messages
-- that wait, then on_stop, then the name is free.

local addresses = require("orrery.rpc.address")
local core = require("orrery.core")
local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local executors = require("orrery.rpc.executors")
local Future = require("orrery.util.future")
local Gateway = require("orrery.rpc.gateway")
local idempotency = require("orrery.rpc.idempotency")
local log = require("orrery.native.log")
local native = require("orrery.native.service")
local native_tls = require("orrery.native.tls")
local retry = require("orrery.rpc.retry")
local role_gateway = require("orrery.rpc.role_gateway")
local security = require("orrery.rpc.security")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local DEFAULT_TIMEOUT_MS = 10000
local DEFAULT_RETRY_DELAY_MS = 1000

local Service = {}
Service.__index = Service

local OPTIONS = {
  bind = true, name = true, cluster_id = true, timeout = true, net = true,
  advertise = true, connect_retries = true, connect_retry_delay = true,
  ask_callstack = true, log_lifecycle_events = true, spin = true, tls = true,
  insecure = true, require_tls = true,
}
local START_OPTIONS = {
  id = true, args = true, token = true, capacity = true, reply_cache = true,
}
local CONNECT_OPTIONS = {
  token = true, timeout = true, retries = true, retry_delay = true,
}

local function check_options(options, known, who)
  if options == nil then return {} end
  if type(options) ~= "table" then
    error(who .. ": options must be a table, got " .. type(options), 4)
  end
  for key in pairs(options) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      table.sort(names)
      local near = errors.nearest(tostring(key), names)
      error(string.format("%s: unknown option %s%s; it knows: %s", who,
        tostring(key), near and " (did you mean " .. near .. "?)" or "",
        table.concat(names, ", ")), 4)
    end
  end
  return options
end

-- Making ----------------------------------------------------------------------

local function new_object(fields)
  local self = setmetatable(fields, Service)
  self._cells = {}      -- name -> cell, the live ones
  self._spawned = {}    -- list of handles
  self._timeout_ms = fields._timeout_ms or DEFAULT_TIMEOUT_MS
  self.address = native.address(self._pointer)
  return self
end

-- Listens on the first port that is free; the address for peers: what was
-- bound, or advertise with the port that was bound where it names none.
local function listen(net, bind, advertise)
  local list, err = { bind }, nil
  if not bind:find("/", 1, true) then list, err = addresses.candidates(bind) end
  if not list then return nil, err end
  local bound
  for _, candidate in ipairs(list) do
    bound, err = native.listen(net, candidate)
    if bound or err.code ~= "address_in_use" then break end
  end
  if not bound then
    return nil, errors.new(err.code, "cannot listen on " .. bind .. ": "
      .. err.message, { context = { address = bind } })
  end
  if not advertise then return bound end
  if addresses.parse(advertise) then return advertise end
  local host
  host, err = addresses.normalize_host(advertise)
  if not host then return nil, err end
  return addresses.join(host, bound:match(":(%d+)$"))
end

--- Parts made by the caller: real services and simulated ones differ in their
-- executor and their net. options: executor, name, cluster_id, timeout,
-- make_net(pointer) -> net | nil, err; bind, advertise; tls, require_tls.
function Service.create(options)
  local executor = options.executor
  local incarnation = 1 + executor.chance:below(2 ^ 52)
  local pointer, err = native.new(options.name or "orrery",
    options.cluster_id or "orrery", incarnation)
  if not pointer then return nil, err end
  local net
  if options.make_net then
    net, err = options.make_net(pointer)
    if not net then
      native.free(pointer)
      return nil, err
    end
  end
  if options.tls then
    local ok
    ok, err = native_tls.secure(net, options.tls)
    if not ok then
      native.net_free(net)
      native.free(pointer)
      return nil, err
    end
  end
  native.require_tls(pointer, options.require_tls == true)
  if options.bind then
    local address
    address, err = listen(net, options.bind, options.advertise)
    if not address then
      native.net_free(net)
      native.free(pointer)
      return nil, err
    end
    native.set_address(pointer, address)
  end
  return new_object({
    _connect_retries = options.connect_retries,
    _connect_retry_delay_ms = options.connect_retry_delay_ms,
    _ask_callstack = options.ask_callstack,
    _log_lifecycle = options.log_lifecycle_events,
    _executor = executor, _pointer = pointer, _net = net, _owner = true,
    _timeout_ms = options.timeout_ms, name = options.name or "orrery",
    _spawner = options.spawner, _tls = options.tls,
  })
end

--- A view of a service on another executor of its process.
function Service.adopt(options)
  return new_object({
    _executor = options.executor, _pointer = options.pointer,
    _net = options.net, _owner = false, name = options.name,
    _tls = options.tls,
    _timeout_ms = options.timeout_ms, _spawner = options.spawner,
  })
end

--- A service on this state's real executor; throws for bad options, answers
-- nil, err when the system refuses, or when bind is an address that other
-- machines reach and there is neither tls nor insecure = true. tls and
-- require_tls: docs/security.md.
function Service.new(options)
  options = check_options(options, OPTIONS, "orrery.service")
  local timeout_ms
  if options.timeout then
    timeout_ms = time.check_ms(options.timeout, "orrery.service", 2)
  end
  local retries = options.connect_retries
  if retries ~= nil and (type(retries) ~= "number" or retries < 0) then
    error("orrery.service: connect_retries must be a number from 0", 3)
  end
  local retry_delay_ms = options.connect_retry_delay and time.check_ms(
    options.connect_retry_delay, "orrery.service", 2)
  for _, key in ipairs({ "bind", "name", "cluster_id", "advertise" }) do
    local value = options[key]
    if value ~= nil and type(value) ~= "string" then
      error("orrery.service: " .. key .. " must be a string, got "
        .. type(value), 3)
    end
  end
  security.check_tls(options.tls, "orrery.service", 3)
  if options.bind then
    local ok, err = security.check_bind(options.bind, options)
    if not ok then return nil, err end
  end
  local executor = Executor.default()
  local service, err = Service.create({
    executor = executor, name = options.name, bind = options.bind,
    cluster_id = options.cluster_id, timeout_ms = timeout_ms,
    advertise = options.advertise, connect_retries = retries,
    connect_retry_delay_ms = retry_delay_ms,
    ask_callstack = options.ask_callstack,
    log_lifecycle_events = options.log_lifecycle_events,
    tls = options.tls, require_tls = options.require_tls,
    make_net = function(pointer)
      return native.net(core.loop(), pointer, options.net)
    end,
    spawner = require("orrery.rpc.spawn").real,
  })
  if not service then return nil, err end
  core.own(service._pointer, service._net)
  return service
end

local function check_open(self, who)
  if self._stopping then
    error(who .. ": the service was stopped", 3)
  end
end

-- Life cycle ------------------------------------------------------------------

-- The wire form, its bytes, and the lanes: the same for all of a class.
local function wire_methods(class)
  local known = rawget(class, "_wire")
  if known then return known end
  local list, control, permissions, is_guarded = {}, {}, {}, false
  for i, m in ipairs(class._methods) do
    list[i] = { m.name, m.timeout_ms, m.tell, m.control, m.modes }
    control[i] = string.char(m.control and 1 or 0)
    permissions[i] = m.permission or ""
    is_guarded = is_guarded or m.permission ~= nil
  end
  known = { methods = list, bytes = core.encode(list),
    control = table.concat(control),
    permissions = is_guarded and permissions or nil }
  class._wire = known
  return known
end

local function handlers_of(class)
  -- One table for all endpoints of a class, until a method is replaced.
  local known = rawget(class, "_handlers")
  local same = known ~= nil
  for i, m in ipairs(class._methods) do
    same = same and known.handlers[i - 1] == class[m.name]
  end
  if same then return known.handlers, known.methods end
  local handlers, methods, missing = {}, {}, {}
  for i, m in ipairs(class._methods) do
    local fn = class[m.name]
    if type(fn) ~= "function" then missing[#missing + 1] = m.name end
    handlers[i - 1], methods[i - 1] = fn, m
  end
  if #missing > 0 then
    error(string.format("service:start: class %s lacks the methods: %s",
      class._name, table.concat(missing, ", ")), 3)
  end
  class._handlers = { handlers = handlers, methods = methods }
  return handlers, methods
end

local function terminated(cell, err)
  local service = cell.service
  local executor = cell.executor
  cell.state = "gone"
  native.close(executor.pointer, service._pointer, cell.slot)
  executor:remove_cell(cell)
  cell.gone = true
  cell.held = nil
  service._cells[cell.name] = nil
  if service._log_lifecycle then
    log.info("rpc", "endpoint %s has ended%s", cell.object
      and cell.object.address or cell.name,
      err ~= nil and ": " .. tostring(err) or "")
  end
  if err ~= nil then
    cell.termination:reject(err)
  else
    cell.termination:resolve(true)
  end
end

local function stop_failed(cell, err)
  log.error("rpc", "%s: on_stop failed: %s", cell.name,
    errors.wrap(err):describe())
  return errors.new("remote", "endpoint " .. cell.name .. ": on_stop failed",
    { cause = errors.wrap(err) })
end

local function on_stop_done(t, value, err)
  local cell = t.context
  if err == nil and Future.is(value) then
    value:_watch(function(_, e)
      if not cell.gone then
        terminated(cell, e ~= nil and stop_failed(cell, e) or nil)
      end
    end)
    return
  end
  if not cell.gone then
    terminated(cell, err ~= nil and stop_failed(cell, err) or nil)
  end
end

local function begin_stop(cell)
  if cell.state ~= "started" then return end
  cell.state = "stopping"
  native.set_state(cell.executor.pointer, cell.service._pointer, cell.slot,
    native.STOPPING)
  local on_stop = cell.object.on_stop
  if not on_stop then return terminated(cell) end
  task.start(cell, on_stop_done, false, false, on_stop, cell.object)
end

-- Behind the messages that wait now.
local function post_stop(cell)
  local ok, err = cell.executor:post(cell, { run = begin_stop })
  if ok then return end
  log.warn("rpc", "%s: %s; stopping at once", cell.name, tostring(err))
  task.later(cell.executor.context, begin_stop, cell)
end

local function on_start_done(t, value, err)
  local cell = t.context
  if cell.gone then return end
  if err == nil and Future.is(value) then
    value:_watch(function(_, e)
      on_start_done({ context = cell }, nil, e)
    end)
    return
  end
  if err ~= nil then
    local cause = errors.wrap(err)
    log.error("rpc", "%s: on_start failed: %s", cell.name, cause:describe())
    return terminated(cell, errors.new("remote", "endpoint " .. cell.name
      .. " could not be started: on_start failed", { cause = cause }))
  end
  cell.state = "started"
  if cell.service._log_lifecycle then
    log.info("rpc", "endpoint %s has started", cell.object.address)
  end
  cell.executor:release(cell)
  if cell.stop_wanted and not cell.gone then post_stop(cell) end
end

local function begin_start(cell)
  if cell.state ~= "starting" then return end
  local on_start = cell.object.on_start
  if not on_start then return on_start_done({ context = cell }) end
  task.start(cell, on_start_done, false, false, on_start, cell.object)
end

-- Ends a cell: behind the messages that wait. Its termination future.
function Service:_terminate(cell)
  if cell.stop_wanted or cell.gone then return cell.termination end
  cell.stop_wanted = true
  if cell.state == "created" then
    terminated(cell)
  elseif cell.state == "started" then
    post_stop(cell)
  end
  return cell.termination
end

-- The gateway is made when somebody asks for it: most idle endpoints need none.
local Server = {}

function Server:__index(key)
  if key == "gateway" then
    return self._cell.service:_gateway_of(self._cell)
  end
  return Server[key]
end

--- Ends the endpoint; its termination future.
function Server:stop()
  return self._cell.service:_terminate(self._cell)
end

function Server:is_running()
  return self._cell.object:is_running()
end

local function make_cell(self, class, options, id)
  local handlers, methods = handlers_of(class)
  return {
    name = id, class_name = class._name, service = self, gone = false,
    state = "created", handlers = handlers, methods = methods, held = {},
    termination = Future.new(), token = options.token, class = class,
  }
end

local function open_cell(cell, options, token_bytes)
  local wire = wire_methods(cell.class)
  cell.wire_methods = wire.methods
  cell.token_bytes = token_bytes
  local executor = cell.service._executor
  executor:add_cell(cell)
  local slot, err = native.open(executor.pointer, cell.service._pointer, {
    name = cell.name, methods = wire.bytes, gateways = cell.class_name,
    control = wire.control, ref = cell.ref, token_bytes = token_bytes,
    permissions = wire.permissions,
    capacity_bulk = options.capacity,
  })
  if not slot then
    executor:remove_cell(cell)
    if err.code == "exists" then
      return nil, errors.new(err.code, "an endpoint " .. cell.name
        .. " exists already")
    end
    return nil, errors.new(err.code, "endpoint " .. cell.name
      .. " cannot be opened: " .. err.message)
  end
  cell.slot = slot
  return true
end

local function make_object(cell, args)
  local object = setmetatable({}, cell.class)
  cell.object = object
  object._cell = cell
  object.service = cell.service
  object.id = cell.name
  object.address = cell.service:_address_of(cell.name)
  if not cell.class.init then return true end
  local n = args.n or #args
  local ok, thrown = xpcall(cell.class.init, function(message)
    local e = errors.wrap(message)
    e.traceback = e.traceback or debug.traceback("", 2)
    return e
  end, object, unpack(args, 1, n))
  if ok then return true end
  return nil, thrown
end

function Service:_address_of(name)
  if self.address == "" then return name end
  return self.address .. "/" .. name
end

--- Starts an endpoint. options: id, args, token, capacity (messages waiting).
-- Answers a server, or nil, err: the name is taken, or init threw.
function Service:start(class, options)
  check_open(self, "service:start")
  if not Endpoint.is_class(class) then
    error("service:start: a class made by orrery.endpoint is needed", 2)
  end
  options = check_options(options, START_OPTIONS, "service:start")
  local token_bytes, message = native.token_bytes(options.token)
  if message then error("service:start: " .. message, 2) end
  if class._fenced and not token_bytes then
    error("service:start: " .. class._name
      .. " is fenced: it needs a token", 2)
  end
  local id = options.id or class._name .. "_" .. self._executor.chance:hex(8)
  local replies = idempotency.check_options(options.reply_cache,
    "service:start", 3)
  local cell = make_cell(self, class, options, id)
  local ok, err = open_cell(cell, options, token_bytes)
  if not ok then return nil, err end
  idempotency.attach(cell, replies)
  ok, err = make_object(cell, options.args or {})
  if not ok then
    terminated(cell)
    return nil, err
  end
  self._cells[id] = cell
  cell.state = "starting"
  native.set_state(self._executor.pointer, self._pointer, cell.slot,
    native.STARTED)
  task.later(cell, begin_start, cell)
  return setmetatable({
    address = cell.object.address,
    termination = cell.termination, endpoint = cell.object, id = id,
    _cell = cell,
  }, Server)
end

-- Gateways --------------------------------------------------------------------

-- A gateway of an endpoint of this executor, without a connect.
function Service:_gateway_of(cell)
  if cell.gateway then return cell.gateway end
  if cell.gone then
    error("endpoint " .. cell.name .. " has ended: it has no gateway", 2)
  end
  local target, code, text = self._executor.core.target(self._pointer,
    cell.slot, cell.token_bytes)
  if not target then
    error("endpoint " .. cell.name .. ": " .. core.code_name(code) .. ": "
      .. tostring(text), 2)
  end
  cell.gateway = Gateway.new({
    executor = self._executor, target = target, gateway = cell.class_name,
    endpoint = cell.name, address = self.address, methods = cell.wire_methods,
    token = cell.token, timeout_ms = self._timeout_ms,
    ask_callstack = self._ask_callstack,
  })
  return cell.gateway
end

local connect_calls = setmetatable({}, { __mode = "k" })

local function connect_failure(future, status, body)
  local info = connect_calls[future]
  local e = errors.from_table(body or {})
  return errors.new(core.code_name(status), string.format(
    "cannot connect to %s: %s", info.address, e.message),
    { context = { address = info.address, gateway = info.gateway,
      phase = "connect" }, cause = e.cause })
end

-- One try; future of a gateway.
local function connect_once(self, order)
  local executor = self._executor
  local slot, code, text = executor.core.connect(self._pointer, order.place,
    order.name, order.gateway or "", order.token_bytes, order.timeout_ms)
  if not slot then
    return Future.rejected(errors.new(core.code_name(code),
      "cannot connect to " .. order.address .. ": " .. text))
  end
  local raw = Future.new()
  raw._slot = slot
  raw._call = {
    failure = connect_failure,
    cancel = function(f) executor.core.cancel(f._slot) end,
  }
  connect_calls[raw] = order
  executor.pending[slot] = raw
  local out = Future.new()
  out._on_cancel = function() raw:cancel() end
  raw:_watch(function(map, err)
    if err ~= nil then
      out:reject(err)
      return
    end
    out:resolve(Gateway.new({
      executor = executor, target = map.target, endpoint = order.name,
      gateway = order.gateway or "endpoint",
      address = map.address or order.place, methods = map.methods or {},
      token = order.token, timeout_ms = self._timeout_ms,
      ask_callstack = self._ask_callstack,
    }))
  end)
  return out
end

--- Future of a gateway. address: "host:port/endpoint", or "endpoint" of this
-- service. gateway: its name, or nil for any. options: token, timeout (of one
-- try), retries and retry_delay (of the service by default): what cannot be
-- reached is tried again that often.
function Service:connect(address, gateway, options)
  check_open(self, "service:connect")
  if type(address) ~= "string" or address == "" then
    error("service:connect: an address \"host:port/endpoint\" is needed", 2)
  end
  if type(gateway) == "table" then gateway = gateway.name end
  options = check_options(options, CONNECT_OPTIONS, "service:connect")
  local token_bytes, message = native.token_bytes(options.token)
  if message then error("service:connect: " .. message, 2) end
  local order = {
    address = address, gateway = gateway, token = options.token,
    token_bytes = token_bytes, timeout_ms = options.timeout
      and time.check_ms(options.timeout, "service:connect")
      or self._timeout_ms,
  }
  local retries = options.retries or self._connect_retries or 0
  local delay_ms = options.retry_delay
    and time.check_ms(options.retry_delay, "service:connect")
    or self._connect_retry_delay_ms or DEFAULT_RETRY_DELAY_MS
  local err
  order.place, order.name = addresses.split(address)
  if not order.place then
    err = order.name
    return Future.rejected(errors.new(err.code, "cannot connect: "
      .. err.message, { context = { address = address, phase = "connect" } }))
  end
  if retries <= 0 then return connect_once(self, order) end
  return retry.run(self._executor, function()
    if self._stopping then
      return nil, errors.new("closed", "cannot connect to " .. address
        .. ": the service was stopped")
    end
    return connect_once(self, order)
  end, {
    attempts = retries + 1, retry_on = { "unreachable", "expired_unsent" },
    backoff = { initial = delay_ms, multiplier = 1, jitter = 0 },
  })
end

-- Work of the service ---------------------------------------------------------

executors.install(Service)
role_gateway.install(Service)

--- The address that peers use; "" for a local service.
function Service:get_address()
  return self.address
end

--- Its port; -1 for a local service.
function Service:get_port()
  return tonumber(self.address:match(":(%d+)$")) or -1
end

--- Ends an endpoint (or a server) of this service; its termination future. Of
-- what has ended already, and after the service's stop, nothing happens.
function Service:stop_server(endpoint)
  local cell = type(endpoint) == "table" and rawget(endpoint, "_cell")
  if not cell then
    error("service:stop_server: an endpoint or a server is needed", 2)
  end
  return cell.service:_terminate(cell)
end

--- Starts the class of a module on a new executor; future of a handle with
-- gateway, address, stop(). options: id, args, token.
function Service:spawn(module, options)
  check_open(self, "service:spawn")
  options = check_options(options, START_OPTIONS, "service:spawn")
  if type(module) ~= "string" then
    error("service:spawn: the name of a module is needed", 2)
  end
  return self._spawner(self, module, options)
end

--- What runs here: see native.service.endpoints.
function Service:endpoints()
  return native.endpoints(self._pointer, self._executor:now_ms())
end

--- Reads certificate, key and authority again, for connections to come; when
-- they cannot be used the ones read before stay. Spawned executors look at
-- their files by themselves.
---@return true|nil, table|nil error
function Service:reload_tls()
  check_open(self, "service:reload_tls")
  if not self._tls then
    error("service:reload_tls: the service was made without tls", 2)
  end
  return native_tls.reload(self._net)
end

function Service:net_info()
  return self._net and native.net_info(self._net) or nil
end

-- Answers a future that is done when all are; the first error is its own.
local function settle_all(futures)
  local out, left, first = Future.new(), #futures, nil
  if left == 0 then out:resolve(true) end
  for _, future in ipairs(futures) do
    future:_watch(function(_, err)
      first = first or err
      left = left - 1
      if left > 0 then return end
      if first ~= nil then out:reject(first) else out:resolve(true) end
    end)
  end
  return out
end

local function sorted_cells(self)
  local names = {}
  for name in pairs(self._cells) do names[#names + 1] = name end
  table.sort(names)
  local cells = {}
  for i, name in ipairs(names) do cells[i] = self._cells[name] end
  return cells
end

--- Ends every endpoint and spawned executor, then the connections. The future
-- carries the first failure; everything stops all the same.
function Service:stop()
  if self._stopping then return self._stopping end
  local out = Future.new()
  self._stopping = out
  local waits = {}
  for _, cell in ipairs(sorted_cells(self)) do
    waits[#waits + 1] = self:_terminate(cell)
  end
  for _, handle in ipairs(self._spawned) do
    waits[#waits + 1] = handle:stop()
  end
  settle_all(waits):_watch(function(_, err)
    role_gateway.close(self)
    executors.close(self)
    if self._net then native.net_close(self._net, "the service was stopped") end
    if err ~= nil then out:reject(err) else out:resolve(true) end
  end)
  return out
end

--- The name of stop in the framework.
Service.stop_service = Service.stop

return Service
