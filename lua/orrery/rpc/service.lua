--- A service: the RPC address of a process, as one executor sees it.
--
-- The first service object of an address owns the core's service and its
-- listener; executors spawned for it have objects of their own that borrow the
-- core's service (orrery.rpc.spawn).
--
-- The life cycle of its endpoints is in orrery.rpc.life_cycle.

local addresses = require("orrery.rpc.address")
local core = require("orrery.core")
local description = require("orrery.rpc.description")
local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local executors = require("orrery.rpc.executors")
local fenced = require("orrery.rpc.fenced")
local Future = require("orrery.util.future")
local Gateway = require("orrery.rpc.gateway")
local idempotency = require("orrery.rpc.idempotency")
local life_cycle = require("orrery.rpc.life_cycle")
local log_context = require("orrery.rpc.log_context")
local native = require("orrery.native.service")
local spill = require("orrery.rpc.spill")
local native_tls = require("orrery.native.tls")
local restart_policy = require("orrery.rpc.restart_policy")
local retry = require("orrery.rpc.retry")
local role_gateway = require("orrery.rpc.role_gateway")
local security = require("orrery.rpc.security")
local Server = require("orrery.rpc.server")
local time = require("orrery.util.time")

local DEFAULT_TIMEOUT_MS = 10000
local SPIN_MAX_MS = 1000
local DEFAULT_RETRY_DELAY_MS = 1000

local Service = {}
Service.__index = Service

local OPTIONS = {
  bind = true, name = true, cluster_id = true, timeout = true, net = true,
  advertise = true, connect_retries = true, connect_retry_delay = true,
  ask_callstack = true, log_lifecycle_events = true, spin = true, tls = true,
  insecure = true, require_tls = true,
  spill = true,
}
local START_OPTIONS = {
  id = true, args = true, token = true, capacity = true, restart = true,
  log_context = true, reply_cache = true,
}
-- The rest belongs to the class: a spawned executor makes its own endpoint.
local SPAWN_OPTIONS = {
  id = true, args = true, token = true, executor = true,
}
local CONNECT_OPTIONS = {
  token = true, timeout = true, retries = true, retry_delay = true,
}

local NO_OPTIONS = {}

