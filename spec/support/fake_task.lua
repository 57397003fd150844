--- A task that follows a script instead of running operators: it reads the
-- splits of its vertex, each for `split_ms`, runs for `run_ms`, and ends with
-- what it read. descriptor.options.script = { run_ms, split_ms,
--   fail = { ["<vertex>_<subtask>_<attempt>"] = message },
--   hang = { same = true }, vanish = { same = true } }: a hanging task ignores
-- its cancellation, a vanishing one ends without a word.
local orrery = require("orrery")
local errors = require("orrery.util.errors")

local Task = orrery.endpoint(require("orrery.gateway.task"))

function Task:_tell(state, err, result)
  local executor = self:connect_to("task_executor", "task_executor"):await()
  if not executor then return nil end
  return executor:notify_task_state(self._descriptor.attempt, state,
    err and errors.to_table(err), result):await()
end

-- The next split; a broken connection is tried again.
function Task:_next_split(received)
  local d, err = self._descriptor, nil
  for _ = 1, 20 do
    local master, split
    master, err = self:connect_to(d.job_master.address, "job_master",
      { token = d.job_master.token }):await()
    if master then
      split, err =
        master:request_next_input_split(d.vertex.id, d.attempt, received)
          :await()
      if not err then return split end
    end
    if err.code ~= "unreachable" then return nil, err end
    orrery.sleep(100)
  end
  return nil, err
end

function Task:_read(script)
  local read = {}
  if not self._descriptor.vertex.splits then return read end
  while not self._is_over do
    local split, err = self:_next_split(#read)
    if err then return nil, err end
    if split == nil then return read end
    read[#read + 1] = split
    orrery.sleep(script.split_ms or 10)
  end
  return read
end

function Task:_run()
  local d = self._descriptor
  local script = d.options.script or {}
  local name = d.attempt:match("_(.*)$")
  if not self:_tell("INITIALIZING") then return end
  if not self:_tell("RUNNING") then return end
  if script.vanish and script.vanish[name] then return self:close_async() end
  local read, err = self:_read(script)
  orrery.sleep(script.run_ms or 100)
  if self._is_over then return end
  self._is_over = true
  local message = script.fail and script.fail[name]
  if err or message then
    self:_tell("FAILED", err or errors.new("user_error", message, {
      context = { operator = d.vertex.name, subtask = d.subtask,
        file = "job.lua", line = 7 },
      traceback = "job.lua:7: in function 'map'",
    }))
  else
    self:_tell("FINISHED", nil, {
      accumulators = { tasks = { "counter", 1 },
        splits = { "counter", #read } },
      collected = { read = read },
    })
  end
end

function Task:start(descriptor)
  self._descriptor = descriptor
  self:run_async(function() self:_run() end)
  return true
end

function Task:cancel()
  local d = self._descriptor
  local script = d.options.script or {}
  if script.hang and script.hang[d.attempt:match("_(.*)$")] then return true
  end
  if self._is_over then return true end
  self._is_over = true
  self:run_async(function() self:_tell("CANCELED") end)
  return true
end

function Task:counters()
  return { state = "RUNNING", records_in = 3, records_out = 4 }
end

function Task:attach() return true end
function Task:data() end
function Task:credit() end
function Task:finish() return true end
function Task:channel_state() return { 0, 0 } end

return Task
