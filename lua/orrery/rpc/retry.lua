--- Calls that are made again after a failure.
--
--   retry.call_with_retry(gateway, "submit", { plan }, { attempts = 5,
--     backoff = { initial = "200ms", max = "10 s", multiplier = 2,
--                 jitter = 0.2 } })
--
-- A call is delivered at most once: a failure such as `unreachable` can mean
-- that it ran and the answer was lost. So by default only failures of calls
-- that certainly never ran are tried again (NEVER_RAN, and what the peer says
-- so of: context.never_ran). For a method that is
-- declared idempotent all transport failures are (MAY_HAVE_RUN): with "key"
-- the attempts share an idempotency key, so that the work is done once.
-- retry_on replaces the list.
--
-- Pause before attempt n: initial x multiplier^(n - 2), at most max, then a
-- part `jitter` of it left to the chance of the executor, so that callers that
-- failed together do not come back together. The chance is seeded in
-- simulation: a run repeats.
--
-- The future ends with the first success, the first failure that is not in the
-- list, or the last failure, whose context tells the number of attempts.
-- cancel() ends the attempt under way and the pauses.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local Gateway = require("orrery.rpc.gateway")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

M.NEVER_RAN = { "not_started", "overloaded", "expired_unsent",
  "expired_in_queue" }
M.MAY_HAVE_RUN = { "unreachable", "callee_died", "expired_in_handler",
  "expired_unknown", "timeout" }

local OPTIONS = {
  attempts = true, backoff = true, retry_on = true, timeout = true,
  idempotency_key = true, on_retry = true,
}
local BACKOFF = { initial = true, max = true, multiplier = true,
  jitter = true }
local ATTEMPTS, ATTEMPTS_MAX = 5, 1000

-- Options ---------------------------------------------------------------------

local function fail(who, level, format, ...)
  error(who .. ": " .. string.format(format, ...), level + 1)
end

local function check_keys(given, known, who, level)
  if type(given) ~= "table" then
    fail(who, level + 1, "options must be a table, got %s", type(given))
  end
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  for key in pairs(given) do
    if not known[key] then
      local near = errors.nearest(tostring(key), names)
      fail(who, level + 1, "unknown option %s%s; it knows: %s", tostring(key),
        near and " (did you mean " .. near .. "?)" or "",
        table.concat(names, ", "))
    end
  end
end

local function check_number(value, from, to, what, who, level)
  if type(value) ~= "number" or not (value >= from and value <= to) then
    fail(who, level + 1, "%s must be a number from %g to %g", what, from, to)
  end
  return value
end

--- The backoff of options: a table, a duration (always that), or nil.
function M.check_backoff(backoff, who, level)
  who, level = who or "backoff", (level or 1) + 1
  if backoff == nil or backoff == "exponential" then backoff = {} end
  if type(backoff) ~= "table" then
    local ms = time.check_ms(backoff, who, level)
    return { initial = ms, max = ms, multiplier = 1, jitter = 0 }
  end
  check_keys(backoff, BACKOFF, who .. ": backoff", level)
  local initial = time.check_ms(backoff.initial or 1000, who, level)
  return {
    initial = initial,
    max = math.max(initial, time.check_ms(backoff.max or 30000, who, level)),
    multiplier = check_number(backoff.multiplier or 2, 1, 100,
      "backoff.multiplier", who, level),
    jitter = check_number(backoff.jitter or 0.2, 0, 1, "backoff.jitter", who,
      level),
  }
end

--- Pause before the attempt after `failed` failures.
function M.delay_ms(backoff, failed, chance)
  local ms = math.min(backoff.max,
    backoff.initial * backoff.multiplier ^ (failed - 1))
  return ms - ms * backoff.jitter * chance:real()
end

local function set_of(list, who, level)
  if type(list) ~= "table" then
    fail(who, level + 1, "retry_on must be a list of error codes")
  end
  local set = {}
  for _, code in ipairs(list) do set[code] = true end
  return set
end

local function default_set(is_idempotent)
  local set = set_of(M.NEVER_RAN)
  if is_idempotent then
    for _, code in ipairs(M.MAY_HAVE_RUN) do set[code] = true end
  end
  return set
end

local function check(options, who, level, is_idempotent)
  options = options or {}
  check_keys(options, OPTIONS, who, level + 1)
  if options.on_retry ~= nil and type(options.on_retry) ~= "function" then
    fail(who, level + 1, "on_retry must be a function")
  end
  return {
    attempts = check_number(options.attempts or ATTEMPTS, 1, ATTEMPTS_MAX,
      "attempts", who, level + 1),
    backoff = M.check_backoff(options.backoff, who, level + 1),
    codes = options.retry_on and set_of(options.retry_on, who, level + 1)
      or default_set(is_idempotent),
    -- What a handler answered counts only when the caller asked for it.
    causes = options.retry_on ~= nil,
    on_retry = options.on_retry,
  }
end

-- The loop --------------------------------------------------------------------

local function is_wanted(order, err)
  if order.codes[err.code] or order.also and order.also(err) then
    return true
  end
  if not order.causes and err.context and err.context.never_ran then
    return true
  end
  return order.causes and err.code == "remote" and errors.is(err.cause)
    and order.codes[err.cause.code] or false
