--- Tasks: pooled coroutines that run one function each, and the list of work
-- that must not nest inside what runs now.
--
-- A task belongs to a context, a table with at least `gone`: when it is true
-- the task is never resumed again (its endpoint ended). What runs now is
-- `current()`. A task suspends only by `wait()`, which whoever holds it ends by
-- `resume(task, ...)`; user coroutines inside a task must not wait.
--
-- The body of a coroutine takes its function as a plain argument and comes back
-- for the next one by a tail call, so that a message costs a resume and a yield
-- and makes no closure. A function that throws kills its coroutine, which
-- keeps the traceback readable for free.

local errors = require("orrery.util.errors")

local create, resume_co = coroutine.create, coroutine.resume
local yield, running = coroutine.yield, coroutine.running
local traceback = debug.traceback

local M = {}

-- Idle coroutines kept; more are left to the collector. About 1 KiB each.
local POOL_MAX = 1024
-- Entries of the run list taken by one drain; then I/O has its turn.
local DRAIN_MAX = 4096

---@class orrery.Task
---@field co thread
---@field context table
---@field done fun(task: orrery.Task, value: any, err: any)
---@field call any for the owner of done
---@field method any likewise

local DONE = {}
local pool, idle = {}, 0
local current
local root = { gone = false, name = "main" }

local function body(fn, ...)
  return body(yield(DONE, fn(...)))
end

-- What LuaJIT throws when an allocation fails or its limit is met.
local OUT_OF_MEMORY = "not enough memory"

local function thrown(task, message)
  if message == OUT_OF_MEMORY then
    return errors.new("no_memory", "the memory of this Lua state is used up",
      { traceback = traceback(task.co, "") })
  end
  local text = traceback(task.co, "")
  if errors.is(message) then
    message.traceback = message.traceback or text
    return message
  end
  if type(message) == "table" and type(message.code) == "string" then
    local e = errors.wrap(message)
    e.traceback = e.traceback or text
    return e
  end
  return errors.new("error", tostring(message), { traceback = text })
end

local function after(task, before, ok, tag, value, err)
  current = before
  if tag == DONE then
    task.done(task, value, err)
    if idle < POOL_MAX then
      idle = idle + 1
      pool[idle] = task
    end
  elseif not ok then
    task.done(task, nil, thrown(task, tag))
  end
end

--- Runs fn(...) as a task until it ends or waits. done(task, value, err) is
-- called once, outside of the coroutine; call and method are kept in the
-- task for it.
function M.start(context, done, call, method, fn, ...)
  local task
  if idle > 0 then
    task = pool[idle]
    idle = idle - 1
  else
    task = { co = create(body), context = false, done = false, call = false,
      method = false, on_cancel = false }
  end
  task.context, task.done = context, done
  task.call, task.method = call, method
  local before = current
  current = task
  return after(task, before, resume_co(task.co, fn, ...))
end

-- Tasks that serve calls: those with this done. Who runs on is told to the
-- core by enter(task), which answers what leave takes when it is over.
local serving, enter, leave
local inside

--- fn done marks the tasks; see above.
function M.set_serving(done, on_enter, on_leave)
  serving, enter, leave = done, on_enter, on_leave
end

local function leave_last()
  local last = inside
  inside = nil
  leave(last)
end

--- Continues a waiting task; wait() answers value, err there.
function M.resume(task, value, err)
  if task.context.gone then return end
  if task.done == serving then inside = enter(task) end
  local before = current
  current = task
  return after(task, before, resume_co(task.co, value, err))
end

--- The task that may wait here, or nil on the main chunk; throws in a
-- coroutine that is not a task's.
function M.waitable(who)
  local task = current
  local co = running()
  if task then
    if task.co == co then return task end
  elseif not co then
    return nil
  end
  error(who .. ": cannot wait inside a coroutine of your own; "
    .. "await in the handler, or use on_done", 3)
end

--- Suspends the current task until resume.
function M.wait()
  return yield()
end

function M.current()
  return current
end

--- Context of what runs now; the root's outside of every task.
function M.context()
  return current and current.context or root
end

function M.root()
  return root
end

--- Replaces the root context; answers the one before.
function M.set_root(context)
  local before = root
  root = context
  return before
end

-- The run list: four array entries a job: kind, a, b, c.
local RESUME, CALL = 1, 2
local queue, head, tail = {}, 1, 0

local function push(kind, a, b, c)
  queue[tail + 1], queue[tail + 2] = kind, a
  queue[tail + 3], queue[tail + 4] = b, c
  tail = tail + 4
end

-- Where errors of work that nobody waits for go; replaced by the log.
local report = function(err)
  io.stderr:write(err:describe(), "\n")
end

--- Sets who is told of errors nobody waits for: fn(err, context).
function M.set_report(fn)
  report = fn
end

function M.report(err, context)
  report(errors.wrap(err), context or root)
end

local function detached(task, _, err)
  if err ~= nil then M.report(err, task.context) end
end

--- Resumes a waiting task later, from the top level.
function M.resume_later(task, value, err)
  push(RESUME, task, value, err)
end

--- Runs fn(a, b) as a task of context later, from the top level.
function M.later(context, fn, a, b)
  push(CALL, { context, fn }, a, b)
end

--- Is there work in the run list?
function M.pending()
  return tail >= head
end

--- Works the run list off; true when some is left for the next turn. Called at
-- the top level only: between events.
function M.drain()
  local budget = DRAIN_MAX
  while head <= tail and budget > 0 do
    local at = head
    head = at + 4
    local kind, a, b, c = queue[at], queue[at + 1], queue[at + 2], queue[at + 3]
    queue[at], queue[at + 1], queue[at + 2], queue[at + 3] = nil, nil, nil, nil
    if head > tail then head, tail = 1, 0 end
    if inside then leave_last() end
    if kind == RESUME then
      M.resume(a, b, c)
    elseif not a[1].gone then
      M.start(a[1], detached, false, false, a[2], b, c)
    end
    budget = budget - 1
  end
  if inside then leave_last() end
  return head <= tail
end

-- These switch coroutines; compiled code would only be left again at once.
jit.off(body)
jit.off(after)
jit.off(M.start)
jit.off(M.resume)
jit.off(M.drain)

return M
