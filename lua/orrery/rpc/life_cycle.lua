--- The life cycle of endpoints: their cells.
--
--   created    the name is taken; calls are answered not_started
--   starting   on_start runs; calls and posted work are held
--   started    serves
--   suspended  a stop without an end: as created; a start runs on_start again
--   stopping   closeables, then on_stop; it still serves
--   crashed    nothing of the old life runs; waits for its next life
--   gone       the name is free, the termination future is done
--
-- A cell is one life of an endpoint. After a crash (an error of on_start, a
-- failure that the policy calls fatal, endpoint:crash) a new cell takes over
-- the slot and the name, so gateways stay good: calls that waited are answered
-- unreachable, those under way callee_died, and until the next start
-- not_started. Too many crashes within a time end the endpoint; its
-- termination future says so. Other endpoints never notice.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local log = require("orrery.native.log")
local native = require("orrery.native.service")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

-- Closeables of one endpoint.
local CLOSEABLES_MAX = 65536

-- What the next life takes over.
local LASTING = {
  "name", "class", "class_name", "service", "executor", "slot", "ref", "token",
  "token_bytes", "handlers", "methods", "args", "policy", "crashes",
  "on_failure", "termination", "server", "gateways", "log_context",
  "log_fields", "stop_wanted", "suspend_wanted", "keyed", "reply_bounds",
}

local function set_state(cell, state)
  native.set_state(cell.executor.pointer, cell.service._pointer, cell.slot,
    state)
end

--- The cell that lives now.
function M.latest(cell)
  while cell.successor do cell = cell.successor end
  return cell
end

-- Termination -----------------------------------------------------------------

--- The termination future, made when somebody asks for it.
function M.termination(cell)
  cell = M.latest(cell)
  local future = cell.termination
  if future then return future end
  future = Future.new()
  cell.termination = future
  if cell.state == "gone" then
    if cell.outcome ~= nil then
      future:reject(cell.outcome)
    else
      future:resolve(true)
    end
  end
  return future
end

local function ended(cell, err)
  local service = cell.service
  local executor = cell.executor
  cell.state = "gone"
  native.close(executor.pointer, service._pointer, cell.slot)
  executor:remove_cell(cell)
  cell.gone, cell.held, cell.outcome = true, nil, err
  service._cells[cell.name] = nil
  if service._log_lifecycle then
    log.info("rpc", "endpoint %s has ended%s", cell.name,
      err ~= nil and ": " .. tostring(err) or "")
  end
  if not cell.termination then return end
  if err ~= nil then
    cell.termination:reject(err)
  else
    cell.termination:resolve(true)
  end
end

-- Closeables ------------------------------------------------------------------

local function traced(message)
  local e = errors.wrap(message)
  e.traceback = e.traceback or debug.traceback("", 2)
  return e
end

-- Runs fn and waits for its future; nil or the error.
local function failure_of(fn, ...)
  local _
  local ok, value, err = xpcall(fn, traced, ...)
  if not ok then return value end
  if err ~= nil then return errors.wrap(err) end
  if Future.is(value) then
    _, err = value:await()
    return err
  end
  return nil
end

local function close_one(closeable)
  if type(closeable) == "function" then return closeable() end
  return closeable:close()
end

-- The last registered first; the first failure, the others are logged.
local function close_all(cell)
  local list, first = cell.closeables, nil
  cell.closeables = false
  for i = list and #list or 0, 1, -1 do
    local err = failure_of(close_one, list[i])
    if err then
      log.error("rpc", "%s: a registered resource cannot be closed: %s",
        cell.name, err:describe())
      first = first or err
    end
  end
  return first
end

