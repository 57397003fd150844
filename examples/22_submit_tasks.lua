-- Submits tasks to the TaskManager of examples/20_task_manager.lua.
--
--   orrery exec examples/22_submit_tasks.lua
--   orrery exec examples/22_submit_tasks.lua -- 127.0.0.1:8020/task_manager

local orrery = require("orrery")
local exceptions = require("orrery.rpc.exceptions")

local address = arg and arg[1] or "127.0.0.1:7020/task_manager"
local service = assert(orrery.service { name = "client" })

-- Tried again twice: the TaskManager may just be starting.
local manager, err = service:connect(address, "task_manager", {
  retries = 2, retry_delay = "200 ms",
}):await()
if not manager then
  local why = exceptions.is(err, "HandshakeException")
    and "something else listens there" or "nobody listens there"
  io.stderr:write("cannot submit: ", why, "\n", tostring(err), "\n")
  os.exit(3)
end
print("connected to " .. manager.address)

-- All under way at once; each has 30 s.
local futures = {}
for i = 1, 3 do
  futures[i] = manager:with { timeout = "30 s" }
    :submit_task({ id = "vertex_" .. i, work_ms = 20 })
end
local answers, failed = orrery.Future.all(futures):await()
if not answers then
  io.stderr:write("cannot submit all tasks: ", tostring(failed), "\n")
  os.exit(3)
end
for _, answer in ipairs(answers) do print(answer.id .. " " .. answer.state) end

-- A failure of the handler arrives as the cause of a `remote` error.
local _, refused = manager:cancel_task("vertex_9"):await()
print("cancel: " .. exceptions.root(refused).code)
print("tasks so far: "
  .. assert(manager:request_task_executor_info():await()).tasks)

assert(service:stop():await())
