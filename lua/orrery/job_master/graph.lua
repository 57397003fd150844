--- The execution graph: the plan of a job, expanded to one execution vertex a
-- subtask, each with its current attempt. Pure; who moves attempts is
-- scheduler.lua.
--
-- Every execution vertex has a version that grows whenever what was planned
-- for it became void (it failed, it is cancelled, it restarts), so that late
-- timers and answers can be told from current ones.
--
-- A pipelined region is a set of subtasks that stand and fall together: all
-- that are joined by channels. A forward edge joins equal subtasks, the other
-- kinds join all with all.
local errors = require("orrery.util.errors")
local ids = require("orrery.util.ids")
local states = require("orrery.job_master.states")

local M = {}

M.PARALLELISM_MAX = 4096
M.VERTICES_MAX = 1024
-- Bounds descriptors and messages: an all-to-all edge has p1 * p2 channels.
M.CHANNELS_MAX = 262144

local KINDS = { forward = true, hash = true, rebalance = true,
  broadcast = true }

local Graph = {}
Graph.__index = Graph

local function bad(text, ...)
  return nil, errors.new("bad_plan", text:format(...))
end

local function is_count(v, max)
  return type(v) == "number" and v >= 1 and v <= max and v == math.floor(v)
end

local function check_vertices(plan)
  if type(plan.vertices) ~= "table" or #plan.vertices == 0 then
    return bad("job %q has no operators", tostring(plan.name))
  end
  if #plan.vertices > M.VERTICES_MAX then
    return bad("job %q has %d vertices, at most %d are allowed", plan.name,
      #plan.vertices, M.VERTICES_MAX)
  end
  local by_id = {}
  for i, vertex in ipairs(plan.vertices) do
    if type(vertex) ~= "table" or not is_count(vertex.id, 2 ^ 31) then
      return bad("vertex %d: its id must be a whole number from 1", i)
    end
    if by_id[vertex.id] then return bad("vertex id %d is twice", vertex.id) end
    if not is_count(vertex.parallelism, M.PARALLELISM_MAX) then
      return bad("vertex %d (%s): parallelism %s is not a whole number "
        .. "from 1 to %d", vertex.id, tostring(vertex.name),
        tostring(vertex.parallelism), M.PARALLELISM_MAX)
    end
    by_id[vertex.id] = vertex
  end
  return by_id
end

local function check_edge(edge, by_id, seen)
  if type(edge) ~= "table" or not is_count(edge.id, 2 ^ 31) or seen[edge.id]
  then
    return bad("edge %s: its id must be a number of its own",
      tostring(type(edge) == "table" and edge.id or edge))
  end
  seen[edge.id] = true
  local from, to = by_id[edge.from], by_id[edge.to]
  if not from or not to then
    return bad("edge %d: vertex %s does not exist", edge.id,
      tostring(from and edge.to or edge.from))
  end
  if not KINDS[edge.kind] then
    return bad("edge %d: unknown kind %s; use forward, hash, rebalance or "
      .. "broadcast", edge.id, tostring(edge.kind))
  end
  if edge.kind == "forward" and from.parallelism ~= to.parallelism then
    return bad("edge %d: forward needs equal parallelism, %s has %d and %s "
      .. "has %d", edge.id, tostring(from.name), from.parallelism,
      tostring(to.name), to.parallelism)
  end
  return edge.kind == "forward" and from.parallelism
    or from.parallelism * to.parallelism
end

-- Vertices by distance from the sources (Kahn); nil and bad_plan for a cycle.
local function levels_of(plan, edges)
  local level, waiting, order = {}, {}, {}
  for _, edge in ipairs(edges) do
    waiting[edge.to] = (waiting[edge.to] or 0) + 1
  end
  for _, vertex in ipairs(plan.vertices) do
    if not waiting[vertex.id] then
      order[#order + 1] = vertex.id
      level[vertex.id] = 1
    end
  end
  local at = 0
  while at < #order do
    at = at + 1
    local id = order[at]
    for _, edge in ipairs(edges) do
      if edge.from == id then
        level[edge.to] = math.max(level[edge.to] or 1, level[id] + 1)
        waiting[edge.to] = waiting[edge.to] - 1
        if waiting[edge.to] == 0 then order[#order + 1] = edge.to end
      end
    end
  end
  if #order == #plan.vertices then return level end
  local stuck = {}
  for _, vertex in ipairs(plan.vertices) do
    if waiting[vertex.id] and waiting[vertex.id] > 0 then
      stuck[#stuck + 1] = tostring(vertex.name or vertex.id)
    end
  end
  return bad("the operators %s form a cycle", table.concat(stuck, ", "))
end

local function check_plan(plan)
  if type(plan) ~= "table" then return bad("a plan is a table") end
  if type(plan.name) ~= "string" or #plan.name > 1024 then
    return bad("the job's name must be a string of at most 1024 bytes")
  end
  local ok, err = ids.check(plan.job_id, "plan.job_id")
  if not ok then return nil, err end
  local by_id
  by_id, err = check_vertices(plan)
  if not by_id then return nil, err end
  if plan.edges ~= nil and type(plan.edges) ~= "table" then
    return bad("the edges of a plan are a list")
  end
  local channels, seen = 0, {}
  for _, edge in ipairs(plan.edges or {}) do
    local count
    count, err = check_edge(edge, by_id, seen)
    if not count then return nil, err end
    channels = channels + count
  end
  if channels > M.CHANNELS_MAX then
    return bad("job %q needs %d channels, at most %d are allowed; use a "
      .. "smaller parallelism", plan.name, channels, M.CHANNELS_MAX)
  end
  local level
  level, err = levels_of(plan, plan.edges or {})
  if not level then return nil, err end
  return by_id, level
end

--- Checks a plan that came from outside: true, or nil and `bad_plan` or
-- `bad_argument` that says which part is wrong.
function M.check(plan)
  local ok, err = check_plan(plan)
  if not ok then return nil, err end
  return true
end

local function new_execution(graph, vertex, now)
  vertex.attempt_number = vertex.attempt_number + 1
  local id = ids.attempt(graph.job_id, vertex.vertex.id, vertex.subtask,
    vertex.attempt_number)
  local machine = states.execution:machine(id, now)
  vertex.execution = {
    attempt = id, attempt_number = vertex.attempt_number, vertex = vertex,
    machine = machine,
  }
  graph._by_attempt[id] = vertex.execution
end

-- Regions by union-find over the tasks.
local function join_regions(graph)
  local parent = {}
  for i in ipairs(graph.tasks) do parent[i] = i end
  local function root(i)
    while parent[i] ~= i do
      parent[i] = parent[parent[i]]
      i = parent[i]
    end
    return i
  end
  local function join(a, b)
    local ra, rb = root(a.number), root(b.number)
    parent[math.max(ra, rb)] = math.min(ra, rb)
  end
  for _, edge in ipairs(graph.edges) do
    local from, to = graph._tasks_of[edge.from], graph._tasks_of[edge.to]
    if edge.kind == "forward" then
      for i = 1, #from do join(from[i], to[i]) end
    else
      for _, task in ipairs(from) do join(task, to[1]) end
      for _, task in ipairs(to) do join(from[1], task) end
    end
  end
  graph._regions = {}
  for i, task in ipairs(graph.tasks) do
    local r = root(i)
    task.region = r
    graph._regions[r] = graph._regions[r] or {}
    table.insert(graph._regions[r], task)
  end
end

--- A graph of a plan, every attempt CREATED; or nil and `bad_plan`.
---@param plan table
---@param now number wall clock, for timestamps
function M.new(plan, now)
  local by_id, level = check_plan(plan)
  if not by_id then return nil, level end
  local graph = setmetatable({
    job_id = plan.job_id, plan = plan, edges = plan.edges or {},
    vertices = by_id, tasks = {}, slots_required = 0, levels = 0,
    _tasks_of = {}, _by_attempt = {},
  }, Graph)
  for _, vertex in ipairs(plan.vertices) do
    local tasks = {}
    graph._tasks_of[vertex.id] = tasks
    graph.slots_required = math.max(graph.slots_required, vertex.parallelism)
    graph.levels = math.max(graph.levels, level[vertex.id])
    for subtask = 0, vertex.parallelism - 1 do
      local task = {
        vertex = vertex, subtask = subtask, version = 0, attempt_number = -1,
        level = level[vertex.id], number = #graph.tasks + 1,
      }
      graph.tasks[task.number] = task
      tasks[subtask + 1] = task
      new_execution(graph, task, now)
    end
  end
  join_regions(graph)
  return graph
end

function Graph:tasks_of(vertex_id)
  return self._tasks_of[vertex_id]
end

--- The current execution with this printed attempt, or nil when it is unknown
-- or outdated.
function Graph:execution(attempt)
  return self._by_attempt[attempt]
end

--- All tasks of the region of a task.
function Graph:region(task)
  return self._regions[task.region]
end

--- Replaces the attempt of a task by a fresh one in CREATED.
function Graph:reset(task, now)
  self._by_attempt[task.execution.attempt] = nil
  new_execution(self, task, now)
end

--- The name that users know a task by: `count (2/4)`.
function M.task_name(task)
  return ("%s (%d/%d)"):format(task.vertex.name or task.vertex.id,
    task.subtask + 1, task.vertex.parallelism)
end

local function channel(edge, from, to)
  return ("%d:%d:%d"):format(edge.id, from, to)
end

-- The subtasks on the other side of an edge that a subtask is joined with.
local function others(edge, subtask, parallelism)
  if edge.kind == "forward" then return subtask, subtask end
  return 0, parallelism - 1
end

--- What a task needs to run.
---@param task table
---@param address_of fun(task: table): string address of a task's endpoint
function Graph:descriptor(task, address_of)
  local inputs, outputs = {}, {}
  for _, edge in ipairs(self.edges) do
    if edge.to == task.vertex.id then
      local channels = {}
      local first, last =
        others(edge, task.subtask, self.vertices[edge.from].parallelism)
      for i = first, last do
        channels[#channels + 1] = channel(edge, i, task.subtask)
      end
      inputs[#inputs + 1] =
        { edge = edge.id, kind = edge.kind, channels = channels }
    end
    if edge.from == task.vertex.id then
      local targets = {}
      local first, last =
        others(edge, task.subtask, self.vertices[edge.to].parallelism)
      for i = first, last do
        targets[#targets + 1] = {
          address = address_of(self._tasks_of[edge.to][i + 1]),
          channel = channel(edge, task.subtask, i),
        }
      end
      outputs[#outputs + 1] =
        { edge = edge.id, kind = edge.kind, targets = targets }
    end
  end
  return {
    job_id = self.job_id, job_name = self.plan.name,
    attempt = task.execution.attempt,
    attempt_number = task.execution.attempt_number,
    vertex = task.vertex, subtask = task.subtask, inputs = inputs,
    outputs = outputs, bundle = self.plan.bundle, entry = self.plan.entry,
    args = self.plan.args or {}, options = self.plan.options or {},
  }
end

return M