--- Registers what is closed before on_stop, and also after a crash: a function,
-- or something with a method close. Answers it, or nil, err when the endpoint
-- has closed its resources already (then it is closed at once).
function M.register(cell, closeable)
  if cell.gone or cell.closeables == false then
    local err = failure_of(close_one, closeable)
    return nil, errors.new("unreachable", "endpoint " .. cell.name
      .. " is ending: the resource was closed at once", { cause = err })
  end
  local list = cell.closeables or {}
  if #list >= CLOSEABLES_MAX then
    return nil, errors.new("overloaded", string.format("endpoint %s has %d "
      .. "registered resources already", cell.name, #list))
  end
  cell.closeables = list
  list[#list + 1] = closeable
  return closeable
end

--- False when it is not registered.
function M.unregister(cell, closeable)
  local list = cell.closeables or {}
  for i = #list, 1, -1 do
    if list[i] == closeable then
      table.remove(list, i)
      return true
    end
  end
  return false
end

-- Crashes ---------------------------------------------------------------------

local begin_life, start_cell

local function crash_error(cell, text, cause)
  return errors.new("crashed", "endpoint " .. cell.name .. " " .. text,
    { cause = cause, context = { endpoint = cell.name } })
end

-- How many crashes there were within the policy's time, this one included.
local function count_crash(cell)
  local policy, now = cell.policy, cell.executor:now_ms()
  local recent = {}
  for _, at in ipairs(cell.crashes or {}) do
    if now - at < policy.within_ms then recent[#recent + 1] = at end
  end
  recent[#recent + 1] = now
  cell.crashes = recent
  return #recent
end

-- What becomes of a crashed endpoint. why: the whole error of a last crash.
local function decide(cell, why)
  local policy = cell.policy
  if not policy or policy.kind == "never" or cell.stop_wanted
    or cell.service._stopping then
    return ended(cell, why)
  end
  local count = count_crash(cell)
  if count > policy.max then
    return ended(cell, crash_error(cell, string.format(
      "crashed %d times within %s, the limit is %d: it is not started again",
      count, time.format_ms(policy.within_ms), policy.max), why))
  end
  local delay = math.min(policy.backoff_max_ms,
    policy.backoff_ms * 2 ^ (count - 1))
  log.warn("rpc", "%s: starts again in %s (%d of %d within %s)", cell.name,
    time.format_ms(delay), count, policy.max, time.format_ms(policy.within_ms))
  cell.why = why
  cell.restart_timer = cell.executor:timer(delay, cell.executor.context,
    function() begin_life(cell) end)
end

local function next_life(old)
  local cell = { state = "crashed", gone = false, held = true }
  for _, key in ipairs(LASTING) do cell[key] = old[key] end
  old.successor = cell
  cell.executor.cells[cell.ref] = cell
  cell.service._cells[cell.name] = cell
  if cell.server then cell.server._cell = cell end
  return cell
end

-- Closes what the old life had registered, outside of it, then goes on.
local function close_then(old, fn)
  if not old.closeables then return fn() end
  local context = { gone = false, name = old.name, executor = old.executor,
    log_context = old.log_context }
  task.start(context, fn, false, false, close_all, old)
end

--- Ends this life at once. why: the error for the termination future, should
-- this be the last life.
local function crash(cell, why)
  if cell.gone or cell.state == "crashed" then return end
  native.reset(cell.executor.pointer, cell.service._pointer, cell.slot)
  cell.executor:clear_cell(cell)
  cell.gone, cell.held = true, nil
  local life = next_life(cell)
  close_then(cell, function() decide(life, why) end)
end

--- Crashes the endpoint with err, after what runs now.
function M.crash(cell, err)
  err = errors.wrap(err)
  task.later(cell.executor.context, function()
    if cell.gone or cell.state == "crashed" then return end
    log.error("rpc", "%s%s crashed: %s", cell.log_context or "", cell.name,
      err:describe())
    crash(cell, crash_error(cell, "crashed: " .. err.message, err))
  end)
end

-- Failures of handlers and posted work: fatal ones are crashes.
local function on_failure(cell, err)
  if not cell.gone and cell.policy.is_fatal(err) then M.crash(cell, err) end
end

-- Stop ------------------------------------------------------------------------

local function finish(cell, err)
  if cell.ends_itself and cell.policy and cell.policy.kind == "always"
    and not cell.service._stopping then
    cell.stop_wanted = false
    return crash(cell, err or crash_error(cell, "ended by itself"))
  end
  ended(cell, err)
end

local function stop_failed(cell, err)
  err = errors.wrap(err)
  log.error("rpc", "%s%s: on_stop failed: %s", cell.log_context or "",
    cell.name, err:describe())
  return errors.new("remote", "endpoint " .. cell.name .. ": on_stop failed",
    { cause = err })
end

local function on_stop_done(t, value, err)
  local cell = t.context
  if cell.gone then return end
  if err == nil and Future.is(value) then
    value:_watch(function(_, e)
      if not cell.gone then
        finish(cell, e ~= nil and stop_failed(cell, e) or nil)
      end
    end)
    return
  end
  finish(cell, err ~= nil and stop_failed(cell, err) or nil)
end

local function close_and_stop(object)
  local cell = object._cell
  local close_failure = close_all(cell)
  local on_stop = object.on_stop
  local stop_failure = on_stop and failure_of(on_stop, object)
  if close_failure and stop_failure then
    log.error("rpc", "%s: on_stop failed: %s", cell.name,
      stop_failure:describe())
  end
  return nil, close_failure or stop_failure
end

local function begin_stop(cell)
  local state = cell.state
  if state ~= "started" and state ~= "suspended" and state ~= "created" then
    return
  end
  cell.state = "stopping"
  if state == "suspended" then cell.executor:release(cell) end
  local on_stop = state ~= "created" and cell.object.on_stop
  if not on_stop and not cell.closeables then return finish(cell) end
  if state == "started" then set_state(cell, native.STOPPING) end
  cell.in_on_stop = state ~= "created"
  if not cell.closeables then
    cell.closeables = false
    task.start(cell, on_stop_done, false, false, on_stop, cell.object)
  elseif on_stop then
    task.start(cell, on_stop_done, false, false, close_and_stop, cell.object)
  else
    task.start(cell, on_stop_done, false, false, function()
      return nil, close_all(cell)
    end)
  end
  cell.in_on_stop = false
end

-- In the mailbox, behind the messages that wait now.
local function post(cell, fn)
  local ok, err = cell.executor:post(cell, { run = fn })
  if ok then return end
  log.warn("rpc", "%s: %s; not waiting for its mailbox", cell.name,
    tostring(err))
  task.later(cell.executor.context, fn, cell)
end

local function stop_crashed(cell)
  if cell.restart_timer then
    cell.executor:cancel_timer(cell.restart_timer)
    ended(cell, cell.why)
  end
end

--- Ends an endpoint, behind the messages that wait; its termination future.
-- by_itself: not its owner but its own code wants it.
function M.stop(cell, by_itself)
  cell = M.latest(cell)
  local future = M.termination(cell)
  if not by_itself then cell.ends_itself = false end
  if cell.stop_wanted or cell.gone then return future end
  cell.stop_wanted = true
  cell.ends_itself = by_itself == true
  local state = cell.state
  if state == "created" or state == "suspended" then
    begin_stop(cell)
  elseif state == "started" then
    post(cell, begin_stop)
  elseif state == "crashed" then
    stop_crashed(cell)
  end
  return future
end

-- Suspend ---------------------------------------------------------------------

local function refused(cell, what)
  return nil, errors.new("invalid_state", string.format(
    "endpoint %s cannot be %s: it is %s", cell.name, what, cell.state),
    { context = { endpoint = cell.name, state = cell.state } })
end

local function begin_suspend(cell)
  if cell.state ~= "started" or cell.stop_wanted then return end
  cell.suspend_wanted = false
  cell.state, cell.held = "suspended", true
  set_state(cell, native.CREATED)
  if cell.start_again then
    cell.start_again = false
    start_cell(cell)
  end
end

--- Stops serving without an end, behind the messages that wait.
function M.suspend(cell)
  cell = M.latest(cell)
  local state = cell.state
  if cell.stop_wanted or cell.gone then return refused(cell, "suspended") end
  cell.start_again = false
  if state == "created" or state == "suspended" or cell.suspend_wanted then
    return true
  end
  cell.suspend_wanted = true
  if state == "started" then post(cell, begin_suspend) end
  return true
end

-- Start -----------------------------------------------------------------------

local function started(cell)
  cell.state = "started"
  if cell.service._log_lifecycle then
    log.info("rpc", "endpoint %s has started", cell.name)
  end
  if cell.held then cell.executor:release(cell) end
  if cell.gone then return end
  if cell.stop_wanted then return post(cell, begin_stop) end
  if cell.suspend_wanted then post(cell, begin_suspend) end
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
  if err == nil then return started(cell) end
  local cause = errors.wrap(err)
  log.error("rpc", "%s%s: on_start failed: %s", cell.log_context or "",
    cell.name, cause:describe())
  crash(cell, errors.new("remote", "endpoint " .. cell.name
    .. " could not be started: on_start failed", { cause = cause }))
end

local function begin_start(cell)
  if cell.state ~= "starting" then return end
  task.start(cell, on_start_done, false, false, cell.object.on_start,
    cell.object)
end

function start_cell(cell)
  set_state(cell, native.STARTED)
  if not cell.object.on_start then return started(cell) end
  cell.state = "starting"
  task.later(cell, begin_start, cell)
end

--- Starts a created or suspended endpoint. Nothing to do when it is started;
-- refused when it is stopping or gone.
function M.start(cell)
  cell = M.latest(cell)
  local state = cell.state
  if cell.stop_wanted or cell.gone then return refused(cell, "started") end
  if state == "created" or state == "suspended" then
    start_cell(cell)
  elseif cell.suspend_wanted then
    cell.start_again = true
  end
  return true
end

--- True from before on_start until on_stop has returned or waits.
function M.is_running(cell)
  local state = cell.state
  return state == "starting" or state == "started" or cell.in_on_stop == true
end

-- Making ----------------------------------------------------------------------

local function init(cell, args)
  local object, fn = cell.object, cell.class.init
  local n = args.n or #args
  local ok, thrown
  if n == 0 then
    ok, thrown = xpcall(fn, traced, object)
  else
    ok, thrown = xpcall(fn, traced, object, unpack(args, 1, n))
  end
  if ok then return true end
  return nil, thrown
end

local NO_ARGS = {}

--- Makes the object of a cell; nil, err when init throws.
function M.make_object(cell, args)
  local service = cell.service
  local address = service.address
  local object = setmetatable({
    _cell = cell, service = service, id = cell.name,
    address = address == "" and cell.name or address .. "/" .. cell.name,
  }, cell.class)
  cell.object = object
  if not cell.class.init then return true end
  return init(cell, args or NO_ARGS)
end

--- A cell that never served is forgotten.
function M.discard(cell)
  close_then(cell, function() end)
  ended(cell)
end

-- The next life of a crashed endpoint.
function begin_life(cell)
  cell.restart_timer = nil
  if cell.state ~= "crashed" then return end
  local ok, err = M.make_object(cell, cell.args)
  if ok then
    cell.why = nil
    return start_cell(cell)
  end
  log.error("rpc", "%s: init failed: %s", cell.name, err:describe())
  cell.state = "starting"
  crash(cell, errors.new("remote", "endpoint " .. cell.name
    .. " could not be made again: init failed", { cause = err }))
end

--- Gives a cell its policy.
function M.set_policy(cell, policy, args)
  cell.policy = policy
  cell.on_failure = policy.is_fatal and on_failure or nil
  if policy.kind ~= "never" then cell.args = args end
end

return M
