--- Futures: a value or an error that comes later.
--
-- States: pending, then once resolved or rejected. Who settles a future never
-- runs what waits for it: waiting tasks and callbacks go to the run list
-- (orrery.util.task), so that a handler is never entered from inside another.
-- The one exception is `_deliver`, for the top level of a drain loop.
--
-- A callback runs as a task in the context it was registered in; when that
-- context is gone it does not run.

local errors = require("orrery.util.errors")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local context_now, later = task.context, task.later
local resume, resume_later = task.resume, task.resume_later
local waitable, wait = task.waitable, task.wait

---@class orrery.Future
---@field _state false|1|2 false pending, 1 resolved, 2 rejected
local Future = {}
Future.__index = Future

local RESOLVED, REJECTED = 1, 2

-- Set by the executor: how the main chunk waits, and how time passes.
local runner, timer

--- Runs events until the future is done; for awaits on the main chunk.
function Future.set_runner(fn)
  local before = runner
  runner = fn
  return before
end

--- fn(delay_ms, callback) -> cancel function.
function Future.set_timer(fn)
  timer = fn
end

function Future.new()
  -- Every field from the start, and false rather than nil: a table that grows
  -- is hashed again, and a field that is nil is looked for in the class.
  return setmetatable({ _state = false, _value = false, _waiter = false,
    _callbacks = false }, Future)
end

function Future.is(v)
  return type(v) == "table" and getmetatable(v) == Future
end

local is = Future.is

local function finish(self, state, value)
  self._state, self._value = state, value
  local waiter = self._waiter
  if waiter then
    self._waiter = false
    if state == RESOLVED then
      resume_later(waiter, value)
    else
      resume_later(waiter, nil, value)
    end
  end
  local callbacks = self._callbacks
  if callbacks then
    self._callbacks = false
    local ok, err = value, nil
    if state == REJECTED then ok, err = nil, value end
    for i = 1, #callbacks, 2 do
      later(callbacks[i + 1], callbacks[i], ok, err)
    end
  end
  return true
end

-- A reply at the top level of a drain loop: a lone waiter goes on right now.
function Future._deliver(self, state, value)
  local waiter = self._waiter
  if waiter and not self._callbacks and not self._state then
    self._state, self._value, self._waiter = state, value, false
    if state == RESOLVED then return resume(waiter, value) end
    return resume(waiter, nil, value)
  end
  if not self._state then finish(self, state, value) end
end

--- Resolves with a value; a future is followed. False when settled already.
function Future:resolve(value)
  if self._state or self._follows then return false end
  if is(value) then
    if value == self then
      error("Future:resolve: a future cannot wait for itself", 2)
    end
    self._follows = value
    value:_watch(function(v, err)
      self._follows = nil
      if err ~= nil then
        if not self._state then finish(self, REJECTED, err) end
      elseif not self._state then
        finish(self, RESOLVED, v)
      end
    end)
    return true
  end
  return finish(self, RESOLVED, value)
end

--- Rejects with an error; false when settled already.
function Future:reject(err)
  if self._state then return false end
  return finish(self, REJECTED, errors.wrap(err))
end

function Future:is_done()
  return self._state ~= false
end

--- Value or nil, err of a settled future; nil, nil while it is pending.
function Future:peek()
  if self._state == REJECTED then return nil, self._value end
  if self._state == RESOLVED then return self._value end
  return nil
end

-- Registers fn(value, err) in the root of the event loop: for plumbing that
-- must run whatever becomes of the endpoint that made it.
local plumbing = { gone = false, name = "futures" }

