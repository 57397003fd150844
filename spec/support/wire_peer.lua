--- A hand-made peer on a raw socket, and a tap between two real ones.

local uv = require("luv")
local Future = require("orrery.util.future")
local wire = require("support.wire")

local M = {}

local Socket = {}
Socket.__index = Socket

local function wrap(handle)
  local self = setmetatable({ handle = handle, bytes = "", frames = {},
    ended = false, waiting = {} }, Socket)
  handle:nodelay(true)
  handle:read_start(function(_, data)
    if not data then
      self.ended = true
    else
      self.bytes = self.bytes .. data
      while true do
        local frame, rest = wire.read(self.bytes)
        if not frame then break end
        self.bytes = rest
        if self.on_frame then
          self.on_frame(frame)
        else
          self.frames[#self.frames + 1] = frame
        end
      end
    end
    local waiting = self.waiting
    self.waiting = {}
    for _, future in ipairs(waiting) do future:resolve(true) end
  end)
  return self
end

function Socket:send(...)
  self.handle:write(table.concat({ ... }))
end

local function changed(self)
  local future = Future.new()
  self.waiting[#self.waiting + 1] = future
  return future:with_timeout("5s"):await()
end

--- The next frame, or nil when the stream has ended.
function Socket:next()
  while #self.frames == 0 and not self.ended do
    assert(changed(self), "no frame and no end within 5 s")
  end
  return table.remove(self.frames, 1)
end

--- Waits for the end of the stream; the frames that came before it.
function Socket:rest()
  while not self.ended do
    assert(changed(self), "no end within 5 s")
  end
  return self.frames
end

function Socket:close()
  if not self.handle:is_closing() then self.handle:close() end
end

local function port_of(address)
  return tonumber(address:match(":(%d+)"))
end

--- A socket connected to "host:port[/endpoint]".
function M.connect(address)
  local handle, done = uv.new_tcp(), Future.new()
  handle:connect("127.0.0.1", port_of(address), function(err)
    if err then done:reject(err) else done:resolve(true) end
  end)
  assert(done:await())
  return wrap(handle)
end

--- Listens; each connection goes to fn(socket). Answers the address and a
-- function that ends it.
function M.listen(fn)
  local listener, sockets = uv.new_tcp(), {}
  assert(listener:bind("127.0.0.1", 0))
  listener:listen(16, function()
    local handle = uv.new_tcp()
    listener:accept(handle)
    local socket = wrap(handle)
    sockets[#sockets + 1] = socket
    fn(socket)
  end)
  return "127.0.0.1:" .. listener:getsockname().port, function()
    listener:close()
    for _, socket in ipairs(sockets) do socket:close() end
  end
end

--- A server by hand: hello (a frame), then answers of methods as name ->
-- fn(args, ask) that gives { status =, body = } or nil for no answer.
function M.serve(hello, methods)
  local names = {}
  for name in pairs(methods) do names[#names + 1] = name end
  table.sort(names)
  local list = {}
  for i, name in ipairs(names) do list[i] = { name, 0, false, false } end
  return M.listen(function(socket)
    socket:send(hello)
    socket.on_frame = function(frame)
      local answer
      if frame.kind == "RESOLVE" then
        answer = { endpoint = 3, incarnation = 9, body = wire.pack({
          state = 1, incarnation = 9, fenced = false, methods = list,
          later = { "a field of a later version" },
        }) }
      elseif frame.kind == "ASK" then
        answer = methods[names[frame.method + 1]](wire.unpack(frame.body),
          frame, socket)
      end
      if not answer then return end
      socket:send(wire.frame({
        kind = "REPLY", call_slot = frame.call_slot,
        call_generation = frame.call_generation, method = answer.status or 0,
        endpoint = answer.endpoint, incarnation = answer.incarnation,
        body = answer.body,
      }))
    end
  end)
end

--- Passes bytes between a client and the server at address, and keeps them:
-- tap.bytes() gives those to the server and those from it; tap.ended is done
-- when the client's stream has ended. Answers its address, the tap, and a
-- function that ends it.
function M.tap(address)
  local tap = { ended = Future.new() }
  local listener, handles = uv.new_tcp(), {}
  assert(listener:bind("127.0.0.1", 0))
  local sent, received = {}, {}
  listener:listen(16, function()
    local near, far = uv.new_tcp(), uv.new_tcp()
    handles[#handles + 1], handles[#handles + 2] = near, far
    listener:accept(near)
    far:connect("127.0.0.1", port_of(address), function()
      local function pass(from, to, into)
        from:read_start(function(_, data)
          if data then
            into[#into + 1] = data
            to:write(data)
          elseif not to:is_closing() then
            to:close()
            if from == near then tap.ended:resolve(true) end
          end
        end)
      end
      pass(near, far, sent)
      pass(far, near, received)
    end)
  end)
  function tap.bytes()
    return table.concat(sent), table.concat(received)
  end
  return "127.0.0.1:" .. listener:getsockname().port, tap, function()
    listener:close()
    for _, handle in ipairs(handles) do
      if not handle:is_closing() then handle:close() end
    end
  end
end

return M
