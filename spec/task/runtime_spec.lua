local builder = require("orrery.job.builder")
local cluster = require("job.cluster")
local plan = require("orrery.job.plan")
local runtime = require("orrery.task.runtime")
local sinks = require("orrery.job.sinks")
local sources = require("orrery.job.sources")

local SEEDS = 6

local function new(parallelism, options)
  options = options or {}
  options.parallelism = parallelism
  return builder.new("job", options)
end

local function numbers(job, to, options)
  return job:source(sources.numbers({ from = 1, to = to }), options)
end

local function run(job, seed)
  local result, err = cluster.new(job, { seed = seed }):run()
  if not result then error(err, 0) end
  return result
end

local function sorted(list)
  table.sort(list, function(a, b)
    if type(a) == "table" then return tostring(a[1]) < tostring(b[1]) end
    return a < b
  end)
  return list
end

describe("operators", function()
  for parallelism = 1, 3 do
    it("map, flat_map and filter with parallelism " .. parallelism, function()
      local job = new(parallelism)
      numbers(job, 6)
        :map(function(n) return n * 10 end)
        :flat_map(function(n, emit) emit(n) emit(n + 1) end)
        :rebalance()
        :filter(function(n) return n ~= 21 end)
        :sink(sinks.collect("out"))
      assert.same({ 10, 11, 20, 30, 31, 40, 41, 50, 51, 60, 61 },
        sorted(run(job).collected.out))
    end)

    it("count, sum and reduce, with and without combiner, with parallelism "
      .. parallelism, function()
      for _, combine in ipairs({ true, false }) do
        local job = new(parallelism, { buffer_size = 64 })
        local s = numbers(job, 100):key_by(function(n) return n % 3 end)
        s:count({ combine = combine }):sink(sinks.collect("count"))
        s:sum(nil, { combine = combine }):sink(sinks.collect("sum"))
        s:reduce(math.max, { combine = combine }):sink(sinks.collect("max"))
        for seed = 1, SEEDS do
          local got = run(job, seed).collected
          assert.same({ { 0, 33 }, { 1, 34 }, { 2, 33 } }, sorted(got.count))
          assert.same({ { 0, 1683 }, { 1, 1717 }, { 2, 1650 } },
            sorted(got.sum))
          assert.same({ { 0, 99 }, { 1, 100 }, { 2, 98 } }, sorted(got.max))
        end
      end
    end)

    it("keyed process has state of its key, with parallelism " .. parallelism,
      function()
        local job = new(parallelism)
        numbers(job, 20):key_by(function(n) return n % 4 end):process("runs", {
          open = function(self) self.seen = 0 end,
          each = function(self, n)
            self.seen = self.seen + 1
            self.state.sum = (self.state.sum or 0) + n
            self:counter("records"):add(1)
          end,
          close_key = function(self, key, emit)
            emit({ key, self.state.sum })
          end,
          close = function(self) self:maximum("seen"):add(self.seen) end,
        }):sink(sinks.collect("out"))
        local result = run(job)
        assert.same({ { 0, 60 }, { 1, 45 }, { 2, 50 }, { 3, 55 } },
          sorted(result.collected.out))
        assert.equal(20, result.accumulators.records)
        if parallelism == 1 then
          assert.equal(20, result.accumulators.seen)
        end
      end)

    it("top orders by value, then key, with parallelism " .. parallelism,
      function()
        local function top(n)
          local job = new(parallelism)
          job:source(sources.list({ "b", "a", "c", "a", "b", "d" }))
            :key_by():count():top(n):sink(sinks.collect("out"))
          return run(job).collected.out
        end
        local all = { { "a", 2 }, { "b", 2 }, { "c", 1 }, { "d", 1 } }
        assert.same({ all[1], all[2], all[3] }, top(3))
        assert.same(all, top(0))
        assert.same(all, top(9))
      end)
  end

  it("top keeps the best of many without keeping all", function()
    local job = new(2)
    numbers(job, 20000):map(function(n) return { n, (n * 7919) % 20011 } end)
      :top(3):sink(sinks.collect("out"))
    local values = {}
    for i, pair in ipairs(run(job).collected.out) do values[i] = pair[2] end
    assert.same({ 20010, 20009, 20008 }, values)
  end)

  it("a combiner with more keys than it may hold loses none", function()
    local job = new(2)
    numbers(job, 40000):key_by(function(n) return n % 20000 end):count()
      :filter(function(pair) return pair[2] ~= 2 end)
      :sink(sinks.collect("wrong"))
    assert.same({}, run(job).collected.wrong)
  end)

  it("union has the records of all its streams", function()
    for parallelism = 1, 2 do
      local job = new(parallelism)
      local a = numbers(job, 3)
      local b = a:map(function(n) return n * 100 end)
      local c = job:source(sources.list({ 7, 8 }), { parallelism = 1 })
      a:union(b):union(c):sink(sinks.collect("out"))
      for seed = 1, SEEDS do
        assert.same({ 1, 2, 3, 7, 8, 100, 200, 300 },
          sorted(run(job, seed).collected.out))
      end
    end
  end)

  it("broadcast gives every record to every subtask", function()
    local job = new(3)
    numbers(job, 4):broadcast():map(function(n, ctx)
      return ctx.subtask * 10 + n
    end):sink(sinks.collect("out"))
    assert.same({ 1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24 },
      sorted(run(job).collected.out))
  end)

  it("rebalance spreads evenly and forward stays in its subtask", function()
    local job = new(1)
    numbers(job, 300):rebalance()
      :map("spread", function(n, ctx)
        ctx:counter("s" .. ctx.subtask):add()
        return n
      end):set_parallelism(3)
      :sink(sinks.discard())
    local accumulators = run(job).accumulators
    assert.same({ 100, 100, 100 },
      { accumulators.s0, accumulators.s1, accumulators.s2 })
    assert.equal(300, accumulators.discarded)
  end)

  it("records of one channel stay in order", function()
    local job = new(1, { buffer_size = 64, buffers = 2 })
    numbers(job, 500):rebalance():process("in order", {
      open = function(self) self.last = 0 end,
      each = function(self, n)
        assert(n == self.last + 1)
        self.last = n
      end,
      close = function(self, emit) emit(self.last) end,
    }):sink(sinks.collect("out"))
    -- One split only, so one reader gives one order.
    job._operators[1].source.splits = function()
      return { { from = 1, to = 500 } }
    end
    for seed = 1, SEEDS do
      assert.same({ 500 }, run(job, seed).collected.out)
    end
  end)
end)

