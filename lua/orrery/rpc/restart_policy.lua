--- The option restart of an endpoint: what becomes of it after a crash.
--
--   policy       "never" (ends), "on_failure" (a new life after a crash),
--                "always" (also after an end that the endpoint wanted itself)
--   max, within  more crashes than max (3) within this time (1 min) end it
--   backoff      before the next life (100 ms), twice as long each time, up to
--   backoff_max  this (10 s)
--   fatal        which failures of handlers and posted work are crashes: a list
--                of error codes, or a function of the error; nil: none

local time = require("orrery.util.time")

local M = {}

local KINDS = { always = true, never = true, on_failure = true }
local POLICY_OPTIONS = {
  policy = true, max = true, within = true, backoff = true,
  backoff_max = true, fatal = true,
}

local function fatal_check(fatal, who)
  if fatal == nil then return nil end
  if type(fatal) == "function" then return fatal end
  if type(fatal) ~= "table" then
    error(who .. ": restart.fatal is a list of codes or a function of the "
      .. "error, got " .. type(fatal), 4)
  end
  local codes = {}
  for _, code in ipairs(fatal) do codes[code] = true end
  return function(err)
    return err.code ~= nil and codes[err.code] == true
  end
end

local function check_max(max, who)
  if type(max) ~= "number" or max < 1 or max > 1000 or max % 1 ~= 0 then
    error(who .. ": restart.max is a whole number from 1 to 1000, got "
      .. tostring(max), 4)
  end
  return max
end

--- Reads the option restart; throws for a bad one, in the name of who.
function M.read(options, who)
  if type(options) ~= "table" then
    error(who .. ": restart is a table { policy = ... }, got "
      .. type(options), 3)
  end
  for key in pairs(options) do
    if not POLICY_OPTIONS[key] then
      error(who .. ": unknown option restart." .. tostring(key) .. "; it "
        .. "knows: backoff, backoff_max, fatal, max, policy, within", 3)
    end
  end
  local kind = options.policy or "never"
  if not KINDS[kind] then
    error(who .. ": restart.policy is \"always\", \"never\" or "
      .. "\"on_failure\", got " .. tostring(kind), 3)
  end
  local name = who .. ": restart"
  local backoff_ms = time.check_ms(options.backoff or "100ms", name, 3)
  return {
    kind = kind, max = check_max(options.max or 3, who),
    within_ms = time.check_ms(options.within or "1min", name, 3),
    backoff_ms = backoff_ms,
    backoff_max_ms = math.max(backoff_ms,
      time.check_ms(options.backoff_max or "10s", name, 3)),
    is_fatal = fatal_check(options.fatal, who),
  }
end

return M
