-- The program without a cluster: words, options, configuration, scripts.

local json = require("orrery.util.json")
local processes = require("support.processes")
local uv = require("luv")

describe("orrery", function()
  after_each(processes.clean_up)

  it("answers an unknown command with usage and the nearest one", function()
    local code, out, err = processes.run { "rum", "job.lua" }
    assert.equal(2, code)
    assert.equal("", out)
    assert.truthy(err:find("unknown command \"rum\", did you mean \"run\"?",
      1, true))
    assert.truthy(err:find("usage: orrery COMMAND", 1, true))
  end)

  it("answers an unknown option with usage and the nearest one", function()
    local code, out, err = processes.run { "up", "--prot", "1" }
    assert.equal(2, code)
    assert.equal("", out)
    assert.truthy(err:find("unknown option \"--prot\", did you mean "
      .. "\"--port\"?", 1, true))
    assert.truthy(err:find("usage: orrery up [--port N]", 1, true))
  end)

  it("answers a wrong configuration with file, line and nearest key", function()
    local folder = processes.folder()
    processes.write_file(folder .. "/orrery.conf.lua",
      "\nheartbeat.intervall = '1 s'\n")
    local code, _, err = processes.run({ "up" }, { cwd = folder })
    assert.equal(2, code)
    assert.truthy(err:find("orrery.conf.lua:2: unknown configuration key "
      .. "\"heartbeat.intervall\", did you mean \"heartbeat.interval\"?", 1,
      true))
  end)

  it("helps despite of a wrong configuration", function()
    local folder = processes.folder()
    processes.write_file(folder .. "/orrery.conf.lua", "= nonsense")
    assert.equal(0, (processes.run({ "help", "up" }, { cwd = folder })))
    assert.equal(0, (processes.run({ "version" }, { cwd = folder })))
    assert.equal(2, (processes.run({ "list" }, { cwd = folder })))
  end)

  it("prints the configuration in effect with its sources", function()
    local folder = processes.folder()
    processes.write_file(folder .. "/orrery.conf.lua", "cluster.id = 'mine'\n")
    local code, out = processes.run({ "config", "--json", "-D",
      "heartbeat.interval=2s" }, { cwd = folder,
      env = { ORRERY_LOG_LEVEL = "error" } })
    assert.equal(0, code)
    local document = json.decode(out)
    assert.same({ value = "mine", source = "orrery.conf.lua:1" },
      document["cluster.id"])
    assert.same({ value = 2000, source = "-D heartbeat.interval" },
      document["heartbeat.interval"])
    assert.same({ value = "error", source = "ORRERY_LOG_LEVEL" },
      document["log.level"])
  end)

  it("tells its versions as one JSON document", function()
    local code, out = processes.run { "version", "--json" }
    assert.equal(0, code)
    local document = json.decode(out)
    assert.equal(require("orrery.util.version"), document.orrery)
    for _, name in ipairs { "luajit", "libuv", "openssl" } do
      assert.truthy(document[name]:match("^%d+%.%d+"), name)
    end
    assert.is_true(#document.facts > 0)
  end)

  it("runs a script as the interpreter does", function()
    local folder = processes.folder()
    local script = processes.write_file(folder .. "/s.lua",
      "print(arg[0] == ..., arg[1], select(2, ...))\nos.exit(7)")
    local code, out = processes.run { "exec", script, "--", "--a", "b" }
    assert.equal(7, code)
    assert.equal("false\t--a\tb\n", out)
    code, out = processes.run { "-D", "log.level=error", "exec", script, "--",
      "--a", "b" }
    assert.equal(7, code)
    assert.equal("false\t--a\tb\n", out)
    local err
    processes.write_file(script, "\nerror('boom')")
    code, out, err = processes.run { "exec", script }
    assert.equal(1, code)
    assert.equal("", out)
    assert.truthy(err:find("s.lua:2: boom", 1, true))
  end)

  it("says that no cluster answers, with exit code 3", function()
    for _, words in ipairs { { "list" }, { "status", "x" }, { "cancel", "x" },
      { "repl" } } do
      words[#words + 1] = "--address"
      words[#words + 1] = "127.0.0.1:1"
      local code, out, err = processes.run(words)
      assert.equal(3, code, err)
      assert.equal("", out)
      assert.truthy(err:find("no cluster answers at 127.0.0.1:1", 1, true), err)
      assert.truthy(err:find("\"orrery up\" starts one", 1, true))
    end
  end)

  it("gives up on a cluster that does not answer, with exit code 4", function()
    local listener = uv.new_tcp()
    assert(listener:bind("127.0.0.1", 0))
    assert(listener:listen(8, function() end))
    local address = "127.0.0.1:" .. listener:getsockname().port
    local code, out, err = processes.run { "list", "--address", address, "-D",
      "client.timeout=300ms" }
    listener:close()
    assert.equal(4, code, err)
    assert.equal("", out)
    assert.truthy(err:find("no answer from 127.0.0.1:", 1, true), err)
  end)
end)
