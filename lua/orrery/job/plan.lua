--- The plan of a job: what the client submits, as plain data.
--
-- Pure but for one thing: a bounded source is asked for its splits, which may
-- look at files. The client does that once; a restarted job reads the same
-- splits again.
--
--   plan = { name, job_id, bundle, entry, args, options,
--     vertices = { { id, name, parallelism, operators = { { id, kind, name } },
--                    splits = { ... } or nil } },
--     edges = { { id, from, to, kind } } }

local errors = require("orrery.util.errors")
local graph = require("orrery.job.graph")

local M = {}

-- A plan is one message; this many splits of a few hundred bytes fit easily.
M.SPLITS_MAX = 20000
-- Tasks of one job; each is an endpoint on a thread of its own.
M.TASKS_MAX = 100000

local function splits_of(operator, parallelism)
  local source = operator.source
  if not source.bounded or not source.splits then return nil end
  local ok, splits, err = xpcall(function()
    return source:splits(parallelism)
  end, function(e)
    return errors.is(e) and e or errors.new("job_invalid", tostring(e))
  end)
  if not ok then
    return nil, graph.error_at(operator, string.format("source %q: %s",
      operator.name, splits.message))
  end
  if type(splits) ~= "table" then
    local why = errors.is(err) and err.message or tostring(err
      or "splits must give an array")
    return nil, graph.error_at(operator, string.format("source %q: %s",
      operator.name, why))
  end
  if #splits > M.SPLITS_MAX then
    return nil, graph.error_at(operator, string.format(
      "source %q gives %d splits, at most %d are allowed; make them larger",
      operator.name, #splits, M.SPLITS_MAX))
  end
  return splits
end

--- Operators of a vertex as they stand in plans and descriptors.
function M.operator_list(vertex)
  local list = {}
  for i, operator in ipairs(vertex.operators) do
    list[i] = { id = operator.id, kind = operator.kind, name = operator.name }
  end
  return list
end

--- Makes the plan of a built job. origin: job_id, bundle, entry, args.
---@return table|nil plan
---@return orrery.Error|nil
function M.make(job, origin)
  local g = job:graph()
  local ok, err = graph.check(g)
  if not ok then return nil, err end
  local chained = graph.chain(g, graph.resolve(g))
  local vertices, tasks = {}, 0
  for i, vertex in ipairs(chained.vertices) do
    local head = vertex.operators[1]
    local splits
    if head.kind == "source" then
      splits, err = splits_of(head, vertex.parallelism)
      if err then return nil, err end
    end
    tasks = tasks + vertex.parallelism
    vertices[i] = {
      id = vertex.id,
      name = vertex.name,
      parallelism = vertex.parallelism,
      operators = M.operator_list(vertex),
      splits = splits,
    }
  end
  if tasks > M.TASKS_MAX then
    return nil, graph.error_at({ at = g.at }, string.format(
      "job %q needs %d tasks, at most %d are allowed; lower the parallelism",
      g.name, tasks, M.TASKS_MAX))
  end
  local edges = {}
  for i, edge in ipairs(chained.edges) do
    edges[i] = {
      id = edge.id,
      from = edge.from_vertex,
      to = edge.to_vertex,
      kind = edge.kind,
    }
  end
  origin = origin or {}
  return {
    name = g.name,
    job_id = origin.job_id,
    bundle = origin.bundle,
    entry = origin.entry,
    args = origin.args or {},
    options = job:plan_options(),
    vertices = vertices,
    edges = edges,
  }
end

return M
