--- Simulation: services of several hosts in one Lua state, on virtual time.
--
-- One seed decides every latency and every choice, so one seed replays one
-- history exactly; a failure of sim:run tells it. Nothing here reads the
-- system's clock. The rpc surface is that of real services; an await on the
-- main chunk steps the simulation (that of the sim made last, or whose run or
-- step was called last).

local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local Future = require("orrery.util.future")
local native = require("orrery.native.sim")
local native_service = require("orrery.native.service")
local Service = require("orrery.rpc.service")
local spawn = require("orrery.rpc.spawn")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local OPTIONS = { seed = true, latency_ms = true, limit = true }
local DEFAULT_SEED = 1
local DEFAULT_LIMIT_MS = 3600 * 1000
local PORT = 1

local Sim = {}
Sim.__index = Sim

--- Makes a simulation. options: seed, latency_ms = { min, max }, limit (virtual
-- time that one run may take; one hour).
function M.new(options)
  options = options or {}
  for key in pairs(options) do
    if not OPTIONS[key] then
      error("testing.new: unknown option " .. tostring(key)
        .. "; it knows latency_ms, limit, seed", 2)
    end
  end
  local seed = options.seed or DEFAULT_SEED
  if type(seed) ~= "number" then
    error("testing.new: seed must be a number", 2)
  end
  local sim, err = native.new(seed)
  if not sim then error(tostring(err), 2) end
  local self = setmetatable({
    seed = seed, _native = sim, _executors = {}, _nodes = {}, _nets = {},
    _services = {}, _numbers = 0, _storages = {},
    _limit_ms = options.limit and time.check_ms(options.limit, "testing.new")
      or DEFAULT_LIMIT_MS,
  }, Sim)
  local latency = options.latency_ms
  if latency then
    local ok, failure = sim:set_latency(latency[1], latency[2])
    if not ok then error("testing.new: latency_ms: " .. failure.message, 2) end
  end
  self._root = { gone = false, name = "simulation", executor = {
    run_future = function(future) return self:run(future) end,
    is_simulated = true,
  } }
  -- Work of the main chunk (sleep, async) happens on a node of its own.
  self._main = self:_executor("main")
  self._main.run_future = self._root.executor.run_future
  self._main.context.name = "simulation"
  task.set_root(self._main.context)
  return self
end

function Sim:_node(name)
  local node = self._nodes[name]
  if not node then
    local err
    node, err = self._native:node(name)
    if not node then
      error(string.format("sim: node %q: %s", tostring(name), err.message), 3)
    end
    self._nodes[name] = node
  end
  return node
end

function Sim:_known(name, who)
  local node = self._nodes[name]
  if not node then
    error(string.format("%s: there is no node %q", who, tostring(name)), 3)
  end
  return node
end

