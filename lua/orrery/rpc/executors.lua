--- Executors of a service and of an endpoint, in the sense of the framework:
-- where work that is no call runs, at once, later, or again and again.
--
--   service:get_executor():execute(fn)
--   service:get_scheduled_executor():schedule_at_fixed_rate("1 s", "1 s", fn)
--   self:get_main_thread_executor():schedule_with_fixed_delay(0, 500, fn)
--
-- A function runs as a task: it may await, and its executor serves others
-- meanwhile. Work of a service runs outside of every endpoint; work of an
-- endpoint is one of its messages: it overlaps with none of them, is held
-- until the start, and ends with the endpoint.
--
-- States of a scheduled one: waiting - running - waiting ... - done. It ends by
-- its result (once), by cancel, by an error, or with its owner. A late owner
-- drops the beats of a fixed rate that it missed: they are counted, not made
-- up for in a burst.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local log = require("orrery.native.log")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local function check_function(fn, who)
  if type(fn) ~= "function" then
    error(who .. ": a function is needed, got " .. type(fn), 3)
  end
end

-- Owners: what differs between a service and an endpoint ---------------------

-- Answers { name, executor, context, argument, scheduled, is_open(), post() }.
-- A service is open until its stop is done: what stops it may need timers.
local function service_owner(service)
  return {
    name = "service " .. tostring(service.name), executor = service._executor,
    context = service._executor.context, argument = nil,
    scheduled = service._scheduled,
    is_open = function()
      return not (service._stopping and service._stopping:is_done())
    end,
    post = function(fn, future)
      task.later(service._executor.context, function()
        task.start(service._executor.context, function(t, value, err)
          if future then
            if err ~= nil then future:reject(err) else future:resolve(value) end
          elseif err ~= nil then
            task.report(err, t.context)
          end
        end, false, false, fn)
      end)
      return true
    end,
  }
end

local function endpoint_owner(endpoint)
  local cell = rawget(endpoint, "_cell")
  if not cell then
    error("get_main_thread_executor: the endpoint was not made by "
      .. "service:start", 3)
  end
  return {
    name = cell.name, executor = cell.executor, context = cell,
    argument = endpoint, scheduled = nil,
    is_open = function() return not cell.gone end,
    post = function(fn, future)
      return cell.executor:post(cell, { fn = fn, future = future })
    end,
  }
end

-- Scheduled work --------------------------------------------------------------

local Scheduled = {}
Scheduled.__index = Scheduled

--- True when it will not run any more because of this call.
function Scheduled:cancel()
  if self._state == "done" then return false end
  self:_end("cancelled")
  self.future:reject(errors.new("cancelled",
    "the scheduled work was cancelled"))
  return true
end

function Scheduled:is_cancelled()
  return self._how == "cancelled"
end

function Scheduled:is_done()
  return self._state == "done"
end

--- Milliseconds until it runs next; 0 while it runs, negative never.
function Scheduled:get_delay()
  if self._state ~= "waiting" then return 0 end
  return math.max(0, self._at - self._owner.executor:now_ms())
end

function Scheduled:_end(how)
  self._state, self._how = "done", how
  if self._entry then
    self._owner.executor:cancel_timer(self._entry)
    self._entry = nil
  end
  if self._owner.scheduled then self._owner.scheduled[self] = nil end
end

-- When it runs next, after a run that was due at self._at.
local function next_time(self, now)
  if self._kind == "delay" then return now + self._period end
  local at = self._at + self._period
  if at >= now then return at end
  local missed = math.ceil((now - at) / self._period)
  self.missed = self.missed + missed
  return at + missed * self._period
end

local arm

local function ran(t, value, err)
  local self = t.call
  self.runs = self.runs + 1
  if self._state == "done" then return end
  if err ~= nil then
    self:_end("failed")
    err = errors.wrap(err)
    if self._kind ~= "once" then
      log.error("rpc", "%s: periodic work ends with an error: %s",
        self._owner.name, err:describe())
    end
    self.future:reject(err)
    return
  end
  if self._kind == "once" then
    self:_end("ran")
    self.future:resolve(value)
    return
  end
  if not self._owner.is_open() then return self:_end("closed") end
  self._at = next_time(self, self._owner.executor:now_ms())
  arm(self)
end

-- The timer entry is one of the executor's; on an endpoint it is held until the
-- start like every message.
function arm(self)
  local owner = self._owner
  self._state = "waiting"
  local delay = math.max(0, self._at - owner.executor:now_ms())
  self._entry = owner.executor:timer(delay, owner.context, function()
    self._entry = nil
    if self._state == "done" then return end
    self._state = "running"
    task.start(owner.context, ran, self, false, self._fn, owner.argument)
  end)
