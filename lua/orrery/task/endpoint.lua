--- The task endpoint: puts the machine of orrery.task.runtime on RPC.
--
-- Owner: the TaskExecutor, which spawns it on the slot's executor as
-- task/<attempt>. What happens:
--   start       builds the job from its bundle, answers, then in a task of its
--               own: attaches to every consumer, opens the operators, RUNNING
--   attach      (consumer) connects back to the producer, for credits
--   step        posted to its own mailbox as long as there is work, so that
--               cancel, data and credits get their turn between two slices
--   end         states go to the TaskExecutor; it stops the endpoint
-- And each failure:
--   a consumer is not there yet      tried again until ATTACH_MS have passed
--   a link is full                   the buffer waits here, tried again
--   a consumer is gone               FAILED; the JobMaster restarts the job
--   messages lost with a connection  found by sequence numbers, by the answer
--                                    to finish, and by asking a consumer that
--                                    has given no credit for PROBE_MS: FAILED
--   the JobMaster does not answer    splits: tried again until SPLIT_MS
--   the TaskExecutor does not answer its end of process is ours too

local orrery = require("orrery")
local core = require("orrery.core")
local bundle = require("orrery.job.bundle")
local description = require("orrery.gateway.task")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local runtime = require("orrery.task.runtime")

local Task = orrery.endpoint(description)

local ATTACH_MS = 60000
local SPLIT_MS = 60000
local PROBE_MS = 5000
local RETRY_FIRST_MS, RETRY_MAX_MS = 5, 500
local NOTIFY_TRIES = 5
local CREDIT_RETRY_MS = 5
-- Outcomes after which the same may be tried again.
local PASSING = {
  not_started = true, unreachable = true, overloaded = true,
  expired_in_queue = true, expired_in_handler = true, expired_unsent = true,
  expired_unknown = true,
}

local function now_ms()
  return Executor.current():now_ms()
end

function Task:init()
  self.producers = {}      -- input channel -> gateway
  self.consumers = {}      -- output channel -> gateway
  self.owed = {}           -- input channel -> credits not given yet
  self.owed_order = {}
  self.splits_received = 0 -- a lost answer is given again by this number
end

-- The error that a handler of the other side answered, or the outcome itself.
local function outcome(err)
  if errors.is(err) and err.code == "remote" and err.cause then
    return err.cause
  end
  return err
end

-- Calls fn, a function that answers value or nil, err, until it works, fails
-- for good, the deadline passes, or the task has ended.
local function persist(self, deadline, fn)
  local pause = RETRY_FIRST_MS
  while true do
    local value, err = fn()
    if err == nil then return value end
    if not PASSING[outcome(err).code] or now_ms() >= deadline
      or self:_is_over() then
      return nil, err
    end
    orrery.sleep(pause)
    pause = math.min(pause * 2, RETRY_MAX_MS)
  end
end

function Task:_is_over()
  return not self.task or runtime.TERMINAL[self.task.state] or false
end

-- States ---------------------------------------------------------------------

function Task:_notify(state, err, result)
  local attempt = self.attempt
  local tries = 0
  return persist(self, math.huge, function()
    tries = tries + 1
    local executor, failure = self:_task_executor()
    local value
    if executor then
      value, failure = executor:notify_task_state(attempt, state,
        err and errors.to_table(err) or nil, result):await()
    end
    if failure and tries >= NOTIFY_TRIES then
      return nil, errors.new("task_failed", "the TaskExecutor was not told",
        { cause = failure })
    end
    return value, failure
  end)
end

function Task:_task_executor()
  if self.executor_gateway then return self.executor_gateway end
  local gateway, err = self:connect_to("task_executor", "task_executor")
    :await()
  if not gateway then return nil, err end
  self.executor_gateway = gateway
  return gateway
end

-- Tells the end once, in a task of its own.
function Task:_told_end()
  if self.end_told then return end
  self.end_told = true
  self:_drop_timers()
  local task = self.task
  self:run_async(function()
    local state, err = task.state, task.error
    local result = state == "FINISHED" and task:result() or nil
    local _, failure = self:_notify(state, err, result)
    if failure and state == "FINISHED" then
      -- The result may be what cannot be sent; an end must arrive all the same.
      self:_notify("FAILED", failure)
    end
  end)
end

function Task:_drop_timers()
  for _, name in ipairs({ "step_timer", "probe_timer", "credit_timer" }) do
    if self[name] then self[name]:cancel() end
    self[name] = nil
  end