function Sim:_executor(name)
  self._numbers = self._numbers + 1
  local pointer, err = self._native:executor(self:_node(name), self._numbers)
  if not pointer then return nil, err end
  local executor = Executor.new(pointer, true)
  executor.number = self._numbers
  executor.is_simulated = true
  executor.node = name
  self._executors[#self._executors + 1] = executor
  return executor
end

function Sim:_net(executor, pointer)
  local net, err = self._native:net(executor.pointer, pointer)
  if not net then return nil, err end
  self._nets[#self._nets + 1] = net
  return net
end

--- A service on the node of this name, "name:1"; more of one node get the next
-- ports. options: cluster_id, timeout.
function Sim:service(name, options)
  options = options or {}
  local executor, err = self:_executor(name)
  if not executor then error("sim:service: " .. err.message, 2) end
  self._ports = self._ports or {}
  local port = self._ports[name] or PORT
  self._ports[name] = port + 1
  local service
  service, err = Service.create({
    executor = executor, name = name, bind = name .. ":" .. port,
    cluster_id = options.cluster_id,
    timeout_ms = options.timeout
      and time.check_ms(options.timeout, "sim:service"),
    make_net = function(pointer) return self:_net(executor, pointer) end,
    spawner = self:_spawner(),
  })
  if not service then error("sim:service: " .. err.message, 2) end
  executor.context.name = name
  self._services[#self._services + 1] = service
  return service
end

-- service:spawn: a new executor on the node of the service.
function Sim:_spawner()
  return spawn.simulated(function(service)
    local executor, err = self:_executor(service._executor.node)
    if not executor then return nil, err end
    local net
    net, err = self:_net(executor, service._pointer)
    if not net then return nil, err end
    local there = Service.adopt({
      executor = executor, pointer = service._pointer, net = net,
      name = service.name, timeout_ms = service._timeout_ms,
      spawner = self:_spawner(),
    })
    there.number = executor.number
    return there
  end)
end

function Sim:_use()
  if self._freed then error("the simulation was freed", 3) end
  task.set_root(self._main.context)
end

-- Work of the run list that belongs to no turn: what the main chunk began.
local function drain_run_list()
  while task.drain() do end
end

-- Lets every executor send what main-chunk code asked of it.
function Sim:_flush()
  for _, executor in ipairs(self._executors) do
    if not executor.dead then executor.core.flush() end
  end
end

--- One executor's turn, at its time; false when nothing is left until then.
function Sim:step(until_ms)
  self:_use()
  drain_run_list()
  self:_flush()
  local index = self._native:step(until_ms)
  if not index then return false end
  local executor = self._executors[index + 1]
  local more = true
  while more do more = executor:turn() end
  return true
end

--- Steps until the future is done: its value, or nil, err. Throws with the seed
-- when nothing is left to happen or the limit of virtual time is over.
function Sim:run(future)
  self:_use()
  if not Future.is(future) then
    error("sim:run: a future is needed, got " .. type(future), 2)
  end
  local limit = self:now_ms() + self._limit_ms
  drain_run_list()
  while not future:is_done() do
    if not self:step(limit) then
      drain_run_list()
      if future:is_done() then break end
      error(string.format("sim:run: the future is not done at %.3f ms and "
        .. "nothing happens until %.0f ms (replay with seed = %d)",
        self:now_ms(), limit, self.seed), 2)
    end
  end
  return future:peek()
end

--- Moves virtual time on by ms and does all that happens meanwhile.
function Sim:advance(ms)
  local limit = self:now_ms() + time.check_ms(ms, "sim:advance")
  while self:step(limit) do end
  drain_run_list()
end

function Sim:now_ms() return self._native:now_ms() end
function Sim:wall_ms() return self._native:wall_ms() end
function Sim:trace_hash() return self._native:trace_hash() end
function Sim:trace_note(text) self._native:trace_note(text) end
function Sim:chance() return self._native:chance() end
function Sim:events() return self._native:events() end

local function each_pair(self, left, right, fn, who)
  for _, a in ipairs(left) do
    for _, b in ipairs(right) do
      fn(self:_known(a, who), self:_known(b, who))
    end
  end
end

--- Cuts every path between the nodes of two lists.
function Sim:partition(left, right)
  each_pair(self, left, right, function(a, b)
    self._native:partition(a, b, true)
  end, "sim:partition")
end

--- Joins all paths.
function Sim:heal()
  self._native:heal()
end

--- Resets all connections between two nodes; how many.
function Sim:reset_connections(a, b)
  return self._native:reset_connections(
    self:_known(a, "sim:reset_connections"),
    self:_known(b, "sim:reset_connections"))
end

--- Ends a node at once: its executors never run again.
function Sim:crash(name)
  local ok, err = self._native:crash(self:_known(name, "sim:crash"))
  if not ok then error("sim:crash: " .. err.message, 2) end
  for _, executor in ipairs(self._executors) do
    if executor.node == name then
      executor.dead = true
      executor.context.gone = true
      executor:abandon()
    end
  end
  self._ports[name] = nil
end

--- Makes a crashed node usable again: sim:service makes new services there.
function Sim:restart(name)
  local ok, err = self._native:restart(self:_known(name, "sim:restart"))
  if not ok then error("sim:restart: " .. err.message, 2) end
end

--- The simulated storage of a node; it outlives crashes of the node.
function Sim:storage(name)
  self:_node(name)
  local storage = self._storages[name]
  if not storage then
    storage = require("orrery.blob.memory_storage").new()
    self._storages[name] = storage
  end
  return storage
end

--- Ends the simulation and gives its memory back; endpoints are not stopped.
function Sim:free()
  if self._freed then return end
  self._freed = true
  for _, executor in ipairs(self._executors) do
    executor.context.gone = true
    executor:abandon()
    executor.core.unbind()
  end
  self._native:free()
  for _, net in ipairs(self._nets) do native_service.net_free(net) end
  for _, service in ipairs(self._services) do
    native_service.free(service._pointer)
  end
  task.set_root({ gone = false, name = "main" })
end

M.errors = errors
--- A service whose gateways can be replaced: testing.double(service).
M.double = require("orrery.rpc.double").new

return M
