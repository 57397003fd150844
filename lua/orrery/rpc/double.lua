--- A service whose gateways can be replaced, for tests of what connects.
--
--   local double = testing.double(service)
--   double:register("rm:1/resource_manager", { register = function(_, id)
--     return { type = "success" } end })
--   double:fail_connect("rm:1/resource_manager", err, 2)   -- the next two
--   ... code under test calls service:connect("rm:1/resource_manager", ...)
--   double:restore()
--
-- A replacement is a table of functions (gateway, ...), run as tasks; what they
-- answer comes as a future, like that of a call: a value, a future, or nil,
-- err, a throw. Addresses that are not replaced are connected for real, unless
-- double.only is true: then they are unreachable.

local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local task = require("orrery.util.task")

local M = {}

local Double = {}
Double.__index = Double

local function run(context, fn, ...)
  local out = Future.new()
  local n, args = select("#", ...), { ... }
  task.later(context, function()
    task.start(context, function(_, value, err)
      if err ~= nil then out:reject(err) else out:resolve(value) end
    end, false, false, fn, unpack(args, 1, n))
  end)
  return out
end

-- A stand-in for a gateway: calls are recorded in gateway.calls.
local function gateway_of(self, address, methods, token)
  local calls = {}
  local fake = {
    address = address, endpoint = address:match("/(.+)$") or address,
    hostname = address:match("^%[?(.-)%]?:%d+") or "", token = token,
    calls = calls,
  }
  function fake.with() return fake end
  function fake.disconnect() end
  return setmetatable(fake, { __index = function(_, name)
    local fn = methods[name]
    if type(fn) ~= "function" then return fn end
    return function(given, ...)
      calls[#calls + 1] = { method = name, n = select("#", ...), ... }
      return run(self._context, fn, given, ...)
    end
  end })
end

--- Replaces what a connect to this address gives: a table of functions.
function Double:register(address, methods)
  if type(methods) ~= "table" then
    error("double:register: a table of functions is needed, got "
      .. type(methods), 2)
  end
  self._methods[address] = methods
end

function Double:unregister(address)
  self._methods[address] = nil
end

--- The next `times` connects to this address fail with err; without times all
-- of them, until fail_connect(address, nil).
function Double:fail_connect(address, err, times)
  self._failures[address] = err ~= nil
    and { err = errors.wrap(err, "unreachable"), left = times or math.huge }
    or nil
end

--- How often this address was connected to.
function Double:connects(address)
  return self._counts[address] or 0
end

local function failure_of(self, address)
  local failure = self._failures[address]
  if not failure then return nil end
  failure.left = failure.left - 1
  if failure.left <= 0 then self._failures[address] = nil end
  return failure.err
end

local function connect(self, service, address, gateway, options)
  self._counts[address] = self:connects(address) + 1
  local err = failure_of(self, address)
  if err then return Future.rejected(err) end
  local methods = self._methods[address]
  if methods then
    return Future.resolved(gateway_of(self, address, methods,
      options and options.token))
  end
  if self.only then
    return Future.rejected(errors.new("unreachable", "cannot connect to "
      .. address .. ": nothing is registered there",
      { context = { address = address, phase = "connect" } }))
  end
  return getmetatable(service).connect(service, address, gateway, options)
end

--- The service connects for real again.
function Double:restore()
  rawset(self._service, "connect", nil)
end

--- Stands between a service and its connects from now on.
function M.new(service)
  local self = setmetatable({
    _service = service, _methods = {}, _failures = {}, _counts = {},
    _context = service._executor.context, only = false,
  }, Double)
  rawset(service, "connect", function(own, address, gateway, options)
    return connect(self, own, address, gateway, options)
  end)
  return self
end

return M
