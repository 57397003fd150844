--- Replies that are kept, so that a call may safely come twice.
--
-- A method declared with idempotent = "key" can be called with a key
-- (gateway:with{ idempotency_key = id }). The first call of a key runs the
-- handler; every later one gets the reply of the first, also while that still
-- runs, also over another connection. So a caller that does not know whether
-- its call arrived asks again: the work is done once.
--
-- The work of a key is a task of its own: a caller that gives up, or whose
-- deadline passes, does not take it away from the one that asks again.
--
-- States of an entry: running (a future) - done (bytes of the value, or the
-- error). The value is kept encoded: nobody can change it afterwards.
--
-- Bounds of an endpoint's cache (service:start{ reply_cache = { count, age,
-- bytes } }): at most count entries, the oldest done one goes first; an entry
-- is forgotten age after it was done; at most bytes of encoded values. When all
-- entries still run, a new key is refused with `overloaded`. Once a reply is
-- forgotten its key runs again: age must exceed the time a caller tries.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local DEFAULTS = { count = 1024, age = 300000, bytes = 16 * 1024 * 1024 }
local KEY_MAX = 128
local METHOD = "_once"

--- Adds the hidden method to a list of methods where one of them needs it.
function M.declare(list)
  local modes, any = {}, false
  for _, method in ipairs(list) do
    if method.idempotent then
      modes[method.name], any = method.idempotent, true
    end
  end
  if not any then return end
  list[#list + 1] = {
    name = METHOD, timeout_ms = 0, tell = false, control = false,
    modes = modes, is_hidden = true, gateways = {},
  }
end

--- Checks the option reply_cache of service:start; throws for the caller of
-- `who`.
function M.check_options(options, who, level)
  local out = {}
  for name, default in pairs(DEFAULTS) do out[name] = default end
  if options == nil then return out end
  if type(options) ~= "table" then
    error(who .. ": reply_cache must be a table { count, age, bytes }", level)
  end
  for name, value in pairs(options) do
    local number, err = nil, nil
    if name == "age" then
      number, err = time.duration_ms(value)
    elseif name == "bytes" then
      number, err = time.size(value)
    elseif name == "count" and type(value) == "number" and value >= 1 then
      number = value
    end
    if not number then
      error(who .. ": reply_cache." .. tostring(name) .. ": "
        .. (err and err.message or DEFAULTS[name] and "must be at least 1"
          or "is unknown; there are age, bytes, count"), level)
    end
    out[name] = number
  end
  return out
end

-- The cache -------------------------------------------------------------------

local Cache = {}
Cache.__index = Cache

--- now: function answering milliseconds. bounds: see check_options.
function M.new(bounds, now)
  return setmetatable({
    _bounds = bounds, _now = now, _entries = {}, count = 0, bytes = 0,
    -- Done entries by age: a list with a head; keys that came later are later.
    _done = {}, _head = 1, _tail = 0,
  }, Cache)
end

function Cache:_drop_oldest()
  local entry = self._done[self._head]
  self._done[self._head] = nil
  self._head = self._head + 1
  if self._head > self._tail then self._head, self._tail = 1, 0 end
  self._entries[entry.key] = nil
  self.count = self.count - 1
  self.bytes = self.bytes - entry.size
end

function Cache:_expire()
  local limit = self._now() - self._bounds.age
  while self._head <= self._tail and self._done[self._head].at <= limit do
    self:_drop_oldest()
  end
end

--- The entry of a key, or nil.
function Cache:find(key)
  self:_expire()
  return self._entries[key]
end

--- A running entry for a new key, or nil when no room can be made.
function Cache:open(key, method)
  if self.count >= self._bounds.count then
    if self._head > self._tail then return nil end
    self:_drop_oldest()
  end
  local entry = {
    key = key, method = method, future = Future.new(), size = 0, at = 0,
  }
  self._entries[key] = entry
  self.count = self.count + 1
  return entry
end

-- From running to done.
function Cache:_close(entry)
  entry.at = self._now()
  self._tail = self._tail + 1
  self._done[self._tail] = entry
  self.bytes = self.bytes + entry.size
  while self.bytes > self._bounds.bytes and self._head <= self._tail do
    self:_drop_oldest()
  end
end

--- Keeps a result and answers those who wait for it.
function Cache:settle(entry, value, err)
  local future = entry.future
  entry.future = nil
  if err == nil then
    local bytes, _, text = core.encode(value)
    if bytes then
      entry.reply, entry.size = bytes, #bytes
    else
      err = errors.new("bad_argument", "the result of " .. entry.method
        .. " cannot be sent: " .. tostring(text))
    end
  end
  if err ~= nil then entry.err = errors.wrap(err) end
  self:_close(entry)
  if entry.err then future:reject(entry.err) else future:resolve(value) end
end

local function replay(entry)
  if entry.future then return entry.future end
  if entry.err then return nil, entry.err end
  return (core.decode(entry.reply))
end

-- The handler -----------------------------------------------------------------

-- A caller's future of an entry: what it does with it is its own affair.
local function waiter_of(entry)
  local out = Future.new()
  entry.future:_watch(function(value, err)
    if err ~= nil then out:reject(err) else out:resolve(value) end
  end)
  return out
end

local function done(t, value, err)
  local cache, entry = t.context.replies, t.call
  if err == nil and Future.is(value) then
    value:_watch(function(v, e) cache:settle(entry, v, e) end)
    return
  end
  cache:settle(entry, value, err)
end

local function refuse(message, ...)
  return nil, errors.new("bad_argument", string.format(message, ...))
end

-- Each life of an endpoint has its own: what ran in the one before is unknown.
local function cache_of(cell)
  local cache = cell.replies
  if not cache then
    cache = M.new(cell.reply_bounds, function()
      return cell.executor:now_ms()
    end)
    cell.replies = cache
  end
  return cache
end

--- The method _once of every endpoint: key, name of the method, its arguments.
function M.handler(self, key, name, ...)
  local cell = self._cell
  if type(key) ~= "string" or key == "" or #key > KEY_MAX then
    return refuse("an idempotency key is a text of 1 to %d bytes", KEY_MAX)
  end
  local number = cell.keyed[name]
  if not number then
    return refuse("method %s of %s takes no idempotency key", tostring(name),
      cell.class_name)
  end
  -- Failures and figures are the method's, not this one's.
  local current = task.current()
  if current and current.context == cell then current.method = number end
  local cache = cache_of(cell)
  local entry = cache:find(key)
  if entry then
    if entry.method ~= name then
      return refuse("the idempotency key %q was used for %s before; it cannot "
        .. "stand for %s too", key, entry.method, name)
    end
    if entry.future then return waiter_of(entry) end
    return replay(entry)
  end
  entry = cache:open(key, name)
  if not entry then
    return nil, errors.new("overloaded", string.format(
      "%s works on %d calls with keys, more are not kept", cell.name,
      cache.count))
  end
  local out = waiter_of(entry)
  task.start(cell, done, entry, number, cell.handlers[number], self, ...)
  return out
end

--- Lets a cell keep replies, where its class needs it.
function M.attach(cell, options)
  local methods = cell.class._methods
  local last = methods[#methods]
  if not last or last.name ~= METHOD then return end
  cell.keyed = {}
  for i, method in ipairs(methods) do
    if method.idempotent == "key" then cell.keyed[method.name] = i - 1 end
  end
  cell.reply_bounds = options
end

return M
