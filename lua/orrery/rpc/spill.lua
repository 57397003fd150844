--- Very large arguments and results through a blob store.
--
-- A service with the option
--
--   spill = { threshold = "8mb", put = fn(bytes) -> Future of a key (string),
--             get = fn(key) -> Future of the bytes, drop = fn(key) or nil,
--             timeout = "30s" }
--
-- keeps the body of a remote call above the threshold in the store and sends
-- only its key, when the peer offers the same in the handshake: services of one
-- cluster are taken to share one store. drop is called once when the body is
-- needed no more: that of arguments by the caller when the call has ended, that
-- of a result by the caller when it was fetched.
--
-- The envelope is a flag of the frame's header, which no value can set, so user
-- data is never taken for it. Order: while a body is being put, later calls of
-- the same gateway wait behind it; while one is being fetched, later messages
-- of the same endpoint do. A store that fails to put is no failure of the call:
-- the body then travels in the connection, as far as that takes it.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local log = require("orrery.native.log")
local task = require("orrery.util.task")
local time = require("orrery.util.time")

local M = {}

local SPILLED_FLAG = 16
local SPILL = 1 -- what ask_spill and reply_spill answer above the threshold
local REMOTE = -44
local QUEUE_MAX = 4096
local DEFAULT_THRESHOLD = 8 * 1024 * 1024
local DEFAULT_TIMEOUT_MS = 30000

-- The executor's way to run a call whose arguments are here.
M.run_call = nil

local FIELDS = {
  drop = "function", get = "function", put = "function", threshold = "number",
  timeout = "duration",
}

--- The option of a service, checked; throws in the name of who.
function M.check(options, who)
  if options == nil then return nil end
  if type(options) ~= "table" then
    error(who .. ": spill must be a table { put = , get = }, got "
      .. type(options), 3)
  end
  for key in pairs(options) do
    if not FIELDS[key] then
      error(who .. ": spill has an unknown field " .. tostring(key)
        .. "; it knows drop, get, put, threshold, timeout", 3)
    end
  end
  for _, key in ipairs({ "put", "get", "drop" }) do
    local kind = type(options[key])
    if kind ~= "function" and (key ~= "drop" or kind ~= "nil") then
      error(who .. ": spill." .. key .. " must be a function, got " .. kind, 3)
    end
  end
  local threshold = options.threshold or DEFAULT_THRESHOLD
  if type(threshold) ~= "number" or threshold < 1 then
    error(who .. ": spill.threshold must be a number of bytes from 1 on", 3)
  end
  return {
    threshold = threshold, put = options.put, get = options.get,
    drop = options.drop,
    timeout_ms = options.timeout and time.check_ms(options.timeout, who)
      or DEFAULT_TIMEOUT_MS,
  }
end

local function drop(spill, key)
  if not spill.drop then return end
  local ok, message = pcall(spill.drop, key)
  if not ok then
    log.warn("rpc", "spill: drop of %s failed: %s", tostring(key),
      tostring(message))
  end
end

-- Calls a function of the user in a task of its own, so that it may wait; done
-- gets its value or an error.
local function call_store(spill, context, fn, argument, done)
  local future = Future.new()
  task.later(context, function()
    local ok, value, err = pcall(fn, argument)
    if not ok then value, err = nil, errors.wrap(value) end
    if Future.is(value) then value, err = value:await() end
    if err == nil and type(value) ~= "string" then
      err = errors.new("bad_argument", "the store answered a "
        .. type(value) .. ", a string is needed")
    end
    if err ~= nil then future:reject(err) else future:resolve(value) end
  end)
  future:with_timeout(spill.timeout_ms):_watch(done)
end

-- The values of a fetched body, or nil, err.
local function values_of(bytes, key)
  local list, count = core.decode_batch(bytes)
  if list then return list, count end
  return nil, errors.new("protocol", string.format(
    "the blob %s holds no values: %s", key, tostring(count)))
end

-- Calling ---------------------------------------------------------------------

-- What waits while a body of this target is being put, in order.
local function wait_line(executor, target)
  local lines = executor.spilling
  if not lines then
    lines = {}
    executor.spilling = lines
  end
  local line = { n = 0 }
  lines[target] = line
  return line
