--- A server: the handle of an endpoint for who started it.
--
-- Fields: address, id, endpoint (its object), gateway (to it), termination (a
-- future, done when it has ended). They are made when somebody asks: most
-- endpoints are never asked. After a crash the server is that of the next life.

local life_cycle = require("orrery.rpc.life_cycle")
local task = require("orrery.util.task")

local Server = {}

local FIELDS = {
  address = function(cell) return cell.object.address end,
  id = function(cell) return cell.name end,
  endpoint = function(cell) return cell.object end,
  gateway = function(cell) return cell.service:_gateway_of(cell) end,
  termination = life_cycle.termination,
}

function Server:__index(key)
  local field = FIELDS[key]
  if field then return field(self._cell) end
  return Server[key]
end

function Server.new(cell)
  local self = setmetatable({ _cell = cell }, Server)
  cell.server = self
  return self
end

--- Host and port of "host:port"; "" and -1 of a local service.
function Server.split(place)
  local host, port = place:match("^%[?(.-)%]?:(%d+)$")
  if not host then return "", -1 end
  return host, tonumber(port)
end

--- Starts it; nothing to do when it is started. nil, err (invalid_state) when
-- it is stopping or has ended.
function Server:start()
  return life_cycle.start(self._cell)
end

--- Stops serving without an end: calls are answered not_started, posted work is
-- held, a later start runs on_start again.
function Server:suspend()
  return life_cycle.suspend(self._cell)
end

--- Ends the endpoint, behind the messages that wait; its termination future.
function Server:stop()
  return life_cycle.stop(self._cell)
end

Server.close_async = Server.stop

--- Ends the endpoint and waits: true, or nil, err.
function Server:close()
  return life_cycle.stop(self._cell):await()
end

function Server:is_running()
  return life_cycle.is_running(self._cell)
end

--- Does a handler of this endpoint run now?
function Server:is_current_thread_main_thread()
  return task.context().object == self._cell.object
end

--- A gateway to it; name: one of those that its class speaks.
function Server:get_gateway(name)
  return self._cell.service:_gateway_of(self._cell, name)
end

function Server:get_address() return self.address end

function Server:get_hostname()
  return (Server.split(self._cell.service.address))
end

--- The port of its service; -1 for one without network.
function Server:get_port()
  return (select(2, Server.split(self._cell.service.address)))
end

function Server:get_termination_future() return self.termination end

return Server
