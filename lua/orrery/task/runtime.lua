--- One attempt of one subtask: the machine that pulls records through a chain.
--
-- Pure: RPC, clock and loop are behind `transport`, so that a spec runs whole
-- jobs in one process without any of them. The owner calls step() whenever
-- there may be something to do and obeys the answer.
--
--   INITIALIZING -> RUNNING -> FINISHED
--              any of these -> CANCELED | FAILED
--
-- While RUNNING the phases are: run (a source emits, or buffers are worked
-- off), drain (operators let go what they kept, upstream first), finish (ends
-- are told to the consumers). Each step is short: one slice of a source (2 ms),
-- or one buffer. A step does nothing while a channel waits for credits; that is
-- the whole of back pressure: no credits, no work, no credits given back.
--
-- transport:
--   data(channel, sequence, bytes) -> true | nil, err
--   finish(channel, sequence)      -> the same; answered by on_confirm
--   credit(channel, n)             request_split()  answered by on_split
--   now() -> ms                    wake()  the owner should call step soon

local errors = require("orrery.util.errors")
local bundle = require("orrery.job.bundle")
local graph = require("orrery.job.graph")
local context = require("orrery.task.context")
local input = require("orrery.task.input")
local operators = require("orrery.task.operators")
local output = require("orrery.task.output")

local M = {}

local SLICE_MS = 2
local READS_MAX = 256        -- of a slice: in simulation no time passes in it
local RETRY_MS = 5           -- the transport was full
local RESULT_MAX = 12582912  -- of collected records; below a frame's limit

---@class orrery.task.Task
local Task = {}
Task.__index = Task

M.TERMINAL = { FINISHED = true, CANCELED = true, FAILED = true }

-- Building -------------------------------------------------------------------

local function vertex_of(chained, descriptor)
  local vertex = chained.vertices[descriptor.vertex.id]
  local ok, err = bundle.check_operators(vertex and vertex.operators or {},
    descriptor.vertex.operators, descriptor.entry)
  if not ok then error(err, 0) end
  return vertex
end

local function find_edge(chained, id)
  local edge = chained.edges[id]
  if edge then return edge end
  error(errors.new("bad_argument", string.format(
    "the descriptor names edge %s, which the job lacks", tostring(id))), 0)
end

