local builder = require("orrery.job.builder")
local graph = require("orrery.job.graph")
local sinks = require("orrery.job.sinks")
local sources = require("orrery.job.sources")

local FILE = debug.getinfo(1, "S").short_src

local function here() return debug.getinfo(2, "l").currentline end

local function thrown(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  return err
end

local function numbers(job, options)
  return job:source(sources.numbers({ from = 1, to = 10 }), options)
end

local function id(record) return record end

-- "<this file>:<line>: text"
local function expect(err, line, text)
  assert.equal("job_invalid", err.code)
  assert.equal(string.format("%s:%d: %s", FILE, line, text), err.message)
  assert.equal(line, err.context.line)
  assert.equal(FILE, err.context.file)
end

describe("a call that cannot be right", function()
  it("names an unknown operator and the nearest known one", function()
    local line
    local err = thrown(function()
      local s = numbers(builder.new("j"))
      line = here() + 1
      s:flatmap(id)
    end)
    expect(err, line, 'unknown operator "flatmap"; did you mean "flat_map"?')
  end)

  it("refuses a parallelism of 0, below 0, of a part, too large", function()
    for value, shown in pairs({
      [0] = "0", [-1] = "-1", [1.5] = "1.5", [32769] = "32769",
    }) do
      local line
      local err = thrown(function()
        local s = numbers(builder.new("j")):map("double", id)
        line = here() + 1
        s:set_parallelism(value)
      end)
      expect(err, line, 'operator "double": parallelism must be a whole number '
        .. "from 1 to 32768, not " .. shown)
      assert.equal("double", err.context.operator)
    end
  end)

  it("takes the smallest and the largest parallelism", function()
    local s = numbers(builder.new("j")):map(id)
    s:set_parallelism(1)
    s:set_parallelism(32768)
  end)

  it("refuses a parallelism in the options of a job", function()
    local line = here() + 1
    local err = thrown(function() builder.new("j", { parallelism = 0 }) end)
    expect(err, line, "job option parallelism: parallelism must be a whole "
      .. "number from 1 to 32768, not 0")
  end)

  it("refuses unknown options with the nearest known one", function()
    local err = thrown(function() builder.new("j", { paralelism = 2 }) end)
    assert.truthy(err.message:find('unknown option of orrery.job "paralelism"; '
      .. 'did you mean "parallelism"?', 1, true))
  end)

  it("refuses an unknown restart type", function()
    local err = thrown(function()
      builder.new("j", { restart = { type = "fixed-dealy" } })
    end)
    assert.truthy(err.message:find('did you mean "fixed-delay"?', 1, true))
  end)

  it("needs a key for count", function()
    local err = thrown(function() numbers(builder.new("j")):count() end)
    assert.truthy(err.message:find(
      "count: needs a keyed stream; call :key_by(...) before it", 1, true))
  end)

  it("needs a function for map", function()
    local err = thrown(function() numbers(builder.new("j")):map("m") end)
    assert.truthy(err.message:find("map: fn must be a function, not missing", 1,
      true))
  end)

  it("does not join streams of two jobs", function()
    local err = thrown(function()
      numbers(builder.new("a")):union(numbers(builder.new("b")))
    end)
    assert.truthy(err.message:find("belong to different jobs", 1, true))
  end)
end)

describe("a job that cannot be right", function()
  it("lacks a source", function()
    local line = here() + 1
    local job = builder.new("empty")
    local _, err = job:check()
    expect(err, line,
      'job "empty" has no source; begin with job:source(...)')
  end)

  it("has a stream without a sink", function()
    local job = builder.new("j")
    local line = here() + 1
    numbers(job):map("loose", id)
    local _, err = job:check()
    expect(err, line,
      'nothing reads what "loose" gives; end the stream with :sink(...)')
  end)

  it("uses a name twice", function()
    local job = builder.new("j")
    local first = here() + 1
    local s = numbers(job):map("same", id)
    local second = here() + 1
    s:map("same", id):sink(sinks.discard())
    local _, err = job:check()
    expect(err, second, string.format('the operator name "same" is used '
      .. "already at %s:%d; give one of them another name", FILE, first))
  end)

  it("has a forward edge between different parallelisms", function()
    local job = builder.new("j")
    local s = numbers(job, { name = "in" }):set_parallelism(2):forward()
    local line = here() + 1
    s:map("out", id):set_parallelism(3):sink(sinks.discard())
    local _, err = job:check()
    expect(err, line, "a forward edge needs equal parallelism on both sides, "
      .. 'but "in" has 2 and "out" has 3; use :rebalance() or set_parallelism')
  end)

  it("flows back into itself", function()
    local job = builder.new("j")
    local a = numbers(job):map("a", id)
    a:map("b", id):sink(sinks.discard())
    local g = job:graph()
    table.insert(g.operators[2].inputs, { from = 3 })
    local ok, err = graph.check(g)
    assert.is_nil(ok)
    assert.truthy(err.message:find(
      'the operators "a", "b", "sink-4" form a cycle', 1, true))
  end)

  it("reads from an operator that is not there", function()
    local job = builder.new("j")
    numbers(job):map("a", id):sink(sinks.discard())
    local g = job:graph()
    g.operators[2].inputs[1].from = 9
    local _, err = graph.check(g)
    assert.truthy(err.message:find(
      'operator "a" reads from operator 9, which this job lacks', 1, true))
  end)

  it("runs a socket with two subtasks", function()
    local job = builder.new("j")
    job:source(sources.socket({ host = "localhost", port = 1 }),
      { name = "tcp", parallelism = 2 }):sink(sinks.discard())
    local _, err = job:check()
    assert.truthy(err.message:find(
      'operator "tcp" can only run with parallelism 1, not 2', 1, true))
  end)

  it("waits for an end that never comes", function()
    local job = builder.new("j")
    job:source(sources.numbers({ rate = 10 })):key_by():count()
      :top(3, { name = "best" }):sink(sinks.discard())
    local _, err = job:check()
    assert.truthy(err.message:find("waits for the end of its input, which a "
      .. "source above it never reaches", 1, true))
  end)
end)

local function chain(job)
  assert(job:check())
  local g = job:graph()
  return graph.chain(g, graph.resolve(g))
end

local function names(chained)
  local list = {}
  for i, vertex in ipairs(chained.vertices) do
    list[i] = vertex.name .. " x" .. vertex.parallelism
  end
  return list
end

describe("chaining", function()
  local function word_count(parallelism)
    local job = builder.new("wc", { parallelism = parallelism })
    numbers(job, { name = "in" }):map("m", id):key_by()
      :count({ name = "count" }):top(3, { name = "top" })
      :sink(sinks.discard(), { name = "out" })
    return job
  end

  it("makes one vertex of a whole job with parallelism 1", function()
    local chained = chain(word_count(1))
    assert.same({
      "in -> m -> combine-3 -> count -> local_top-5 -> top -> out x1",
    }, names(chained))
    assert.same({}, chained.edges)
  end)

  it("cuts at exchanges", function()
    local chained = chain(word_count(2))
    assert.same({ "in -> m -> combine-3 x2", "count -> local_top-5 x2",
      "top -> out x1" }, names(chained))
    local kinds = {}
    for i, edge in ipairs(chained.edges) do
      kinds[i] = { edge.id, edge.from_vertex, edge.to_vertex, edge.kind }
    end
    assert.same({ { 1, 1, 2, "hash" }, { 2, 2, 3, "rebalance" } }, kinds)
  end)

  it("keeps an explicit rebalance as an exchange", function()
    local job = builder.new("j")
    numbers(job, { name = "in" }):rebalance():map("m", id)
      :sink(sinks.discard(), { name = "out" })
    assert.same({ "in x1", "m -> out x1" }, names(chain(job)))
  end)

  it("lets a chain fork, and ends it at a union", function()
    local job = builder.new("j")
    local s = numbers(job, { name = "in" })
    local a, b = s:map("a", id), s:map("b", id)
    a:union(b):map("both", id):sink(sinks.discard(), { name = "out" })
    assert.same({ "in -> a -> b x1", "both -> out x1" }, names(chain(job)))
  end)

  it("gives what follows top its parallelism until it is spread", function()
    local job = builder.new("j", { parallelism = 4 })
    local top = numbers(job, { name = "in" }):map("p", id)
      :top(1, { name = "top", by = id, key = id })
    top:map("after", id):sink(sinks.discard(), { name = "out" })
    top:rebalance():map("spread", id):sink(sinks.discard(), { name = "out 2" })
    assert.same({ "in -> p -> local_top-3 x4", "top -> after -> out x1",
      "spread -> out 2 x4" }, names(chain(job)))
  end)
end)
