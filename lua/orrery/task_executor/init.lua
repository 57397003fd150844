--- Starts the TaskExecutor of a process.
--
--   local handle = task_executor.start(service, config, { directory = "h:p" })
--   handle.address, handle.id, handle:stop() -> future
local seams = require("orrery.ha.seams")
local TaskExecutor = require("orrery.task_executor.endpoint")

local M = {}

-- host-port-chance: different for two processes at one address over time.
local function make_id(service)
  local place = service.address == "" and "local"
    or service.address:gsub("[^%w.]", "-")
  return ("tm-%s-%04x"):format(place,
    math.floor(seams.of(service):real() * 65536))
end

--- @param service table
--- @param config fun(key: string): any
--- @param options { directory: string?, fatal: fun(err)?, id: string?,
---   task_module: string? }?
---   directory: "host:port" of the jobmanager; nil or "" is the own service
--- @return table? handle, table? err
function M.start(service, config, options)
  options = options or {}
  local id = options.id or config("taskmanager.id")
  if id == nil or id == "" then id = make_id(service) end
  local server, err = service:start(TaskExecutor, {
    id = "task_executor", args = { {
      id = id, slots = config("taskmanager.slots"), config = config,
      directory = options.directory or "", fatal = options.fatal,
      task_module = options.task_module,
    } },
  })
  if not server then return nil, err end
  return {
    id = id, address = server.address, gateway = server.gateway,
    termination = server.termination,
    stop = function() return server:stop() end,
  }
end

return M
