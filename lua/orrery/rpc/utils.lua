--- RpcServiceUtils: making services from a configuration, names, and orderly
-- ends with a limit.

local addresses = require("orrery.rpc.address")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local Future = require("orrery.util.future")
local rpc_options = require("orrery.rpc.options")
local Service = require("orrery.rpc.service")
local time = require("orrery.util.time")

local M = {}

--- A service that peers reach at hostname. port: a number, a range
-- "50100-50200" or a list of both, nil is that of the configuration; a hostname
-- of nil makes a local service. leaders, if any, is what its role gateways
-- follow (service.leaders). Answers nil, err.
function M.create_rpc_service(hostname, port, configuration, leaders)
  local values, err = rpc_options.read(configuration)
  if not values then return nil, err end
  local options = rpc_options.service_options(values)
  if hostname ~= nil then
    local host
    host, err = addresses.normalize_host(hostname)
    if not host then return nil, err end
    local bind = values.bind_address
    if bind == "" then bind = host end
    bind, err = addresses.normalize_host(bind)
    if not bind then return nil, err end
    options.bind = addresses.join(bind, port or values.port)
    options.advertise = host
  end
  local service
  service, err = Service.new(options)
  if not service then return nil, err end
  service.leaders = leaders
  service._shutdown_timeout_ms = values.shutdown_timeout_ms
  return service
end

--- A port that was free a moment ago. Better bind to port 0 and ask then.
function M.get_random_port()
  require("orrery.core") -- gives luv its loop
  local uv = require("luv")
  local socket = uv.new_tcp()
  local ok, message = socket:bind("127.0.0.1", 0)
  local name = ok and socket:getsockname()
  socket:close()
  if not name then
    return nil, errors.new("io", "no free port: " .. tostring(message))
  end
  return name.port
end

--- The address that means every interface of this machine.
function M.create_wildcard_address()
  return "0.0.0.0"
end

--- The name that stands for the one endpoint whose name begins with prefix_.
function M.create_wildcard_name(prefix)
  return prefix .. "_*"
end

--- prefix_<random>: a name that no other endpoint has.
function M.create_random_name(prefix)
  return prefix .. "_" .. Executor.current().chance:hex(16)
end

--- The host that peers reach a service at; "" for a local one.
function M.get_hostname(service)
  local host = addresses.parse(service.address)
  return host or ""
end

--- The address of an endpoint: "host:port/endpoint", IPv6 in brackets.
M.get_rpc_url = addresses.url

local function limit_of(timeout, who)
  return time.check_ms(timeout, who, 2)
end

--- Ends an endpoint, or a server; future: done when it is gone, the error
-- `timeout` when that takes longer. It goes on ending then.
function M.terminate_rpc_endpoint(endpoint, timeout)
  local who = "terminate_rpc_endpoint"
  local cell = type(endpoint) == "table" and rawget(endpoint, "_cell")
  if not cell then error(who .. ": an endpoint or a server is needed", 2) end
  return cell.service:_terminate(cell):with_timeout(limit_of(timeout, who))
end

--- Ends a service; timeout nil is cluster.services.shutdown-timeout.
function M.terminate_rpc_service(service, timeout)
  local who = "terminate_rpc_service"
  if type(service) ~= "table" or type(service.stop) ~= "function" then
    error(who .. ": a service is needed, got " .. type(service), 2)
  end
  local ms = limit_of(timeout or service._shutdown_timeout_ms or 30000, who)
  return service:stop():with_timeout(ms)
end

--- Ends services at the same time; future: done when all are, with the first
-- failure. All are ended, whatever becomes of the others.
function M.terminate_rpc_services(timeout, ...)
  local services, out = { ... }, Future.new()
  local left, first = #services, nil
  if left == 0 then out:resolve(true) end
  for _, service in ipairs(services) do
    M.terminate_rpc_service(service, timeout):_watch(function(_, err)
      first = first or err
      left = left - 1
      if left > 0 then return end
      if first ~= nil then out:reject(first) else out:resolve(true) end
    end)
  end
  return out
end

--- A gateway whose methods wait: they answer the value, or nil, err. In a task
-- they suspend the task; on the main chunk the event loop runs. timeout limits
-- each call; nil leaves the limits of the methods.
function M.get_synchronous_rpc_gateway(gateway, timeout)
  if type(gateway) ~= "table" or rawget(gateway, "_by_name") == nil then
    error("get_synchronous_rpc_gateway: a gateway is needed, got "
      .. type(gateway), 2)
  end
  local target = timeout and gateway:with({ timeout = timeout }) or gateway
  return setmetatable({}, { __index = function(self, name)
    local method = target[name]
    if type(method) ~= "function" then return method end
    local function wait(_, ...)
      local answer, err = method(target, ...)
      if Future.is(answer) then return answer:await() end
      return answer, err
    end
    rawset(self, name, wait)
    return wait
  end, __tostring = function() return "synchronous " .. tostring(gateway) end })
end

return M
