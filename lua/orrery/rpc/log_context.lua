--- The logging context of an endpoint: keys and values in front of every line
-- that its handlers log, `[attempt=1 job=7] ...`.
--
-- It belongs to the endpoint (option log_context, set_log_context). A scope
-- adds to it for one piece of work: tasks begun by the scope, and what they
-- await, carry both.

local M = {}

local FIELDS_MAX = 16
local TEXT_MAX = 128
local PLAIN = { string = true, number = true, boolean = true }

local function check(fields, who)
  if type(fields) ~= "table" then
    error(who .. ": the log context is a table { key = value }, got "
      .. type(fields), 4)
  end
  local keys = {}
  for key, value in pairs(fields) do
    if type(key) ~= "string" or not key:match("^[%w_.-]+$")
      or not PLAIN[type(value)] then
      error(string.format("%s: log context %s = %s: a key is letters, digits, "
        .. "_ . -, a value a string, number or boolean", who, tostring(key),
        tostring(value)), 4)
    end
    keys[#keys + 1] = key
  end
  if #keys > FIELDS_MAX then
    error(string.format("%s: %d log context keys, at most %d", who, #keys,
      FIELDS_MAX), 4)
  end
  table.sort(keys)
  return keys
end

local function format(fields, keys)
  if #keys == 0 then return nil end
  local words = {}
  for i, key in ipairs(keys) do
    words[i] = key .. "=" .. tostring(fields[key]):sub(1, TEXT_MAX)
  end
  return "[" .. table.concat(words, " ") .. "] "
end

--- Sets the context of a cell, in place of what it had.
function M.set(cell, fields, who)
  local keys = check(fields, who)
  local copy = {}
  for _, key in ipairs(keys) do copy[key] = fields[key] end
  cell.log_fields, cell.log_context = copy, format(copy, keys)
end

--- A context below that of a cell, with more fields.
function M.below(cell, fields, who)
  check(fields, who)
  local all = {}
  for key, value in pairs(cell.log_fields or {}) do all[key] = value end
  for key, value in pairs(fields) do all[key] = value end
  local keys = check(all, who)
  return setmetatable({ log_context = format(all, keys) },
    { __index = cell })
end

return M
