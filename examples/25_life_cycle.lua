-- A manager of services and endpoints that ends everything in order.
--
--   orrery exec examples/25_life_cycle.lua

local orrery = require("orrery")
local utils = require("orrery.rpc.utils")

local Manager = {}
Manager.__index = Manager

function Manager.new()
  return setmetatable({ services = {}, servers = {} }, Manager)
end

function Manager:create_rpc_service(hostname, port, configuration)
  local service, err = utils.create_rpc_service(hostname, port, configuration)
  if not service then return nil, err end
  table.insert(self.services, service)
  return service
end

function Manager:start_rpc_endpoint(service, class, options)
  local server, err = service:start(class, options)
  if not server then return nil, err end
  table.insert(self.servers, server)
  return server
end

-- The endpoints first, the youngest before the oldest; then the services. All
-- are ended, also when one fails: the first failure is the answer.
function Manager:shutdown(timeout)
  local first
  for i = #self.servers, 1, -1 do
    local _, err = utils.terminate_rpc_endpoint(self.servers[i], timeout)
      :await()
    first = first or err
  end
  local _, err = utils.terminate_rpc_services(timeout, unpack(self.services))
    :await()
  first = first or err
  if first then return nil, first end
  return true
end

local Worker = orrery.endpoint("worker", { ping = {} })
function Worker:init(name, fails) self.name, self.fails = name, fails end
function Worker:ping() return self.name end
function Worker:on_stop()
  print(self.name .. " stops")
  if self.fails then error(self.name .. " could not save its state") end
end

local manager = Manager.new()
local configuration = { ["rpc.ask-timeout"] = "5 s" }
local here = assert(manager:create_rpc_service("127.0.0.1", 0, configuration))
local there = assert(manager:create_rpc_service("127.0.0.1", 0, configuration))
assert(manager:start_rpc_endpoint(here, Worker, { args = { "one" } }))
assert(manager:start_rpc_endpoint(there, Worker, { args = { "two", true } }))
local three = assert(manager:start_rpc_endpoint(there, Worker,
  { args = { "three" } }))

local gateway = assert(here:connect(three.address, "worker"):await())
print("reached " .. assert(gateway:ping():await()))

local ok, err = manager:shutdown("5 s")
print("shut down: " .. (ok and "in order" or err.cause.message:match("two.*")))
