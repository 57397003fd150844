--- The operator graph of a job: checks, parallelism, edges and chains.
--
-- Pure: tables in, tables out; nothing here knows of records, files or RPC. The
-- builder appends operators; `check` says what is wrong with them; `resolve`
-- gives every operator its parallelism and every edge its kind; `chain` puts
-- operators that need no exchange between them into one vertex.
--
--   graph    = { name, at, parallelism, operators = { operator... } }
--   operator = { id, kind, name, at = "file:line", inputs = { input... },
--                parallelism = n or nil, fixed = n or nil (the only value it
--                can run with), follows = true (same as its input) }
--   input    = { from = operator id, kind = edge kind or nil, key = fn or nil }
--
-- Numbering is deterministic: operators in the order of the calls, vertices by
-- their first operator, edges by the operator that they lead to. Tasks build
-- the job again from its bundle and rely on getting the same numbers.

local errors = require("orrery.util.errors")

local M = {}

M.PARALLELISM_MAX = 32768

-- Where a job may end and where it may begin.
local SINK, SOURCE = "sink", "source"

---@class orrery.job.Edge
---@field from integer operator
---@field to integer operator
---@field kind "forward"|"hash"|"rebalance"|"broadcast"
---@field key function|nil of hash edges
---@field chained boolean
---@field id integer|nil number of an edge between vertices

--- An error about one operator; the text begins with file and line.
function M.error_at(operator, text, other)
  local file, line = tostring(operator.at):match("^(.*):(%d+)$")
  return errors.new("job_invalid", string.format("%s: %s", operator.at, text), {
    context = {
      file = file,
      line = tonumber(line),
      operator = operator.name,
      other = other and other.name or nil,
    },
  })
end

--- Why n cannot be a parallelism, or nil when it can.
---@return string|nil
function M.parallelism_problem(n)
  if type(n) ~= "number" then
    return string.format("parallelism must be a whole number from 1 to %d, not "
      .. "a %s", M.PARALLELISM_MAX, type(n))
  end
  if n ~= math.floor(n) or n < 1 or n > M.PARALLELISM_MAX then
    return string.format("parallelism must be a whole number from 1 to %d, not "
      .. "%s", M.PARALLELISM_MAX, string.format("%.14g", n))
  end
  return nil
end

-- The operators that some other reads from.
local function consumed(graph)
  local set = {}
  for _, operator in ipairs(graph.operators) do
    for _, input in ipairs(operator.inputs) do set[input.from] = true end
  end
  return set
end

local function check_names(graph)
  local first = {}
  for _, operator in ipairs(graph.operators) do
    local other = first[operator.name]
    if other then
      return nil, M.error_at(operator, string.format("the operator name %q is "
        .. "used already at %s; give one of them another name",
        operator.name, other.at), other)
    end
    first[operator.name] = operator
  end
  return true
end

local function check_ends(graph)
  local has_source, is_consumed = false, consumed(graph)
  for _, operator in ipairs(graph.operators) do
    if operator.kind == SOURCE then has_source = true end
  end
  if not has_source then
    return nil, M.error_at({ at = graph.at }, string.format(
      "job %q has no source; begin with job:source(...)", graph.name))
  end
  for _, operator in ipairs(graph.operators) do
    if operator.kind ~= SINK and not is_consumed[operator.id] then
      return nil, M.error_at(operator, string.format(
        "nothing reads what %q gives; end the stream with :sink(...)",
        operator.name))
    end
  end
  return true
end

local function check_inputs(graph)
  for i, operator in ipairs(graph.operators) do
    if operator.id ~= i then
      return nil, M.error_at(operator, string.format(
        "operator %q has number %s at place %d", operator.name,
        tostring(operator.id), i))
    end
    if operator.kind == SOURCE and #operator.inputs > 0 then
      return nil, M.error_at(operator, string.format(
        "source %q cannot have an input", operator.name))
    end
    if operator.kind ~= SOURCE and #operator.inputs == 0 then
      return nil, M.error_at(operator, string.format(
        "operator %q has no input", operator.name))
    end
    for _, input in ipairs(operator.inputs) do
      if not graph.operators[input.from] then
        return nil, M.error_at(operator, string.format(
          "operator %q reads from operator %s, which this job lacks",
          operator.name, tostring(input.from)))
      end
    end
  end
  return true
end

