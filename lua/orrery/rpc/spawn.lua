--- Executors of their own for endpoints: service:spawn.
--
-- A spawned executor is ruled by its control endpoint (orrery.rpc.control); it
-- lives as long as an endpoint that was started on it. The happy path:
--
--   spawner: opens $spawn/<random>, core.spawn       child: adopts the service,
--   spawner: connects to $executor/<number>    <-    tells that it is there
--   spawner: start(order), watch(id)           ->    child: starts it
--   handle:stop(): stop(id)                    ->    child: it ends; behind the
--                                                    last one the thread ends
--
-- Failures: main() cannot even begin (no memory, a broken module path): the
-- spawner looks at core.spawned from time to time while it waits. The class
-- cannot be started: the answer of start. Nothing for SPAWN_LIMIT_MS: timeout.
-- The thread dies: its endpoints are closed, so the answer of watch is
-- callee_died and handle.termination is rejected with executor_died.
--
-- Simulated: another simulated executor of the same node, in this Lua state.

local core = require("orrery.core")
local Control = require("orrery.rpc.control")
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
-- These outlive the handler that makes them.
local NO_LIMIT = { timeout = 0, deadline = "own" }

local Spawner = Endpoint.class("$spawn", { started = { tell = true } })

function Spawner:init(future)
  self.future = future
end

function Spawner:started()
  self.future:resolve(true)
end

local function control_name(number)
  return "$executor/" .. number
end

-- The child's side -------------------------------------------------------

local function tell_spawner(service, order)
  local gateway, err = service:connect(order.spawner, "$spawn"):await()
  if not gateway then
    log.error("rpc", "the spawner of executor %d does not answer: %s",
      core.number(), tostring(err))
    return false
  end
  gateway:started()
  return true
end

local function serve(executor, server, is_wanted)
  if not is_wanted then server:stop() end
  local asked = false
  executor:run_until(function()
    if core.stopping() and not asked then
      asked = true
      server.endpoint:stop_all()
    end
    return server._cell.gone
  end, "spawn")
end

-- This thread dies by an error: whoever waits for its endpoints learns it.
local function abandon(executor, service, net)
  for _, cell in pairs(service._cells) do
    native.close(executor.pointer, service._pointer, cell.slot)
  end
  executor.core.flush()
  for _, handle in ipairs(service._spawned) do
    core.stop_spawned(handle.executor)
  end
  if net then
    native.net_close(net, "its executor died")
    native.net_free(net)
  end
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
  local server, err = service:start(Control,
    { id = control_name(core.number()) })
  if not server then error(tostring(err), 0) end
  local ok, failure = xpcall(function()
    serve(executor, server, tell_spawner(service, order))
    executor:step()
  end, debug.traceback)
  if not ok then
    abandon(executor, service, net)
    error(failure, 0)
  end
  close_net(executor, net)
end

-- Homes: an executor as its spawner sees it -------------------------------
-- { number, control = gateway, gone() -> future done when nothing is left }

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

-- Future of a home whose control endpoint can be reached once ready is done.
local function connect_home(service, ready, home)
  local out = Future.new()
  ready:_watch(function(_, err)
    if err ~= nil then
      out:reject(err)
      return
    end
    service:connect(control_name(home.number), "$executor")
      :_watch(function(control, failure)
        home.control = control
        if failure ~= nil then out:reject(failure) else out:resolve(home) end
      end)
  end)
  return out
end

local function real_home(service, label)
  local ready = Future.new()
  local spawner = "$spawn/" .. service._executor.chance:hex(8)
  local server, err = service:start(Spawner,
    { id = spawner, args = { ready } })
  if not server then return Future.rejected(err) end
  local number, code, message = core.spawn(service._pointer, label,
    "orrery.rpc.spawn", core.encode({
      spawner = spawner, has_net = service._net ~= nil, name = service.name,
      timeout_ms = service._timeout_ms, path = package.path,
      cpath = package.cpath, tls = service._tls,
    }))
  if not number then
    server:stop()
    return Future.rejected(errors.new(core.code_name(code),
      "an executor cannot be made: " .. message))
  end
  watch_thread(service, number, ready)
  local out = connect_home(service, ready:with_timeout(SPAWN_LIMIT_MS), {
    number = number,
    gone = function() return thread_ended(service, number) end,
  })
  out:_watch(function(_, failure)
    server:stop()
    if failure ~= nil then core.stop_spawned(number) end
  end)
  return out
