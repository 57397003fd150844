--- Executors of their own for endpoints: service:spawn.
--
-- Real: core.spawn makes a thread with a new Lua state, which runs main() here:
-- it adopts the service, starts the class of the module, and tells the spawner
-- how that went through an endpoint that waits for it. The happy path:
--
--   spawner: opens $spawn/<random>, core.spawn       child: adopts, starts
--   spawner: gets `started(info)`, connects    <-    child: tells it
--   handle:stop(): ends the endpoint           ->    child: endpoint gone, ends
--
-- Failures: main() cannot even begin (no memory, a broken module path): the
-- spawner looks at core.spawned from time to time while it waits. The class
-- cannot be started: `failed(error)`. Nothing for SPAWN_LIMIT_MS: timeout.
--
-- Simulated: another simulated executor of the same node, in this Lua state.

local core = require("orrery.core")
local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local Future = require("orrery.util.future")
local log = require("orrery.native.log")
local native = require("orrery.native.service")
local native_tls = require("orrery.native.tls")
local task = require("orrery.util.task")

local M = {}

local SPAWN_LIMIT_MS = 30000
local LOOK_EVERY_MS = 25

local Spawner = Endpoint.class("$spawn", {
  started = { tell = true }, failed = { tell = true },
})

function Spawner:init(future)
  self.future = future
end

function Spawner:started(info)
  self.future:resolve(info)
end

function Spawner:failed(err)
  self.future:reject(errors.from_table(err))
end

local Handle = {}
Handle.__index = Handle

--- Ends the endpoint and its executor; future, done when both are gone.
function Handle:stop()
  if self._stopped then return self._stopped end
  self._stopped = self._stop(self)
  return self._stopped
end

-- The class of a module: what require answers, or its field `endpoint`.
local function class_of(module)
  local ok, class = pcall(require, module)
  if not ok then
    return nil, errors.new("bad_argument", "module " .. module
      .. " cannot be loaded: " .. tostring(class))
  end
  if type(class) == "table" and Endpoint.is_class(class.endpoint) then
    class = class.endpoint
  end
  if not Endpoint.is_class(class) then
    return nil, errors.new("bad_argument", "module " .. module
      .. " does not answer a class made by orrery.endpoint")
  end
  return class
end

local function start_here(service, order)
  local class, err = class_of(order.module)
  if not class then return nil, err end
  local ok, server, start_err = pcall(service.start, service, class, {
    id = order.id, args = order.args, token = order.token,
  })
  if not ok then return nil, errors.new("bad_argument",
    (tostring(server):gsub("^[^\n:]+:%d+: ", ""))) end
  return server, start_err
end

-- The child's side -------------------------------------------------------

local function tell_spawner(service, order, method, value)
  local gateway, err = service:connect(order.spawner, "$spawn"):await()
  if not gateway then
    log.error("rpc", "%s: the spawner does not answer: %s", order.module,
      tostring(err))
    return
  end
  gateway[method](gateway, value)
end

local function serve(executor, server)
  local asked = false
  executor:run_until(function()
    if core.stopping() and not asked then
      asked = true
      server:stop()
    end
    return server._cell.gone
  end, "spawn")
end

local function close_net(executor, net)
  if not net then return end
  native.net_close(net, "its executor ended")
  executor:step()
  native.net_free(net)
end

--- Runs on the new thread.
function M.main(text)
  local order = core.decode(text)
  package.path, package.cpath = order.path, order.cpath
  local executor = Executor.default()
  local pointer = native.adopt((core.spawned()))
  local net
  if order.has_net then
    local err
    net, err = native.net(core.loop(), pointer)
    if not net then error(tostring(err), 0) end
    if order.tls then
      local ok
      ok, err = native_tls.secure(net, order.tls)
      if not ok then
        native.net_free(net)
        error(tostring(err), 0)
      end
    end
  end
  local Service = require("orrery.rpc.service")
  local service = Service.adopt({
    executor = executor, pointer = pointer, net = net, name = order.name,
    timeout_ms = order.timeout_ms, spawner = M.real, tls = order.tls,
  })
  local server, err = start_here(service, order)
  if server then
    -- on_start may wait; what comes of it is what the spawner wants to know.
    executor:run_until(function()
      return server._cell.state ~= "starting"
    end, "spawn")
    if server._cell.gone then err = select(2, server.termination:peek()) end
  end
  if not server or server._cell.gone then
    tell_spawner(service, order, "failed",
      errors.to_table(err or errors.new("unreachable", "it ended at once")))
  else
    tell_spawner(service, order, "started",
      { class = server._cell.class_name })
    serve(executor, server)
  end
  for _, handle in ipairs(service._spawned) do handle:stop():await() end
  executor:step()
  close_net(executor, net)
