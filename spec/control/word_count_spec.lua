local core = require("orrery.core")
local bundle = require("orrery.job.bundle")
local plans = require("orrery.job.plan")
local sha256 = require("orrery.native.sha256")
local support = require("support.cluster")

local JOB = [[
local orrery = require("orrery")
local job = orrery.job("count", { parallelism = 2 })
job:source(orrery.sources.files({ args[1], split_size = 512 }))
  :flat_map("split", function(line, emit)
    for word in line:gmatch("%w+") do emit(word) end
  end)
  :key_by()
  :count()
  :sink(orrery.sinks.collect("counts"))
return job
]]

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- A text of repeated words, and how often each occurs.
local function text_of(lines)
  local words = { "sun", "moon", "mars", "io", "europa", "titan", "rhea" }
  local out, counts, state = {}, {}, 1
  for i = 1, lines do
    local line = {}
    for j = 1, 5 do
      state = (state * 48271) % 2147483647
      local word = words[state % #words + 1]
      counts[word] = (counts[word] or 0) + 1
      line[j] = word
    end
    out[i] = table.concat(line, " ")
  end
  return table.concat(out, "\n") .. "\n", counts
end

describe("word count with real tasks on the simulator", function()
  local folder, cluster

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder) == 0)
  end)

  after_each(function()
    if cluster then cluster:free() end
    cluster = nil
    os.execute("rm -rf " .. folder)
  end)

  local function submit(lines)
    local text, counts = text_of(lines)
    write(folder .. "/text", text)
    write(folder .. "/job.lua", JOB)
    local loaded = assert(bundle.load(folder .. "/job.lua",
      { folder .. "/text" }))
    assert(loaded.job:check())
    local bytes, key = bundle.pack(loaded, core, sha256.hex)
    cluster:put(bytes)
    local plan = assert(plans.make(loaded.job, { job_id = cluster:job_id(),
      bundle = key, entry = loaded.entry, args = loaded.args }))
    return cluster:submit(plan), counts
  end

  local function assert_counts(outcome, counts)
    assert.equal("FINISHED", outcome.status)
    local got = {}
    for _, record in ipairs(outcome.result.collected.counts) do
      got[record[1]] = record[2]
    end
    assert.same(counts, got)
  end

  it("counts exactly", function()
    cluster = support.new({ task_module = "orrery.task.endpoint" })
    local id, counts = submit(500)
    assert_counts(cluster:result(id), counts)
  end)

  it("counts exactly when a taskmanager crashes in mid-job", function()
    for _, delay in ipairs({ 20, 60, 120 }) do
      cluster = support.new({ task_module = "orrery.task.endpoint",
        seed = delay })
      local id, counts = submit(500)
      cluster:await_status(id, "RUNNING")
      cluster.sim:advance(delay)
      cluster.sim:crash("tm1")
      assert_counts(cluster:result(id), counts)
      cluster:free()
      cluster = nil
    end
  end)
end)
