--- An executor as Lua sees it: the drain loop, what waits for replies, timers.
--
-- One object per orr_executor: a real one per Lua state, many in simulation. It
-- asks the core for events and acts on them:
--
--   CALL    a pooled task runs the handler; its end answers the call
--   RUN     a task runs a posted function, in order with the messages
--   REPLY   the future of that slot; a lone waiter goes on right here
--   TIMER   a task, or a sleeping one goes on
--   CANCEL  a caller gave up; the handler is not stopped (nobody waits for it),
--           but told when it asked for that (orrery.rpc.serving)
--
-- Cells: every endpoint has one, found by the number (ref) that the core gives
-- back in events. It is also the context of the endpoint's tasks. Calls and
-- runs that come before on_start has ended are held in the cell, in order.

local core = require("orrery.core")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local log = require("orrery.native.log")
local native_chance = require("orrery.native.chance")
local spill = require("orrery.rpc.spill")
local task = require("orrery.util.task")

local start, resume = task.start, task.resume
local is_future = Future.is
local to_table = errors.to_table

-- Calls and runs held for an endpoint whose on_start waits.
local HELD_MAX = 4096
local REMOTE, OVERLOADED, UNREACHABLE, ENOENT = -44, -38, -33, -5

local Executor = {}
Executor.__index = Executor

function Executor.new(pointer, sorted)
  local self = setmetatable({
    pointer = pointer,
    core = core.bind(pointer, sorted or false),
    pending = {},  -- slot -> future
    cells = {},    -- ref -> cell
    free_refs = {},
    timers = {},   -- timer id -> entry
    runs = {},     -- run id -> entry
    cancels = {},  -- call -> { fn, cell }, of handlers that want to be told
    free_runs = {},
    chance = native_chance.of_executor(pointer),
    polling = false,
  }, Executor)
  self.context = { executor = self, gone = false, name = "main" }
  return self
end

function Executor:now_ms()
  return self.core.now_ms()
end

function Executor:wall_ms()
  return self.core.wall_ms()
end

-- Answers -------------------------------------------------------------------

local function method_name(cell, method)
  local entry = cell.methods and cell.methods[method]
  return cell.class_name .. "." .. (entry and entry.name or tostring(method))
end

local function describe_failure(cell, method, err)
  return string.format("%s failed: %s: %s", method_name(cell, method), err.code,
    err.message)
end

local function label(cell)
  return (cell.log_context or "") .. cell.name
end

-- The owner of the cell may take a failure for a crash; see rpc.life_cycle.
local function tell_owner(cell, err)
  if cell.on_failure then cell.on_failure(cell, err) end
end

local function send_error(cell, method, call, err)
  if err.traceback then
    log.error("rpc", "%s: %s", label(cell),
      describe_failure(cell, method, err) .. err.traceback)
  end
  local body = {
    code = "remote",
    message = describe_failure(cell, method, err),
    cause = to_table(err),
  }
  local reply_error = cell.executor.core.reply_error
  local ok, code, text = reply_error(call, REMOTE, body)
  if ok or code == ENOENT then return end
  body.cause = { code = err.code, message = "the error cannot be sent: "
    .. tostring(text) }
  reply_error(call, REMOTE, body)
end

local function answer_error(cell, method, call, err)
  err = errors.wrap(err)
  send_error(cell, method, call, err)
  tell_owner(cell, err)
end

local function answer(cell, method, call, value)
  if cell.spill and spill.answer(cell, call, value) then return end
  local ok, code, text = cell.executor.core.reply(call, value)
  if ok or code == ENOENT then return end
  local name = core.code_name(code)
  cell.executor.core.reply_error(call, code, {
    code = name,
    message = string.format("the result of %s cannot be sent: %s",
      method_name(cell, method), (tostring(text):gsub("^argument 1", "it"))),
  })
end

local function forget_cancel(executor, call)
  executor.cancels[call] = nil
end

