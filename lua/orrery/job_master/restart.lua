--- Restart strategies: whether a job that failed may run again, and after how
-- long. Pure: the time and the chance come from the caller.
--
--   local strategy = restart.new({ type = "fixed-delay", attempts = 3 })
--   local decision = strategy:decide(now_ms)
--   -- { restart = true, delay_ms = 1000, is_new_attempt = true }
--   -- { restart = false, reason = "fixed-delay: 3 of 3 restarts are used" }
--
-- Every failure that reaches `decide` counts, the loss of a TaskManager too.
-- Orrery's default is fixed-delay with 3 attempts one second apart.
local errors = require("orrery.util.errors")
local time = require("orrery.util.time")

local M = {}

M.DEFAULT = { type = "fixed-delay", attempts = 3, delay = 1000 }

local function refused(reason)
  return { restart = false, is_new_attempt = true, reason = reason }
end

local function allowed(delay_ms, is_new_attempt)
  return {
    restart = true, delay_ms = delay_ms,
    is_new_attempt = is_new_attempt ~= false,
  }
end

-- Never.

local None = {}
None.__index = None

function None.decide()
  return refused("no restart strategy is set")
end

function None.describe()
  return "none"
end

-- A number of restarts, each after the same delay.

local FixedDelay = {}
FixedDelay.__index = FixedDelay

function FixedDelay:decide()
  self._failures = self._failures + 1
  if self._failures > self._attempts then
    return refused(("fixed-delay: %d of %d restarts are used")
      :format(self._attempts, self._attempts))
  end
  return allowed(self._delay_ms)
end

function FixedDelay:describe()
  return ("fixed-delay (%d attempts, %g ms)")
    :format(self._attempts, self._delay_ms)
end

-- At most so many failures within any interval. Only the newest max + 1 times
-- of failure matter, so no more are kept.

local FailureRate = {}
FailureRate.__index = FailureRate

function FailureRate:decide(now)
  local times = self._times
  times[#times + 1] = now
  while #times > 0 and times[1] <= now - self._interval_ms do
    table.remove(times, 1)
  end
  if #times > self._max then
    if #times > self._max + 1 then table.remove(times, 1) end
    return refused(("failure-rate: %d failures in %g ms, %d are allowed")
      :format(#times, self._interval_ms, self._max))
  end
  return allowed(self._delay_ms)
end

function FailureRate:describe()
  return ("failure-rate (%d in %g ms, %g ms)")
    :format(self._max, self._interval_ms, self._delay_ms)
end

-- Delays that grow while failures keep coming. Failures that arrive before the
-- current back-off is over belong to the same attempt.

local ExponentialDelay = {}
ExponentialDelay.__index = ExponentialDelay

function ExponentialDelay:_jittered(backoff)
  local offset = backoff * self._jitter * (2 * self._random() - 1)
  return math.max(0, math.min(self._max_ms, math.floor(backoff + offset)))
end

function ExponentialDelay:decide(now)
  if self._next_restart and now <= self._next_restart then
    return allowed(self._next_restart - now, false)
  end
  if self._next_restart and now >= self._next_restart + self._reset_ms then
    self._backoff, self._attempt = nil, 0
  end
  if self._attempt >= self._attempts then
    return refused(("exponential-delay: %d of %d restarts are used")
      :format(self._attempt, self._attempts))
  end
  self._attempt = self._attempt + 1
  self._backoff = self._backoff
    and math.min(self._max_ms, self._backoff * self._multiplier)
    or self._initial_ms
  local delay = self:_jittered(self._backoff)
  self._next_restart = now + delay
  return allowed(delay)
end

function ExponentialDelay:describe()
  return ("exponential-delay (%g ms to %g ms, x%g, jitter %g)"):format(
    self._initial_ms, self._max_ms, self._multiplier, self._jitter)
end

local function bad(key, value, expected)
  return nil, errors.new("bad_argument",
    ("restart-strategy: %s is %s, expected %s")
      :format(key, tostring(value), expected))
end

-- An option within bounds; its default when absent. Delays are durations.
local function number(options, key, default, low, is_duration)
  local value = options[key]
  if value == nil then return default end
  if is_duration then
    local ms, err = time.duration_ms(value)
    if not ms then return bad(key, value, err.message) end
    value = ms
  end
  if type(value) ~= "number" or value ~= value or value < low then
    return bad(key, value, "a number of at least " .. low)
  end
  return value
end

-- Reads `fields` = { { key, default, lowest, field, is_duration } ... } into
-- `object`.
local function read(object, options, fields)
  for _, field in ipairs(fields) do
    local value, err =
      number(options, field[1], field[2], field[3], field[5])
    if not value then return nil, err end
    object[field[4]] = value
  end
  return object
end

local makers = {}

function makers.none()
  return setmetatable({}, None)
end

makers["fixed-delay"] = function(options)
  return read(setmetatable({ _failures = 0 }, FixedDelay), options, {
    { "attempts", 1, 0, "_attempts" }, { "delay", 1000, 0, "_delay_ms", true },
  })
end

makers["failure-rate"] = function(options)
  return read(setmetatable({ _times = {} }, FailureRate), options, {
    { "max-failures-per-interval", 1, 0, "_max" },
    { "failure-rate-interval", 60000, 1, "_interval_ms", true },
    { "delay", 1000, 0, "_delay_ms", true },
  })
end

makers["exponential-delay"] = function(options, random)
  local strategy, err = read(setmetatable({
    _random = random, _attempt = 0,
  }, ExponentialDelay), options, {
    { "initial-backoff", 1000, 1, "_initial_ms", true },
    { "max-backoff", 60000, 1, "_max_ms", true },
    { "backoff-multiplier", 1.5, 1, "_multiplier" },
    { "reset-backoff-threshold", 3600000, 1, "_reset_ms", true },
    { "jitter-factor", 0.1, 0, "_jitter" },
    { "attempts-before-reset-backoff", math.huge, 1, "_attempts" },
  })
  if not strategy then return nil, err end
  if strategy._jitter > 1 then
    return bad("jitter-factor", strategy._jitter, "a number from 0 to 1")
  end
  if strategy._max_ms < strategy._initial_ms then
    return bad("max-backoff", strategy._max_ms, "at least initial-backoff")
  end
  return strategy
end

local aliases = {
  off = "none", disable = "none", fixeddelay = "fixed-delay",
  failurerate = "failure-rate", exponentialdelay = "exponential-delay",
}

--- A strategy of `options`: `type` and the options of that type; nil or
-- without a type is the default. Answers nil and `bad_argument` for an unknown
-- type or a value out of bounds.
---@param options table?
---@param random fun(): number in [0, 1), for jitter
function M.new(options, random)
  if options == nil or options.type == nil then
    local merged = {}
    for key, value in pairs(M.DEFAULT) do merged[key] = value end
    for key, value in pairs(options or {}) do merged[key] = value end
    options = merged
  end
  local kind = aliases[options.type] or options.type
  local maker = makers[kind]
  if not maker then
    return bad("type", options.type,
      "none, fixed-delay, failure-rate or exponential-delay")
  end
  return maker(options, random or math.random)
end

return M