describe("the end of the input", function()
  it("reaches operators from the top down, after every record", function()
    local seen = {}
    local function step(name)
      return {
        each = function(_, n, emit) seen[#seen + 1] = name .. n emit(n) end,
        close = function(_, emit) seen[#seen + 1] = name .. " end" emit(0) end,
      }
    end
    local job = new(1)
    numbers(job, 1):process("a", step("a")):process("b", step("b"))
      :sink({ open = function()
        return {
          write = function(n) seen[#seen + 1] = "sink " .. n end,
          finish = function() seen[#seen + 1] = "sink end" end,
        }
      end })
    run(job)
    assert.same({ "a1", "b1", "sink 1", "a end", "b0", "sink 0", "b end",
      "sink 0", "sink end" }, seen)
  end)

  it("is reached with an empty source", function()
    for parallelism = 1, 2 do
      local job = new(parallelism)
      job:source(sources.list({})):key_by():count():top(3)
        :sink(sinks.collect("out"))
      assert.same({}, run(job).collected.out)
    end
  end)
end)

describe("a slow consumer", function()
  local BUFFERS, SIZE = 3, 256

  local function stuck_job()
    local job = new(1, { buffers = BUFFERS, buffer_size = SIZE })
    numbers(job, 200000, { name = "in" }):rebalance()
      :map("slow", function(n) return n end)
      :sink(sinks.discard())
    return job
  end

  it("stops its producer, and memory stays bounded", function()
    local c = cluster.new(stuck_job(), { seed = 3 })
    c:open()
    local producer, consumer = c.list[1], c.list[2]
    for _ = 1, 3000 do c:step(consumer) end
    local early = producer:counters()
    assert(early.blocked == 1)
    for _ = 1, 3000 do c:step(consumer) end
    local late = producer:counters()
    -- Not one record more, however long it lasts.
    assert.equal(early.records_in, late.records_in)
    assert.equal(BUFFERS, consumer:counters().waiting_in)
    -- What one read of the source emits may overflow, nothing else.
    assert(late.records_in <= 1000)
    assert(c.bytes <= (BUFFERS + 1) * (SIZE + 16))
    -- And then everything arrives.
    for _ = 1, 1e6 do if not c:step() then break end end
    assert.equal("FINISHED", consumer.state)
    assert.equal(200000, consumer:result().accumulators.discarded[2])
  end)

  it("stops producers through a task in between", function()
    local job = new(1, { buffers = 2, buffer_size = 128 })
    numbers(job, 100000):rebalance():map("middle", function(n) return n end)
      :rebalance():sink(sinks.discard(), { name = "end" })
    local c = cluster.new(job, { seed = 5 })
    c:open()
    for _ = 1, 5000 do c:step(c.list[3]) end
    local before = { c.list[1].emitted, c.list[2].inputs:position() }
    for _ = 1, 2000 do c:step(c.list[3]) end
    assert.same(before, { c.list[1].emitted, c.list[2].inputs:position() })
    assert(c.list[2].outputs.blocked > 0 and c.list[1].outputs.blocked > 0)
  end)
end)

describe("a task", function()
  it("fails with operator, subtask, record, place and traceback", function()
    local job, line = new(1), nil
    numbers(job, 10):map("fine", function(n) return n end)
      :map("bad", function(n)
        line = debug.getinfo(1, "l").currentline + 1
        if n == 7 then error("seven is right out") end
        return n
      end):sink(sinks.discard())
    local result, err = cluster.new(job):run()
    assert.is_nil(result)
    assert.equal("task_failed", err.code)
    assert.equal(string.format('operator "bad", subtask 0, record 7: %s:%d: '
      .. "seven is right out", debug.getinfo(1, "S").short_src, line),
      err.message)
    assert.equal("bad", err.context.operator)
    assert.truthy(err.traceback:find("runtime_spec.lua:" .. line, 1, true))
  end)

  it("fails behind an exchange with the record of its own input", function()
    local job = new(1)
    numbers(job, 10):rebalance():process("p", {
      each = function(_, n) return n.field.field end,
    }):sink(sinks.discard())
    local _, err = cluster.new(job):run()
    assert.truthy(err.message:find(
      'operator "p", subtask 0, record 1: ', 1, true))
  end)

  it("names the operator whose key cannot be used", function()
    local job = new(1)
    numbers(job, 3):key_by(function() return nil end):count({ name = "c" })
      :sink(sinks.discard())
    local _, err = cluster.new(job):run()
    assert.truthy(err.message:find('operator "c", subtask 0, record 1: the key '
      .. "of a record must be a string, a number or a boolean, not nil", 1,
      true))
  end)

  it("refuses more collected records than agreed", function()
    local job = new(1)
    numbers(job, 11):sink(sinks.collect("few", { limit = 10 }))
    local _, err = cluster.new(job):run()
    assert.truthy(err.message:find('sinks.collect("few") was given more than '
      .. "10 records; raise its limit or write to sinks.file", 1, true))
  end)

  it("can be cancelled at any step, and cleans up", function()
    for stop = 0, 40 do
      local aborted, finished, closed = 0, 0, 0
      local job = new(1, { buffer_size = 64 })
      local source = sources.numbers({ from = 1, to = 3000 })
      local open = source.open
      source.open = function(self, split, ctx)
        return open(self, split, ctx), function() closed = closed + 1 end
      end
      job:source(source):sink({ open = function()
        return {
          write = function() end,
          abort = function() aborted = aborted + 1 end,
          finish = function() finished = finished + 1 end,
        }
      end })
      local c = cluster.new(job)
      c:open()
      for _ = 1, stop do c:step() end
      local task = c.list[1]
      local opened = task.splits + (task.read and 1 or 0)
      task:cancel()
      assert(task.state == "CANCELED" or finished == 1)
      assert.equal(1, aborted + finished)
      assert.equal(opened, closed)
      assert.equal("done", task:step())
    end
  end)

  it("gives the same result when the job runs again", function()
    local function once(seed, attempt)
      local job = new(3)
      numbers(job, 1000):key_by(function(n) return n % 17 end):sum():top(5)
        :sink(sinks.collect("out"))
      return cluster.new(job, { seed = seed, attempt = attempt }):run()
        .collected.out
    end
    local first = once(1, 1)
    for attempt = 2, 5 do assert.same(first, once(attempt, attempt)) end
  end)

  it("fails when a buffer is lost", function()
    local job = new(1, { buffer_size = 64 })
    numbers(job, 100):rebalance():sink(sinks.discard())
    local c = cluster.new(job)
    c:open()
    c.list[2]:on_data("1:0:0", 2, "x")
    assert.equal("FAILED", c.list[2].state)
    assert.equal("channel_broken", c.list[2].error.code)
  end)

  it("refuses a descriptor whose operators differ", function()
    local job = new(1)
    numbers(job, 1):sink(sinks.discard())
    local p = plan.make(job)
    p.vertices[1].operators[2].name = "other"
    local task, err = runtime.new({
      vertex = p.vertices[1], subtask = 0, attempt = "a", entry = "j.lua",
    }, job, cluster.codec, { now = os.clock })
    assert.is_nil(task)
    assert.equal('j.lua builds other operators on a task than on the client '
      .. '(here 2 sink "sink-2", there 2 sink "other"); a job file must '
      .. "build the same operators each time it runs: no clock, chance or "
      .. "environment",
      err.message)
  end)
end)

describe("a job without end", function()
  it("emits an update for each change", function()
    local job = new(1)
    local given = false
    job:source({
      bounded = false,
      open = function()
        return function(emit)
          if given then return 50 end
          given = true
          for _, w in ipairs({ "a", "b", "a" }) do emit(w) end
          return 50
        end
      end,
    }):key_by():count():sink(sinks.collect("out"))
    local c = cluster.new(job)
    c:open()
    for _ = 1, 10 do c:step() end
    assert.equal("RUNNING", c.list[1].state)
    c.list[1].chain.instances[4].drain()
    assert.same({ { "a", 1 }, { "b", 1 }, { "a", 2 } }, c.list[1].collected.out)
  end)

  it("lets a combiner go at least once each latency", function()
    local job = new(2)
    job:source(sources.numbers({ rate = 1000 })):key_by(function(n)
      return n % 2
    end):count():process("last", {
      each = function(self, pair) self:maximum("count"):add(pair[2]) end,
    }):sink(sinks.discard())
    local c = cluster.new(job)
    c:open()
    for _ = 1, 20000 do
      c:step()
      c.time = c.time + 0.1
    end
    local most = 0
    for _, task in ipairs(c.list) do
      local a = task:result().accumulators.count
      if a then most = math.max(most, a[2]) end
    end
    assert(most > 100, "only " .. most .. " counted")
  end)
end)