end

local function release_line(executor, target, line)
  executor.spilling[target] = nil
  for i = 1, line.n do
    line[i]()
    local again = executor.spilling[target]
    if again then
      for j = i + 1, line.n do
        again.n = again.n + 1
        again[again.n] = line[j]
      end
      return
    end
  end
end

local function put_then(entry, executor, target, bytes, send)
  local spill = entry.gateway._spill
  local line = wait_line(executor, target)
  call_store(spill, executor.context, spill.put, bytes, function(key, err)
    if err ~= nil then
      log.warn("rpc", "%s.%s: %d bytes of arguments are not spilled: %s",
        entry.gateway_name, entry.name, #bytes, tostring(err))
    end
    send(err == nil and key or nil)
    release_line(executor, target, line)
  end)
end

local function queue_full(entry)
  return errors.new("overloaded", string.format("%s.%s: %d calls wait behind "
    .. "arguments that are being put into the blob store", entry.gateway_name,
    entry.name, QUEUE_MAX))
end

local function follow(out, inner, done)
  out._on_cancel = function() inner:cancel() end
  inner:_watch(function(value, err)
    if done then done() end
    if err ~= nil then out:reject(err) else out:resolve(value) end
  end)
end

local function left_ms(entry, executor, since)
  if entry.timeout_ms == 0 then return 0 end
  return entry.timeout_ms - (executor:now_ms() - since)
end

local function expired(entry)
  return errors.new("expired_unsent", string.format("%s.%s was not answered "
    .. "within %s; it expired before its arguments were in the blob store",
    entry.gateway_name, entry.name, time.format_ms(entry.timeout_ms)))
end

local function park(entry, executor, slot)
  local future = Future.new()
  future._call, future._slot = entry, slot
  executor.pending[slot] = future
  return future
end

--- A gateway's method that asks. tools: check_self, refused of the gateway.
function M.ask_method(view, entry, executor, target, tools)
  local bound = executor.core
  local id, flags = entry.id, entry.flags
  local spill = entry.gateway._spill

  local function send_key(out, since, key, plain)
    local left = left_ms(entry, executor, since)
    if left < 0 then return out:reject(expired(entry)) end
    local slot, code, text
    if key then
      slot, code, text = bound.ask(target, id, left, flags + SPILLED_FLAG, key)
    else
      slot, code, text = plain(left)
    end
    if not slot then
      return out:reject(tools.refused(entry, code, text))
    end
    follow(out, park(entry, executor, slot), key and function()
      drop(spill, key)
    end)
  end

  local function ask(out, since, ...)
    local n, arguments = select("#", ...), { ... }
    local left = left_ms(entry, executor, since)
    if left < 0 then
      out:reject(expired(entry))
      return out
    end
    local slot, code, text = bound.ask_spill(target, id, left, flags,
      spill.threshold, ...)
    if slot then
      local inner = park(entry, executor, slot)
      if not out then return inner end
      follow(out, inner)
      return out
    end
    if code ~= SPILL then
      local err = tools.refused(entry, code, text)
      if not out then return Future.rejected(err) end
      out:reject(err)
      return out
    end
    out = out or Future.new()
    put_then(entry, executor, target, text, function(key)
      send_key(out, since, key, function(ms)
        return bound.ask(target, id, ms, flags, unpack(arguments, 1, n))
      end)
    end)
    return out
  end

  return function(self, ...)
    if self ~= view then tools.check_self(self, view, entry) end
    local line = executor.spilling and executor.spilling[target]
    local since = executor:now_ms()
    if not line then return ask(nil, since, ...) end
    if line.n >= QUEUE_MAX then return Future.rejected(queue_full(entry)) end
    local out, n, arguments = Future.new(), select("#", ...), { ... }
    line.n = line.n + 1
    line[line.n] = function() ask(out, since, unpack(arguments, 1, n)) end
    return out
  end
end

--- A gateway's method that tells. What fails later than the call is logged.
function M.tell_method(view, entry, executor, target, tools)
  local bound = executor.core
  local id, flags = entry.id, entry.flags
  local spill = entry.gateway._spill

  local function report(ok, code, text)
    if ok then return end
    log.warn("rpc", "%s", tostring(tools.refused(entry, code, text)))
  end

  local function tell(...)
    local n, arguments = select("#", ...), { ... }
    local ok, code, text = bound.tell_spill(target, id, flags, spill.threshold,
      ...)
    if ok or code ~= SPILL then return ok, code, text end
    -- Nobody says when it was fetched: the store's owner forgets it.
    put_then(entry, executor, target, text, function(key)
      if key then
        report(bound.tell(target, id, flags + SPILLED_FLAG, key))
      else
        report(bound.tell(target, id, flags, unpack(arguments, 1, n)))
      end
    end)
    return true
  end

  return function(self, ...)
    if self ~= view then tools.check_self(self, view, entry) end
    local line = executor.spilling and executor.spilling[target]
    if line then
      if line.n >= QUEUE_MAX then return nil, queue_full(entry) end
      local n, arguments = select("#", ...), { ... }
      line.n = line.n + 1
      line[line.n] = function() report(tell(unpack(arguments, 1, n))) end
      return true
    end
    local ok, code, text = tell(...)
    if ok then return true end
    return nil, tools.refused(entry, code, text)
  end
end

--- An answer was kept elsewhere: fetches it for the future that waits.
function M.on_reply(executor, slot, key)
  local future = executor.pending[slot]
  if not future then return end
  executor.pending[slot] = false
  local entry = future._call
  local spill = entry.gateway and entry.gateway._spill
  local function failed(why, cause)
    future:_deliver(2, errors.new("remote", string.format(
      "%s.%s: its result is in the blob store and cannot be had: %s",
      entry.gateway_name or "connect", entry.name or "?", why),
      { cause = cause }))
  end
  if not spill then return failed("this service has no option spill") end
  call_store(spill, executor.context, spill.get, key, function(bytes, err)
    if err ~= nil then return failed(tostring(err), err) end
    local list, why = values_of(bytes, key)
    if not list then return failed(tostring(why), why) end
    drop(spill, key)
    future:_deliver(1, list[1])
  end)
end

-- Serving ---------------------------------------------------------------------

--- Answers a call of a service that spills: true when the answer is on its way,
-- false when the plain way must say why not.
function M.answer(cell, call, value)
  local spill, bound = cell.spill, cell.executor.core
  local ok, code, bytes = bound.reply_spill(call, value, spill.threshold)
  if ok then return true end
  if code ~= SPILL then return false end
  call_store(spill, cell.executor.context, spill.put, bytes,
    function(key, err)
      if cell.gone then
        if key then drop(spill, key) end
        return
      end
      if err == nil then
        bound.reply_spilled(call, key)
        return
      end
      log.warn("rpc", "%s: a result of %d bytes is not spilled: %s", cell.name,
        #bytes, tostring(err))
      local sent, why, text = bound.reply(call, value)
      if sent or why == -5 then return end
      bound.reply_error(call, why, { code = core.code_name(why),
        message = tostring(text) })
    end)
  return true
end

local function refuse(cell, call, why)
  local text = "its arguments are in the blob store and cannot be had: " .. why
  if call == 0 then
    return log.error("rpc", "%s: a tell was dropped: %s", cell.name, text)
  end
  cell.executor.core.reply_error(call, REMOTE, {
    code = "remote", message = cell.name .. ": " .. text,
  })
end

--- A call whose arguments are elsewhere: the messages after it wait in
-- cell.held until it runs. cell.held is nil here.
function M.on_call(cell, method, call, key)
  local spill = cell.spill
  if not spill then
    return refuse(cell, call, "this endpoint's executor has no option spill")
  end
  local line = {}
  cell.held = line
  call_store(spill, cell.executor.context, spill.get, key,
    function(bytes, err)
      if cell.gone then return end
      if cell.held ~= line then
        return refuse(cell, call, "the endpoint began anew meanwhile")
      end
      local list, count
      cell.held = nil
      if err == nil then
        list, count = values_of(bytes, key)
        if not list then err = count end
      end
      if err ~= nil then
        refuse(cell, call, tostring(err))
      else
        M.run_call(cell, method, call, unpack(list, 1, count))
      end
      cell.held = line
      cell.executor:release(cell)
    end)
end

return M
