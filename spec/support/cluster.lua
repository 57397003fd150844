--- A whole cluster on the simulator: node "jm" with the jobmanager, further
-- nodes with a taskmanager each, node "client" that asks.
--
--   local cluster = support.new({ slots = 2, taskmanagers = 2 })
--   local id = cluster:submit(cluster:plan({ parallelism = 2 }))
--   local outcome = cluster:result(id)
local log = require("orrery.native.log")
local testing = require("orrery.testing")
local errors = require("orrery.util.errors")
local ids = require("orrery.util.ids")
local jobmanager = require("orrery.cluster.jobmanager")
local memory_storage = require("orrery.blob.memory_storage")
local seams = require("orrery.ha.seams")
local sha256 = require("orrery.native.sha256")
local task_executor = require("orrery.task_executor")

local M = {}

local DEFAULTS = {
  ["taskmanager.slots"] = 2, ["taskmanager.id"] = "",
  ["taskmanager.slot.timeout"] = 10000,
  ["taskmanager.registration.timeout"] = 300000,
  ["rpc.lookup-timeout"] = 10000,
  ["heartbeat.interval"] = 10000, ["heartbeat.timeout"] = 50000,
  ["heartbeat.rpc-failure-threshold"] = 2,
  ["cluster.registration.initial-timeout"] = 100,
  ["cluster.registration.max-timeout"] = 30000,
  ["cluster.registration.error-delay"] = 10000,
  ["cluster.registration.refused-registration-delay"] = 30000,
  ["slot.request.timeout"] = 300000, ["slot.idle.timeout"] = 50000,
  ["slotmanager.requirement-check.delay"] = 50,
  ["resourcemanager.job.timeout"] = 300000,
  ["jobstore.max-capacity"] = 1000, ["jobstore.expiration-time"] = 3600000,
  ["restart-strategy.type"] = "fixed-delay",
  ["restart-strategy.fixed-delay.attempts"] = 3,
  ["restart-strategy.fixed-delay.delay"] = 1000,
}

function M.config(overrides)
  return function(key)
    local value = overrides and overrides[key]
    if value == nil then value = DEFAULTS[key] end
    if value == nil then error("no such key: " .. key, 2) end
    return value
  end
end

local Cluster = {}
Cluster.__index = Cluster

--- @param options { seed: number?, slots: integer?, taskmanagers: integer?,
---   config: table?, task_module: string? }
function M.new(options)
  options = options or {}
  -- Failures that a spec provokes are no news; what they cause is asserted.
  log.set_level("off")
  local sim = testing.new({
    seed = options.seed or 42, latency_ms = { 1, 5 }, limit = "2h",
  })
  local self = setmetatable({
    sim = sim, config = M.config(options.config), fatal = {}, tms = {},
    _slots = options.slots or 2,
    _module = options.task_module or "support.fake_task",
  }, Cluster)
  self.service = sim:service("jm")
  self.jm = assert(jobmanager.start(self.service, self.config,
    { storage = memory_storage.new() }))
  self.client = sim:service("client")
  self._seams = seams.of(self.client)
  for i = 1, options.taskmanagers or 2 do self:add_taskmanager("tm" .. i) end
  return self
end

function Cluster:add_taskmanager(name, slots)
  local service = self.sim:service(name)
  self.tms[name] = assert(task_executor.start(service, function(key)
    if key == "taskmanager.slots" then return slots or self._slots end
    return self.config(key)
  end, {
    id = name, directory = "jm:1", task_module = self._module,
    fatal = function(err) table.insert(self.fatal, err) end,
  }))
  return self.tms[name]
end

local function run(self, future) return self.sim:run(future) end

--- A gateway of a role, by the directory.
function Cluster:gateway(role, name)
  local leaders = assert(run(self, self.client:connect("jm:1/leaders",
    "leaders")))
  local leader = assert(run(self, leaders:leader(role)))
  return assert(run(self, self.client:connect(leader.address, name or role,
    { token = leader.token }))), leader
end

function Cluster:dispatcher()
  self._dispatcher = self._dispatcher or self:gateway("dispatcher")
  return self._dispatcher
end

--- Puts bytes into the blob store; their key.
function Cluster:put(bytes)
  local blob = assert(run(self, self.client:connect("jm:1/blob", "blob")))
  return assert(run(self, blob:put(sha256.hex(bytes), bytes)))
end

function Cluster:job_id()
  return ids.new(function(n) return self._seams:bytes(n) end)
end

--- A plan of two vertices for fake tasks.
function Cluster:plan(options)
  local p = options.parallelism or 2
  return {
    name = "job", job_id = options.job_id or self:job_id(),
    bundle = self:put("bundle"), entry = "job.lua",
    options = { script = options.script, restart = options.restart,
      client_heartbeat_timeout = options.client_heartbeat_timeout },
    vertices = {
      { id = 1, name = "read", parallelism = p, operators = {},
        splits = options.splits },
      { id = 2, name = "count", parallelism = p, operators = {} },
    },
    edges = { { id = 1, from = 1, to = 2, kind = "hash" } },
  }
end

function Cluster:ask(method, ...)
  local gateway = self:dispatcher():with({ timeout = 0 })
  return run(self, gateway[method](gateway, ...))
end

function Cluster:submit(plan) return assert(self:ask("submit_job", plan)) end

function Cluster:result(id)
  return assert(self:ask("request_job_result", id))
end

function Cluster:status(id)
  return assert(self:ask("request_job_status", id))
end

--- Advances until a job has this status, at most limit_ms.
function Cluster:await_status(id, status, limit_ms)
  local limit = self.sim:now_ms() + (limit_ms or 60000)
  local now
  repeat
    now = self:status(id)
    if now.status == status then return now end
    self.sim:advance(20)
  until self.sim:now_ms() > limit
  error(("job is %s (%s), not %s"):format(now.status, tostring(now.reason),
    status), 2)
end

--- The innermost error of a failure table.
function M.root(err)
  err = errors.from_table(err)
  while err.cause do err = err.cause end
  return err
end

function Cluster:free()
  self.sim:free()
end

return M
