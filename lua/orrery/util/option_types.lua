--- Types of configuration values and command-line arguments.
--
-- A type turns what a person wrote (text from a flag or a variable, a Lua value
-- from the file) into the value the program uses, or answers nil and the form
-- that it expected. Durations become milliseconds, sizes bytes.

local time = require("orrery.util.time")

local M = {}

local function in_range(value, option)
  return value >= (option.min or -math.huge)
    and value <= (option.max or math.huge)
end

local function range_text(option)
  if option.min and option.max then
    return (" from %d to %d"):format(option.min, option.max)
  elseif option.min then
    return (" of at least %d"):format(option.min)
  end
  return ""
end

function M.string(value)
  if type(value) == "string" then return value end
  return nil, "a text"
end

function M.int(value, option)
  local number = value
  if type(value) == "string" then
    number = value:match("^%s*[+-]?%d+%s*$") and tonumber(value)
  end
  if type(number) == "number" and number == math.floor(number)
    and in_range(number, option) then
    return number
  end
  return nil, "a whole number" .. range_text(option)
end

function M.number(value, option)
  local number = value
  if type(value) == "string" then
    number = value:match("^%s*[+-]?[%d.]+%s*$") and tonumber(value)
  end
  if type(number) == "number" and number == number
    and in_range(number, option) then
    return number
  end
  return nil, "a number" .. range_text(option)
end

local BOOLEANS = {
  ["true"] = true, yes = true, on = true, ["1"] = true,
  ["false"] = false, no = false, off = false, ["0"] = false,
}

function M.bool(value)
  if type(value) == "boolean" then return value end
  local known = BOOLEANS[tostring(value):lower()]
  if known ~= nil then return known end
  return nil, "true or false"
end

function M.duration(value, option)
  local ms = time.duration_ms(value)
  if ms and ms >= (option.min or 0) then return ms end
  local expected = "a duration such as \"250ms\", \"10 s\", \"5min\" or \"1h\""
  if option.min then
    expected = expected .. (", at least %d ms"):format(option.min)
  end
  return nil, expected
end

function M.size(value, option)
  local bytes = time.size(value)
  if bytes and in_range(bytes, option) then return bytes end
  return nil, "a size such as \"64kb\" or \"10 mb\""
end

--- host:port; an IPv6 host stands in brackets.
function M.address(value)
  if type(value) == "string" then
    local port = tonumber(value:match("^%[[%x:.]+%]:(%d+)$")
      or value:match("^[%w_.-]+:(%d+)$"))
    if port and port <= 65535 then return value end
  end
  return nil, "an address of the form host:port"
end

--- One port, a range "from-to", or a list of both; as text.
function M.ports(value)
  local text = tostring(value)
  local expected = "a port, a range such as \"50100-50200\", or a list of both"
  if not text:find("%d") then return nil, expected end
  for part in (text .. ","):gmatch("([^,]*),") do
    local from, to = part:match("^%s*(%d+)%s*%-?%s*(%d*)%s*$")
    from, to = tonumber(from), tonumber(to ~= "" and to or from)
    if not from or not to or from > to or to > 65535 then
      return nil, expected
    end
  end
  return text
end

function M.list(value)
  if type(value) == "table" then
    for _, item in ipairs(value) do
      if type(item) ~= "string" then return nil, "a list of texts" end
    end
    return value
  elseif type(value) == "string" then
    local items = {}
    for item in value:gmatch("[^,]+") do
      items[#items + 1] = item:match("^%s*(.-)%s*$")
    end
    return items
  end
  return nil, "a list such as \"a,b\" or { \"a\", \"b\" }"
end

function M.choice(value, option)
  local text = type(value) == "string" and value:lower() or value
  for _, known in ipairs(option.choices) do
    if text == known then return known end
  end
  return nil, "one of " .. table.concat(option.choices, ", ")
end

--- Host and port of a text that M.address accepts.
---@param address string
---@return string, integer
function M.split_address(address)
  local host, port = address:match("^%[?(.-)%]?:(%d+)$")
  return host, tonumber(port)
end

--- host:port of its parts.
function M.join_address(host, port)
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  return host .. ":" .. port
end

return M
