--- JSON documents whose text depends on the values alone: keys are sorted.
--
-- Scalars are written and documents read by lua-cjson. A table with keys 1..n
-- is an array and an empty table too, unless it was made by M.object. What JSON
-- cannot say (functions, NaN, cycles, other keys) is refused with its path.

local cjson = require("cjson.safe").new()

local M = {}

cjson.encode_invalid_numbers(false)
cjson.encode_number_precision(14)

local DEPTH_MAX = 64
local ObjectMark = {}

--- The JSON null.
M.null = cjson.null

--- Marks a table as an object, also when it is empty.
---@param fields table|nil
---@return table
function M.object(fields)
  return setmetatable(fields or {}, ObjectMark)
end

local function length_of_array(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  for i = 1, n do
    if t[i] == nil then return nil end
  end
  return n
end

local write

local function write_array(out, t, n, path, depth)
  out[#out + 1] = "["
  for i = 1, n do
    if i > 1 then out[#out + 1] = "," end
    local ok, err = write(out, t[i], path .. "[" .. i .. "]", depth)
    if not ok then return nil, err end
  end
  out[#out + 1] = "]"
  return true
end

local function write_object(out, t, path, depth)
  local keys = {}
  for key in pairs(t) do
    if type(key) ~= "string" then
      return nil, ("%s: a key of type %s is no JSON"):format(path, type(key))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  out[#out + 1] = "{"
  for i, key in ipairs(keys) do
    if i > 1 then out[#out + 1] = "," end
    out[#out + 1] = cjson.encode(key) .. ":"
    local ok, err = write(out, t[key], path .. "." .. key, depth)
    if not ok then return nil, err end
  end
  out[#out + 1] = "}"
  return true
end

local function write_number(out, value, path)
  if value ~= value or value == math.huge or value == -math.huge then
    return nil, path .. ": not a finite number"
  end
  if value == math.floor(value) and math.abs(value) < 2 ^ 53 then
    out[#out + 1] = ("%.0f"):format(value)
  else
    out[#out + 1] = ("%.17g"):format(value)
    local short = ("%.14g"):format(value)
    if tonumber(short) == value then out[#out] = short end
  end
  return true
end

function write(out, value, path, depth)
  if depth > DEPTH_MAX then
    return nil, path .. ": deeper than " .. DEPTH_MAX .. " levels"
  end
  local kind = type(value)
  if value == nil or value == cjson.null then
    out[#out + 1] = "null"
  elseif kind == "boolean" then
    out[#out + 1] = tostring(value)
  elseif kind == "number" then
    return write_number(out, value, path)
  elseif kind == "string" then
    out[#out + 1] = cjson.encode(value)
  elseif kind == "table" then
    local n = getmetatable(value) ~= ObjectMark and length_of_array(value)
    if n then return write_array(out, value, n, path, depth + 1) end
    return write_object(out, value, path, depth + 1)
  else
    return nil, ("%s: a %s is no JSON"):format(path, kind)
  end
  return true
end

--- The text of a value, or nil and why not.
---@param value any
---@return string|nil, string|nil
function M.encode(value)
  local out = {}
  local ok, err = write(out, value, "$", 0)
  if not ok then return nil, err end
  return table.concat(out)
end

--- The value of a text, or nil and why not. null becomes M.null.
---@param text string
---@return any, string|nil
function M.decode(text)
  return cjson.decode(text)
end

return M
