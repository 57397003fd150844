--- Durations and sizes as people write them.
--
-- A duration is a number of milliseconds or a string with a unit: "250ms",
-- "10 s", "5min", "1h". A size is a number of bytes or "64kb", "10 mb" (powers
-- of 1024). Both are pure; clocks belong to executors.

local errors = require("orrery.util.errors")

local M = {}

local DURATION = {
  ns = 1e-6, us = 1e-3, ms = 1, s = 1000, sec = 1000, second = 1000,
  seconds = 1000, m = 60000, min = 60000, minute = 60000, minutes = 60000,
  h = 3600000, hour = 3600000, hours = 3600000, d = 86400000, day = 86400000,
  days = 86400000,
}

local SIZE = {
  b = 1, bytes = 1,
  k = 1024, kb = 1024, kib = 1024,
  m = 1024 ^ 2, mb = 1024 ^ 2, mib = 1024 ^ 2,
  g = 1024 ^ 3, gb = 1024 ^ 3, gib = 1024 ^ 3,
}

local DURATION_MAX_MS = 100 * 365 * 86400000
local SIZE_MAX = 2 ^ 53

local function parse(value, units, what, hint, max)
  local number
  if type(value) == "number" then
    number = value
  elseif type(value) == "string" then
    local digits, unit = value:match("^%s*(%d+%.?%d*)%s*(%a*)%s*$")
    local factor = unit == "" and 1 or unit and units[unit:lower()]
    number = digits and factor and tonumber(digits) * factor
  end
  if not number or number ~= number then
    return nil, errors.new("bad_argument", string.format(
      "%s is not a %s; write %s", type(value) == "string"
      and string.format("%q", value) or tostring(value), what, hint))
  end
  if number < 0 or number > max then
    return nil, errors.new("bad_argument", string.format(
      "the %s %s is out of range (0 to %.0f)", what, tostring(value), max))
  end
  return number
end

--- Milliseconds of a duration, or nil, err.
function M.duration_ms(value)
  return parse(value, DURATION, "duration",
    "a number of milliseconds or \"250ms\", \"10 s\", \"5min\", \"1h\"",
    DURATION_MAX_MS)
end

--- Bytes of a size, or nil, err.
function M.size(value)
  local size, err = parse(value, SIZE, "size",
    "a number of bytes or \"64kb\", \"10 mb\"", SIZE_MAX)
  return size and math.floor(size), err
end

--- Milliseconds, or an error of the caller `level` frames above; for arguments
-- that the programmer wrote.
function M.check_ms(value, who, level)
  local ms, err = M.duration_ms(value)
  if not ms then error(who .. ": " .. err.message, (level or 1) + 2) end
  return ms
end

local STEPS = {
  { 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" },
}

--- For people: 90000 -> "1.5 min".
function M.format_ms(ms)
  for _, step in ipairs(STEPS) do
    if ms >= step[1] then
      return string.format("%.4g %s", ms / step[1], step[2])
    end
  end
  return string.format("%.4g ms", ms)
end

return M