end

-- Steps ----------------------------------------------------------------------

-- Posts a step behind the messages that wait; one at a time.
function Task:_wake()
  if self.posted or not self.task then return end
  self.posted = true
  if self.step_timer then
    self.step_timer:cancel()
    self.step_timer = nil
  end
  self:run_async(function() self:_step() end)
end

function Task:_step()
  self.posted = false
  local task = self.task
  local answer = task:step()
  if runtime.TERMINAL[task.state] then return self:_told_end() end
  if answer == "more" then
    self:_wake()
  elseif type(answer) == "number" and not self.posted then
    self.step_timer = self:schedule_run_async(answer, function()
      self.step_timer = nil
      self:_step_if_idle()
    end)
  end
  self:_watch_credits()
end

function Task:_step_if_idle()
  if not self.posted then self:_step() end
end

-- Asks consumers that gave no credit for a while whether anything was lost.
function Task:_watch_credits()
  if self.task.outputs.blocked == 0 or self.probe_timer then return end
  local sent = self.task.outputs.records_out
  self.probe_timer = self:schedule_run_async(PROBE_MS, function()
    self.probe_timer = nil
    if self:_is_over() or self.task.outputs.blocked == 0 then return end
    if self.task.outputs.records_out == sent then self:_probe() end
    if not self:_is_over() then self:_watch_credits() end
  end)
end

function Task:_probe()
  for _, channel in ipairs(self.task.outputs:stuck()) do
    local state, err = self.consumers[channel]:channel_state(channel):await()
    if self:_is_over() then return end
    if state then
      self.task:on_settle(channel, state[1], state[2])
    elseif err.code == "unreachable" or err.code == "callee_died" then
      self.task:fail(errors.new("task_failed", string.format(
        "the consumer of channel %s is gone", channel), { cause = err }))
    end
    if self:_is_over() then return self:_told_end() end
  end
  self:_wake()
end

-- Transport ------------------------------------------------------------------

function Task:_give_credits()
  local order = self.owed_order
  self.owed_order = {}
  for _, channel in ipairs(order) do
    local n, producer = self.owed[channel], self.producers[channel]
    self.owed[channel] = nil
    local ok, err
    if producer then ok, err = producer:credit(channel, n) end
    -- Full link: once more a little later. Any other failure means that the
    -- producer has ended, or that the connection broke, which it finds out.
    if not ok and err and err.code == "overloaded" then
      self:_owe(channel, n)
    end
  end
  if #self.owed_order > 0 and not self.credit_timer then
    self.credit_timer = self:schedule_run_async(CREDIT_RETRY_MS, function()
      self.credit_timer = nil
      self:_give_credits()
    end)
  end
end