local function check_options(options, known, who, level)
  if options == nil then return NO_OPTIONS end
  if type(options) ~= "table" then
    error(who .. ": options must be a table, got " .. type(options), level or 3)
  end
  for key in pairs(options) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do names[#names + 1] = name end
      table.sort(names)
      local near = errors.nearest(tostring(key), names)
      error(string.format("%s: unknown option %s%s; it knows: %s", who,
        tostring(key), near and " (did you mean " .. near .. "?)" or "",
        table.concat(names, ", ")), level or 3)
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
    _spawner = options.spawner, _tls = options.tls, _spill = options.spill,
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

-- What the net shall offer, without touching the caller's table.
local function net_options(options, spills)
  local out = {}
  for key, value in pairs(options or {}) do out[key] = value end
  if spills then out.features = native.FEATURE_SPILL end
  return out
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
  local spill_options = spill.check(options.spill, "orrery.service")
  local executor = Executor.default()
  if options.spin then
    local ms = time.check_ms(options.spin, "orrery.service", 2)
    if ms > SPIN_MAX_MS then
      error("orrery.service: spin is at most 1 s, got "
        .. tostring(options.spin), 3)
    end
    core.spin(ms * 1000)
  end
  local service, err = Service.create({
    spill = spill_options,
    executor = executor, name = options.name, bind = options.bind,
    cluster_id = options.cluster_id, timeout_ms = timeout_ms,
    advertise = options.advertise, connect_retries = retries,
    connect_retry_delay_ms = retry_delay_ms,
    ask_callstack = options.ask_callstack,
    log_lifecycle_events = options.log_lifecycle_events,
    tls = options.tls, require_tls = options.require_tls,
    make_net = function(pointer)
      return native.net(core.loop(), pointer,
        net_options(options.net, spill_options))
    end,
    spawner = require("orrery.rpc.spawn").real,
  })
  if not service then return nil, err end
  core.own(service._pointer, service._net)
  return service
end

local function check_open(self, who, level)
  if self._stopping then
    error(who .. ": the service was stopped", level or 3)
  end
end

-- Endpoints -------------------------------------------------------------------

-- Ends a cell, behind the messages that wait. Its termination future.
function Service:_terminate(cell)
  return life_cycle.stop(cell)
end

local function open_failed(cell, err)
  if err.code == "exists" then
    return nil, errors.new(err.code, "an endpoint " .. cell.name
      .. " exists already")
  end
  return nil, errors.new(err.code, "endpoint " .. cell.name
    .. " cannot be opened: " .. err.message)
end

-- Takes the name: a new cell in state created.
local function open_cell(self, class, id, options, token_bytes)
  local served = class._handlers
  local executor = self._executor
  local cell = {
    name = id, class = class, class_name = class._name, service = self,
    state = "created", gone = false, held = true,
    handlers = served.handlers, methods = served.methods, spill = self._spill,
  }
  if token_bytes then
    cell.token, cell.token_bytes = fenced.copy(options.token), token_bytes
  end
  local slot, err = native.open(executor.pointer, self._pointer,
    description.wire(class).template, id, executor:add_cell(cell), token_bytes,
    options.capacity or 0)
  if not slot then
    executor:remove_cell(cell)
    return open_failed(cell, err)
  end
  cell.slot = slot
  return cell
end

local function check_class(class, who)
  if not Endpoint.is_class(class) then
    error(who .. ": a class made by orrery.endpoint is needed", 4)
  end
  local served, message = description.handlers(class, Endpoint.HOOKS)
  if not served then error(who .. ": " .. message, 4) end
end

local function check_start(self, class, options, who)
  check_open(self, who, 4)
  check_class(class, who)
  local given = options
  options = check_options(options, START_OPTIONS, who, 5)
  local token_bytes, message = native.token_bytes(options.token)
  if message then error(who .. ": " .. message, 4) end
  if class._fenced and not token_bytes then
    error(who .. ": " .. class._name .. " is fenced: it needs a token", 4)
  end
  local policy = class._restart
  if given and given.restart then
    policy = restart_policy.read(given.restart, who)
  end
  return options, token_bytes, policy
end

local function random_id(self, class)
  local chance = self._executor.chance
  return ("%s_%08x%08x"):format(class._name, chance:below(2 ^ 32),
    chance:below(2 ^ 32))
end

local function create(self, class, given, who)
  local options, token_bytes, policy = check_start(self, class, given, who)
  local id = options.id or random_id(self, class)
  local replies = idempotency.check_options(options.reply_cache, who, 4)
  local cell, err = open_cell(self, class, id, options, token_bytes)
  if not cell then return nil, err end
  idempotency.attach(cell, replies)
  if policy then life_cycle.set_policy(cell, policy, options.args) end
  if options.log_context then
    log_context.set(cell, options.log_context, who)
  end
  local ok
  self._cells[id] = cell
  ok, err = life_cycle.make_object(cell, options.args)
  if not ok then
    life_cycle.discard(cell)
    return nil, err
  end
  return Server.new(cell)
end

--- Makes an endpoint and takes its name, but does not start it: calls are
-- answered not_started until server:start(). options: id, args, token, capacity
-- (messages waiting), restart, log_context. Answers a server, or nil, err: the
-- name is taken, or init threw.
function Service:create_server(class, options)
  return create(self, class, options, "service:create_server")
end

--- Makes and starts an endpoint; as create_server.
function Service:start(class, options)
  local server, err = create(self, class, options, "service:start")
  if not server then return nil, err end
  life_cycle.start(server._cell)
  return server
end

--- Ends an endpoint by its server or its object; its termination future.
function Service:stop_server(server)
  local cell = type(server) == "table" and rawget(server, "_cell")
  if not cell then
    error("service:stop_server: a server or an endpoint is needed", 2)
  end
  return life_cycle.stop(cell)
end

-- Gateways --------------------------------------------------------------------

local function own_target(self, cell)
  local target, code, text = self._executor.core.target(self._pointer,
    cell.slot, cell.token_bytes)
  if not target then
    error("endpoint " .. cell.name .. ": " .. core.code_name(code) .. ": "
      .. tostring(text), 2)
  end
  return target
end

local function check_speaks(cell, name)
  for _, own in ipairs(cell.class._gateways) do
    if own == name then return end
  end
  error(string.format("endpoint %s has no gateway %s; it has: %s", cell.name,
    tostring(name), table.concat(cell.class._gateways, ", ")), 4)
end

-- A gateway of an endpoint of this executor, without a connect.
function Service:_gateway_of(cell, name)
  cell = life_cycle.latest(cell)
  name = name or cell.class_name
  local known = cell.gateways and cell.gateways[name]
  if known then return known end
  check_speaks(cell, name)
  if cell.gone then
    error("endpoint " .. cell.name .. " has ended: it has no gateway", 2)
  end
  cell.gateways = cell.gateways or {}
  local gateway = Gateway.new({
    executor = self._executor, target = own_target(self, cell), gateway = name,
    endpoint = cell.name, address = self.address,
    methods = description.wire(cell.class).methods, token = cell.token,
    timeout_ms = self._timeout_ms, cell = cell,
    ask_callstack = self._ask_callstack,
  })
  cell.gateways[name] = gateway
  return gateway
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
      executor = executor, target = map.target,
      endpoint = map.endpoint or order.name, gateway = order.gateway,
      address = map.address or order.place, methods = map.methods or {},
      token = order.token, timeout_ms = self._timeout_ms, state = map.state,
      fenced = map.fenced, ask_callstack = self._ask_callstack,
      spill = self._spill,
    }))
  end)
  return out
end

--- Future of a gateway. address: "host:port/endpoint", or "endpoint" of this
-- service; "prefix*" is the one endpoint whose name begins so. gateway: its
-- name, or nil for any. options: token, timeout (of one
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
    address = address, gateway = gateway,
    token = options.token and fenced.copy(options.token),
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

--- Starts the class of a module on a new executor; future of a handle with
-- gateway, address, stop(), termination. options: id, args, token; executor =
-- the handle of an earlier spawn: on the executor of that one. An executor ends
-- with the last endpoint that was started on it.
function Service:spawn(module, options)
  check_open(self, "service:spawn")
  options = check_options(options, SPAWN_OPTIONS, "service:spawn")
  if type(module) ~= "string" then
    error("service:spawn: the name of a module is needed", 2)
  end
  local executor = options.executor
  if executor ~= nil
    and not require("orrery.rpc.spawn").is_handle_of(self, executor) then
    error("service:spawn: executor must be a handle that service:spawn of "
      .. "this service gave", 2)
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

--- Traces calls for a while; see orrery.rpc.trace.
function Service:trace(filter, duration) -- luacheck: no self
  return require("orrery.rpc.trace").start(filter, duration)
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
