--- Operators as closures: a chain is nested function calls.
--
-- `make` of a kind takes an operator of the graph, its context and `down`, the
-- function that takes its records, and gives an instance:
--
--   push(record)   works one record; calls down any number of times
--   open()         before the first record; sinks first, then upwards
--   flush()        lets go of what is held back for speed; only in jobs that
--                  never end, once each latency
--   drain()        after the last record; called until it answers true, so that
--                  what is emitted at the end waits for credits like the rest
--   abort()        instead, when the task failed or was cancelled
--
-- Nothing allocates per record but what the user's functions make, and pairs.

local errors = require("orrery.util.errors")
local context = require("orrery.task.context")
local partition = require("orrery.task.partition")

local M = {}

-- Keys of a combiner before it sends its partial results on.
local COMBINE_MAX = 16384
-- Records that one drain call emits.
local DRAIN_AT_ONCE = 512
-- local_top keeps up to this many more than 2 n before it sorts and cuts.
local TOP_SLACK = 1024

local make = {}

function make.map(operator, ctx, down)
  local fn = operator.fn
  return { push = function(record) down(fn(record, ctx)) end }
end

function make.flat_map(operator, ctx, down)
  local fn = operator.fn
  return { push = function(record) fn(record, down, ctx) end }
end

function make.filter(operator, ctx, down)
  local fn = operator.fn
  return {
    push = function(record)
      if fn(record, ctx) then down(record) end
    end,
  }
end

function make.process(operator, ctx, down)
  local definition = operator.definition
  local self = context.instance(ctx, definition)
  local each = definition.each
  return {
    push = function(record) each(self, record, down) end,
    open = definition.open and function() definition.open(self) end,
    drain = function()
      if definition.close then definition.close(self, down) end
      return true
    end,
  }
end

local function check_key(key)
  local problem = partition.key_problem(key)
  if problem then error(problem, 0) end
end

function make.keyed_process(operator, ctx, down)
  local definition, key_of = operator.definition, operator.key
  local self = context.instance(ctx, definition)
  local each, close_key = definition.each, definition.close_key
  local states, keys, n = {}, {}, 0
  local at = 0
  return {
    push = function(record)
      local key = key_of(record)
      local state = states[key]
      if not state then
        check_key(key)
        state = {}
        states[key] = state
        n = n + 1
        keys[n] = key
      end
      self.key, self.state = key, state
      each(self, record, down)
    end,
    open = definition.open and function() definition.open(self) end,
    -- Keys in the order in which they were first seen.
    drain = function()
      if close_key then
        local stop = math.min(n, at + DRAIN_AT_ONCE)
        while at < stop do
          at = at + 1
          local key = keys[at]
          self.key, self.state = key, states[key]
          close_key(self, key, down)
        end
        if at < n then return false end
      end
      self.key, self.state = nil, nil
      if definition.close then definition.close(self, down) end
      return true
    end,
  }
end

-- Aggregates -----------------------------------------------------------------

-- A table of running values with its keys in the order of their first record.
-- The two closures are made apart for each kind, because this is the path that
-- a word count lives in.
local function aggregate_push(operator, store, on_new, on_change)
  local key_of, kind = operator.key, operator.aggregate
  local value_of, join = operator.value, operator.reduce
  if operator.partial_input then
    key_of = function(pair) return pair[1] end
    value_of = function(pair) return pair[2] end
    if kind == "count" then kind = "sum" end
  end
  if kind == "count" then
    return function(record)
      local key = key_of(record)
      local values = store.values
      local value = values[key]
      if value then
        values[key] = value + 1
      else
        on_new(key, 1)
      end
      if on_change then on_change(key) end
    end
  end
  if kind == "sum" then
    return function(record)
      local key = key_of(record)
      local values = store.values
      local value = values[key]
      if value then
        values[key] = value + value_of(record)
      else
        on_new(key, value_of(record) + 0)
      end
      if on_change then on_change(key) end
    end
  end
  value_of = value_of or function(record) return record end
  return function(record)
    local key = key_of(record)
    local values = store.values
    local value = values[key]
    if value ~= nil then
      values[key] = join(value, value_of(record))
    else
      on_new(key, value_of(record))
    end
    if on_change then on_change(key) end
  end
end

local function new_store()
  local store = { values = {}, keys = {}, n = 0 }
  function store.add(key, value)
    check_key(key)
    local n = store.n + 1
    store.n = n
    store.keys[n] = key
    store.values[key] = value
  end
  return store
end

function make.combine(operator, _, down, env)
  -- Chained to its aggregate, a combiner would do the same work twice.
  if env.next_is_chained(operator) then return { push = down } end
  local store = new_store()
  local function let_go()
    local keys, values, n = store.keys, store.values, store.n
    store.values, store.keys, store.n = {}, {}, 0
    for i = 1, n do
      local key = keys[i]
      down({ key, values[key] })
    end
  end
  local at = 0
  return {
    push = aggregate_push(operator, store, function(key, value)
      if store.n >= COMBINE_MAX then let_go() end
      store.add(key, value)
    end),
    flush = let_go,
    drain = function()
      local keys, values = store.keys, store.values
      local stop = math.min(store.n, at + DRAIN_AT_ONCE)
      while at < stop do
        at = at + 1
        local key = keys[at]
        down({ key, values[key] })
      end
      return at >= store.n
    end,
  }
end