end

local function schedule(owner, kind, delay_ms, period_ms, fn)
  local self = setmetatable({
    _owner = owner, _kind = kind, _period = period_ms, _fn = fn,
    _at = owner.executor:now_ms() + delay_ms, future = Future.new(),
    runs = 0, missed = 0, _state = "waiting",
  }, Scheduled)
  self.future._on_cancel = function() self:cancel() end
  if not owner.is_open() then
    log.warn("rpc", "%s has ended: scheduled work will never run", owner.name)
    self._state, self._how = "done", "closed"
    return self
  end
  if owner.scheduled then owner.scheduled[self] = true end
  arm(self)
  return self
end

-- The executor object ---------------------------------------------------------

local Executor = {}
Executor.__index = Executor

--- Runs fn soon; errors are logged. After the end of the owner nil, err.
function Executor:execute(fn)
  check_function(fn, "execute")
  if not self._owner.is_open() then
    return nil, errors.new("closed", self._owner.name .. " has ended")
  end
  return self._owner.post(fn)
end

--- Future of fn's result.
function Executor:submit(fn)
  check_function(fn, "submit")
  local future = Future.new()
  if not self._owner.is_open() then
    future:reject(errors.new("closed", self._owner.name .. " has ended"))
    return future
  end
  local ok, err = self._owner.post(fn, future)
  if not ok then future:reject(err) end
  return future
end

--- Runs fn once after delay; a handle: cancel(), is_done(), is_cancelled(),
-- get_delay(), .future of the result.
function Executor:schedule(delay, fn)
  check_function(fn, "schedule")
  return schedule(self._owner, "once", time.check_ms(delay, "schedule"), 0, fn)
end

local function check_period(period, who)
  local ms = time.check_ms(period, who, 2)
  if ms <= 0 then error(who .. ": the period must be more than 0", 3) end
  return ms
end

--- Runs fn after initial and then at initial + n x period. Never two at once.
function Executor:schedule_at_fixed_rate(initial, period, fn)
  check_function(fn, "schedule_at_fixed_rate")
  return schedule(self._owner, "rate",
    time.check_ms(initial, "schedule_at_fixed_rate"),
    check_period(period, "schedule_at_fixed_rate"), fn)
end

--- Runs fn after initial and then each time delay after it ended.
function Executor:schedule_with_fixed_delay(initial, delay, fn)
  check_function(fn, "schedule_with_fixed_delay")
  return schedule(self._owner, "delay",
    time.check_ms(initial, "schedule_with_fixed_delay"),
    check_period(delay, "schedule_with_fixed_delay"), fn)
end

function M.of_service(service)
  service._scheduled = service._scheduled or {}
  return setmetatable({ _owner = service_owner(service) }, Executor)
end

function M.of_endpoint(endpoint)
  return setmetatable({ _owner = endpoint_owner(endpoint) }, Executor)
end

--- Ends the scheduled work of a service; its timers are gone.
function M.close(service)
  local list = {}
  for handle in pairs(service._scheduled or {}) do list[#list + 1] = handle end
  for _, handle in ipairs(list) do handle:_end("closed") end
end

-- What a service can do -------------------------------------------------------

local Mixin = {}

--- Where work outside of endpoints runs.
function Mixin:get_executor()
  local executor = self._executor_object
  if not executor then
    executor = M.of_service(self)
    self._executor_object = executor
  end
  return executor
end

--- The same object: it can schedule too.
function Mixin:get_scheduled_executor()
  return self:get_executor()
end

--- Runs fn soon, outside of every endpoint; true, or nil, err after the end.
function Mixin:execute_runnable(fn)
  check_function(fn, "execute_runnable")
  return self:get_executor():execute(fn)
end

--- Future of fn(), run as a task outside of every endpoint.
function Mixin:execute(fn)
  check_function(fn, "service:execute")
  return self:get_executor():submit(fn)
end

--- Runs fn once after delay; see schedule of the scheduled executor.
function Mixin:schedule_runnable(fn, delay)
  check_function(fn, "schedule_runnable")
  return self:get_executor():schedule(delay, fn)
end

--- The same with the delay first, as everything else here has it.
function Mixin:schedule(delay, fn)
  check_function(fn, "service:schedule")
  return self:get_executor():schedule(
    time.check_ms(delay, "service:schedule"), fn)
end

function M.install(Service)
  for name, fn in pairs(Mixin) do Service[name] = fn end
end

return M