local function build_outputs(task, chained)
  local emits = {}
  for _, described in ipairs(task.descriptor.outputs or {}) do
    local edge = find_edge(chained, described.edge)
    local ids = {}
    for i, target in ipairs(described.targets) do ids[i] = target.channel end
    local list = emits[edge.from] or {}
    emits[edge.from] = list
    list[#list + 1] = task.outputs:add_edge(edge.kind, ids, edge.key)
  end
  return emits
end

local function build_chain(task, job)
  local g = job:graph()
  local ok, err = graph.check(g)
  if not ok then error(err, 0) end
  local resolved = graph.resolve(g)
  local chained = graph.chain(g, resolved)
  local vertex = vertex_of(chained, task.descriptor)
  local inside = {}
  for _, edge in ipairs(resolved.edges) do
    if edge.chained and chained.vertex_of[edge.from] == vertex.id then
      inside[#inside + 1] = edge
    end
  end
  local emits = build_outputs(task, chained)
  local chain = operators.compile(task, vertex.operators, inside, emits,
    function(name, list) task:_collect(name, list) end)
  task.chain = chain
  task.owners = chain.owners
  if vertex.operators[1].kind == "source" then
    task.source = vertex.operators[1]
    task.source_context = context.new(task, task.source)
    task.owners[task.source.source.open] = task.source
  end
end

--- Makes a task of a descriptor and the rebuilt job; nil, err when they do not
-- fit. codec: batch, decode_batch and encode of orrery.core.
---@return orrery.task.Task|nil
---@return orrery.Error|nil
function M.new(descriptor, job, codec, transport)
  local options = descriptor.options or {}
  local credits = options.buffers or 8
  local task = setmetatable({
    descriptor = descriptor,
    codec = codec,
    transport = transport,
    state = "INITIALIZING",
    phase = "run",
    subtask = descriptor.subtask,
    parallelism = descriptor.vertex.parallelism,
    attempt = descriptor.attempt,
    attempt_number = descriptor.attempt_number or 1,
    job_name = descriptor.job_name,
    vertex_name = descriptor.vertex.name,
    accumulators = context.accumulators(),
    now = transport.now,
    wake = transport.wake,
    latency_ms = options.latency_ms or 100,
    collected = {},
    emitted = 0,       -- records of the source
    splits = 0,        -- worked off
    drained = 0,       -- operators that are done with drain
  }, Task)
  task.outputs = output.new({
    codec = codec,
    send = transport.data,
    finish = transport.finish,
    credits = credits,
    buffer_size = options.buffer_size or 32768,
    subtask = task.subtask,
  })
  task.inputs = input.new({
    codec = codec,
    give = transport.credit,
    credits = credits,
  })
  for _, described in ipairs(descriptor.inputs or {}) do
    for _, id in ipairs(described.channels) do task.inputs:add_channel(id) end
  end
  local ok, err = xpcall(build_chain, function(e)
    if errors.is(e) then return e end
    return errors.new("task_failed", tostring(e),
      { traceback = debug.traceback("", 2) })
  end, task, job)
  if not ok then return nil, err end
  task.catch = context.catcher(task.owners, function(operator, thrown, trace)
    -- A throw of the transport or the codec has no operator; a typed error of
    -- ours stays as it is.
    if not operator and errors.is(thrown) then return thrown end
    return context.failure(task, operator, task:position(), thrown, trace)
  end)
  return task
end

--- Number of the record at work, or nil before the first and after the last.
function Task:position()
  if self.phase ~= "run" then return nil end
  if self.source then return self.emitted end
  return self.inputs:position()
end

-- Ends -----------------------------------------------------------------------

function Task:_collect(name, list)
  local all = self.collected[name]
  if not all then
    self.collected[name] = list
    return
  end
  for _, record in ipairs(list) do all[#all + 1] = record end
end

-- Failures of clean-up are told, not hidden, but change no outcome.
function Task:_close_source(problems)
  local close = self.close_split
  self.read, self.close_split = nil, nil
  if not close then return end
  local ok, err = pcall(close)
  if not ok then problems[#problems + 1] = tostring(err) end
end

function Task:_abort()
  local problems = {}
  self:_close_source(problems)
  for _, instance in ipairs(self.chain.instances) do
    if instance.abort then
      local ok, err = pcall(instance.abort)
      if not ok then problems[#problems + 1] = tostring(err) end
    end
  end
  return problems
end

function Task:_end(state, err)
  self.state = state
  self.error = err
  if state ~= "FINISHED" then
    local problems = self:_abort()
    if #problems > 0 and err then
      err.context = err.context or {}
      err.context.cleanup = table.concat(problems, "; ")
    end
  end
end

--- Fails the task from outside: a lost connection, a broken channel.
function Task:fail(err)
  if M.TERMINAL[self.state] then return end
  self:_end("FAILED", errors.wrap(err, "task_failed"))
end

--- Ends the task now; nothing is emitted any more.
function Task:cancel()
  if M.TERMINAL[self.state] then return end
  self:_end("CANCELED")
end

--- What the task leaves behind once FINISHED.
function Task:result()
  return {
    accumulators = self.accumulators.values(),
    collected = self.collected,
  }
end

-- Refuses a result that no message can carry, with advice.
function Task:_check_result()
  if next(self.collected) == nil then return end
  local bytes = self.codec.encode(self.collected)
  if #bytes > RESULT_MAX then
    error(errors.new("too_large", string.format("the collected records are %d "
      .. "bytes, at most %d fit into the result; write to sinks.file", #bytes,
      RESULT_MAX)), 0)
  end
end

-- Running --------------------------------------------------------------------

--- Opens the operators: RUNNING, or FAILED with self.error.
function Task:open()
  local ok, err = xpcall(function()
    local instances = self.chain.instances
    for i = #instances, 1, -1 do
      if instances[i].open then instances[i].open() end
    end
    if self.source then self:_open_source() end
  end, self.catch)
  if ok then
    self.state = "RUNNING"
    self.last_flush = self.now()
  else
    self:_end("FAILED", err)
  end
  return ok
end

function Task:_open_source()
  local head = self.chain.head
  -- Counts before the call: an error names the record.
  self.emit = function(record)
    self.emitted = self.emitted + 1
    head(record)
  end
  local source = self.source.source
  if not (source.bounded and source.splits) then self:_open_split(nil) end
end

function Task:_open_split(split)
  local read, close = self.source.source:open(split, self.source_context)
  if type(read) ~= "function" then
    error(string.format("the source of %q gives no read function",
      self.source.name), 0)
  end
  self.owners[read] = self.source
  self.read, self.close_split = read, close
end

--- The answer to transport.request_split: a split, nil at the end, or an error.
function Task:on_split(split, err)
  if self.state ~= "RUNNING" then return end
  self.asked = false
  if err then
    self:fail(errors.new("task_failed", "no input split: "
      .. tostring(err.message or err), { cause = err }))
    return
  end
  if split == nil then
    self.no_more_splits = true
    return
  end
  local ok, failure = xpcall(function() self:_open_split(split) end, self.catch)
  if not ok then self:_end("FAILED", failure) end
end

function Task:_split_ended()
  local close = self.close_split
  self.owners[self.read] = nil
  self.read, self.close_split = nil, nil
  self.splits = self.splits + 1
  if close then close() end
  local source = self.source.source
  if not (source.bounded and source.splits) then self.no_more_splits = true end
end

-- One slice of the source.
function Task:_run_source()
  if self.no_more_splits then
    self.phase = "drain"
    return "more"
  end
  if not self.read then
    if not self.asked then
      self.asked = true
      self.transport.request_split()
      if self.read or self.no_more_splits then return "more" end
    end
    return "idle"
  end
  local now, outputs, emit = self.now, self.outputs, self.emit
  local stop, reads = now() + SLICE_MS, 0
  repeat
    reads = reads + 1
    local again = self.read(emit)
    if not again then
      self:_split_ended()
      return "more"
    end
    if type(again) == "number" then return again end
  until outputs.blocked > 0 or now() >= stop or reads >= READS_MAX
  return "more"
end

function Task:_run_inputs()
  local inputs = self.inputs
  if inputs:is_ready() then
    local stop = self.now() + SLICE_MS
    repeat
      inputs:work(self.chain.head, self.outputs)
    until self.outputs.blocked > 0 or not inputs:is_ready()
      or self.now() >= stop
    return inputs:is_ready() and "more" or self:_run_inputs_end()
  end
  return self:_run_inputs_end()
end

function Task:_run_inputs_end()
  if not self.inputs:is_ended() then return "idle" end
  self.phase = "drain"
  return "more"
end

-- Operators upstream first: what they let go still runs through those below.
function Task:_drain()
  local instances = self.chain.instances
  while self.drained < #instances do
    local drain = instances[self.drained + 1].drain
    if not drain or drain() then
      self.drained = self.drained + 1
    else
      return "more"
    end
    if self.outputs.blocked > 0 then return "more" end
  end
  self:_check_result()
  self.phase = "finish"
  return "more"
end

function Task:_finish()
  if self.outputs:finish() then
    self:_end("FINISHED")
    return "done"
  end
  return "idle"
end

function Task:_flush()
  self.last_flush = self.now()
  if not self.source or not self.source.bounded then
    for _, instance in ipairs(self.chain.instances) do
      if instance.flush and not instance.operator.bounded
        and self.outputs.blocked == 0 then
        instance.flush()
      end
    end
  end
  self.outputs:flush()
end

local RUN = {
  run = function(task)
    if task.source then return task:_run_source() end
    return task:_run_inputs()
  end,
  drain = Task._drain,
  finish = Task._finish,
}

local function advance(task)
  local outputs = task.outputs
  if outputs.blocked > 0 then
    outputs:pump()
    if outputs.blocked > 0 and task.phase ~= "finish" then
      return outputs.retry and RETRY_MS or "idle"
    end
  end
  local answer = RUN[task.phase](task)
  if answer == "done" then return answer end
  if answer ~= "more" or task.now() - task.last_flush >= task.latency_ms then
    task:_flush()
  end
  if outputs.retry then return RETRY_MS end
  if outputs.blocked > 0 then return "idle" end
  return answer
end

--- Does a bounded piece of work. Answers "more" (call again soon), "idle"
-- (after the next message), a number (then, or in so many ms) or "done" (see
-- state).
function Task:step()
  if self.state ~= "RUNNING" then return "done" end
  local ok, answer = xpcall(advance, self.catch, self)
  if not ok then
    self:_end("FAILED", answer)
    return "done"
  end
  if self.state ~= "RUNNING" then return "done" end
  return answer
end

-- Messages -------------------------------------------------------------------

local function check(task, ok, err)
  if not ok then task:fail(err) end
  return ok
end

function Task:on_data(channel, sequence, bytes)
  if M.TERMINAL[self.state] then return end
  return check(self, self.inputs:accept(channel, sequence, bytes))
end

function Task:on_finish(channel, sequence)
  if M.TERMINAL[self.state] then return end
  return check(self, self.inputs:finish(channel, sequence))
end

function Task:on_credit(channel, n)
  if M.TERMINAL[self.state] then return end
  local ok, granted, err = pcall(self.outputs.grant, self.outputs, channel, n)
  if not ok then return check(self, nil, granted) end
  return check(self, granted, err)
end

--- A consumer has everything up to the end of a channel.
function Task:on_confirm(channel)
  if M.TERMINAL[self.state] then return end
  return check(self, self.outputs:confirm(channel))
end

--- What a consumer says of a channel that waits for credits.
function Task:on_settle(channel, received, given)
  if M.TERMINAL[self.state] then return end
  local ok, settled, err = pcall(self.outputs.settle, self.outputs, channel,
    received, given)
  if not ok then return check(self, nil, settled) end
  return check(self, settled, err)
end

--- Buffers of an input channel: received, and credits given back.
function Task:channel_state(channel)
  local receiver = self.inputs.by_id[channel]
  if not receiver then
    return nil, errors.new("bad_argument", "no input channel "
      .. tostring(channel))
  end
  return { receiver.received, receiver.given }
end

--- What is going on, for progress and for people.
function Task:counters()
  local outputs, inputs = self.outputs, self.inputs
  return {
    state = self.state,
    phase = self.phase,
    records_in = self.source and self.emitted or inputs.records_in + inputs.at,
    records_out = outputs.records_out,
    bytes_in = inputs.bytes_in,
    bytes_out = outputs.bytes_out,
    bytes = inputs.bytes_in + outputs.bytes_out,
    splits = self.splits,
    waiting_in = inputs:backlog(),
    waiting_out = outputs:backlog(),
    blocked = outputs.blocked,
  }
end

return M
