--- Addresses of endpoints as people write them.
--
--   "counter"                               an endpoint of the own service
--   "10.0.0.7:6123/counter"                 of another one
--   "[fe80::1]:6123/job_master/4f2a"        IPv6 in brackets; names may hold /
--   "pekko.tcp://flink@host:6123/user/rpc/counter"   the spelling of Flink
--
-- One host has one spelling here (lower case, IPv6 in its shortest form), so
-- that two spellings share one connection. Pure.

local errors = require("orrery.util.errors")

local M = {}

local PORT_MAX = 65535
local PORTS_MAX = 1024 -- candidates of one list; more is a mistake

local function bad(text, why)
  return nil, errors.new("bad_argument", string.format("%q %s", text, why))
end

-- The eight groups of an IPv6 text, or nil.
local function v6_groups(text)
  if text:find("[^%x:]") or text:find(":::", 1, true) then return nil end
  local function list(part)
    local groups = {}
    for group in part:gmatch("[^:]+") do
      if #group > 4 then return nil end
      groups[#groups + 1] = tonumber(group, 16)
    end
    return groups
  end
  local at = text:find("::", 1, true)
  if not at then
    local groups = list(text)
    return groups and #groups == 8 and select(2, text:gsub(":", "")) == 7
      and groups or nil
  end
  if text:find("::", at + 1, true) then return nil end
  local left, right = list(text:sub(1, at - 1)), list(text:sub(at + 2))
  if not left or not right or #left + #right > 7 then return nil end
  local groups = {}
  for i = 1, 8 do groups[i] = 0 end
  for i, group in ipairs(left) do groups[i] = group end
  for i, group in ipairs(right) do groups[8 - #right + i] = group end
  return groups
end

-- The longest run of zeros, of at least two: first, length.
local function zeros(groups)
  local best, best_len, at = nil, 1, 1
  while at <= 8 do
    local len = 0
    while at + len <= 8 and groups[at + len] == 0 do len = len + 1 end
    if len > best_len then best, best_len = at, len end
    at = at + len + 1
  end
  return best, best_len
end

local function v6_text(groups)
  local first, len = zeros(groups)
  local function hex(from, to)
    local parts = {}
    for i = from, to do parts[#parts + 1] = ("%x"):format(groups[i]) end
    return table.concat(parts, ":")
  end
  if not first then return hex(1, 8) end
  return hex(1, first - 1) .. "::" .. hex(first + len, 8)
end

--- One spelling of a host; an IPv6 address without its brackets. nil, err for
-- what cannot be a host.
function M.normalize_host(host)
  local inner = host:match("^%[(.*)%]$") or host
  if inner:find(":", 1, true) then
    local groups = v6_groups(inner:lower())
    if groups then return v6_text(groups) end
    -- Zones and embedded IPv4 are left to the system.
    if inner:find("^[%x:]+:[%d]+%.[%d.]+$")
      or inner:find("^[%x:]+%%[%w_.-]+$") then
      return inner:lower()
    end
    return bad(host, "is no IPv6 address")
  end
  if not inner:find("^[%w_.-]+$") then
    return bad(host, "is no host: letters, digits, _ . - are possible, "
      .. "and IPv6 addresses in brackets")
  end
  return inner:lower()
end

--- "host:port" of its parts.
function M.join(host, port)
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  return host .. ":" .. port
end

--- Host and port of "host:port", the host in its one spelling; or nil, err.
function M.parse(place)
  local host, port = place:match("^(%[[^%]]*%]):(%d+)$")
  if not host then host, port = place:match("^([^:]*):(%d+)$") end
  port = tonumber(port)
  if not host or host == "" or not port or port > PORT_MAX then
    return bad(place, "is not an address: host:port or [v6 address]:port "
      .. "is needed")
  end
  local err
  host, err = M.normalize_host(host)
  if not host then return nil, err end
  return host, port
end

local function strip_scheme(text)
  local rest = text:match("^[%a][%w+.-]*://(.+)$")
  if not rest then return text end
  rest = rest:gsub("^[^@/]*@", "")
  return (rest:gsub("/user/rpc/", "/", 1))
end

--- Place ("host:port", "" for the own service) and name of an endpoint address;
-- or nil, err.
function M.split(address)
  local text = strip_scheme(address)
  local place, name = text:match("^(%[[^%]]*%]:%d+)/(.+)$")
  if not place then place, name = text:match("^([^/:]*:%d+)/(.+)$") end
  if place then
    local host, port = M.parse(place)
    if not host then return nil, port end
    return M.join(host, port), name
  end
  if text ~= address or text:find(":", 1, true) then
    return bad(address, "is not the address of an endpoint: "
      .. "\"host:port/endpoint\" or \"endpoint\" is needed")
  end
  return "", text
end

--- The address of an endpoint: host, port and name.
function M.url(host, port, endpoint)
  local normal, err = M.normalize_host(host)
  if not normal then return nil, err end
  return M.join(normal, port) .. "/" .. endpoint
end

--- Ports of a text such as "6123", "50100-50200" or "6123,50100-50110", in
-- their order; or nil, err.
function M.ports(value)
  local text, list = tostring(value), {}
  for part in text:gmatch("[^,]+") do
    local from, to = part:match("^%s*(%d+)%s*%-%s*(%d+)%s*$")
    if not from then
      from = part:match("^%s*(%d+)%s*$")
      to = from
    end
    from, to = tonumber(from), tonumber(to)
    if not from or from > to or to > PORT_MAX then
      return bad(text, "is no port or range of ports; write 6123, "
        .. "\"50100-50200\" or a list of them, 0 to 65535")
    end
    if #list + to - from + 1 > PORTS_MAX then
      return bad(text, "has more than " .. PORTS_MAX .. " ports")
    end
    for port = from, to do list[#list + 1] = port end
  end
  if #list == 0 then return bad(text, "names no port") end
  return list
end

--- What to listen on: a list of "host:port" for "host:ports".
function M.candidates(bind)
  local host, ports = bind:match("^(%[[^%]]*%]):(.*)$")
  if not host then host, ports = bind:match("^([^:]*):(.*)$") end
  if not host or host == "" then
    return bad(bind, "is not an address: host:port or host:from-to is needed")
  end
  local list, err = M.ports(ports)
  if not list then return nil, err end
  for i, port in ipairs(list) do list[i] = host .. ":" .. port end
  return list
end

return M
