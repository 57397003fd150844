--- A cluster in one table: runs a plan with real tasks, real buffers and a
-- seeded schedule, without RPC or threads. The spec moves the time, a number.
--
-- Messages of one channel stay in order; which task steps next and which
-- channel delivers next is chance, so that one seed gives one history.

local M = {}

local bundle = require("orrery.job.bundle")
local builder = require("orrery.job.builder")
local plan = require("orrery.job.plan")
local result = require("orrery.job.result")
local runtime = require("orrery.task.runtime")

local function fake_codec()
  local buffer = require("string.buffer")
  local codec = {}
  function codec.encode(...)
    return buffer.encode({ n = select("#", ...), ... })
  end
  function codec.decode(bytes)
    local values = buffer.decode(bytes)
    return unpack(values, 1, values.n)
  end
  function codec.batch()
    local records, size = {}, 0
    local batch = {}
    function batch.append(_, record)
      records[#records + 1] = record
      size = size + #buffer.encode(record)
      return size
    end
    function batch.take()
      local bytes, n = buffer.encode(records), #records
      records, size = {}, 0
      return bytes, n
    end
    return batch
  end
  function codec.decode_batch(bytes)
    local records = buffer.decode(bytes)
    return records, #records
  end
  return codec
end

local ok, core = pcall(require, "orrery.core")
M.codec = ok and core or fake_codec()

--- Seeded chance (a linear congruence is enough to shuffle).
function M.chance(seed)
  local state = seed % 2147483647 + 1
  return function(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end
end

local Cluster = {}
Cluster.__index = Cluster

local function channel_id(edge, from, to)
  return string.format("%d:%d:%d", edge.id, from, to)
end

local function targets(edge, vertices, subtask)
  if edge.kind == "forward" then return { subtask } end
  local list = {}
  for i = 0, vertices[edge.to].parallelism - 1 do list[#list + 1] = i end
  return list
end

local function describe(p, vertex, subtask, attempt)
  local d = {
    job_id = "job", job_name = p.name, attempt_number = attempt,
    attempt = string.format("%d-%d-%d", vertex.id, subtask, attempt),
    vertex = vertex, subtask = subtask, entry = p.entry, args = p.args,
    inputs = {}, outputs = {}, options = p.options,
  }
  for _, edge in ipairs(p.edges) do
    if edge.from == vertex.id then
      local list = {}
      for _, to in ipairs(targets(edge, p.vertices, subtask)) do
        list[#list + 1] = {
          address = "", channel = channel_id(edge, subtask, to),
        }
      end
      d.outputs[#d.outputs + 1] = { edge = edge.id, kind = edge.kind,
        targets = list }
    end
    if edge.to == vertex.id then
      local ids = {}
      for from = 0, p.vertices[edge.from].parallelism - 1 do
        if edge.kind ~= "forward" or from == subtask then
          ids[#ids + 1] = channel_id(edge, from, subtask)
        end
      end
      d.inputs[#d.inputs + 1] = { edge = edge.id, kind = edge.kind,
        channels = ids }
    end
  end
  return d
end

-- Queues a message behind those of the same key.
function Cluster:_post(key, fn)
  local queue = self.queues[key]
  if not queue then
    queue = { first = 1, last = 0, key = key }
    self.queues[key] = queue
    self.order[#self.order + 1] = queue
  end
  queue.last = queue.last + 1
  queue[queue.last] = fn
  self.posted = self.posted + 1
end

function Cluster:_transport(vertex, subtask)
  local cluster = self
  local function consumer(channel)
    return cluster.consumers[channel]
  end
  return {
    now = function() return cluster.time end,
    wake = function() end,
    data = function(channel, sequence, bytes)
      cluster.bytes = cluster.bytes + #bytes
      cluster:_post("d" .. channel, function()
        consumer(channel):on_data(channel, sequence, bytes)
      end)
      return true
    end,
    finish = function(channel, sequence)
      cluster:_post("d" .. channel, function()
        consumer(channel):on_finish(channel, sequence)
        cluster:_post("c" .. channel, function()
          cluster.producers[channel]:on_confirm(channel)
        end)
      end)
      return true
    end,
    credit = function(channel, n)
      cluster:_post("c" .. channel, function()
        cluster.producers[channel]:on_credit(channel, n)
      end)
      return true
    end,
    request_split = function()
      local key = vertex.id .. "." .. subtask
      cluster:_post("s" .. key, function()
        local list, at = vertex.splits or {}, cluster.next_split[vertex.id] or 1
        cluster.next_split[vertex.id] = at + 1
        cluster.tasks[key]:on_split(list[at])
      end)
    end,
  }
end

--- Makes the tasks of a loaded job file ({ job, entry, args, files }) or a job.
-- options: seed, rebuild (false: all tasks share one job object), attempt.
function M.new(loaded, options)
  options = options or {}
  if builder.is(loaded) then loaded = { job = loaded, files = {} } end
  assert(loaded.job:check())
  local p, err = plan.make(loaded.job, { entry = loaded.entry,
    args = loaded.args })
  if not p then error(err, 0) end
  local self = setmetatable({
    plan = p, time = 0, bytes = 0, posted = 0, steps = 0,
    queues = {}, order = {}, tasks = {}, list = {}, next_split = {},
    consumers = {}, producers = {}, chance = M.chance(options.seed or 1),
  }, Cluster)
  local bytes = loaded.entry and bundle.pack(loaded, M.codec, function(b)
    return tostring(#b)
  end)
  for _, vertex in ipairs(p.vertices) do
    for subtask = 0, vertex.parallelism - 1 do
      local job = loaded.job
      if bytes then
        job = assert(bundle.rebuild(bytes, loaded.args, M.codec))
      end
      local d = describe(p, vertex, subtask, options.attempt or 1)
      local task, failure = runtime.new(d, job, M.codec,
        self:_transport(vertex, subtask))
      if not task then error(failure, 0) end
      self.tasks[vertex.id .. "." .. subtask] = task
      self.list[#self.list + 1] = task
      for _, input in ipairs(d.inputs) do
        for _, id in ipairs(input.channels) do self.consumers[id] = task end
      end
      for _, out in ipairs(d.outputs) do
        for _, t in ipairs(out.targets) do self.producers[t.channel] = task end
      end
    end
  end
  return self
end

function Cluster:open()
  for _, task in ipairs(self.list) do task:open() end
end

local function deliver(cluster)
  local n = #cluster.order
  if n == 0 then return false end
  local start = cluster.chance(n)
  for i = 0, n - 1 do
    local queue = cluster.order[(start + i - 1) % n + 1]
    if queue.first <= queue.last then
      local fn = queue[queue.first]
      queue[queue.first] = nil
      queue.first = queue.first + 1
      cluster.posted = cluster.posted - 1
      fn()
      return true
    end
  end
  return false
end

--- One task step or one delivery. Answers false when nothing is left to do.
function Cluster:step(frozen)
  self.steps = self.steps + 1
  self.time = self.time + 0.01
  if self.posted > 0 and self.chance(2) == 1 then return deliver(self) end
  local start = self.chance(#self.list)
  for i = 0, #self.list - 1 do
    local task = self.list[(start + i - 1) % #self.list + 1]
    if task.state == "RUNNING" and task ~= frozen then
      local before = self.posted
      local answer = task:step()
      if answer ~= "idle" or self.posted > before then return true end
    end
  end
  return deliver(self)
end

--- Runs to the end: the result as on_result sees it, or nil and the first
-- error.
function Cluster:run(steps_max)
  self:open()
  for _ = 1, steps_max or 1e7 do
    for _, task in ipairs(self.list) do
      if task.state == "FAILED" then return nil, task.error end
    end
    if not self:step() then break end
  end
  local results = {}
  for i, task in ipairs(self.list) do
    if task.state == "FAILED" then return nil, task.error end
    if task.state ~= "FINISHED" then
      error(string.format("task %s of %s stays in %s, phase %s", task.attempt,
        task.vertex_name, task.state, task.phase))
    end
    results[i] = task:result()
  end
  return result.for_user(assert(result.merge(results)))
end

return M