-- Takes operators away as long as one has no input left; what stays is on a
-- cycle or behind one.
local function check_cycles(graph)
  local waits, readers, ready = {}, {}, {}
  for _, operator in ipairs(graph.operators) do
    waits[operator.id] = #operator.inputs
    for _, input in ipairs(operator.inputs) do
      local list = readers[input.from] or {}
      readers[input.from] = list
      list[#list + 1] = operator.id
    end
    if #operator.inputs == 0 then ready[#ready + 1] = operator.id end
  end
  local taken = 0
  while #ready > 0 do
    local id = table.remove(ready)
    taken = taken + 1
    for _, reader in ipairs(readers[id] or {}) do
      waits[reader] = waits[reader] - 1
      if waits[reader] == 0 then ready[#ready + 1] = reader end
    end
  end
  if taken == #graph.operators then return true end
  local names, first = {}, nil
  for _, operator in ipairs(graph.operators) do
    if waits[operator.id] > 0 then
      first = first or operator
      names[#names + 1] = string.format("%q", operator.name)
    end
  end
  return nil, M.error_at(first, "the operators " .. table.concat(names, ", ")
    .. " form a cycle; a stream cannot flow back into itself")
end

-- parallelism of every operator, by id.
local function parallelisms(graph)
  local by_id = {}
  for _, operator in ipairs(graph.operators) do
    local n = operator.parallelism or operator.fixed
    local input = operator.inputs[1]
    if operator.follows then
      n = by_id[input.from]
    elseif not n and input and #operator.inputs == 1 and not input.kind
      and graph.operators[input.from].single then
      -- What comes out of a global operator stays together until somebody
      -- spreads it.
      n = by_id[input.from]
    end
    by_id[operator.id] = n or graph.parallelism
  end
  return by_id
end

-- A follower of a global operator is global too.
local function mark_single(graph)
  for _, operator in ipairs(graph.operators) do
    local input = operator.inputs[1]
    if operator.global then
      operator.single = true
    elseif input and #operator.inputs == 1 and not input.kind
      and not operator.parallelism and not operator.fixed then
      operator.single = graph.operators[input.from].single
    end
  end
end

local function check_parallelism(graph, by_id)
  for _, operator in ipairs(graph.operators) do
    local n = by_id[operator.id]
    local problem = M.parallelism_problem(n)
    if problem then
      return nil, M.error_at(operator, string.format("operator %q: %s",
        operator.name, problem))
    end
    if operator.fixed and n ~= operator.fixed then
      return nil, M.error_at(operator, string.format(
        "operator %q can only run with parallelism %d, not %d", operator.name,
        operator.fixed, n))
    end
    for _, input in ipairs(operator.inputs) do
      local from = graph.operators[input.from]
      if input.kind == "forward" and by_id[from.id] ~= n then
        return nil, M.error_at(operator, string.format("a forward edge needs "
          .. "equal parallelism on both sides, but %q has %d and %q has %d; "
          .. "use :rebalance() or set_parallelism", from.name, by_id[from.id],
          operator.name, n), from)
      end
    end
  end
  return true
end

--- Everything that can be wrong with a graph: true, or nil and the first error.
---@return true|nil
---@return orrery.Error|nil
function M.check(graph)
  for _, step in ipairs({ check_inputs, check_names, check_cycles, check_ends })
  do
    local ok, err = step(graph)
    if not ok then return nil, err end
  end
  mark_single(graph)
  return check_parallelism(graph, parallelisms(graph))
end

local function edge_kind(input, from_parallelism, to_parallelism)
  if input.kind then return input.kind end
  return from_parallelism == to_parallelism and "forward" or "rebalance"
end

-- A chained edge is a function call. A hash or broadcast edge between single
-- subtasks has nothing to distribute; an explicit rebalance stays an exchange,
-- which is the way to put two halves of a pipeline on two cores.
local function can_chain(kind, from_parallelism, to_parallelism, inputs)
  if inputs ~= 1 or from_parallelism ~= to_parallelism then return false end
  if kind == "forward" then return true end
  return from_parallelism == 1 and (kind == "hash" or kind == "broadcast")
end

--- Gives { parallelism = { [id] = n }, edges = { edge... } } of a checked
-- graph.
function M.resolve(graph)
  mark_single(graph)
  local by_id, edges = parallelisms(graph), {}
  for _, operator in ipairs(graph.operators) do
    for _, input in ipairs(operator.inputs) do
      local a, b = by_id[input.from], by_id[operator.id]
      local kind = edge_kind(input, a, b)
      edges[#edges + 1] = {
        from = input.from,
        to = operator.id,
        kind = kind,
        key = input.key,
        chained = can_chain(kind, a, b, #operator.inputs),
      }
    end
  end
  return { parallelism = by_id, edges = edges }
end

--- Chains a resolved graph: { vertices = { { id, name, parallelism, operators
-- = { operator... } } ... }, edges = edges between vertices, with id,
-- from_vertex and to_vertex, vertex_of = { [operator id] = vertex id } }.
function M.chain(graph, resolved)
  local into = {}
  for _, edge in ipairs(resolved.edges) do
    if edge.chained then into[edge.to] = edge.from end
  end
  local vertices, vertex_of = {}, {}
  for _, operator in ipairs(graph.operators) do
    local head = into[operator.id]
    local id = head and vertex_of[head]
    if not id then
      id = #vertices + 1
      vertices[id] = {
        id = id,
        parallelism = resolved.parallelism[operator.id],
        operators = {},
      }
    end
    vertex_of[operator.id] = id
    local list = vertices[id].operators
    list[#list + 1] = operator
  end
  for _, vertex in ipairs(vertices) do
    local names = {}
    for i, operator in ipairs(vertex.operators) do names[i] = operator.name end
    vertex.name = table.concat(names, " -> ")
  end
  local edges = {}
  for _, edge in ipairs(resolved.edges) do
    if not edge.chained then
      edge.id = #edges + 1
      edge.from_vertex = vertex_of[edge.from]
      edge.to_vertex = vertex_of[edge.to]
      edges[edge.id] = edge
    end
  end
  return { vertices = vertices, edges = edges, vertex_of = vertex_of }
end

return M