local function make_aggregate(operator, _, down, env)
  local store, on_change = new_store(), nil
  local update = (operator.emit or (operator.bounded and "end" or "update"))
    == "update"
  if update then
    on_change = function(key) down({ key, store.values[key] }) end
  end
  local at = 0
  return {
    push = aggregate_push({
      key = operator.key,
      aggregate = operator.aggregate,
      value = operator.value,
      reduce = operator.reduce,
      partial_input = operator.partial
        and not env.combiner_is_chained(operator),
    }, store, store.add, on_change),
    drain = function()
      if update then return true end
      local keys, values = store.keys, store.values
      local stop = math.min(store.n, at + DRAIN_AT_ONCE)
      while at < stop do
        at = at + 1
        local key = keys[at]
        down({ key, values[key] })
      end
      return at >= store.n
    end,
  }
end

make.count = make_aggregate
make.sum = make_aggregate
make.reduce = make_aggregate

-- Top ------------------------------------------------------------------------

-- Values of one type compare as they are; of different types by type name.
local function less(a, b)
  if type(a) ~= type(b) then return type(a) < type(b) end
  if type(a) == "boolean" then return not a and b end
  return a < b
end

-- Highest value first; among equals the lower key.
local function better(by, key)
  return function(a, b)
    local va, vb = by(a), by(b)
    if va ~= vb then return less(vb, va) end
    return less(key(a), key(b))
  end
end

local function top_store(operator)
  local n, list, size = operator.n, {}, 0
  local order = better(operator.by, operator.order_key)
  local limit = n > 0 and 2 * n + TOP_SLACK or math.huge
  local store = {}
  function store.sorted()
    table.sort(list, order)
    if n > 0 then
      for i = size, n + 1, -1 do list[i] = nil end
      size = math.min(size, n)
    end
    return list, size
  end
  function store.push(record)
    size = size + 1
    list[size] = record
    if size >= limit then store.sorted() end
  end
  return store
end

local function make_top(operator, _, down, env)
  if operator.kind == "local_top" and env.next_is_chained(operator) then
    return { push = down }
  end
  local store = top_store(operator)
  local list, size, at = nil, 0, 0
  return {
    push = store.push,
    drain = function()
      if not list then list, size = store.sorted() end
      local stop = math.min(size, at + DRAIN_AT_ONCE)
      while at < stop do
        at = at + 1
        down(list[at])
      end
      return at >= size
    end,
  }
end

make.local_top = make_top
make.top = make_top

-- Ends -----------------------------------------------------------------------

function make.source(_, _, down)
  return { push = down }
end

function make.sink(operator, ctx, _, env)
  local sink, writer = operator.sink, nil
  local instance = {}
  -- Before open nobody pushes; after it push is the writer's own function.
  function instance.push(record) writer.write(record) end
  function instance.open()
    writer = sink:open(ctx)
    if type(writer) ~= "table" or type(writer.write) ~= "function" then
      error(string.format("the sink of %q gives no writer with a "
        .. "function write", operator.name), 0)
    end
    env.own(writer.write, operator)
  end
  function instance.drain()
    local list = writer.finish and writer.finish()
    if sink.collect and list then env.collect(sink.collect, list) end
    writer = nil
    return true
  end
  function instance.abort()
    local abort = writer and writer.abort
    writer = nil
    if abort then abort() end
  end
  return instance
end

-- Compiling ------------------------------------------------------------------

local function fan_out(pushes)
  if #pushes == 1 then return pushes[1] end
  return function(record)
    for i = 1, #pushes do pushes[i](record) end
  end
end

local function nothing_below() end

local USER_FUNCTIONS = { "fn", "key", "value", "reduce", "by", "order_key" }

local function own_functions(env, operator, instance)
  env.own(instance.push, operator)
  for _, field in ipairs({ "open", "drain", "flush", "abort" }) do
    if instance[field] then env.own(instance[field], operator) end
  end
  for _, field in ipairs(USER_FUNCTIONS) do
    if type(operator[field]) == "function" then
      env.own(operator[field], operator)
    end
  end
  for _, field in ipairs({ "open", "each", "close", "close_key" }) do
    local fn = operator.definition and operator.definition[field]
    if fn then env.own(fn, operator) end
  end
end

--- Compiles the operators of a vertex. task: the numbers of the context, and
-- accumulators; operators: in order; chained: edges between them; outputs:
-- { [operator id] = { emit... } }; collect(name, list). Gives { head = push,
-- instances = { ... } in order, owners = { [function] = operator } }.
function M.compile(task, operators, chained, outputs, collect)
  local below, above, by_id, owners = {}, {}, {}, {}
  for _, operator in ipairs(operators) do by_id[operator.id] = operator end
  for _, edge in ipairs(chained) do
    local list = below[edge.from] or {}
    below[edge.from] = list
    list[#list + 1] = edge.to
    above[edge.to] = edge.from
  end
  local env = { collect = collect }
  -- A function that two operators share (one helper used twice) names the last.
  function env.own(fn, operator) owners[fn] = operator end
  function env.next_is_chained(operator)
    return below[operator.id] ~= nil
  end
  function env.combiner_is_chained(operator)
    local from = by_id[above[operator.id]]
    return from ~= nil and from.kind == "combine"
  end

  local instances, pushes = {}, {}
  for i = #operators, 1, -1 do
    local operator = operators[i]
    local targets = {}
    for _, id in ipairs(below[operator.id] or {}) do
      targets[#targets + 1] = pushes[id]
    end
    for _, emit in ipairs(outputs[operator.id] or {}) do
      targets[#targets + 1] = emit
    end
    local down = #targets > 0 and fan_out(targets) or nothing_below
    local maker = make[operator.kind]
    if not maker then
      error(errors.new("bad_argument", "no such operator kind: "
        .. tostring(operator.kind)), 0)
    end
    local instance = maker(operator, context.new(task, operator), down, env)
    instance.operator = operator
    if instance.push ~= down then own_functions(env, operator, instance) end
    instances[i] = instance
    pushes[operator.id] = instance.push
  end
  return {
    head = pushes[operators[1].id], instances = instances, owners = owners,
  }
end

return M
