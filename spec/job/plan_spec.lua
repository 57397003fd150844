local builder = require("orrery.job.builder")
local plan = require("orrery.job.plan")
local sinks = require("orrery.job.sinks")
local sources = require("orrery.job.sources")

local function make()
  local job = builder.new("golden", {
    parallelism = 2,
    restart = { type = "fixed-delay", attempts = 3, delay = "1s" },
  })
  job:source(sources.numbers({ from = 1, to = 10 }), { name = "in" })
    :filter("odd", function(n) return n % 2 == 1 end)
    :key_by():count({ name = "count" })
    :sink(sinks.collect("out"), { name = "out" })
  return job
end

describe("a plan", function()
  it("is plain data with numbers in the order of the calls", function()
    local p = assert(plan.make(make(), {
      job_id = "id", bundle = "key", entry = "golden.lua", args = { "-x" },
    }))
    assert.same({
      name = "golden", job_id = "id", bundle = "key", entry = "golden.lua",
      args = { "-x" },
      options = {
        restart = { type = "fixed-delay", attempts = 3, delay = "1s" },
        latency_ms = 100, buffers = 8, buffer_size = 32768,
      },
      vertices = {
        { id = 1, name = "in -> odd -> combine-3", parallelism = 2,
          operators = {
            { id = 1, kind = "source", name = "in" },
            { id = 2, kind = "filter", name = "odd" },
            { id = 3, kind = "combine", name = "combine-3" },
          },
          splits = {
            { from = 1, to = 1 }, { from = 2, to = 2 }, { from = 3, to = 3 },
            { from = 4, to = 5 }, { from = 6, to = 6 }, { from = 7, to = 7 },
            { from = 8, to = 8 }, { from = 9, to = 10 },
          } },
        { id = 2, name = "count -> out", parallelism = 2,
          operators = {
            { id = 4, kind = "count", name = "count" },
            { id = 5, kind = "sink", name = "out" },
          } },
      },
      edges = { { id = 1, from = 1, to = 2, kind = "hash" } },
    }, p)
  end)

  it("is the same each time", function()
    assert.same(plan.make(make()), plan.make(make()))
  end)

  it("names the operator whose source cannot be read", function()
    local job = builder.new("j")
    job:source(sources.files({ "/no/such/place" }), { name = "texts" })
      :sink(sinks.discard())
    local p, err = plan.make(job)
    assert.is_nil(p)
    assert.equal("texts", err.context.operator)
    assert.truthy(err.message:find(
      'source "texts": cannot read /no/such/place: ENOENT', 1, true))
  end)

  it("names the operator whose splits throw", function()
    local job = builder.new("j")
    job:source({
      bounded = true,
      splits = function() error("no idea", 0) end,
      open = function() end,
    }, { name = "mine" }):sink(sinks.discard())
    local _, err = plan.make(job)
    assert.truthy(err.message:find('source "mine": no idea', 1, true))
  end)

  it("has no more tasks than can be", function()
    local job = builder.new("big", { parallelism = 32768 })
    local s = job:source(sources.numbers({ from = 1, to = 10 }))
    for _ = 1, 3 do
      s = s:rebalance():map(function(r) return r end)
    end
    s:sink(sinks.discard())
    local _, err = plan.make(job)
    assert.truthy(err.message:find("needs 131072 tasks, at most 100000", 1,
      true))
  end)
end)
