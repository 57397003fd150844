--- Jobs as users write them: streams of operators.
--
--     local orrery = require("orrery")
--     local job = orrery.job("word count", { parallelism = 2 })
--     job:source(orrery.sources.files { "/usr/share/common-licenses" })
--        :flat_map("words", function(line, emit) ... emit(word) end)
--        :key_by():count():top(20):sink(orrery.sinks.collect("words"))
--     job:on_result(function(result, print) ... end)
--     return job
--
-- A job only describes: operators are numbered in the order of the calls and
-- appended to a graph (orrery.job.graph). The client makes the plan of it; each
-- task runs the same file again and finds its functions by those numbers. A job
-- file must therefore build the same operators each time that it runs.
--
-- What is wrong with one call is thrown there, as an error that names file,
-- line and operator; what is wrong with the whole is found by job:check().

local errors = require("orrery.util.errors")
local graph = require("orrery.job.graph")
local sinks = require("orrery.job.sinks")
local time = require("orrery.util.time")

local M = {}

local OPTIONS = { "parallelism", "restart", "latency", "buffers",
  "buffer_size" }
local RESTART = { "none", "fixed-delay", "exponential-delay", "failure-rate" }
local NAME_MAX = 128

---@alias orrery.job.Emit fun(record: any)

--- What functions of a job are given as their last argument, and `self` of a
-- process operator.
---@class orrery.job.Context
---@field subtask integer from 0
---@field parallelism integer
---@field attempt_number integer
---@field operator string
---@field key any of the record at work, in keyed operators
---@field state table of that key, in keyed process operators

---@class orrery.job.Job
---@field name string
local Job = {}

---@class orrery.job.Stream
local Stream = {}

-- Positions ------------------------------------------------------------------

local OURS = { [debug.getinfo(1, "S").source] = true }

-- file:line of the first caller that is not this file.
local function position()
  for level = 2, 40 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.what ~= "C" and not OURS[info.source] and info.currentline > 0 then
      return info.short_src .. ":" .. info.currentline
    end
  end
  return "?:0"
end

local function refuse(text, name)
  error(graph.error_at({ at = position(), name = name }, text), 0)
end

local function unknown(what, word, words)
  local sorted = {}
  for i, known in ipairs(words) do sorted[i] = known end
  table.sort(sorted)
  local near = errors.nearest(word, sorted)
  refuse(string.format("unknown %s %q; %s", what, word, near
    and string.format("did you mean %q?", near)
    or "known are " .. table.concat(sorted, ", ")))
end

