--- Orrery: endpoints in Lua, local and remote. See README and docs.
--
--   local orrery = require("orrery")
--   local service = orrery.service({ bind = "127.0.0.1:6123" })

local core = require("orrery.core")
local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local Future = require("orrery.util.future")
local retry = require("orrery.rpc.retry")
local Service = require("orrery.rpc.service")
local serving = require("orrery.rpc.serving")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {
  Future = Future,
  errors = errors,
  call_with_retry = retry.call_with_retry,
  remaining_ms = serving.remaining_ms,
  cancelled = serving.cancelled,
  on_cancel = serving.on_cancel,
  log = require("orrery.native.log"),
}

--- Makes an endpoint class: (name, methods [, options]) or (description [,
-- options]); see orrery.rpc.endpoint.
function M.endpoint(name, methods, options)
  return Endpoint.class(name, methods, options)
end

--- The same, fenced: it is started with a token and serves only that.
function M.fenced_endpoint(name, methods, options)
  local copy = {}
  if type(name) == "table" then options = methods end
  for key, value in pairs(options or {}) do copy[key] = value end
  copy.fenced = true
  if type(name) == "table" then return Endpoint.class(name, copy) end
  return Endpoint.class(name, methods, copy)
end

--- Makes a service on this state's executor; nil, err when the system refuses.
-- options: bind ("host:port", "host:from-to"), advertise (what peers use: host
-- or host:port), name, cluster_id, timeout (default of asks, 10 s),
-- connect_retries (0), connect_retry_delay (1 s), ask_callstack (true).
function M.service(options)
  return Service.new(options)
end

--- The endpoint whose handler runs, or nil.
function M.current()
  return task.context().object
end

--- Suspends the running task; on the main chunk the loop runs meanwhile.
function M.sleep(delay)
  local ms = time.check_ms(delay, "orrery.sleep")
  local executor = Executor.current()
  local waiter = task.waitable("orrery.sleep")
  if waiter then
    executor:sleep(waiter, ms)
    return true
  end
  local future = Future.new()
  executor:timer(ms, executor.context, function() future:resolve(true) end)
  return future:await()
end

--- Runs fn(...) as a task outside of every endpoint; future of its result.
function M.async(fn, ...)
  if type(fn) ~= "function" then
    error("orrery.async: a function is needed, got " .. type(fn), 2)
  end
  local future = Future.new()
  local n, args = select("#", ...), { ... }
  local executor = Executor.current()
  task.later(executor.context, function()
    task.start(executor.context, function(_, value, err)
      if err ~= nil then future:reject(err) else future:resolve(value) end
    end, false, false, fn, unpack(args, 1, n))
  end)
  return future
end

--- Runs the event loop on the main chunk until the service (or future) has
-- ended, or SIGINT or SIGTERM comes; then the service is stopped. Answers true
-- at a planned end, nil, err after an interrupt or a failed stop.
function M.run(what)
  local executor = Executor.default()
  local before = core.interrupted()
  local interrupted = false
  local done
  if Future.is(what) then done = what end
  executor:run_until(function()
    if core.interrupted() > before then
      interrupted = true
      return true
    end
    local ending = done or what and what._stopping
    return ending ~= nil and ending:is_done()
  end, "orrery.run")
  if interrupted then
    local stopped, err = true, nil
    if what and not done then stopped, err = what:stop():await() end
    if not stopped then return nil, err end
    return nil, errors.new("interrupted", "a signal asked to stop")
  end
  local ending = done or what._stopping
  local _, err = ending:peek()
  if err ~= nil then return nil, err end
  return true
end

return M
