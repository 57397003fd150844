-- The task endpoint on real executors: a TaskExecutor and a JobMaster that only
-- write down what they are told, and tasks on threads of their own.
local orrery = require("orrery")
local core = require("orrery.core")
local bundle = require("orrery.job.bundle")
local plan = require("orrery.job.plan")
local result = require("orrery.job.result")

local Recorder = orrery.endpoint({
  name = "task_executor",
  methods = { notify_task_state = {} },
})
function Recorder:init(on_state) self.on_state = on_state end
function Recorder:notify_task_state(attempt, state, err, outcome)
  self.on_state(attempt, state, err, outcome)
  return true
end

local Master = orrery.endpoint({
  name = "job_master",
  methods = { request_next_input_split = {} },
})
function Master:init(vertices)
  self.vertices, self.at = vertices, {}
end
function Master:request_next_input_split(vertex)
  local at = (self.at[vertex] or 0) + 1
  self.at[vertex] = at
  return (self.vertices[vertex].splits or {})[at]
end

-- Runs a job file; on_running(handles) is called once when every task runs.
-- Gives the states of each attempt, errors and the joined result.
local function run(path, args, options)
  options = options or {}
  local loaded = assert(bundle.load(path, args))
  local bytes = bundle.pack(loaded, core, function() return "key" end)
  local p = assert(plan.make(loaded.job, { entry = loaded.entry, args = args }))
  local service = assert(orrery.service({ bind = options.bind }))
  local states, failures, results, ended, running = {}, {}, {}, 0, 0
  local total, done, all_run = 0, orrery.Future.new(), orrery.Future.new()
  for _, v in ipairs(p.vertices) do total = total + v.parallelism end
  local index = {}
  service:start(Recorder, { id = "task_executor", args = {
    function(attempt, state, err, outcome)
      states[attempt] = (states[attempt] or "") .. state .. " "
      if state == "RUNNING" then
        running = running + 1
        if running == total then all_run:resolve(true) end
      end
      if state == "FINISHED" or state == "FAILED" or state == "CANCELED" then
        if err then failures[#failures + 1] = err end
        results[index[attempt]] = outcome or {}
        ended = ended + 1
        if ended == total then done:resolve(true) end
      end
    end,
  } })
  local master = service:start(Master, { id = "job_master/1",
    args = { p.vertices } })
  local handles, tasks = {}, {}
  for _, v in ipairs(p.vertices) do
    for subtask = 0, v.parallelism - 1 do
      local attempt = v.id .. "-" .. subtask
      local handle = assert(service:spawn("orrery.task.endpoint",
        { id = "task/" .. attempt }):await())
      handles[#handles + 1] = handle
      index[attempt] = #handles
      tasks[#tasks + 1] = { v = v, subtask = subtask, attempt = attempt,
        handle = handle }
    end
  end
  local function address(vertex, subtask)
    for _, t in ipairs(tasks) do
      if t.v.id == vertex and t.subtask == subtask then
        return t.handle.address
      end
    end
  end
  for _, t in ipairs(tasks) do
    local d = {
      job_id = "1", job_name = p.name, attempt = t.attempt, attempt_number = 1,
      vertex = t.v, subtask = t.subtask, entry = p.entry, args = p.args,
      inputs = {}, outputs = {}, options = p.options,
      job_master = { address = master.address },
    }
    for _, edge in ipairs(p.edges) do
      if edge.to == t.v.id then
        local ids = {}
        for from = 0, p.vertices[edge.from].parallelism - 1 do
          ids[#ids + 1] = ("%d:%d:%d"):format(edge.id, from, t.subtask)
        end
        d.inputs[#d.inputs + 1] = { edge = edge.id, kind = edge.kind,
          channels = ids }
      end
      if edge.from == t.v.id then
        local targets = {}
        for to = 0, p.vertices[edge.to].parallelism - 1 do
          targets[#targets + 1] = { address = address(edge.to, to),
            channel = ("%d:%d:%d"):format(edge.id, t.subtask, to) }
        end
        d.outputs[#d.outputs + 1] = { edge = edge.id, kind = edge.kind,
          targets = targets }
      end
    end
    local ok, err = t.handle.gateway:start(d, bytes):await()
    if not ok then error(err:describe()) end
  end
  if options.on_running then
    assert(all_run:with_timeout("10s"):await())
    options.on_running(handles)
  end
  local ok, err = done:with_timeout("20s"):await()
  for _, handle in ipairs(handles) do handle:stop():await() end
  service:stop():await()
  if not ok then
    local list = {}
    for attempt, s in pairs(states) do
      list[#list + 1] = attempt .. ": " .. s
    end
    error(tostring(err) .. "\n" .. table.concat(list, "\n"))
  end
  local merged = assert(result.merge(results))
  return result.for_user(merged), states, failures
end

local function expected_top()
  local pipe = assert(io.popen("cat /usr/share/common-licenses/* | "
    .. "tr -cs 'A-Za-z' '\\n' | tr A-Z a-z | grep . | LC_ALL=C sort | uniq -c "
    .. "| LC_ALL=C sort -k1,1nr -k2 | head -25"))
  local list = {}
  for line in pipe:lines() do
    local count, word = line:match("(%d+) (%a+)")
    list[#list + 1] = { word, tonumber(count) }
  end
  pipe:close()
  return list
end

local function job_file(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write('local orrery = require("orrery")\n', text, "\nreturn job\n")
  file:close()
  return path
end

describe("task endpoints", function()
  for _, bind in ipairs({ "local", "127.0.0.1:0" }) do
    for _, parallelism in ipairs({ 1, 2 }) do
      local name = ("count words, %s, parallelism %d"):format(bind, parallelism)
      it(name, function()
        local got, states = run("examples/word_count.lua", { "--top", "25",
          "--parallelism", tostring(parallelism) },
          { bind = bind ~= "local" and bind or nil })
        assert.same(expected_top(), got.collected.words)
        for _, list in pairs(states) do
          assert.equal("INITIALIZING RUNNING FINISHED ", list)
        end
      end)
    end
  end

  it("exchange many small buffers with few credits, and lose none", function()
    local path = job_file([[
      local job = orrery.job("many", { parallelism = 2, buffers = 2,
        buffer_size = 256 })
      job:source(orrery.sources.numbers { from = 1, to = 60000 })
        :key_by():map(function(n) return n % 100 end):rebalance()
        :map(function(n) return n end):key_by():count({ combine = false })
        :top(0):sink(orrery.sinks.collect("out"))]])
    local got = run(path, {})
    os.remove(path)
    assert.equal(100, #got.collected.out)
    for _, pair in ipairs(got.collected.out) do assert.equal(600, pair[2]) end
  end)

  it("report an error of the user with its place", function()
    local path = job_file([[
      local job = orrery.job("bad")
      job:source(orrery.sources.numbers { from = 1, to = 100 })
        :map("wrong", function(n) return n < 50 and n or n.x.y end)
        :sink(orrery.sinks.discard())]])
    local _, states, failures = run(path, {})
    local name = path:match("[^/]+$")
    os.remove(path)
    assert.equal("INITIALIZING RUNNING FAILED ", states["1-0"])
    assert.equal(('operator "wrong", subtask 0, record 50: %s:4: attempt to '
      .. "index local 'n' (a number value)"):format(name), failures[1].message)
  end)

  it("end at once when cancelled, and tell their counters", function()
    local path = job_file([[
      local job = orrery.job("endless")
      job:source(orrery.sources.numbers { rate = 100000 }):rebalance()
        :map("m", function(n) return n end):sink(orrery.sinks.discard())]])
    local counters
    local _, states = run(path, {}, { on_running = function(handles)
      repeat
        counters = assert(handles[2].gateway:counters():await())
      until counters.records_in > 100
      for _, handle in ipairs(handles) do
        assert.is_true(handle.gateway:cancel():await())
      end
    end })
    os.remove(path)
    assert.equal("RUNNING", counters.state)
    assert.equal("INITIALIZING RUNNING CANCELED ", states["1-0"])
    assert.equal("INITIALIZING RUNNING CANCELED ", states["2-0"])
  end)
end)
