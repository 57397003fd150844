-- `orrery up` and the commands against it, as real processes.

local json = require("orrery.util.json")
local jobs = require("support.jobs")
local processes = require("support.processes")
local terminal = require("support.terminal")

local function up(words, options)
  local args = { "up", "--port", "0", "--slots", "2" }
  for _, word in ipairs(words or {}) do args[#args + 1] = word end
  return processes.serve(args, options)
end

local function job_file(text)
  return processes.write_file(processes.folder() .. "/job.lua", text)
end

-- A job that runs until it is canceled.
local ENDLESS = [[
local orrery = require("orrery")
local job = orrery.job("endless")
job:source(orrery.sources.numbers({ rate = 1000 }), { name = "n" })
  :map("same", function(n) return n end)
  :sink(orrery.sinks.discard("out"))
return job
]]

describe("orrery up", function()
  after_each(processes.clean_up)

  it("runs the word count exactly", function()
    local cluster, address = up()
    local text = jobs.text_file(processes.folder(), 20000)
    local code, out, err = processes.run { "run", "--address", address,
      "examples/word_count.lua", "--", "--top", "0", text }
    assert.equal(0, code, err)
    assert.same(jobs.expected { text }, jobs.counts_of(out))
    assert.truthy(err:find("is submitted", 1, true))
    cluster:kill("sigint")
    assert.equal(0, cluster:wait(6000))
    assert.truthy(cluster.stdout:find("Orrery is up at " .. address
      .. " with 2 slots.", 1, true))
  end)

  it("stops on SIGTERM and removes its temporary folder", function()
    local folder = processes.folder()
    local cluster = up(nil, { env = { TMPDIR = folder } })
    cluster:kill("sigterm")
    assert.equal(0, cluster:wait(6000))
    assert.is_nil((require("luv").fs_scandir_next(
      require("luv").fs_scandir(folder))))
  end)

  it("stops on SIGINT while a job runs", function()
    local cluster, address = up()
    local code = processes.run { "run", "--detach", "--address", address,
      job_file(ENDLESS) }
    assert.equal(0, code)
    cluster:kill("sigint")
    assert.equal(0, cluster:wait(6000))
  end)

  it("says in a sentence that the port is in use", function()
    local _, address = up()
    local code, out, err = processes.run { "up", "--port",
      address:match("(%d+)$") }
    assert.equal(1, code)
    assert.equal("", out)
    assert.truthy(err:find(address .. " is in use by another process", 1, true),
      err)
  end)

  it("refuses an address that others can reach", function()
    local code, _, err = processes.run { "jobmanager", "--bind", "0.0.0.0",
      "--port", "0" }
    assert.equal(2, code)
    assert.truthy(err:find("--insecure", 1, true), err)
  end)

  it("says in a sentence that its folder cannot be written", function()
    local file = processes.write_file(processes.folder() .. "/file", "")
    local code, _, err = processes.run { "up", "--port", "0", "--data", file }
    assert.equal(1, code)
    assert.truthy(err:find("cannot store in " .. file .. ": it is a file", 1,
      true), err)
  end)
end)

describe("jobs on orrery up", function()
  local cluster, address

  setup(function() cluster, address = up() end)
  teardown(processes.clean_up)

  it("are listed, shown and canceled", function()
    local code, out, err = processes.run { "run", "--detach", "--address",
      address, job_file(ENDLESS) }
    assert.equal(0, code, err)
    local id = out:match("^(%x+)\n$")
    assert.is_string(id)

    code, out = processes.run { "list", "--json", "--address", address }
    assert.equal(0, code)
    local listed
    for _, job in ipairs(json.decode(out).jobs) do
      if job.job_id == id then listed = job end
    end
    assert.equal("endless", listed.name)

    code, out = processes.run { "status", id:sub(1, 12), "--address", address }
    assert.equal(0, code)
    assert.truthy(out:find("name      endless", 1, true), out)

    code, out, err = processes.run { "cancel", id:sub(1, 12), "--json",
      "--address", address }
    assert.equal(0, code, err)
    assert.equal("CANCELED", json.decode(out).status)

    code, out = processes.run { "status", id, "--json", "--address", address }
    assert.equal(0, code)
    assert.equal("CANCELED", json.decode(out).status)
  end)

  it("give their result as one JSON document", function()
    local text = processes.write_file(processes.folder() .. "/t", "b a b\n")
    local code, out, err = processes.run { "run", "--json", "--quiet",
      "--address", address, "examples/word_count.lua", "--", "--top", "0",
      text }
    assert.equal(0, code)
    assert.equal("", err)
    local document = json.decode(out)
    assert.equal("FINISHED", document.status)
    local words = {}
    for _, pair in ipairs(document.result.collected.words) do
      words[pair[1]] = pair[2]
    end
    assert.same({ a = 1, b = 2 }, words)
    assert.same({}, document.result.accumulators)
  end)

  it("that do not exist are told so", function()
    local code, _, err = processes.run { "status", "nope", "--address",
      address }
    assert.equal(1, code)
    assert.truthy(err:find("there is no job \"nope\"", 1, true), err)
  end)

  it("are canceled by Ctrl-C of a run without terminal", function()
    local run = processes.orrery { "run", "--address", address,
      job_file(ENDLESS) }
    run:wait_for("stderr", "is submitted")
    run:wait_for("stderr", "RUNNING")
    run:kill("sigint")
    assert.equal(130, run:wait(10000))
    assert.truthy(run.stderr:find("is canceled", 1, true), run.stderr)
  end)

  it("ask on a terminal what Ctrl-C means", function()
    if not terminal.is_there() then return pending("tmux is not installed") end
    local function run()
      local screen = terminal.open(("%s run --address %s %s"):format(
        processes.binary(), address, job_file(ENDLESS)))
      screen:screen("RUNNING  tasks 1/1")
      screen:keys("C-c")
      screen:screen("%(d%)etach, %(c%)ancel or %(w%)ait%?")
      return screen
    end
    local screen = run()
    screen:keys("w", "Enter")
    screen:screen("ait%? w%s.-RUNNING")
    screen:keys("C-c")
    screen:screen("ait%? w%s.-ait%?")
    screen:keys("c", "Enter")
    assert.equal(130, screen:close())
    screen = run()
    screen:keys("d", "Enter")
    screen:screen("runs on")
    assert.equal(0, screen:close())
    screen = run()
    screen:keys("C-c")
    assert.equal(130, screen:close())
    local code, out = processes.run { "list", "--json", "--address", address }
    assert.equal(0, code)
    local running = 0
    for _, job in ipairs(json.decode(out).jobs) do
      if job.name == "endless" and job.status == "RUNNING" then
        running = running + 1
        code = processes.run { "cancel", job.job_id, "--address", address }
        assert.equal(0, code)
      end
    end
    assert.equal(2, running)
  end)

  it("with a syntax error are refused with file and line", function()
    local code, _, err = processes.run { "run", "--address", address,
      job_file("local orrery = require(\"orrery\")\nlocal x = = 1\n") }
    assert.equal(1, code)
    assert.truthy(err:find("job.lua:2:", 1, true), err)
  end)

  it("with a parallelism of 0 are refused", function()
    local code, _, err = processes.run { "run", "--address", address,
      job_file("local orrery = require(\"orrery\")\n"
        .. "local job = orrery.job(\"x\", { parallelism = 0 })\n"
        .. "return job\n") }
    assert.equal(1, code)
    assert.truthy(err:find("job.lua:2:", 1, true), err)
    assert.truthy(err:find("parallelism", 1, true), err)
  end)

  it("that throw fail with operator, file and line", function()
    local code, _, err = processes.run { "run", "--address", address,
      job_file([[
local orrery = require("orrery")
local job = orrery.job("thrower")
job:source(orrery.sources.numbers({ from = 1, to = 10 }))
  :map("explode", function() error("kaboom") end)
  :sink(orrery.sinks.discard("out"))
return job
]]) }
    assert.equal(1, code)
    assert.truthy(err:find("explode", 1, true), err)
    assert.truthy(err:find("job.lua:4:", 1, true), err)
    assert.truthy(err:find("kaboom", 1, true), err)
  end)

  it("left the cluster unharmed", function()
    assert.is_nil(cluster.code)
    local text = jobs.text_file(processes.folder(), 2000)
    local code, out, err = processes.run { "run", "--quiet", "--address",
      address, "examples/word_count.lua", "--", "--top", "0", text }
    assert.equal(0, code, err)
    assert.same(jobs.expected { text }, jobs.counts_of(out))
  end)
end)

describe("orrery run", function()
  after_each(processes.clean_up)

  it("says that the cluster is gone, and ends with 3", function()
    local cluster, address = up()
    local run = processes.orrery { "run", "--address", address, "-D",
      "client.timeout=1s", job_file(ENDLESS) }
    run:wait_for("stderr", "RUNNING")
    cluster:kill("sigkill")
    assert.equal(3, run:wait(20000), run.stderr)
    assert.truthy(run.stderr:find("no cluster answers at " .. address, 1,
      true), run.stderr)
  end)
end)