local function done_call(t, value, err)
  local cell, call, method = t.context, t.call, t.method
  local is_pending = err == nil and type(value) == "table"
    and is_future(value)
  local told = t.on_cancel
  if told then
    t.on_cancel = false
    if not is_pending then forget_cancel(cell.executor, call) end
  end
  if err ~= nil then
    return answer_error(cell, method, call, err)
  end
  if is_pending then
    value:_watch(function(v, e)
      if told then forget_cancel(cell.executor, call) end
      if e ~= nil then
        answer_error(cell, method, call, e)
      else
        answer(cell, method, call, v)
      end
    end)
    return
  end
  if cell.spill or not cell.executor.core.reply(call, value) then
    answer(cell, method, call, value)
  end
end

local function log_tell(cell, method, err)
  log.error("rpc", "%s: tell %s%s", label(cell),
    describe_failure(cell, method, err), err.traceback or "")
  tell_owner(cell, err)
end

local function done_tell(t, value, err)
  local cell, method = t.context, t.method
  if err ~= nil then return log_tell(cell, method, errors.wrap(err)) end
  if type(value) == "table" and is_future(value) then
    value:_watch(function(_, e)
      if e ~= nil then log_tell(cell, method, errors.wrap(e)) end
    end)
  end
end

local function done_run(t, value, err)
  local future = t.call
  if future then
    if err ~= nil then future:reject(err) else future:resolve(value) end
  elseif err ~= nil then
    task.report(err, t.context)
    tell_owner(t.context, err)
  end
end

-- Events --------------------------------------------------------------------

