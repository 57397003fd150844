-- Sources and sinks that touch files and sockets.
local builder = require("orrery.job.builder")
local cluster = require("job.cluster")
local plan = require("orrery.job.plan")
local sinks = require("orrery.job.sinks")
local sources = require("orrery.job.sources")

local folder

local function write(name, text)
  local file = assert(io.open(folder .. "/" .. name, "wb"))
  file:write(text)
  file:close()
end

local function read(name)
  local file = io.open(folder .. "/" .. name, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function listing()
  local pipe = io.popen("ls -A '" .. folder .. "/out' 2>/dev/null")
  local text = pipe:read("*a")
  pipe:close()
  return text
end

before_each(function()
  folder = os.tmpname()
  os.remove(folder)
  os.execute("mkdir -p '" .. folder .. "/sub/deep'")
end)
after_each(function() os.execute("rm -rf '" .. folder .. "'") end)

describe("the file source", function()
  it("reads folders in order, links to files, and empty files", function()
    write("b.txt", "b1\nb2")
    write("a.txt", "a1\n\na3\n")
    write("empty", "")
    write("sub/deep/c.txt", "c1\n")
    os.execute("ln -s b.txt '" .. folder .. "/z.link'; ln -s .. '" .. folder
      .. "/sub/up'; ln -s nowhere '" .. folder .. "/dangling'")
    local job = builder.new("j")
    job:source(sources.files({ folder })):sink(sinks.collect("out"))
    assert.same({ "a1", "", "a3", "b1", "b2", "c1", "b1", "b2" },
      cluster.new(job):run().collected.out)
  end)

  it("gives the same lines however it is split, in lines and in blocks",
    function()
      local text, expected = {}, 0
      for i = 1, 5000 do
        text[i] = string.rep("x", i % 90) .. i
        expected = expected + #text[i]
      end
      write("t", table.concat(text, "\n"))
      for _, unit in ipairs({ "lines", "blocks" }) do
        for _, size in ipairs({ 100, 4096, 65536, 1e6 }) do
          local job = builder.new("j", { parallelism = 3 })
          job:source(sources.files({ folder .. "/t", unit = unit,
            split_size = size }))
            :map(function(s, ctx)
              ctx:counter("n"):add(1)
              return #s:gsub("\n", "")
            end):key_by(function() return 1 end):sum()
            :sink(sinks.collect("out"))
          local result = cluster.new(job):run()
          assert.same({ { 1, expected } }, result.collected.out)
          if unit == "lines" then
            assert.equal(5000, result.accumulators.n)
          end
        end
      end
    end)

  it("fails the task when a file has gone since the plan was made", function()
    write("t", "x\n")
    local job = builder.new("j")
    job:source(sources.files(folder .. "/t"), { name = "texts" })
      :sink(sinks.discard())
    local c = cluster.new(job)
    os.remove(folder .. "/t")
    local _, err = c:run()
    assert.truthy(err.message:find('operator "texts", subtask 0: cannot read '
      .. folder .. "/t: No such file", 1, true))
  end)

  it("says which path cannot be read", function()
    local job = builder.new("j")
    job:source(sources.files({ "/dev/null" })):sink(sinks.discard())
    local _, err = plan.make(job)
    assert.truthy(err.message:find(
      "cannot read /dev/null: it is a char, not a file or a folder", 1, true))
  end)
end)

describe("the file sink", function()
  local function job_of(parallelism, fail)
    local job = builder.new("j", { parallelism = parallelism })
    job:source(sources.numbers({ from = 1, to = 10 }))
      :map("m", function(n)
        if fail and n == 5 then error("five") end
        return { n, "x" }
      end):sink(sinks.file(folder .. "/out"))
    return job
  end

  it("writes one file for each subtask", function()
    assert(cluster.new(job_of(2)):run())
    assert.equal("part-0\npart-1\n", listing())
    local lines = {}
    for line in (read("out/part-0") .. read("out/part-1")):gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    table.sort(lines)
    assert.same({ "1\tx", "10\tx", "2\tx", "3\tx", "4\tx", "5\tx", "6\tx",
      "7\tx", "8\tx", "9\tx" }, lines)
  end)

  it("shows nothing of a failed attempt, and replaces an older one", function()
    assert.is_nil((cluster.new(job_of(1, true)):run()))
    assert.equal("", listing())
    assert(cluster.new(job_of(1), { attempt = 2 }):run())
    local first = read("out/part-0")
    assert(cluster.new(job_of(1), { attempt = 3 }):run())
    assert.equal("part-0\n", listing())
    assert.equal(first, read("out/part-0"))
  end)

  it("says what it cannot write", function()
    write("out", "a file is in the way")
    local _, err = cluster.new(job_of(1)):run()
    assert.truthy(err.message:find('operator "sink-3", subtask 0: cannot make '
      .. "the folder " .. folder .. "/out: EEXIST", 1, true))
  end)
end)

describe("records as text", function()
  it("are strings, arrays with tabs, tables in order of their keys", function()
    assert.equal("x", sinks.format("x"))
    assert.equal("a\t1\ttrue", sinks.format({ "a", 1, true }))
    assert.equal("a=1\tb=2", sinks.format({ b = 2, a = 1 }))
  end)
end)

describe("a source of the user's own", function()
  it("is a table of functions, and so is a sink", function()
    local got = {}
    local job = builder.new("j", { parallelism = 2 })
    job:source({
      bounded = true,
      splits = function() return { "a", "b", "c" } end,
      open = function(_, split)
        local left = 2
        return function(emit)
          emit(split)
          left = left - 1
          return left > 0 or nil
        end
      end,
    }):sink({ parallelism = 1, open = function()
      return { write = function(r) got[#got + 1] = r end }
    end })
    assert(cluster.new(job):run())
    table.sort(got)
    assert.same({ "a", "a", "b", "b", "c", "c" }, got)
  end)
end)

describe("the socket source", function()
  local uv = require("luv")
  -- With the core the loop is the executor's; without it, luv's own.
  local core = cluster.codec
  local function poll()
    if core.poll then core.poll(false) else uv.run("nowait") end
  end

  -- A server that sends parts and closes. Runs the loop until the job ends.
  local function run_against(parts, job_of)
    local server = uv.new_tcp()
    server:bind("127.0.0.1", 0)
    server:listen(1, function()
      local peer = uv.new_tcp()
      server:accept(peer)
      for _, part in ipairs(parts) do peer:write(part) end
      peer:shutdown(function() peer:close() end)
    end)
    local port = server:getsockname().port
    local c = cluster.new(job_of(port))
    c:open()
    local stop = uv.hrtime() + 5e9
    local task = c.list[1]
    while task.state == "RUNNING" and uv.hrtime() < stop do
      while c:step() and task.read do poll() end
      poll()
    end
    server:close()
    poll()
    return task
  end

  it("gives lines to the end of the connection", function()
    local task = run_against({ "one\ntw", "o\nthree" }, function(port)
      local job = builder.new("j")
      job:source(sources.socket({ host = "127.0.0.1", port = port,
        bounded = true })):sink(sinks.collect("out"))
      return job
    end)
    assert.equal("FINISHED", task.state)
    assert.same({ "one", "two", "three" }, task.collected.out)
  end)

  it("fails when nobody listens", function()
    local probe = uv.new_tcp()
    probe:bind("127.0.0.1", 0)
    local port = probe:getsockname().port
    probe:close()
    poll()
    local task = run_against({}, function()
      local job = builder.new("j")
      job:source(sources.socket({ host = "127.0.0.1", port = port }),
        { name = "tcp" }):sink(sinks.discard())
      return job
    end)
    assert.equal("FAILED", task.state)
    assert.truthy(task.error.message:find("socket 127.0.0.1:" .. port
      .. ": ECONNREFUSED", 1, true))
  end)
end)
