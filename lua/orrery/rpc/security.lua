--- What a service asks of its network: the options `tls`, `insecure`, and the
-- rule that nobody listens to other machines in the clear without saying so.

local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")

local M = {}

local TLS_OPTIONS = {
  certificate = "string", key = "string", authority = "string",
  fingerprints = "list", roles = "list",
}
local TLS_NAMES = "authority, certificate, fingerprints, key, roles"

--- Can only processes of this machine reach the host? Names other than
-- localhost are not looked up: they count as reachable.
function M.is_loopback(host)
  return host == "localhost" or host == "::1"
    or host:match("^127%.%d+%.%d+%.%d+$") ~= nil
end

-- Host of "host:port" or "[v6]:port", where port may be a list of ranges; nil
-- for other forms (unix sockets).
local function host_of(address)
  return address:match("^%[(.*)%]:[%d%s,-]+$")
    or address:match("^([^/:]*):[%d%s,-]+$")
end

--- true, or nil, err: a service that binds to address with these options would
-- be open to other machines. hint: how to say insecure where the person is.
function M.check_bind(address, options, hint)
  local host = host_of(address)
  if not host or M.is_loopback(host) or options.tls or options.insecure then
    return true
  end
  return nil, errors.new("insecure_bind", ("%s lets other machines in without "
    .. "encryption or authentication: %s"):format(address, hint
    or "give the service tls = { certificate =, key =, authority = } "
      .. "(orrery certs makes them), or insecure = true if your network is "
      .. "closed"), { context = { address = address } })
end

local function is_list(value)
  if type(value) ~= "table" then return false end
  for _, item in ipairs(value) do
    if type(item) ~= "string" or item == "" or item:find("%s") then
      return false
    end
  end
  return #value > 0
end

--- Throws, as the caller's mistake at level, for a tls option of wrong shape.
function M.check_tls(tls, who, level)
  if tls == nil then return end
  if type(tls) ~= "table" then
    error(who .. ": tls must be a table { certificate =, key =, authority = }"
      .. ", got " .. type(tls), level + 1)
  end
  for key, value in sorted.pairs(tls) do
    local kind = TLS_OPTIONS[key]
    if not kind then
      error(who .. ": unknown option tls." .. tostring(key) .. "; it knows: "
        .. TLS_NAMES, level + 1)
    end
    if kind == "string" and (type(value) ~= "string" or value == "")
      or kind == "list" and not is_list(value) then
      error(("%s: tls.%s must be a %s"):format(who, key, kind == "string"
        and "path" or "list of texts without spaces"), level + 1)
    end
  end
  if not tls.certificate or not tls.key then
    error(who .. ": tls needs certificate and key: both sides show one",
      level + 1)
  end
  if not tls.authority and not tls.fingerprints then
    error(who .. ": tls needs authority or fingerprints to know its peers by",
      level + 1)
  end
end

local function given(text)
  if text ~= "" then return text end
  return nil
end

--- The tls option of a configuration (rpc.ssl.*), nil when it is off.
---@return table|false|nil tls, table|nil error
function M.of_config(config)
  if not config:get("rpc.ssl.enabled") then return nil end
  local fingerprints = config:get("rpc.ssl.fingerprints")
  local tls = {
    certificate = given(config:get("rpc.ssl.certificate")),
    key = given(config:get("rpc.ssl.key")),
    authority = given(config:get("rpc.ssl.authority")),
    fingerprints = #fingerprints > 0 and fingerprints or nil,
  }
  local ok, message = pcall(M.check_tls, tls, "rpc.ssl", 0)
  if ok then return tls end
  return false, errors.new("bad_configuration", (message:gsub("tls", "it")))
end

return M