local function hold(cell, kind, a, b, ...)
  local held = cell.held
  if held == true then
    held = {}
    cell.held = held
  end
  if #held >= HELD_MAX then
    if kind ~= 2 and b ~= 0 then
      cell.executor.core.reply_error(b, OVERLOADED, { code = "overloaded",
        message = cell.name .. " is still starting and " .. HELD_MAX
          .. " calls wait" })
    end
    return
  end
  held[#held + 1] = { n = select("#", ...), kind, a, b, ... }
end

local function on_call(cell, method, call, ...)
  if cell.held then return hold(cell, 1, method, call, ...) end
  return start(cell, call == 0 and done_tell or done_call, call, method,
    cell.handlers[method], cell.object, ...)
end

-- A call that did not come as the event that runs now.
local function on_late_call(cell, method, call, ...)
  local enter = cell.executor.core.enter
  enter(call)
  on_call(cell, method, call, ...)
  if not cell.executor.context.gone then enter(0) end
end

spill.run_call = on_late_call

-- The arguments are in a blob store.
local function on_spilled_call(cell, method, call, key)
  if cell.held then return hold(cell, 6, method, call, key) end
  return spill.on_call(cell, method, call, key)
end

local function run_entry(cell, entry)
  if entry.run then return entry.run(cell) end
  return start(entry.scope or cell, done_run, entry.future, false, entry.fn,
    cell.object)
end

local function on_run(cell, entry)
  if cell.held and not entry.run then return hold(cell, 2, entry) end
  return run_entry(cell, entry)
end

--- Works off what was held; the cell is started now.
function Executor:release(cell)
  local held = cell.held
  cell.held = nil
  for i = 1, held == true and 0 or #held do
    local h = held[i]
    if cell.gone then return end
    if h[1] == 1 then
      on_late_call(cell, h[2], h[3], unpack(h, 4, h.n + 3))
    elseif h[1] == 6 then
      spill.on_call(cell, h[2], h[3], h[4])
      local rest = cell.held
      if rest then
        for j = i + 1, #held do rest[#rest + 1] = held[j] end
        return
      end
    else
      run_entry(cell, h[2])
    end
  end
end

local function take_run(self, id)
  local entry = self.runs[id]
  if not entry then return nil end
  self.runs[id] = false
  self.free_runs[#self.free_runs + 1] = id
  entry.cell.posted = entry.cell.posted - 1
  return entry
end

local function on_timer(self, id)
  local entry = self.timers[id]
  if not entry then return end
  self.timers[id] = nil
  local context = entry.context
  if context.timers then context.timers[entry] = nil end
  if context.gone then return end
  if entry.task then return resume(entry.task) end
  if context.held then return hold(context, 2, entry) end
  return start(entry.scope or context, done_run, entry.future or false, false,
    entry.fn, context.object)
end

-- limit_ms: what the call had of its caller's time, instead of its own limit.
local function on_reply(self, slot, status, value, limit_ms)
  local pending = self.pending
  local future = pending[slot]
  if not future then return end
  pending[slot] = false
  if status == 0 then
    local waiter = future._waiter
    if waiter and not future._callbacks and not future._state then
      future._state, future._value, future._waiter = 1, value, false
      return resume(waiter, value)
    end
    return future:_deliver(1, value)
  end
  return future:_deliver(2, future._call.failure(future, status, value,
    limit_ms))
end

local function on_cancel(self, call)
  local entry = self.cancels[call]
  if not entry then return end
  self.cancels[call] = nil
  local cell = entry[2]
  if cell.gone then return end
  self.core.enter(call)
  return start(cell, done_run, false, false, entry[1], cell.object)
end

-- An endpoint of an earlier load of these modules in the same state.
local function no_cell(self, call)
  if call == 0 then return end
  self.core.reply_error(call, UNREACHABLE,
    { code = "unreachable", message = "the endpoint was forgotten" })
end

local function handle(self, kind, a, b, c, d, ...)
  if kind == 1 then
    local cell = self.cells[a]
    if cell then on_call(cell, b, c, ...) else no_cell(self, c) end
  elseif kind == 3 then
    on_reply(self, a, b, c, d)
  elseif kind == nil then
    return false
  elseif kind == 2 then
    local entry = take_run(self, b)
    local cell = self.cells[a]
    if entry and cell then on_run(cell, entry) end
  elseif kind == 4 then
    on_timer(self, a)
  elseif kind == 6 then
    local cell = self.cells[a]
    if cell then on_spilled_call(cell, b, c, ...) else no_cell(self, c) end
  elseif kind == 7 then
    spill.on_reply(self, a, c)
  elseif kind == 5 then
    on_cancel(self, a)
  end
  return true
end

--- One batch: the run list, the inbox, events, the run list again, and what is
-- to be sent. True when there is more to do at once.
function Executor:turn()
  local bound = self.core
  local next_event = bound.next
  task.drain()
  bound.turn()
  while handle(self, next_event()) do end
  local more = task.drain()
  bound.flush()
  return more or bound.ready()
end

jit.off(handle)
jit.off(on_call)
jit.off(on_reply)
jit.off(done_call)
jit.off(Executor.turn)

--- Does this task serve a call that somebody waits for?
function Executor.is_serving(t)
  return t.done == done_call
end

--- fn(endpoint) runs when the caller of the call that t serves gives up.
function Executor:on_cancel(t, fn)
  t.on_cancel = true
  self.cancels[t.call] = { fn, t.context }
end

task.set_serving(done_call, function(t)
  local executor = t.context.executor
  executor.core.enter(t.call)
  return executor
end, function(executor)
  if not executor.context.gone then executor.core.enter(0) end
end)

-- Timers and posted work ---------------------------------------------------

local function add_timer(self, ms, entry)
  entry.id = self.core.timer(ms)
  self.timers[entry.id] = entry
  local context = entry.context
  if context.object then
    local own = context.timers
    if not own then
      own = {}
      context.timers = own
    end
    own[entry] = true
  end
  return entry
end

--- Runs fn(endpoint) as a task of context after ms; answers a handle. scope is
-- a context below that of an endpoint.
function Executor:timer(ms, context, fn, future, scope)
  return add_timer(self, ms, { context = context, fn = fn, future = future,
    scope = scope })
end

--- False when it ran or was cancelled already.
function Executor:cancel_timer(entry)
  if self.timers[entry.id] ~= entry then return false end
  self.timers[entry.id] = nil
  if entry.context.timers then entry.context.timers[entry] = nil end
  self.core.timer_cancel(entry.id)
  return true
end

--- Suspends the running task for ms.
function Executor:sleep(waiter, ms)
  add_timer(self, ms, { context = waiter.context, task = waiter })
  return task.wait()
end

--- Puts fn into the mailbox of a cell, in order with its messages. future, if
-- any, gets its result. entry.run (a plain function of the cell) is not held.
function Executor:post(cell, entry)
  local free = self.free_runs
  local id = free[#free]
  if id then free[#free] = nil else id = #self.runs + 1 end
  self.runs[id] = entry
  entry.cell = cell
  cell.posted = (cell.posted or 0) + 1
  local ok, code, text = self.core.post_run(cell.service._pointer, cell.slot,
    id)
  if ok then return true end
  take_run(self, id)
  return nil, errors.new(core.code_name(code), cell.name .. ": " .. text)
end

-- Cells ----------------------------------------------------------------------

-- Refs are never used twice by two loads of this module in one state: test
-- runners load it again while endpoints of the earlier load may be alive.
local REFS = "orrery.rpc.executor.refs"

local registry = debug.getregistry()

local function new_ref()
  local ref = (registry[REFS] or 0) + 1
  registry[REFS] = ref
  return ref
end

-- Classes whose handlers the watchdog knows the places of.
local placed = setmetatable({}, { __mode = "k" })

local function tell_places(cell)
  placed[cell.class] = true
  for id, fn in pairs(cell.handlers) do
    local info = debug.getinfo(fn, "S")
    core.watchdog_place(cell.class_name, id,
      info.short_src .. ":" .. info.linedefined)
  end
end

--- Registers a cell; answers its ref.
function Executor:add_cell(cell)
  local free = self.free_refs
  local ref = free[#free]
  if ref then free[#free] = nil else ref = new_ref() end
  self.cells[ref] = cell
  cell.ref, cell.executor = ref, self
  if cell.class and not placed[cell.class] then tell_places(cell) end
  return ref
end

local function gone_error(cell)
  return errors.new("unreachable", "endpoint " .. cell.name .. " has ended")
end

local function reject_runs(self, cell)
  for id, entry in ipairs(self.runs) do
    if entry and entry.cell == cell then
      take_run(self, id)
      if entry.future then entry.future:reject(gone_error(cell)) end
    end
  end
end

--- Ends the timers of a cell, what was posted and never ran, and what is held.
function Executor:clear_cell(cell)
  if cell.timers then
    for entry in pairs(cell.timers) do
      self.timers[entry.id] = nil
      self.core.timer_cancel(entry.id)
    end
    cell.timers = nil
  end
  if cell.posted and cell.posted > 0 then reject_runs(self, cell) end
  local held = cell.held
  if type(held) == "table" then
    for _, h in ipairs(held) do
      if h[1] == 2 and h[2].future then h[2].future:reject(gone_error(cell)) end
    end
  end
end

--- Forgets a cell with all that it waits for.
function Executor:remove_cell(cell)
  self:clear_cell(cell)
  self.cells[cell.ref] = false
  self.free_refs[#self.free_refs + 1] = cell.ref
end

--- Nothing of this executor runs any more.
function Executor:abandon()
  self.context.gone = true
  for _, cell in pairs(self.cells) do
    if cell then cell.gone = true end
  end
end

-- The real executor -----------------------------------------------------------

local default

--- The real executor of this Lua state, made on first use.
function Executor.default()
  if not default then
    default = Executor.new(core.executor())
    default.is_real = true
    task.set_root(default.context)
  end
  return default
end

--- The executor of what runs now.
function Executor.current()
  return task.context().executor or Executor.default()
end

local function poll(self, may_block)
  self.polling = true
  core.poll(may_block)
  self.polling = false
end

--- One turn of the real executor and its loop, without sleeping.
function Executor:step()
  self:turn()
  poll(self, false)
end

--- Turns until stop() is true; on the main chunk. It sleeps only after a turn
-- that left nothing to do and did not bring what was waited for.
function Executor:run_until(stop, who)
  if self.polling then
    error(who .. ": cannot run the event loop inside a callback of luv; "
      .. "use orrery.async", 3)
  end
  while not stop() do
    local more = self:turn()
    if stop() then return end
    poll(self, not more and not task.pending())
  end
end

jit.off(Executor.run_until)

Future.set_runner(function(future)
  local self = task.root().executor or Executor.default()
  if self.run_future then return self.run_future(future) end
  self:run_until(function() return future._state ~= false end, "Future:await")
end)

Future.set_timer(function(ms, fn)
  local self = Executor.current()
  local entry = self:timer(ms, self.context, fn)
  return function() self:cancel_timer(entry) end
end)

task.set_report(function(err, context)
  log.error("rpc", "%s%s: %s", context.log_context or "",
    context.name or "task", err:describe())
end)

log.set_context(function() return task.context().log_context end)

return Executor