function Task:_owe(channel, n)
  if not self.owed[channel] then
    self.owed_order[#self.owed_order + 1] = channel
  end
  self.owed[channel] = (self.owed[channel] or 0) + n
end

function Task:_finish_channel(channel, sequence)
  local consumer = self.consumers[channel]
  self:run_async(function()
    local _, err = persist(self, now_ms() + ATTACH_MS, function()
      return consumer:finish(channel, sequence):await()
    end)
    if self:_is_over() then return end
    if err then
      self.task:fail(errors.new("task_failed", string.format(
        "the end of channel %s was not confirmed", channel), { cause = err }))
      return self:_told_end()
    end
    self.task:on_confirm(channel)
    self:_wake()
  end)
  return true
end

function Task:_request_split()
  self:run_async(function()
    local task = self.task
    local split, err = persist(self, now_ms() + SPLIT_MS, function()
      local master, failure = self:_job_master()
      if not master then return nil, failure end
      return master:request_next_input_split(task.descriptor.vertex.id,
        self.attempt, self.splits_received):await()
    end)
    if self:_is_over() then return end
    if split ~= nil then self.splits_received = self.splits_received + 1 end
    task:on_split(split, err)
    if self:_is_over() then return self:_told_end() end
    self:_wake()
  end)
end

function Task:_job_master()
  if self.master then return self.master end
  local where = self.task.descriptor.job_master
  local gateway, err = self:connect_to(where.address, "job_master",
    { token = where.token }):await()
  if not gateway then return nil, err end
  self.master = gateway
  return gateway
end

function Task:_transport()
  return {
    now = now_ms,
    wake = function() self:_wake() end,
    data = function(channel, sequence, bytes)
      return self.consumers[channel]:data(channel, sequence, bytes)
    end,
    credit = function(channel, n)
      self:_owe(channel, n)
      self:_give_credits()
    end,
    finish = function(channel, sequence)
      return self:_finish_channel(channel, sequence)
    end,
    request_split = function() self:_request_split() end,
  }
end

-- Starting -------------------------------------------------------------------

-- Channels of each consumer, in the order of the descriptor.
local function consumers_of(descriptor)
  local list, by_address = {}, {}
  for _, described in ipairs(descriptor.outputs or {}) do
    for _, target in ipairs(described.targets) do
      local entry = by_address[target.address]
      if not entry then
        entry = { address = target.address, channels = {} }
        by_address[target.address] = entry
        list[#list + 1] = entry
      end
      entry.channels[#entry.channels + 1] = target.channel
    end
  end
  return list
end

function Task:_attach_to(consumer, deadline)
  return persist(self, deadline, function()
    local gateway, err = self:connect_to(consumer.address, "task"):await()
    if not gateway then return nil, err end
    local ok
    ok, err = gateway:attach(consumer.channels, self.address):await()
    if not ok then return nil, err end
    for _, channel in ipairs(consumer.channels) do
      self.consumers[channel] = gateway
    end
    return true
  end)
end

function Task:_run()
  local task = self.task
  self:_notify("INITIALIZING")
  local deadline = now_ms() + ATTACH_MS
  for _, consumer in ipairs(consumers_of(task.descriptor)) do
    local _, err = self:_attach_to(consumer, deadline)
    if self:_is_over() then return end
    if err then
      task:fail(errors.new("task_failed", string.format(
        "the consumer %s cannot be reached", consumer.address),
        { cause = err }))
      return self:_told_end()
    end
  end
  if not task:open() then return self:_told_end() end
  self:_notify("RUNNING")
  if not self:_is_over() then self:_wake() end
end

--- Builds the task; it runs from then on by itself.
function Task:start(descriptor, bundle_source)
  if self.task then
    return nil, errors.new("bad_argument", "the task was started already")
  end
  if self.cancelled then
    return nil, errors.new("cancelled", "the task was cancelled")
  end
  local job, err = bundle.rebuild(bundle_source, descriptor.args, core)
  if not job then return nil, err end
  local task
  task, err = runtime.new(descriptor, job, core, self:_transport())
  if not task then return nil, err end
  self.attempt = descriptor.attempt
  self.task = task
  self:run_async(function() self:_run() end)
  return true
end

-- Messages -------------------------------------------------------------------

local function not_started()
  return nil, errors.new("not_started", "the task is not started yet")
end

--- A producer is there; its credits go to its address.
function Task:attach(channels, address)
  if not self.task then return not_started() end
  local gateway, err = self:connect_to(address, "task"):await()
  if not gateway then return nil, err end
  for _, channel in ipairs(channels) do
    if not self.task.inputs.by_id[channel] then
      return nil, errors.new("bad_argument", "no input channel "
        .. tostring(channel))
    end
    self.producers[channel] = gateway
  end
  return true
end

-- After an outside event: the end is told, or the machine goes on.
function Task:_after()
  if self:_is_over() then return self:_told_end() end
  if self.task.state == "RUNNING" then self:_wake() end
end

function Task:data(channel, sequence, bytes)
  if self:_is_over() then return end
  self.task:on_data(channel, sequence, bytes)
  self:_after()
end

function Task:finish(channel, sequence)
  if not self.task then return not_started() end
  if self:_is_over() and self.task.state ~= "FINISHED" then
    return nil, errors.new("callee_died", "the consumer has ended")
  end
  self.task:on_finish(channel, sequence)
  local failure = self.task.error
  self:_after()
  if failure then return nil, failure end
  return true
end

function Task:channel_state(channel)
  if not self.task then return not_started() end
  return self.task:channel_state(channel)
end

function Task:credit(channel, n)
  if self:_is_over() then return end
  self.task:on_credit(channel, n)
  self:_after()
end

--- Ends the task at once; the state CANCELED follows. Cancelling what has ended
-- changes nothing.
function Task:cancel()
  self.cancelled = true
  if not self.task then return true end
  self.task:cancel()
  self:_told_end()
  return true
end

function Task:counters()
  if not self.task then return { state = "DEPLOYING" } end
  return self.task:counters()
end

function Task:on_stop()
  self:_drop_timers()
  if self.task then self.task:cancel() end
end

return Task