-- A class whose unknown methods are refused with the nearest known word.
local function finish_class(class, what)
  class.__index = function(_, word)
    local method = class[word]
    if method ~= nil then return method end
    if type(word) ~= "string" or word:sub(1, 1) == "_" then return nil end
    local words = {}
    for name, value in pairs(class) do -- sorted by unknown
      if type(value) == "function" and name:sub(1, 1) ~= "_" then
        words[#words + 1] = name
      end
    end
    unknown(what, word, words)
  end
end

-- Arguments ------------------------------------------------------------------

local function check_name(who, name)
  if type(name) ~= "string" or name == "" or #name > NAME_MAX
    or name:find("%c") then
    refuse(string.format("%s: a name must be a string of 1 to %d printable "
      .. "characters", who, NAME_MAX))
  end
  return name
end

local function check_function(who, fn, what)
  if type(fn) ~= "function" then
    refuse(string.format("%s: %s must be a function, not %s", who, what,
      fn == nil and "missing" or "a " .. type(fn)))
  end
  return fn
end

-- (name, fn) or (fn).
local function name_and(who, name, fn, ...)
  if fn == nil and type(name) ~= "string" then
    return nil, name
  end
  return check_name(who, name), fn, ...
end

local function check_options(who, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then
    refuse(string.format("%s: options must be a table, not a %s", who,
      type(options)))
  end
  local words, given = {}, {}
  for _, word in ipairs(known) do words[word] = true end
  for word in pairs(options) do given[#given + 1] = tostring(word) end
  table.sort(given)
  for _, word in ipairs(given) do
    if not words[word] then unknown("option of " .. who, word, known) end
  end
  return options
end

local function check_parallelism(who, n, name)
  local problem = graph.parallelism_problem(n)
  if problem then refuse(who .. ": " .. problem, name) end
  return n
end

-- A function, a field name, or nothing: the record itself.
local function accessor(who, what)
  if what == nil then return nil end
  if type(what) == "function" then return what end
  if type(what) == "string" or type(what) == "number" then
    return function(record) return record[what] end
  end
  refuse(string.format("%s: give a function or the name of a field, not a %s",
    who, type(what)))
end

-- Job ------------------------------------------------------------------------

local function check_restart(restart)
  if restart == nil then return nil end
  if type(restart) ~= "table" then
    refuse("job option restart: must be a table such as { type = "
      .. "\"fixed-delay\", attempts = 3, delay = \"1s\" }")
  end
  local known = false
  for _, kind in ipairs(RESTART) do
    if restart.type == kind then known = true end
  end
  if not known then
    unknown("restart type", tostring(restart.type), RESTART)
  end
  local attempts = restart.attempts
  if attempts ~= nil and (type(attempts) ~= "number" or attempts < 0
    or attempts ~= math.floor(attempts)) then
    refuse("job option restart.attempts: must be a whole number from 0")
  end
  if restart.delay ~= nil then
    local _, err = time.duration_ms(restart.delay)
    if err then refuse("job option restart.delay: " .. err.message) end
  end
  return restart
end

--- Makes a job. options: parallelism (default of all operators), restart
-- ({ type, attempts, delay }), latency (how long a record may wait for others
-- in its buffer, "100ms"), buffers (under way per channel, 8), buffer_size
-- ("32kb").
---@param name string
---@param options table|nil
---@return orrery.job.Job
function M.new(name, options)
  check_name("orrery.job", name)
  options = check_options("orrery.job", options, OPTIONS)
  local latency, size, err
  latency, err = time.duration_ms(options.latency or 100)
  if err then refuse("job option latency: " .. err.message) end
  size, err = time.size(options.buffer_size or "32kb")
  if err then refuse("job option buffer_size: " .. err.message) end
  if size < 64 or size > 4 * 1024 * 1024 then
    refuse("job option buffer_size: must be from 64 bytes to 4 MiB")
  end
  local buffers = options.buffers or 8
  if type(buffers) ~= "number" or buffers ~= math.floor(buffers)
    or buffers < 1 or buffers > 1024 then
    refuse("job option buffers: must be a whole number from 1 to 1024")
  end
  return setmetatable({
    name = name,
    _at = position(),
    _operators = {},
    _parallelism = options.parallelism == nil and 1
      or check_parallelism("job option parallelism", options.parallelism),
    _names_parallelism = options.parallelism ~= nil,
    _options = {
      restart = check_restart(options.restart),
      latency_ms = latency,
      buffers = buffers,
      buffer_size = size,
    },
  }, Job)
end

--- Is v a job?
function M.is(v)
  return type(v) == "table" and getmetatable(v) == Job
end

local function append(job, kind, name, inputs, fields)
  local operator = fields or {}
  operator.id = #job._operators + 1
  operator.kind = kind
  operator.name = name or kind .. "-" .. operator.id
  operator.at = position()
  operator.inputs = inputs
  job._operators[operator.id] = operator
  return operator
end

local function stream_of(job, operator)
  return setmetatable({
    _job = job,
    _inputs = { { from = operator.id } },
  }, Stream)
end

--- Begins a stream. options: name, parallelism.
---@param source table see orrery.job.sources
---@return orrery.job.Stream
function Job:source(source, options)
  options = check_options("source", options, { "name", "parallelism" })
  if type(source) ~= "table" or type(source.open) ~= "function" then
    refuse("source: must be a source such as orrery.sources.files{...}, or a "
      .. "table with a function open(self, split, ctx)")
  end
  if source.bounded and source.splits ~= nil
    and type(source.splits) ~= "function" then
    refuse("source: splits must be a function(self, parallelism)")
  end
  return stream_of(self, append(self, "source", options.name
    and check_name("source", options.name), {}, {
      source = source,
      fixed = source.parallelism,
      parallelism = options.parallelism
        and check_parallelism("source", options.parallelism, options.name),
    }))
end

--- Is run by the client after the end: fn(result, print). result.collected has
-- an array for each collect sink, result.accumulators a value for each name.
function Job:on_result(fn)
  self._on_result = check_function("on_result", fn, "its argument")
  return self
end

--- Is there an on_result handler, or a sink that the client prints?
function Job:has_on_result()
  return self._on_result ~= nil or self._prints
end

--- The parallelism that the job has when its file names none. For clients.
function Job:set_default_parallelism(n)
  if self._names_parallelism then return end
  self._parallelism = check_parallelism("default parallelism", n)
end

--- Prints the lines of sinks.stdout and runs the handler given to on_result, if
-- any. Gives true, or nil, err.
---@return true|nil
---@return orrery.Error|nil
function Job:run_on_result(result, print_line)
  if self._prints then
    for _, line in ipairs(result.collected[sinks.STDOUT] or {}) do
      print_line(line)
    end
  end
  if not self._on_result then return true end
  local ok, err = xpcall(function()
    self._on_result(result, print_line)
  end, function(e)
    if errors.is(e) then return e end
    return errors.new("job_failed", "on_result: " .. tostring(e),
      { traceback = debug.traceback("", 2) })
  end)
  if not ok then return nil, err end
  return true
end

-- Which operators have a source above them that never ends.
local function mark_bounded(operators)
  for _, operator in ipairs(operators) do
    local bounded = not operator.source or operator.source.bounded == true
    for _, input in ipairs(operator.inputs) do
      bounded = bounded and operators[input.from].bounded
    end
    operator.bounded = bounded
  end
end

--- The graph, for orrery.job.graph and orrery.job.plan.
function Job:graph()
  mark_bounded(self._operators)
  return {
    name = self.name,
    at = self._at,
    parallelism = self._parallelism,
    operators = self._operators,
  }
end

--- Options as they travel in the plan.
function Job:plan_options()
  return self._options
end

--- true, or nil and what is wrong with the job.
---@return true|nil
---@return orrery.Error|nil
function Job:check()
  local g = self:graph()
  local ok, err = graph.check(g)
  if not ok then return nil, err end
  for _, operator in ipairs(g.operators) do
    if operator.needs_end and not operator.bounded then
      return nil, graph.error_at(operator, string.format("operator %q waits "
        .. "for the end of its input, which a source above it never reaches",
        operator.name))
    end
  end
  return true
end

-- Streams --------------------------------------------------------------------

-- The inputs of the next operator: edges as asked for, hash when keyed.
local function take_inputs(stream)
  local inputs = {}
  for i, input in ipairs(stream._inputs) do
    inputs[i] = { from = input.from, kind = stream._kind, key = stream._key }
  end
  return inputs
end

local function extend(stream, kind, name, fields)
  local job = stream._job
  return stream_of(job, append(job, kind, name, take_inputs(stream), fields))
end

-- A keyed stream offers what needs a key; anything else on it forgets the key
-- but keeps the exchange.
local function check_keyed(stream, who)
  if stream._kind ~= "hash" then
    refuse(who .. ": needs a keyed stream; call :key_by(...) before it")
  end
end

local function with_edge(stream, kind, key)
  return setmetatable({
    _job = stream._job,
    _inputs = stream._inputs,
    _kind = kind,
    _key = key,
  }, Stream)
end

local IDENTITY = function(record) return record end

--- One record for each: fn(record, ctx) gives the new one.
function Stream:map(name, fn)
  name, fn = name_and("map", name, fn)
  return extend(self, "map", name, { fn = check_function("map", fn, "fn") })
end

--- Any number of records for each: fn(record, emit, ctx).
function Stream:flat_map(name, fn)
  name, fn = name_and("flat_map", name, fn)
  return extend(self, "flat_map", name, {
    fn = check_function("flat_map", fn, "fn"),
  })
end

--- Keeps the records for which fn(record, ctx) is true.
function Stream:filter(name, fn)
  name, fn = name_and("filter", name, fn)
  return extend(self, "filter", name, {
    fn = check_function("filter", fn, "fn"),
  })
end

--- Records with the same key go to the same subtask. key: a function, the name
-- of a field, or nothing for the record itself. Keys are strings, numbers or
-- booleans.
function Stream:key_by(key)
  return with_edge(self, "hash", accessor("key_by", key) or IDENTITY)
end

--- Spreads records evenly; also the way to break a chain.
function Stream:rebalance()
  return with_edge(self, "rebalance")
end

--- Each record to every subtask of the next operator.
function Stream:broadcast()
  return with_edge(self, "broadcast")
end

--- Subtask n to subtask n; an error when the parallelism differs.
function Stream:forward()
  return with_edge(self, "forward")
end

--- Records of both, in no particular order between them.
---@param other orrery.job.Stream
function Stream:union(other)
  if getmetatable(other) ~= Stream then
    refuse("union: its argument must be a stream")
  end
  if other._job ~= self._job then
    refuse("union: the streams belong to different jobs")
  end
  if self._kind or other._kind then
    refuse("union: call key_by, rebalance, broadcast or forward after union")
  end
  local inputs, seen = {}, {}
  for _, list in ipairs({ self._inputs, other._inputs }) do
    for _, input in ipairs(list) do
      if seen[input.from] then
        refuse(string.format("union: %q would be read twice",
          self._job._operators[input.from].name))
      end
      seen[input.from] = true
      inputs[#inputs + 1] = { from = input.from }
    end
  end
  return setmetatable({ _job = self._job, _inputs = inputs }, Stream)
end

--- Parallelism of the operator that this stream comes from.
function Stream:set_parallelism(n)
  if #self._inputs ~= 1 then
    refuse("set_parallelism: a union is not an operator; set it before or "
      .. "after")
  end
  local operator = self._job._operators[self._inputs[1].from]
  check_parallelism(string.format("operator %q", operator.name), n,
    operator.name)
  operator.parallelism = n
  return self
end

--- An operator with a beginning and an end. definition: open(self),
-- each(self, record, emit), close(self, emit), and on a keyed stream
-- close_key(self, key, emit), run for each key at the end of the input; there
-- self.key and self.state (a table of that key) belong to the record.
function Stream:process(name, definition)
  name, definition = name_and("process", name, definition)
  if type(definition) ~= "table" then
    refuse("process: needs a table { open =, each =, close = } of functions")
  end
  check_function("process", definition.each, "each")
  for _, word in ipairs({ "open", "close", "close_key" }) do
    if definition[word] ~= nil then
      check_function("process", definition[word], word)
    end
  end
  local keyed = self._kind == "hash"
  if definition.close_key and not keyed then
    check_keyed(self, "process with close_key")
  end
  return extend(self, keyed and "keyed_process" or "process", name, {
    definition = definition,
    key = keyed and self._key or nil,
  })
end

local AGGREGATE_OPTIONS = { "name", "combine", "emit" }

-- Puts a combiner before the exchange (one for each input), so that what
-- travels is one partial result a key and flush, not one record a record.
local function aggregate(stream, kind, options, fields, combine)
  check_keyed(stream, kind)
  options = check_options(kind, options, AGGREGATE_OPTIONS)
  if options.name then check_name(kind, options.name) end
  if options.emit and options.emit ~= "end" and options.emit ~= "update" then
    refuse(kind .. ": emit must be \"end\" or \"update\"")
  end
  if options.combine ~= nil then combine = options.combine end
  local job, inputs = stream._job, take_inputs(stream)
  if combine then
    for _, input in ipairs(inputs) do
      local combiner = append(job, "combine", nil, { { from = input.from } }, {
        aggregate = kind,
        key = stream._key,
        value = fields.value,
        reduce = fields.reduce,
        follows = true,
      })
      input.from = combiner.id
      input.key = function(pair) return pair[1] end
    end
  end
  fields.aggregate = kind
  fields.key = stream._key
  fields.emit = options.emit
  fields.partial = combine and true or false
  fields.needs_end = options.emit == "end"
  return stream_of(job, append(job, kind, options.name, inputs, fields))
end

--- Number of records of each key, as pairs { key, count }. options: name, emit
-- ("end": once, at the end of the input, the default when the sources end;
-- "update": after each change), combine (true).
function Stream:count(options)
  return aggregate(self, "count", options, {}, true)
end

--- Sum over the records of each key, as pairs { key, sum }. value: a function
-- or the name of a field; without it the record itself. Options as for count.
function Stream:sum(value, options)
  return aggregate(self, "sum", options, {
    value = accessor("sum", value) or IDENTITY,
  }, true)
end

--- fn(a, b) joins two records of a key into one; pairs { key, record }. With
-- combine = true parts are joined before the exchange: fn must be associative.
function Stream:reduce(fn, options)
  check_function("reduce", fn, "fn")
  return aggregate(self, "reduce", options, { reduce = fn }, false)
end

--- The n records with the highest values of the whole stream, best first; 0
-- gives all of them, sorted. options: by (value; field 2), key (order among
-- equals, ascending; field 1), name. Made for the pairs of count and sum.
function Stream:top(n, options)
  options = check_options("top", options, { "by", "key", "name" })
  if type(n) ~= "number" or n ~= math.floor(n) or n < 0 then
    refuse("top: n must be a whole number from 0 (0 = all), not "
      .. tostring(n))
  end
  local by = accessor("top", options.by == nil and 2 or options.by)
  local key = accessor("top", options.key == nil and 1 or options.key)
  if options.name then check_name("top", options.name) end
  local job, inputs = self._job, take_inputs(self)
  for i, input in ipairs(inputs) do
    local partial = append(job, "local_top", nil, { input }, {
      n = n, by = by, order_key = key, follows = input.kind == nil,
      needs_end = true,
    })
    inputs[i] = { from = partial.id }
  end
  return stream_of(job, append(job, "top", options.name, inputs, {
    n = n, by = by, order_key = key, fixed = 1, global = true,
    needs_end = true,
  }))
end

--- Ends the stream. options: name.
---@param sink table see orrery.job.sinks
function Stream:sink(sink, options)
  options = check_options("sink", options, { "name", "parallelism" })
  if type(sink) ~= "table" or type(sink.open) ~= "function" then
    refuse("sink: must be a sink such as orrery.sinks.collect(\"name\"), or a "
      .. "table with a function open(self, ctx)")
  end
  self._job._prints = self._job._prints or sink.collect == sinks.STDOUT
  extend(self, "sink", options.name and check_name("sink", options.name), {
    sink = sink,
    fixed = sink.parallelism,
    parallelism = options.parallelism
      and check_parallelism("sink", options.parallelism, options.name),
  })
  return self._job
end

finish_class(Job, "job method")
finish_class(Stream, "operator")

return M
