-- An RPC endpoint: a TaskManager that takes tasks, cancels them, and tells how
-- many it has.
--
--   orrery exec examples/20_task_manager.lua            listens on port 7020
--   orrery exec examples/20_task_manager.lua -- 8020    on another one; 0: free
--
-- Then, in a second terminal: orrery exec examples/22_submit_tasks.lua

local orrery = require("orrery")

-- The gateway: what callers may ask for, and how long they wait by default. A
-- limit of one call, gateway:with{ timeout = "1 s" }, beats these.
local TaskManager = orrery.endpoint("task_manager", {
  -- Replies are kept by key: a caller may safely ask again (see 24_retries).
  submit_task = { timeout = "30 s", idempotent = "key" },
  cancel_task = { timeout = "10 s" },
  request_task_executor_info = { timeout = "5 s", idempotent = true },
})

function TaskManager:init()
  self.tasks, self.count = {}, 0
end

-- Runs before the first call.
function TaskManager:on_start()
  print("TaskManager endpoint started at " .. self.address)
  io.stdout:flush()
end

function TaskManager:submit_task(descriptor)
  if type(descriptor) ~= "table" or type(descriptor.id) ~= "string" then
    return nil, orrery.errors.new("bad_argument",
      "a descriptor is { id = text, work_ms = number }")
  end
  self.tasks[descriptor.id] = "running"
  self.count = self.count + 1
  -- While this waits the endpoint serves others; handlers never overlap.
  orrery.sleep(descriptor.work_ms or 10)
  if self.tasks[descriptor.id] == "running" then
    self.tasks[descriptor.id] = "finished"
  end
  return { id = descriptor.id, state = self.tasks[descriptor.id] }
end

function TaskManager:cancel_task(id)
  if not self.tasks[id] then
    return nil, orrery.errors.new("task_not_found", "no task " .. tostring(id))
  end
  self.tasks[id] = "canceled"
  return true
end

function TaskManager:request_task_executor_info()
  return { address = self.address, tasks = self.count }
end

function TaskManager:on_stop()
  print("TaskManager endpoint stopping")
end

local port = arg and arg[1] or "7020"
local service = assert(orrery.service { bind = "127.0.0.1:" .. port })
assert(service:start(TaskManager, { id = "task_manager" }))
orrery.run(service)
