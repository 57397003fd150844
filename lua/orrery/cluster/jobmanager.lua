--- The roles of a jobmanager on one service: `leaders`, `blob`,
-- `resource_manager`, `dispatcher`, and a `job_master/<id>` for each job.
--
--   local handle = jobmanager.start(service, config)
--   handle:stop() -> future
--
-- They are started in this order, so that what a role asks for is there, and
-- stopped in the opposite one. Each leading role has a seat: an election that,
-- when granted, starts the endpoint with the session as its token and confirms
-- its address, and when revoked stops it.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local Blob = require("orrery.blob")
local Dispatcher = require("orrery.dispatcher")
local JobMaster = require("orrery.job_master")
local Leaders = require("orrery.ha.leaders")
local ResourceManager = require("orrery.resource_manager")
local elections = require("orrery.ha.election")
local file_storage = require("orrery.blob.file_storage")
local seams = require("orrery.ha.seams")

local M = {}

local Handle = {}
Handle.__index = Handle

-- Starts an endpoint and remembers it for stop().
function Handle:_start(class, id, args, token)
  local server, err = self._service:start(class,
    { id = id, args = { args }, token = token })
  if not server then
    return nil, errors.new("start_failed",
      ("%s cannot be started"):format(id), { cause = err })
  end
  return server
end

function Handle:_seat(role, class, args)
  local election = self._elections:election(role)
  local server, failed, stopping
  election:start({
    on_grant = function(token)
      args.token = token
      server, failed = self:_start(class, role, args, token)
      if server then election:confirm(token, server.address) end
    end,
    on_revoke = function()
      stopping = server and server:stop() or Future.resolved(true)
      server = nil
    end,
  })
  if failed then return nil, failed end
  table.insert(self._stops, function()
    election:close()
    return stopping
  end)
  return true
end

function Handle:_plain(class, id, args)
  local server, err = self:_start(class, id, args)
  if not server then return nil, err end
  table.insert(self._stops, function() return server:stop() end)
  return server
end

-- Stops what was started last first; every one is stopped, the first error is
-- the answer.
function Handle:_stop_next(first_error)
  local stop = table.remove(self._stops)
  if not stop then
    if first_error then return Future.rejected(first_error) end
    return Future.resolved(true)
  end
  return stop():and_then(function() return self:_stop_next(first_error) end)
    :or_else(function(err)
      return self:_stop_next(first_error or err)
    end)
end

--- Ends all roles; jobs that run are suspended. Future of true.
function Handle:stop()
  self._stopped = self._stopped or self:_stop_next()
  return self._stopped
end

function Handle:_open(config, storage)
  local _, err, blob
  _, err = self:_plain(Leaders, "leaders",
    { directory = self._elections.directory })
  if err then return nil, err end
  blob, err = self:_plain(Blob, "blob", { storage = storage })
  if err then return nil, err end
  _, err = self:_seat("resource_manager", ResourceManager,
    { config = config, blob = blob.address })
  if err then return nil, err end
  return self:_seat("dispatcher", Dispatcher, {
    config = config, elections = self._elections,
    start_job_master = function(plan, token)
      return self:_start(JobMaster, "job_master/" .. plan.job_id, {
        plan = plan, config = config, token = token, blob = blob.address,
      }, token)
    end,
  })
end

--- @param service table
--- @param config fun(key: string): any
--- @param options { storage: table? }? storage: where blobs are kept instead of
---   the files of blob.storage.directory
--- @return table? handle, table? err
function M.start(service, config, options)
  local storage, err = options and options.storage
  if not storage then
    storage, err = file_storage.open(config("blob.storage.directory"))
    if not storage then return nil, err end
  end
  local seam = seams.of(service)
  local handle = setmetatable({
    _service = service, _stops = {}, _elections = elections.new({
      wall_ms = function() return seam:wall_ms() end,
      random_bytes = function(n) return seam:bytes(n) end,
    }),
  }, Handle)
  local ok
  ok, err = handle:_open(config, storage)
  if not ok then
    handle:stop():on_done(function() end)
    return nil, err
  end
  return handle
end

return M