end

local function given_up(err, attempts)
  if attempts == 1 then return err end
  local context = {}
  for key, value in pairs(err.context or {}) do context[key] = value end
  context.attempts = attempts
  return errors.new(err.code, err.message .. " (attempt " .. attempts
    .. ", the last one)", {
      context = context, cause = err.cause, traceback = err.traceback,
    })
end

local Loop = {}
Loop.__index = Loop

function Loop:finish(value, err)
  self.out._on_cancel = nil
  if err ~= nil then self.out:reject(err) else self.out:resolve(value) end
end

function Loop:failed(err)
  local order = self.order
  if not is_wanted(order, err) then return self:finish(nil, err) end
  if self.attempt >= order.attempts then
    return self:finish(nil, given_up(err, self.attempt))
  end
  local executor = self.executor
  local ms = M.delay_ms(order.backoff, self.attempt, executor.chance)
  if order.on_retry then
    task.later(self.context, order.on_retry, err, {
      attempt = self.attempt, delay_ms = ms,
    })
  end
  self.entry = executor:timer(ms, executor.context, function()
    self.entry = nil
    self:try()
  end)
end

function Loop:settled(value, err)
  self.call = nil
  if self.out:is_done() then return end
  if err ~= nil then return self:failed(errors.wrap(err)) end
  self:finish(value)
end

-- One attempt; fn(attempt, last error) answers a value, a future, or nil, err.
function Loop:try()
  if self.context.gone then
    return self:finish(nil, errors.new("cancelled",
      "the endpoint that called has ended"))
  end
  self.attempt = self.attempt + 1
  task.start(self.context, function(_, value, err)
    if err == nil and Future.is(value) then
      self.call = value
      value:_watch(function(v, e) self:settled(v, e) end)
      return
    end
    self:settled(value, err)
  end, false, false, self.fn, self.attempt)
end

function Loop:cancel()
  if self.entry then self.executor:cancel_timer(self.entry) end
  if self.call then self.call:cancel() end
  self.entry, self.call = nil, nil
end

local function start(executor, fn, order)
  local loop = setmetatable({
    executor = executor, fn = fn, order = order, attempt = 0,
    context = task.context(), out = Future.new(),
  }, Loop)
  loop.out._on_cancel = function() loop:cancel() end
  loop:try()
  return loop.out
end

--- Runs fn(attempt) until it succeeds; future of its value. options: attempts
-- (5), backoff, retry_on (codes), on_retry(err, { attempt, delay_ms }).
function M.run(executor, fn, options)
  local who = "retry.run"
  if type(fn) ~= "function" then
    error(who .. ": a function is needed, got " .. type(fn), 2)
  end
  return start(executor, fn, check(options, who, 1))
end

-- Calls -----------------------------------------------------------------------

-- A key of its own for each logical call; after a failure that the handler
-- itself answered, which is kept with the key, a fresh one.
local function keys(executor, given)
  local key = given or executor.chance:hex(16)
  return function(attempt, last)
    if last and last.code == "remote" then
      return (given or key) .. "." .. attempt
    end
    return key
  end
end

--- Future of gateway:method(unpack(args)), tried again as said above. options:
-- those of run, timeout (of one attempt), idempotency_key.
function M.call_with_retry(gateway, method, args, options)
  local who = "call_with_retry"
  local executor = type(gateway) == "table" and rawget(gateway, "_executor")
  if not executor then
    error(who .. ": a gateway is needed, got " .. type(gateway), 2)
  end
  options, args = options or {}, args or {}
  local mode = Gateway.idempotence(gateway, method)
  local order = check(options, who, 1, mode ~= nil)
  local timeout_ms = options.timeout
    and time.check_ms(options.timeout, who) or nil
  local key_of = (mode == "key" or options.idempotency_key)
    and keys(executor, options.idempotency_key)
  local last
  return start(executor, function(attempt)
    local call = Gateway.invoke(gateway, method, {
      timeout_ms = timeout_ms, key = key_of and key_of(attempt, last),
    }, unpack(args, 1, args.n or #args))
    call:_watch(function(_, err) last = err end)
    return call
  end, order)
end

--- Connects and calls, both again after a failure: future of what
-- fn(gateway) answers. options: those of run, token.
function M.connect_and_call(service, address, gateway, fn, options)
  local who = "connect_and_call"
  if type(fn) ~= "function" then
    error(who .. ": a function of the gateway is needed, got " .. type(fn), 2)
  end
  options = options or {}
  local own, token = {}, options.token
  for key, value in pairs(options) do
    if key ~= "token" then own[key] = value end
  end
  local order = check(own, who, 1)
  local connected
  -- Before the call was made every failure to connect is worth a try.
  order.also = function(err)
    return not connected and (err.code == "unreachable"
      or err.code == "expired_unsent")
  end
  return start(service._executor, function()
    connected = false
    local proxy, err = service:connect(address, gateway, {
      token = token, retries = 0,
    }):await()
    if not proxy then return nil, err end
    connected = true
    return fn(proxy)
  end, order)
end

return M
