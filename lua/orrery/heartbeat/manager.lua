--- Runs a heartbeat monitor on an endpoint: sends, times, and tells of losses.
--
-- With `send` it asks every target each interval, one call at a time each;
-- without it only listens (`heard`). A lost connection is a hint: it counts as
-- one call that found nobody, and the target is asked again at once, so that a
-- killed process is noticed in one round trip and a broken connection to a
-- living one does no harm.
--
-- Failures: the peer's executor is busy -> the call times out, nothing counts
-- but the silence; nobody there -> counted, UNREACHABLE at the threshold; the
-- peer refuses (another token) -> neither heard nor counted, TIMEOUT follows.
local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")
local monitors = require("orrery.heartbeat.monitor")
local seams = require("orrery.ha.seams")

local Manager = {}
Manager.__index = Manager

local M = {}

-- A call that ended so found no process, no endpoint or a dying one.
local NOBODY = { unreachable = true, callee_died = true }

--- @param options { endpoint: table, config: fun(key: string): any,
---   send: (fun(id: string): table)?, on_payload: fun(id, payload)?,
---   on_lost: fun(id: string, err: table) }
function M.new(options)
  local config = options.config
  return setmetatable({
    _endpoint = options.endpoint,
    _seams = seams.of(options.endpoint.service), _watches = {},
    _send = options.send,
    _on_payload = options.on_payload, _on_lost = options.on_lost,
    _interval_ms = config("heartbeat.interval"), _pending = {},
    _monitor = monitors.new({
      timeout_ms = config("heartbeat.timeout"),
      failure_threshold = config("heartbeat.rpc-failure-threshold"),
    }),
  }, Manager)
end

function Manager:_now()
  return self._seams:now_ms()
end

function Manager:_settle()
  for _, action in ipairs(self._monitor:take()) do
    self:_forget(action.id)
    self:_unwatch(action.id)
    self._on_lost(action.id, errors.new("heartbeat_lost",
      ("%s is %s: %s"):format(action.id, action.state, action.reason),
      { context = { id = action.id, state = action.state } }))
  end
  self:_arm()
end

function Manager:_forget(id)
  local call = self._pending[id]
  self._pending[id] = nil
  if call then call:cancel() end
end

function Manager:_unwatch(id)
  local call = self._watches[id]
  self._watches[id] = nil
  if call then call:cancel() end
end

function Manager:_ask(id)
  if self._pending[id] then return end
  local call = self._send(id)
  if not call then return end
  self._pending[id] = call
  call:on_done(function(payload, err)
    if self._pending[id] ~= call then return end
    self._pending[id] = nil
    if not err then
      self._monitor:heard(id, self:_now())
      if self._on_payload then self._on_payload(id, payload) end
    elseif NOBODY[err.code] then
      self._monitor:unreachable(id, self:_now())
    end
    self:_settle()
  end)
end

-- One timer: the next round of sends or the next timeout. What moves later is
-- left alone: the timer fires, finds nothing due and is set again.
function Manager:_arm()
  if self._is_stopped then return end
  local at = self._monitor:deadline()
  if at and self._next_send and self._next_send < at then
    at = self._next_send
  end
  if at and self._armed_at and at >= self._armed_at then return end
  if self._timer then self._timer:cancel() end
  self._timer, self._armed_at = nil, at
  if not at then return end
  local delay = math.max(1, at - self:_now())
  self._timer = self._endpoint:schedule_run_async(delay, function()
    self._timer, self._armed_at = nil, nil
    self:_tick()
  end)
end

function Manager:_tick()
  if self._is_stopped then return end
  local now = self:_now()
  if self._next_send and now >= self._next_send then
    self._next_send = now + self._interval_ms
    for _, id in ipairs(self._monitor:ids()) do self:_ask(id) end
  end
  self._monitor:tick(now)
  self:_settle()
end

--- Begins to watch a target; the first heartbeat goes out at once.
function Manager:monitor(id)
  local now = self:_now()
  self._monitor:monitor(id, now)
  if self._send then
    self._next_send = self._next_send or now + self._interval_ms
    self:_ask(id)
  end
  self:_arm()
end

function Manager:unmonitor(id)
  self._monitor:unmonitor(id, self:_now())
  self:_forget(id)
  self:_unwatch(id)
  self:_arm()
end

function Manager:is_monitored(id)
  return self._monitor:is_monitored(id)
end

--- Something came from a target; others are ignored.
function Manager:heard(id)
  self._monitor:heard(id, self:_now())
end

--- Milliseconds since a target was heard of; nil for others.
function Manager:silence_ms(id)
  local last = self._monitor:last_heard(id)
  return last and self:_now() - last
end

--- The connection to a target was lost.
function Manager:hint(id)
  if self._is_stopped or not self._monitor:is_monitored(id) then return end
  self._monitor:unreachable(id, self:_now())
  if self._send and self._monitor:is_monitored(id) then
    self:_forget(id)
    self:_ask(id)
  end
  self:_settle()
end

--- Holds a call at a monitored target, made by fn(); its end before its time is
-- taken as a hint. The target answers false when it should be made anew.
function Manager:watch(id, fn)
  if self._is_stopped or not self._monitor:is_monitored(id) then return end
  self:_unwatch(id)
  local call = fn()
  self._watches[id] = call
  call:on_done(function(value, err)
    if self._watches[id] ~= call then return end
    self._watches[id] = nil
    if err or value ~= false then self:hint(id) end
    self:_watch_later(id, fn, err ~= nil)
  end)
end

-- After a broken connection not before the next heartbeat round.
function Manager:_watch_later(id, fn, was_broken)
  if self._is_stopped or not self._monitor:is_monitored(id) then return end
  if not was_broken then return self:watch(id, fn) end
  local timer
  timer = self._endpoint:schedule_run_async(self._interval_ms, function()
    if self._watches[id] == timer then
      self._watches[id] = nil
      self:watch(id, fn)
    end
  end)
  self._watches[id] = timer
end

function Manager:stop()
  self._is_stopped = true
  if self._timer then self._timer:cancel() end
  self._timer, self._armed_at = nil, nil
  for id in sorted.pairs(self._pending) do self:_forget(id) end
  for id in sorted.pairs(self._watches) do self:_unwatch(id) end
end

return M