end

local function simulated_home(service, make)
  local there, err = make(service)
  if not there then return Future.rejected(err) end
  local ready = Future.new()
  task.later(there._executor.context, function()
    local server, start_err = there:start(Control,
      { id = control_name(there.number) })
    if server then ready:resolve(true) else ready:reject(start_err) end
  end)
  return connect_home(service, ready, {
    number = there.number,
    gone = function() return Future.resolved(true) end,
  })
end

-- Handles -------------------------------------------------------------------

local Handle = {}
Handle.__index = Handle

local function forget(handle)
  local list = handle._service._spawned
  for i, h in ipairs(list) do
    if h == handle then
      table.remove(list, i)
      return
    end
  end
end

local function stop_handle(handle)
  local out, home = Future.new(), handle._home
  home.control:with(NO_LIMIT):stop(handle.id):_watch(function(answer, err)
    -- A control endpoint that cannot be reached has ended, its executor too.
    local failure = answer and answer.error
    if err ~= nil and err.code == "remote" then failure = err end
    local function done()
      forget(handle)
      if failure then
        out:reject(errors.from_table(failure))
      else
        out:resolve(true)
      end
    end
    if err ~= nil or answer.is_last then
      home.gone():_watch(done)
    else
      done()
    end
  end)
  return out
end

--- Ends the endpoint; future, done when it is gone, and when it was the last
-- of its executor that too.
function Handle:stop()
  if not self._stopped then self._stopped = stop_handle(self) end
  return self._stopped
end

-- handle.termination: done when the endpoint has ended.
local function watch_end(handle)
  handle._home.control:with(NO_LIMIT):watch(handle.id)
    :_watch(function(_, err)
      forget(handle)
      if err == nil then
        handle.termination:resolve(true)
      elseif err.code == "remote" then
        handle.termination:reject(err.cause or err)
      else
        handle.termination:reject(errors.new("executor_died",
          "the executor of " .. handle.id .. " has ended", { cause = err }))
      end
    end)
end

local function start_on(service, home, order, out)
  local handle = setmetatable({
    executor = home.number, id = order.id, termination = Future.new(),
    _service = service, _home = home,
  }, Handle)
  out._on_cancel = function() handle:stop() end
  service._spawned[#service._spawned + 1] = handle
  local function failed(err)
    handle:stop():_watch(function()
      if err.code == "remote" and err.cause then err = err.cause end
      out:reject(err)
    end)
  end
  home.control:with({ timeout = SPAWN_LIMIT_MS }):start(order)
    :_watch(function(class_name, err)
      if err ~= nil then return failed(err) end
      service:connect(order.id, class_name, { token = order.token })
        :_watch(function(gateway, connect_err)
          if connect_err ~= nil then return failed(connect_err) end
          handle.gateway, handle.address = gateway, gateway.address
          if not out:resolve(handle) then handle:stop() end
        end)
    end)
  watch_end(handle)
end

-- Values cross a thread as bytes; what cannot is the caller's mistake.
local function make_order(service, module, options)
  local order = {
    module = module, args = options.args, token = options.token,
    id = options.id
      or module:match("[^.]+$") .. "_" .. service._executor.chance:hex(8),
  }
  local ok, text = pcall(core.encode, order)
  if not ok then
    error("service:spawn: " .. tostring(text):gsub("argument 1%.", ""), 4)
  end
  return order
end

local function spawn(service, module, options, make_home)
  local order = make_order(service, module, options)
  local given = options.executor
  local home = given and Future.resolved(given._home)
    or make_home(order.id:sub(-15))
  local out = Future.new()
  home:_watch(function(h, err)
    if err ~= nil then
      out:reject(err)
    else
      start_on(service, h, order, out)
    end
  end)
  return out
end

--- Is handle one that service:spawn of this service gave?
function M.is_handle_of(service, handle)
  return type(handle) == "table" and getmetatable(handle) == Handle
    and handle._service == service
end

--- service:spawn of a real service.
function M.real(service, module, options)
  return spawn(service, module, options, function(label)
    return real_home(service, label)
  end)
end

--- service:spawn in simulation. make(service) -> service on a new executor of
-- the node.
function M.simulated(make)
  return function(service, module, options)
    return spawn(service, module, options, function()
      return simulated_home(service, make)
    end)
  end
end

return M
