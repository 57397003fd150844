--- Worker states: heavy Lua work away from an executor's messages.
--
-- A worker is an endpoint on an executor of its own (one thread, one state); a
-- service has up to WORKERS of them, made when first needed. Only values cross.
-- In simulation the work runs at once, on a simulated executor.

local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")

local WORKERS = 2
local NO_LIMIT = 0

local Worker = Endpoint.class("worker", { run = {} })

function Worker:run(module, fn, ...)
  local ok, loaded = pcall(require, module)
  if not ok then
    return nil, errors.new("bad_argument", "module " .. module
      .. " cannot be loaded: " .. tostring(loaded))
  end
  local f = type(loaded) == "table" and loaded[fn] or nil
  if type(f) ~= "function" then
    return nil, errors.new("bad_argument", string.format(
      "module %s has no function %s", module, tostring(fn)))
  end
  return f(...)
end

local M = { endpoint = Worker }

local function worker_of(service)
  local pool = service._workers
  if not pool then
    pool = { next = 0 }
    service._workers = pool
  end
  local i = pool.next % WORKERS + 1
  pool.next = pool.next + 1
  if not pool[i] then pool[i] = service:spawn("orrery.rpc.worker") end
  return pool[i]
end

--- Future of require(module)[fn](...), run by a worker of the service.
function M.offload(service, module, fn, ...)
  if type(module) ~= "string" or type(fn) ~= "string" then
    error("offload: the names of a module and of its function are needed", 3)
  end
  local n, args = select("#", ...), { ... }
  local out = Future.new()
  worker_of(service):_watch(function(handle, err)
    if err ~= nil then
      out:reject(err)
      return
    end
    out:resolve(handle.gateway:with({ timeout = NO_LIMIT })
      :run(module, fn, unpack(args, 1, n)))
  end)
  return out
end

return M
