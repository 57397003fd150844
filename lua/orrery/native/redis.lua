--- orr_redis: one connection to a Redis; see redis.h for what each end means.
--
-- Slots come back as numbers: rpc.external makes futures of them. Codes become
-- nil, err; memory has an owner; nothing is decided here.

local core = require("orrery.core")
local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

local Redis = {}
Redis.__index = Redis

local ROLES = { any = 0, master = 1, replica = 2, sentinel = 3 }
local STATES = { [0] = "connecting", "auth", "setname", "role", "subscribe",
  "ready", "closed" }
local CONFIRM = { wait = 1, wait_aof = 2 }
local NS_PER_MS = 1000000

local function loop()
  return ffi.cast("orr_loop *", core.loop())
end

-- The texts stay alive as long as the table that they are in.
local function strings(list)
  return ffi.new("const char *[?]", #list, list)
end

local function arguments(list)
  local lengths = ffi.new("size_t[?]", #list)
  for i = 1, #list do
    local text = list[i]
    if type(text) ~= "string" then
      error(("argument %d of a command must be a string, not a %s")
        :format(i, type(text)), 3)
    end
    lengths[i - 1] = #text
  end
  return strings(list), lengths
end

local function ns(ms)
  return (ms or 0) * NS_PER_MS
end

--- Begins to connect. options: address, user, password, name, role ("any",
-- "master", "replica", "sentinel"), channels (a list), requests_max, queue_max,
-- messages_max, message_bytes_max, ready_timeout_ms, keepalive_ms.
-- Answers the connection and the slot of its READY; or nil, err.
function M.open(options)
  local role = ROLES[options.role or "any"]
  if not role then
    error(("there is no role %q"):format(tostring(options.role)), 2)
  end
  local o = ffi.new("orr_redis_options")
  o.address, o.user, o.password = options.address, options.user,
    options.password
  o.name, o.role = options.name, role
  o.requests_max, o.queue_max = options.requests_max or 0,
    options.queue_max or 0
  o.ready_timeout_ns = ns(options.ready_timeout_ms)
  o.keepalive_ns = ns(options.keepalive_ms)
  o.messages_max = options.messages_max or 0
  o.message_bytes_max = options.message_bytes_max or 0
  local channels
  if options.channels then
    channels = strings(options.channels)
    o.channels, o.channel_count = channels, #options.channels
  end
  local slot, err = ffi.new("uint32_t[1]"), ffi.new("orr_error")
  local pointer = C.orr_redis_open(loop(), o, slot, err)
  if pointer == nil then return lib.fail(err.code, err) end
  ffi.gc(pointer, C.orr_redis_free)
  return setmetatable({ _pointer = pointer, _slot = slot }, Redis), slot[0]
end

local function pointer_of(self)
  local pointer = self._pointer
  if pointer == nil then error("the connection to Redis was freed", 3) end
  return pointer
end

--- args: a list of strings. Answers a slot; or nil, err.
function Redis:command(args, timeout_ms)
  local pointer = pointer_of(self)
  local list, lengths = arguments(args)
  local code = C.orr_redis_command(pointer, #args, list, lengths,
    ns(timeout_ms), self._slot)
  if code ~= 0 then return lib.fail(code) end
  return self._slot[0]
end

--- Makes a script known; answers its id, or nil, err.
function Redis:script(text)
  local code = C.orr_redis_script(pointer_of(self), text, #text, self._slot)
  if code ~= 0 then return lib.fail(code) end
  return self._slot[0]
end

--- Runs a script: the first `keys` of args are keys. options: timeout_ms,
-- confirm ("wait" or "wait_aof") with replicas and wait_ms.
-- Answers a slot; or nil, err.
function Redis:evaluate(script, keys, args, options)
  local pointer = pointer_of(self)
  local list, lengths = arguments(args)
  local e = ffi.new("orr_redis_eval")
  options = options or {}
  e.script, e.keys, e.count, e.args, e.lengths = script, keys, #args, list,
    lengths
  e.confirm = options.confirm and CONFIRM[options.confirm] or 0
  e.replicas, e.wait_ms = options.replicas or 0, options.wait_ms or 0
  e.timeout_ns = ns(options.timeout_ms)
  local code = C.orr_redis_evaluate(pointer, e, self._slot)
  if code ~= 0 then return lib.fail(code) end
  return self._slot[0]
end

--- A slot for the next messages, or for the end of the connection.
function Redis:watch()
  local code = C.orr_redis_watch(pointer_of(self), self._slot)
  if code ~= 0 then return lib.fail(code) end
  return self._slot[0]
end

function Redis:info()
  local info = ffi.new("orr_redis_info")
  C.orr_redis_info_get(pointer_of(self), info)
  local role
  for name, number in pairs(ROLES) do
    if number == info.role then role = name end
  end
  return {
    state = STATES[info.state], role = role, replicas = info.replicas,
    in_flight = info.in_flight, queued = tonumber(info.queued),
    requests = tonumber(info.requests), replies = tonumber(info.replies),
    scripts_reloaded = tonumber(info.scripts_reloaded),
    messages_dropped = tonumber(info.messages_dropped),
  }
end

function Redis:close(reason)
  C.orr_redis_close(pointer_of(self), reason)
end

--- Closes and frees; a second time does nothing.
function Redis:free()
  if self._pointer == nil then return end
  C.orr_redis_free(ffi.gc(self._pointer, nil))
  self._pointer = nil
end

--- Finds a primary by its sentinels. options: sentinels (addresses), master,
-- sentinel_user, sentinel_password, user, password, timeout_ms.
-- Answers a slot; or nil, err.
function M.discover(options)
  local d = ffi.new("orr_redis_discovery")
  local sentinels = strings(options.sentinels)
  d.sentinels, d.sentinel_count = sentinels, #options.sentinels
  d.master, d.user, d.password = options.master, options.user, options.password
  d.sentinel_user = options.sentinel_user
  d.sentinel_password = options.sentinel_password
  d.timeout_ns = ns(options.timeout_ms)
  local slot, err = ffi.new("uint32_t[1]"), ffi.new("orr_error")
  local code = C.orr_redis_discover(loop(), d, slot, err)
  if code ~= 0 then return lib.fail(code, err) end
  return slot[0]
end

return M
