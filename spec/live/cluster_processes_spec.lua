-- A jobmanager and two taskmanagers as processes of their own.

local jobs = require("support.jobs")
local processes = require("support.processes")

-- Fast failure detection, so that the specs are short.
local QUICK = { "-D", "heartbeat.interval=200ms", "-D", "heartbeat.timeout=2s" }

local function with_quick(words)
  local args = { unpack(QUICK) }
  for _, word in ipairs(words) do args[#args + 1] = word end
  return args
end

local function jobmanager()
  return processes.serve(with_quick { "jobmanager", "--port", "0" })
end

local function taskmanager(address, id)
  return processes.serve(with_quick { "taskmanager", "--jobmanager", address,
    "--slots", "2", "--id", id })
end

local function word_count(address, words)
  local args = { "run", "--address", address, "-D",
    "client.timeout=30s", "examples/word_count.lua", "--", "--top", "0" }
  for _, word in ipairs(words) do args[#args + 1] = word end
  return args
end

-- A word count that is slow enough to be hit in its middle, and restarts.
local SLOW = [[
local orrery = require("orrery")
local job = orrery.job("slow words", { parallelism = 2,
  restart = { type = "fixed-delay", attempts = 10, delay = "100ms" } })
job:source(orrery.sources.numbers { from = 1, to = 400000 })
  :map("slow", function(n)
    local x = 0
    for i = 1, 3000 do x = (x + i * n) % 7919 end
    return { "w" .. n % 100, x >= 0 and 1 or 0 }
  end)
  :key_by(function(r) return r[1] end)
  :count({ name = "count" })
  :sink(orrery.sinks.collect("words", { limit = 1000 }))
job:on_result(function(result, print)
  local total = 0
  for _, pair in ipairs(result.collected.words) do
    assert(pair[2] == 4000, pair[1] .. " " .. pair[2])
    total = total + pair[2]
  end
  print(#result.collected.words, total)
end)
return job
]]

describe("a jobmanager and two taskmanagers", function()
  after_each(processes.clean_up)

  it("run the word count exactly on both", function()
    local _, address = jobmanager()
    taskmanager(address, "tm-1")
    taskmanager(address, "tm-2")
    local text = jobs.text_file(processes.folder(), 50000)
    local code, out, err = processes.run(word_count(address,
      { "--parallelism", "4", text, "/usr/share/common-licenses/GPL-3" }))
    assert.equal(0, code, err)
    assert.same(jobs.expected { text, "/usr/share/common-licenses/GPL-3" },
      jobs.counts_of(out))
  end)

  it("give an exact result though one is killed in mid-job", function()
    local _, address = jobmanager()
    local doomed = taskmanager(address, "tm-1")
    taskmanager(address, "tm-2")
    local file = processes.write_file(processes.folder() .. "/slow.lua", SLOW)
    local run = processes.orrery(with_quick { "run", "--address", address,
      file })
    run:wait_for("stderr", "RUNNING  tasks [1-9]%d*/%d+  records [1-9]", 30000)
    doomed:kill("sigkill")
    assert.equal(0, run:wait(90000), run.stderr)
    assert.equal("100\t400000\n", run.stdout)
    assert.truthy(run.stderr:find("restarts [1-9]"), run.stderr)
  end)

  it("wait for slots, and say so, until a taskmanager comes", function()
    local _, address = jobmanager()
    local text = jobs.text_file(processes.folder(), 500)
    local run = processes.orrery(word_count(address, { text }))
    run:wait_for("stderr", "slot")
    taskmanager(address, "late")
    assert.equal(0, run:wait(30000))
    assert.same(jobs.expected { text }, jobs.counts_of(run.stdout))
  end)

  it("meet in any order: a taskmanager keeps looking and says so once",
    function()
      local first, address = jobmanager()
      first:kill("sigint")
      assert.equal(0, first:wait(6000))
      local early = taskmanager(address, "early")
      early:wait_for("stderr", "no jobmanager at " .. address:gsub("%.", "%%."))
      local again = processes.serve(with_quick { "jobmanager", "--port",
        address:match("(%d+)$") })
      assert.is_table(again)
      local text = jobs.text_file(processes.folder(), 500)
      local code, out, err = processes.run(word_count(address, { text }))
      assert.equal(0, code, err)
      assert.same(jobs.expected { text }, jobs.counts_of(out))
      early:kill("sigterm")
      assert.equal(0, early:wait(6000))
      local _, times = early.stderr:gsub("no jobmanager at", "")
      assert.equal(1, times)
    end)
end)
