--- What a spawned executor is ruled by: the endpoint `$executor/<number>`.
--
-- It starts endpoints on its executor, tells how each of them ends, and ends
-- behind the last of them; then the executor has nothing left to do. A caller
-- sends watch right behind start, so that no end is missed.

local Endpoint = require("orrery.rpc.endpoint")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")

local Control = Endpoint.class("$executor", {
  -- start({ module, id, args, token }) -> name of its class, after on_start
  start = {},
  -- watch(id) -> true once it has ended, or what it ended by
  watch = {},
  -- stop(id) -> { is_last, error = what it ended by or nil }, once it is gone
  stop = { lane = "control" },
})

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
  if not ok then
    return nil, errors.new("bad_argument",
      (tostring(server):gsub("^[^\n:]+:%d+: ", "")))
  end
  return server, start_err
end

-- Future of the class's name when on_start has ended well.
local function started(server)
  local out, run = Future.new(), Future.new()
  local cell = server._cell
  -- Held until the endpoint serves.
  local ok, err = cell.executor:post(cell, {
    fn = function() return cell.class_name end, future = run,
  })
  if not ok then out:reject(err) end
  run:_watch(function(name) if name then out:resolve(name) end end)
  server.termination:_watch(function(_, end_err)
    out:reject(end_err or errors.new("unreachable", "it ended at once"))
  end)
  return out
end

function Control:init()
  self.servers, self.count = {}, 0 -- by id: { server, ended = future }
end

function Control:_end_if_empty()
  if self.count > 0 then return end
  self.is_ending = true
  self:close_async()
end

function Control:_add(id, server)
  local entry = { server = server, ended = Future.new() }
  self.servers[id] = entry
  self.count = self.count + 1
  server.termination:_watch(function(_, err)
    self.servers[id] = nil
    self.count = self.count - 1
    if err ~= nil then
      entry.ended:reject(err)
    else
      entry.ended:resolve(true)
    end
    self:_end_if_empty()
  end)
end

local function not_here(id)
  return nil, errors.new("unreachable", id .. " is not on this executor")
end

function Control:start(order)
  if self.is_ending then return not_here(order.id) end
  local server, err = start_here(self.service, order)
  if not server then
    self:_end_if_empty()
    return nil, err
  end
  self:_add(order.id, server)
  return started(server)
end

function Control:watch(id)
  local entry = self.servers[id]
  if not entry then return not_here(id) end
  return entry.ended
end

function Control:stop(id)
  local entry, failure = self.servers[id], nil
  if entry then
    entry.server:stop()
    failure = select(2, entry.ended:await())
  end
  return { is_last = self.count == 0,
    error = failure and errors.to_table(failure) or nil }
end

--- Ends every endpoint, and so the executor.
function Control:stop_all()
  for _, entry in sorted.pairs(self.servers) do entry.server:stop() end
  self:_end_if_empty()
end

-- What was spawned from here ends with it.
function Control:on_stop()
  local waits = {}
  for i, handle in ipairs(self.service._spawned) do waits[i] = handle:stop() end
  return Future.all(waits)
end

return Control
