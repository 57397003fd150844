--- Runs the JobMaster of one job in this process, while it leads.
--
-- States: RUNNING -> COMPLETED (the job has ended for the cluster) or STOPPED
-- (this process gave it up: SUSPENDED). In RUNNING it has at most one
-- JobMaster, for the leader session granted last:
--   grant   -> JobMaster started with the session as token, gateway ready when
--   it
--              serves, leadership confirmed with its address
--   revoke  -> gateway fails, JobMaster stopped; the next grant waits for its
--   end
-- Grants and revocations are carried out one after the other; what belongs to a
-- session that is over by then is skipped, and so is its result.
--
-- Failures: the JobMaster cannot be started -> COMPLETED as FAILED with
-- `job_initialization`; it dies -> the same with `job_master_died`.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local task = require("orrery.util.task")

local Runner = {}
Runner.__index = Runner

local M = {}

--- @param options { job_id: string, election: table, start: fun(token): table,
---   on_end: fun(ended: table) }
---   start(token) answers a server of the JobMaster, or nil, err
function M.new(options)
  local self = setmetatable({
    job_id = options.job_id, state = "RUNNING", gateway = Future.new(),
    _election = options.election, _start = options.start,
    _on_end = options.on_end, _tail = Future.resolved(true),
  }, Runner)
  return self
end

--- Contends for the leadership of this job.
function Runner:start()
  self._election:start({
    on_grant = function(token)
      self._session = token
      self:_enqueue(function() return self:_serve(token) end)
    end,
    on_revoke = function()
      self._session = nil
      self:_drop_gateway("the leadership of the job is lost")
      self:_enqueue(function() return self:_stop_server() end)
    end,
  })
end

-- Runs fn, which may answer a future, after everything before it.
function Runner:_enqueue(fn)
  self._tail = self._tail:or_else(function(err)
    task.report(err)
    return true
  end):and_then(fn)
end

function Runner:_drop_gateway(text)
  local gateway = self.gateway
  self.gateway, self.is_ready = Future.new(), false
  gateway:reject(errors.new("job_unavailable", text))
end

function Runner:_stop_server()
  local server = self._server
  self._server = nil
  if not server then return true end
  return server:stop():or_else(function() return true end)
end

local function failed(job_id, err)
  return { outcome = {
    job_id = job_id, status = "FAILED", failure = errors.to_table(err),
  } }
end

function Runner:_complete(ended)
  if self.state ~= "RUNNING" then return end
  self.state = "COMPLETED"
  self._on_end(ended)
end

function Runner:_initialization_failed(err)
  self:_drop_gateway("the job could not be started")
  self:_complete(failed(self.job_id, errors.new("job_initialization",
    "the JobMaster could not be started", { cause = err })))
end

function Runner:_is_current(token)
  return self.state == "RUNNING" and self._session == token
end

function Runner:_serve(token)
  if not self:_is_current(token) then return true end
  local server, err = self._start(token)
  if not server then
    self:_initialization_failed(err)
    return true
  end
  self._server = server
  local call = server.gateway:with({ timeout = 0, deadline = "own" })
    :request_result()
  call:on_done(function(ended, result_err)
    if not self:_is_current(token) then return end
    if result_err then
      return self:_died(server, result_err)
    end
    self:_complete(ended)
  end)
  -- The first answer says that it serves.
  return server.gateway:request_job_status():and_then(function()
    if self:_is_current(token)
      and self._election:confirm(token, server.address) then
      self.is_ready = true
      self.gateway:resolve(server.gateway)
    end
    return true
  end):or_else(function() return true end)
end

-- The JobMaster ended without a result; its termination says why.
function Runner:_died(server, result_err)
  if not server.termination:is_done() then
    return self:_complete(failed(self.job_id, errors.new("job_master_died",
      "the JobMaster ended without a result", { cause = result_err })))
  end
  local _, err = server.termination:peek()
  self:_initialization_failed(err or result_err)
end

--- Ends the leadership and the JobMaster; future of true when it is gone. A job
-- that has not ended is SUSPENDED.
function Runner:close()
  if self._closed then return self._closed end
  if self.state == "RUNNING" then self.state = "STOPPED" end
  self._election:close()
  self:_enqueue(function() return self:_stop_server() end)
  self._closed = self._tail
  return self._closed
end

return M