end

-- The spawner's side -----------------------------------------------------

local function watch_thread(service, number, future)
  local function look()
    if future:is_done() then return end
    local state, text = core.spawned(number)
    if state == "failed" or state == "ended" or not state then
      future:reject(errors.new("remote", "the new executor failed: "
        .. (text or state or "it is gone")))
      return
    end
    service:schedule(LOOK_EVERY_MS, look)
  end
  service:schedule(LOOK_EVERY_MS, look)
end

-- Waits for the thread, so that a handle that is stopped has left nothing.
local function thread_ended(service, number)
  local out = Future.new()
  local function look()
    local state = core.spawned(number)
    if state == "starting" or state == "running" then
      service:schedule(2, look)
    else
      out:resolve(true)
    end
  end
  look()
  return out
end

local function forget(service, handle)
  for i, h in ipairs(service._spawned) do
    if h == handle then
      table.remove(service._spawned, i)
      return
    end
  end
end

local function stop_real(handle)
  core.stop_spawned(handle.executor)
  local service = handle._service
  return thread_ended(service, handle.executor):on_done(function()
    forget(service, handle)
  end)
end

local function finish(service, order, handle, ready, server)
  local out = Future.new()
  out._on_cancel = function() handle:stop() end
  ready:_watch(function(info, err)
    if server then server:stop() end
    if err ~= nil then
      handle:stop()
      out:reject(err)
      return
    end
    service:connect(order.id, info.class, { token = order.token })
      :_watch(function(gateway, failure)
        if failure ~= nil then
          handle:stop()
          out:reject(failure)
          return
        end
        handle.gateway, handle.address = gateway, gateway.address
        out:resolve(handle)
      end)
  end)
  return out
end

--- service:spawn of a real service.
function M.real(service, module, options)
  local ready = Future.new()
  local chance = service._executor.chance
  local spawner = "$spawn/" .. chance:hex(8)
  local order = {
    module = module, args = options.args, token = options.token,
    id = options.id or module:match("[^.]+$") .. "_" .. chance:hex(8),
    spawner = spawner, has_net = service._net ~= nil, name = service.name,
    timeout_ms = service._timeout_ms, path = package.path,
    cpath = package.cpath, tls = service._tls,
  }
  local ok, text = pcall(core.encode, order)
  if not ok then
    error("service:spawn: " .. tostring(text):gsub("argument 1%.", ""), 3)
  end
  local server, err = service:start(Spawner, { id = spawner,
    args = { ready } })
  if not server then return Future.rejected(err) end
  local number, code, message = core.spawn(service._pointer,
    order.id:sub(-15), "orrery.rpc.spawn", text)
  if not number then
    server:stop()
    return Future.rejected(errors.new(core.code_name(code),
      "an executor cannot be made: " .. message))
  end
  local handle = setmetatable({
    executor = number, id = order.id, _service = service, _stop = stop_real,
  }, Handle)
  service._spawned[#service._spawned + 1] = handle
  watch_thread(service, number, ready)
  return finish(service, order, handle, ready:with_timeout(SPAWN_LIMIT_MS),
    server)
end

local function stop_simulated(handle)
  if not handle._server then return Future.resolved(true) end
  return handle._server:stop():on_done(function()
    forget(handle._service, handle)
  end)
end

--- service:spawn in simulation. make(service) -> service on a new executor of
-- the node.
function M.simulated(make)
  return function(service, module, options)
    local there, err = make(service)
    if not there then return Future.rejected(err) end
    local id = options.id
      or module:match("[^.]+$") .. "_" .. service._executor.chance:hex(8)
    -- Values cross a thread as bytes; here too.
    local ok, text = pcall(core.encode, options.args or {})
    if not ok then error("service:spawn: " .. tostring(text), 3) end
    local order = { module = module, id = id, token = options.token,
      args = core.decode(text) }
    local ready = Future.new()
    local handle = setmetatable({ id = id, _service = service,
      _stop = stop_simulated, executor = there.number }, Handle)
    task.later(there._executor.context, function()
      local server, start_err = start_here(there, order)
      if not server then
        ready:reject(start_err)
        return
      end
      handle._server = server
      service._spawned[#service._spawned + 1] = handle
      server.termination:_watch(function(_, e)
        if e ~= nil then ready:reject(e) end
      end)
      task.later(server._cell, function()
        ready:resolve({ class = server._cell.class_name })
      end)
    end)
    return finish(service, order, handle, ready)
  end
end

return M