function Future:_watch(fn)
  local state = self._state
  if state == RESOLVED then
    later(plumbing, fn, self._value)
  elseif state == REJECTED then
    later(plumbing, fn, nil, self._value)
  else
    local list = self._callbacks
    if not list then
      self._callbacks = { fn, plumbing }
    else
      list[#list + 1] = fn
      list[#list + 1] = plumbing
    end
  end
  return self
end

--- Calls fn(value, err) when done, as a task of the endpoint that runs now.
function Future:on_done(fn)
  if type(fn) ~= "function" then
    error("Future:on_done: a function is needed, got " .. type(fn), 2)
  end
  local context = context_now()
  local state = self._state
  if state == RESOLVED then
    later(context, fn, self._value)
  elseif state == REJECTED then
    later(context, fn, nil, self._value)
  else
    local list = self._callbacks or {}
    self._callbacks = list
    list[#list + 1] = fn
    list[#list + 1] = context
  end
  return self
end

--- Waits: value, or nil, err. In a task it suspends the task; on the main chunk
-- it runs the event loop.
function Future:await()
  local state = self._state
  if not state then
    local waiter = waitable("Future:await")
    if waiter then
      if not self._waiter then
        self._waiter = waiter
      else
        self:_watch(function(value, err)
          resume_later(waiter, value, err)
        end)
      end
      return wait()
    end
    if not runner then
      error("Future:await: nothing runs the event loop here; make a service "
        .. "or a simulation first", 2)
    end
    runner(self)
    state = self._state
  end
  if state == REJECTED then return nil, self._value end
  return self._value
end

-- Runs fn of and_then and or_else: value, future, or nil, err; a throw rejects.
local function follow(out, fn, argument)
  local context = context_now()
  task.start(context, function(_, value, err)
    if err ~= nil then out:reject(err) else out:resolve(value) end
  end, false, false, fn, argument)
end

--- Future of fn(value); an error passes by.
function Future:and_then(fn)
  local out = Future.new()
  self:on_done(function(value, err)
    if err ~= nil then out:reject(err) else follow(out, fn, value) end
  end)
  return out
end

--- Future of fn(err) after an error; a value passes by.
function Future:or_else(fn)
  local out = Future.new()
  self:on_done(function(value, err)
    if err ~= nil then follow(out, fn, err) else out:resolve(value) end
  end)
  return out
end

--- Future with the same result, or the error `timeout` after this long. The
-- work behind it goes on; cancel() ends that.
function Future:with_timeout(duration)
  local ms = time.check_ms(duration, "Future:with_timeout")
  if not timer then
    error("Future:with_timeout: there is no event loop yet; make a service "
      .. "or a simulation first", 2)
  end
  local out = Future.new()
  local cancel = timer(ms, function()
    out:reject(errors.new("timeout", "not done after " .. time.format_ms(ms)))
  end)
  self:_watch(function(value, err)
    cancel()
    if err ~= nil then out:reject(err) else out:resolve(value) end
  end)
  out._on_cancel = function() self:cancel() end
  return out
end

--- Gives up: rejects with `cancelled` and tells who works on it, where that is
-- possible. False when it was done already.
function Future:cancel()
  if self._state then return false end
  local call, on_cancel = self._call, self._on_cancel
  if call then call.cancel(self) end
  if on_cancel then on_cancel(self) end
  if not self._state then
    finish(self, REJECTED, errors.new("cancelled", "the caller gave up"))
  end
  return true
end

function Future.resolved(value)
  local out = Future.new()
  out:resolve(value)
  return out
end

function Future.rejected(err)
  local out = Future.new()
  out:reject(err)
  return out
end

local function check_list(list, who)
  if type(list) ~= "table" then
    error(who .. ": a list of futures is needed, got " .. type(list), 3)
  end
  for i = 1, #list do
    if not is(list[i]) then
      error(string.format("%s: entry %d is a %s, not a future", who, i,
        type(list[i])), 3)
    end
  end
end

--- Future of all values, in the order of the list; the first error rejects it.
function Future.all(list)
  check_list(list, "Future.all")
  local out, values, left = Future.new(), {}, #list
  if left == 0 then out:resolve(values) end
  for i = 1, #list do
    list[i]:_watch(function(value, err)
      if err ~= nil then
        out:reject(err)
      else
        values[i] = value
        left = left - 1
        if left == 0 then out:resolve(values) end
      end
    end)
  end
  return out
end

--- Future of the first value; when all fail, of the last error.
function Future.any(list)
  check_list(list, "Future.any")
  if #list == 0 then
    error("Future.any: the list is empty, nothing could ever be done", 2)
  end
  local out, left = Future.new(), #list
  for i = 1, #list do
    list[i]:_watch(function(value, err)
      left = left - 1
      if err == nil then
        out:resolve(value)
      elseif left == 0 then
        out:reject(err)
      end
    end)
  end
  return out
end

return Future
