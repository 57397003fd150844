local config = require("orrery.util.config")
local option_types = require("orrery.util.option_types")

local function with_file(text, check)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  local ok, err = pcall(check, path)
  os.remove(path)
  if not ok then error(err, 0) end
end

local function load_file(text)
  local loaded, err, path
  with_file(text, function(name)
    path = name
    loaded, err = config.load { file = name }
  end)
  return loaded, err and err.message, path
end

describe("configuration", function()
  it("has one variable a key", function()
    local seen = {}
    for _, option in ipairs(config.options) do
      local variable = config.variable_of(option.key)
      assert.is_nil(seen[variable], variable)
      seen[variable] = true
      assert.is_function(option_types[option.type], option.key)
      local default = option.default
      if type(default) == "function" then default = default() end
      assert.is_not_nil((option_types[option.type](default, option)),
        option.key)
    end
  end)

  it("has the defaults of the architecture", function()
    local loaded = assert(config.load { file = false })
    assert.equal("orrery", loaded:get("cluster.id"))
    assert.equal(6123, loaded:get("jobmanager.rpc.port"))
    assert.equal(10000, loaded:get("rpc.ask-timeout"))
    assert.equal(50000, loaded:get("heartbeat.timeout"))
    assert.equal(300000, loaded:get("slot.request.timeout"))
    assert.is_true(loaded:get("taskmanager.slots") >= 1)
    assert.equal("default", loaded:source("cluster.id"))
    assert.equal(6123, loaded:reader()("jobmanager.rpc.port"))
  end)

  it("lets later sources win: file, variable, -D, flag", function()
    with_file("jobmanager.rpc.port = 1\nheartbeat.interval = '1 s'\n"
      .. "heartbeat.timeout = 7\ncluster.id = 'file'\n", function(path)
      local loaded = assert(config.load {
        environment = { ORRERY_CONF = path,
          ORRERY_JOBMANAGER_RPC_PORT = "2", ORRERY_HEARTBEAT_INTERVAL = "2 s",
          ORRERY_HEARTBEAT_TIMEOUT = "8" },
        definitions = { "jobmanager.rpc.port=3", "heartbeat.interval=3 s" },
        flags = { { "jobmanager.rpc.port", "4", "--port" } },
      })
      assert.equal(4, loaded:get("jobmanager.rpc.port"))
      assert.equal("--port", loaded:source("jobmanager.rpc.port"))
      assert.equal(3000, loaded:get("heartbeat.interval"))
      assert.equal("-D heartbeat.interval", loaded:source("heartbeat.interval"))
      assert.equal(8, loaded:get("heartbeat.timeout"))
      assert.equal("ORRERY_HEARTBEAT_TIMEOUT",
        loaded:source("heartbeat.timeout"))
      assert.equal("file", loaded:get("cluster.id"))
      assert.equal(path .. ":4", loaded:source("cluster.id"))
    end)
  end)

  it("reads assignments, tables and returned tables", function()
    local loaded = assert(load_file [[
      taskmanager = { slots = 3, rpc = { port = 7 } }
      rpc.ask_timeout = "5 s"
      heartbeat["rpc-failure-threshold"] = 4
      return { ["blob.storage.directory"] = "/b", log = { level = "debug" } }
    ]])
    assert.equal(3, loaded:get("taskmanager.slots"))
    assert.equal(7, loaded:get("taskmanager.rpc.port"))
    assert.equal(5000, loaded:get("rpc.ask-timeout"))
    assert.equal(4, loaded:get("heartbeat.rpc-failure-threshold"))
    assert.equal("/b", loaded:get("blob.storage.directory"))
    assert.equal("debug", loaded:get("log.level"))
  end)

  it("knows aliases", function()
    local loaded = assert(load_file("taskmanager.numberOfTaskSlots = 5"))
    assert.equal(5, loaded:get("taskmanager.slots"))
  end)

  it("names file, line and nearest key of an unknown key", function()
    local _, message, path = load_file("\n\nheartbeat.intervall = 1")
    assert.equal(path .. ":3: unknown configuration key "
      .. "\"heartbeat.intervall\", did you mean \"heartbeat.interval\"?",
      message)
    _, message, path = load_file("return {\n  zzz_q = 1,\n}")
    assert.equal(path .. ":2: unknown configuration key \"zzz_q\"; "
      .. "\"orrery config\" lists the keys", message)
  end)

  it("names key, value, expected form and source of a wrong value", function()
    local _, message, path = load_file("heartbeat.interval = '10 parsecs'")
    assert.equal(path .. ":1: heartbeat.interval = \"10 parsecs\": expected a "
      .. "duration such as \"250ms\", \"10 s\", \"5min\" or \"1h\", at least "
      .. "1 ms", message)
    local _, err = config.load { file = false,
      environment = { ORRERY_TASKMANAGER_SLOTS = "0" } }
    assert.equal("ORRERY_TASKMANAGER_SLOTS: taskmanager.slots = \"0\": "
      .. "expected a whole number from 1 to 1024", err.message)
    _, err = config.load { file = false, definitions = { "log.level=loud" } }
    assert.equal("-D log.level: log.level = \"loud\": expected one of debug, "
      .. "info, warn, error, off", err.message)
    _, err = config.load { file = false, definitions = { "log.level" } }
    assert.equal("-D log.level: expected key=value", err.message)
    assert.equal("bad_configuration", err.code)
  end)

  it("notices a mistyped variable and leaves foreign ones alone", function()
    local _, err = config.load { file = false,
      environment = { ORRERY_JOBMANAGER_RPC_PROT = "1" } }
    assert.equal("ORRERY_JOBMANAGER_RPC_PROT: unknown variable, did you mean "
      .. "ORRERY_JOBMANAGER_RPC_PORT?", err.message)
    assert(config.load { file = false,
      environment = { ORRERY_SOMETHING_ELSE = "1", PATH = "x" } })
  end)

  it("gives the file neither functions nor bytecode", function()
    local _, message = load_file("os.execute('true')")
    assert.truthy(message:find("os.execute: a configuration file has no "
      .. "functions", 1, true))
    _, message = load_file("require('ffi')")
    assert.truthy(message:find("has no functions", 1, true))
    _, message = load_file(string.dump(function() end))
    assert.truthy(message:find("mode", 1, true))
    _, message = load_file("= 3")
    assert.truthy(message:find(":1: ", 1, true))
    _, message = load_file("return 3")
    assert.truthy(message:find("returns number, expected a table", 1, true))
    _, message = load_file("return other")
    assert.truthy(message:find("a name that is not set", 1, true))
  end)

  it("refuses a file that is not there or too large", function()
    local _, err = config.load { file = "/nonexistent/orrery.conf.lua" }
    assert.truthy(err.message:find("/nonexistent/orrery.conf.lua", 1, true))
    local _, message = load_file(("-"):rep(1024 * 1024 + 1))
    assert.truthy(message:find("larger than 1048576 bytes", 1, true))
  end)

  it("replaces values in a copy", function()
    local loaded = assert(config.load { file = false })
    local copy = loaded:with({ ["cluster.id"] = "other" }, "spec")
    assert.equal("other", copy:get("cluster.id"))
    assert.equal("spec", copy:source("cluster.id"))
    assert.equal("orrery", loaded:get("cluster.id"))
    assert.has_error(function() loaded:get("nope") end)
  end)
end)

describe("option types", function()
  it("split and join addresses", function()
    assert.same({ "::1", 80 }, { option_types.split_address("[::1]:80") })
    assert.same({ "h", 80 }, { option_types.split_address("h:80") })
    assert.equal("[::1]:80", option_types.join_address("::1", 80))
    assert.is_nil((option_types.address("h:65536")))
    assert.is_nil((option_types.address("h")))
  end)

  it("read lists, booleans and sizes", function()
    assert.same({ "a", "b" }, option_types.list("a, b"))
    assert.is_nil((option_types.list({ 1 })))
    assert.is_false(option_types.bool("off"))
    assert.is_nil((option_types.bool("maybe")))
    assert.equal(65536, option_types.size("64kb", {}))
    assert.is_nil((option_types.size("64 parsecs", {})))
  end)
end)
