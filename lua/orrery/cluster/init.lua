--- Processes of a cluster, assembled from a configuration: a service with its
-- address, a data folder, and the roles on it.
--
-- A process has address, port, slots and id (of its taskmanager), `ended` (a
-- future that an error or an end from inside resolves), stop() -> Future, and
-- clean_up() for what stays outside of the event loop.
--
-- Failures: an address that others can reach without `insecure`, a folder that
-- cannot be written, a port in use: nil and a sentence, nothing left behind.

local errors = require("orrery.util.errors")
local rpc_options = require("orrery.rpc.options")
local Future = require("orrery.util.future")
local data_directory = require("orrery.cluster.data_directory")
local introspection = require("orrery.cluster.introspection")
local lookout = require("orrery.cluster.lookout")
local log = require("orrery.native.log")
local option_types = require("orrery.util.option_types")
local orrery = require("orrery")
local watchdog = require("orrery.rpc.watchdog")
local security = require("orrery.rpc.security")

local M = {}

local function start_log(config)
  log.set_level(config:get("log.level"))
  local path = config:get("log.file")
  if path == "" then return true end
  local ok, err = log.set_file(path)
  if ok then return true end
  return nil, errors.new("bad_log_file", ("cannot write the log file %s; "
    .. "log.file names another"):format(path), { cause = err })
end

M.is_loopback = security.is_loopback

-- The rule is the service's; here it is told in the words of the configuration.
local function check_host(config, key, address, tls)
  local ok, err = security.check_bind(address, { tls = tls,
    insecure = config:get("insecure") }, "set rpc.ssl.enabled with its "
    .. "certificate, key and authority (orrery certs makes them), or "
    .. "insecure = true (--insecure) if your network is closed")
  if ok then return true end
  return nil, errors.new("bad_configuration", ("%s = %s: %s"):format(key,
    config:get(key), err.message))
end

local function start_service(config, role)
  local host_key, port_key = role .. ".rpc.address", role .. ".rpc.port"
  local address = option_types.join_address(config:get(host_key),
    config:get(port_key))
  local tls, err = security.of_config(config)
  if tls == false then return nil, err end
  local ok
  ok, err = check_host(config, host_key, address, tls)
  if not ok then return nil, err end
  local service
  local values
  values, err = rpc_options.read(config)
  if not values then return nil, err end
  local options = rpc_options.service_options(values)
  -- The roles follow leaders and try again by their own rules.
  options.connect_retries, options.bind, options.name = 0, address, role
  service, err = orrery.service(options)
  if service then return service end
  if errors.is(err) and err.code == "address_in_use" then
    return nil, errors.new("address_in_use", ("%s is in use by another "
      .. "process; %s = N (--port N) takes another port, 0 a free one")
      :format(address, port_key))
  end
  return nil, err
end

local Process = {}
Process.__index = Process

--- Stops the roles, newest first, then the service.
function Process:stop()
  if self._stopping then return self._stopping end
  if self._lookout then self._lookout:stop() end
  self._stopping = orrery.async(function()
    local first_error
    for i = #self._roles, 1, -1 do
      local _, err = self._roles[i]:stop():await()
      first_error = first_error or err
    end
    local _, err = self._service:stop():await()
    first_error = first_error or err
    if first_error then return nil, first_error end
    return true
  end)
  return self._stopping
end

--- Removes a temporary data folder.
function Process:clean_up()
  self._directory:close()
end

local function open_storage(config)
  local directory, err = data_directory.open(config:get("data.directory"))
  if not directory then return nil, err end
  local blobs = config:get("blob.storage.directory")
  if blobs == "" then
    blobs, err = directory:folder("blobs")
  else
    local ok
    ok, err = data_directory.check(blobs)
    if not ok then blobs = nil end
  end
  if not blobs then
    directory:close()
    return nil, err
  end
  return directory, config:with({ ["blob.storage.directory"] = blobs,
    ["data.directory"] = directory.path }, "data.directory")
end

local function start_watchdog(config)
  local threshold = config:get("rpc.watchdog.threshold")
  if threshold > 0 then return watchdog.start(threshold) end
  return true
end

-- Builds a process: service_role names the address keys; add(process, config)
-- starts the roles and answers true or nil, err.
local function assemble(config, service_role, add)
  local ok, err = start_log(config)
  if not ok then return nil, err end
  local directory, stored = open_storage(config)
  if not directory then return nil, stored end
  local service
  service, err = start_service(stored, service_role)
  if not service then
    directory:close()
    return nil, err
  end
  local host, port = option_types.split_address(service.address)
  local process = setmetatable({ address = service.address, host = host,
    port = port, ended = Future.new(), _service = service,
    _directory = directory, _roles = {} }, Process)
  ok, err = start_watchdog(stored)
  if ok then ok, err = introspection.start(service) end
  if ok then ok, err = add(process, stored) end
  if not ok then
    process:stop():await()
    process:clean_up()
    return nil, err
  end
  return process
end

local function add_jobmanager(process, config)
  local jobmanager = require("orrery.cluster.jobmanager")
  local roles, err = jobmanager.start(process._service, config:reader())
  if not roles then return nil, err end
  process._roles[#process._roles + 1] = roles
  return true
end

-- directory: host:port of the jobmanager; nil = this process.
local function add_taskmanager(process, config, directory)
  local task_executor = require("orrery.task_executor")
  local executor, err = task_executor.start(process._service, config:reader(), {
    directory = directory,
    fatal = function(why) process.ended:reject(why) end,
  })
  if not executor then return nil, err end
  process._roles[#process._roles + 1] = executor
  process.slots = config:get("taskmanager.slots")
  process.id = executor.id
  return true
end

--- A jobmanager.
---@return table|nil process, table|nil error
function M.start_jobmanager(config)
  return assemble(config, "jobmanager", add_jobmanager)
end

--- A taskmanager; it registers by itself, now or when the jobmanager is there.
-- notice(text) says a line to people.
function M.start_taskmanager(config, notice)
  local directory = option_types.join_address(
    config:get("jobmanager.rpc.address"), config:get("jobmanager.rpc.port"))
  local process, err = assemble(config, "taskmanager", function(made, stored)
    return add_taskmanager(made, stored, directory)
  end)
  if not process then return nil, err end
  process._lookout = lookout.start(process._service, directory, notice)
  return process
end

--- Both in one process, under the address of the jobmanager.
function M.start_all(config)
  return assemble(config, "jobmanager", function(process, stored)
    local ok, err = add_jobmanager(process, stored)
    if not ok then return nil, err end
    return add_taskmanager(process, stored)
  end)
end

return M
