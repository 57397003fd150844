--- Values as text for people: bounded in depth, items and length, sorted, never
-- failing, and safe to print on a terminal.

local errors = require("orrery.util.errors")
local text_table = require("orrery.util.text_table")

local M = {}

local DEPTH_MAX, ITEMS_MAX, STRING_MAX, WIDTH = 4, 40, 400, 78

local function quoted(text)
  local cut = #text > STRING_MAX
  local shown = text:sub(1, STRING_MAX):gsub("[%c\\\"\127-\255]", function(c)
    if c == "\n" then return "\\n" end
    if c == "\"" or c == "\\" then return "\\" .. c end
    if c:byte() >= 128 then return c end
    return ("\\%03d"):format(c:byte())
  end)
  return "\"" .. shown .. "\""
    .. (cut and (" ... (%d bytes)"):format(#text) or "")
end

local function number(value)
  if value == math.floor(value) and math.abs(value) < 1e15 then
    return ("%.0f"):format(value)
  end
  return ("%.14g"):format(value)
end

local function key_text(key)
  if type(key) == "string" then
    if key:match("^[%a_][%w_]*$") then return key end
    return "[" .. quoted(key) .. "]"
  elseif type(key) == "number" then
    return "[" .. number(key) .. "]"
  end
  return "[" .. text_table.printable(key) .. "]"
end

local function by_type_and_value(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return ta < tb end
  if ta == "number" or ta == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local format

local function entries_of(value, state, depth)
  local keys, entries = {}, {}
  local n = #value
  for i = 1, math.min(n, ITEMS_MAX) do
    entries[i] = format(value[i], state, depth + 1)
  end
  for key in next, value do
    local in_array = type(key) == "number" and key >= 1 and key <= n
      and key == math.floor(key)
    if not in_array then keys[#keys + 1] = key end
  end
  table.sort(keys, by_type_and_value)
  local total = n + #keys
  for _, key in ipairs(keys) do
    if #entries >= ITEMS_MAX then break end
    entries[#entries + 1] = key_text(key) .. " = "
      .. format(rawget(value, key), state, depth + 1)
  end
  if total > #entries then
    entries[#entries + 1] = ("... %d more"):format(total - #entries)
  end
  return entries
end

local function table_text(value, state, depth)
  if state.open[value] then return "<the table itself>" end
  if depth >= DEPTH_MAX then
    return next(value) == nil and "{}" or "{ ... }"
  end
  state.open[value] = true
  local entries = entries_of(value, state, depth)
  state.open[value] = nil
  if #entries == 0 then return "{}" end
  local line = "{ " .. table.concat(entries, ", ") .. " }"
  if #line + 2 * depth <= WIDTH and not line:find("\n", 1, true) then
    return line
  end
  local indent = ("  "):rep(depth + 1)
  return "{\n" .. indent .. table.concat(entries, ",\n" .. indent) .. "\n"
    .. ("  "):rep(depth) .. "}"
end

function format(value, state, depth)
  local kind = type(value)
  if kind == "string" then return quoted(value) end
  if kind == "number" then return number(value) end
  if kind == "table" then
    local meta = getmetatable(value)
    if type(meta) == "table" and rawget(meta, "__tostring") then
      local ok, text = pcall(tostring, value)
      return ok and text or "<" .. kind .. " whose __tostring fails>"
    end
    return table_text(value, state, depth)
  end
  local ok, text = pcall(tostring, value)
  return ok and text_table.printable(text) or "<" .. kind .. ">"
end

--- The text of any value.
function M.format(value)
  if errors.is(value) then return tostring(value) end
  return format(value, { open = {} }, 0)
end

return M
