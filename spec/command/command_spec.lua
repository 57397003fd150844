local command = require("orrery.command")
local option_types = require("orrery.util.option_types")
local config = require("orrery.util.config")
local usage = require("orrery.command.usage")

local function refused(words)
  local result, err = command.parse(words)
  assert.is_nil(result)
  assert.equal("usage", err.code)
  return err.message, err.context.command
end

describe("command registry", function()
  it("has consistent rows", function()
    local known_keys = {}
    for _, option in ipairs(config.options) do known_keys[option.key] = true end
    local names = {}
    for _, row in ipairs(command.commands) do
      assert.is_nil(names[row.name])
      names[row.name] = true
      assert.is_string(row.summary)
      assert.is_true(#row.examples > 0)
      local options = {}
      for _, option in ipairs(command.options_of(row)) do
        assert.is_nil(options[option.name], row.name .. option.name)
        options[option.name] = true
        assert.is_string(option.help)
        if option.type then assert.is_function(option_types[option.type]) end
        for _, key in ipairs(option.keys or {}) do
          assert.is_true(known_keys[key], key)
        end
      end
    end
  end)

  it("shows only examples that it accepts", function()
    for _, row in ipairs(command.commands) do
      for _, example in ipairs(row.examples) do
        local words = {}
        for word in example:gsub("^.*|%s*", ""):gmatch("%S+") do
          words[#words + 1] = word
        end
        assert.equal("orrery", table.remove(words, 1))
        local result, err = command.parse(words)
        assert.is_table(result, err and err.message)
      end
    end
  end)
end)

describe("command line", function()
  it("takes options in every form and place", function()
    local result = assert(command.parse {
      "-D", "a=1", "run", "--parallelism=4", "job.lua", "-Db=2",
      "--address", "[::1]:7000", "--json", "--", "x", "--y" })
    assert.equal("run", result.command.name)
    assert.same({ "job.lua" }, result.parameters)
    assert.same({ "x", "--y" }, result.rest)
    assert.same({ "a=1", "b=2" }, result.options.define)
    assert.is_true(result.options.json)
    assert.same({
      { "jobmanager.rpc.address", "::1", "--address" },
      { "jobmanager.rpc.port", 7000, "--address" },
      { "parallelism.default", "4", "--parallelism" },
    }, result.flags)
  end)

  it("answers a mistyped command with the nearest one", function()
    assert.equal("unknown command \"rum\", did you mean \"run\"?",
      refused { "rum", "x.lua" })
    assert.equal("unknown command \"frobnicate\"", refused { "frobnicate" })
  end)

  it("answers a mistyped option with the nearest one of its command", function()
    local message, name = refused { "run", "x.lua", "--detatch" }
    assert.equal("unknown option \"--detatch\", did you mean \"--detach\"?",
      message)
    assert.equal("run", name)
    assert.equal("unknown option \"-z\"", refused { "list", "-z" })
  end)

  it("says which value is missing or wrong", function()
    assert.equal("--port needs a value: N", refused { "up", "--port" })
    assert.equal("--port 70000: expected a whole number from 0 to 65535",
      refused { "up", "--port", "70000" })
    assert.equal("--slots two: expected a whole number from 1 to 1024",
      refused { "up", "--slots=two" })
    assert.equal("--address here: expected an address of the form host:port",
      refused { "list", "--address", "here" })
    assert.equal("--json takes no value", refused { "list", "--json=1" })
  end)

  it("counts parameters", function()
    assert.equal("JOB.lua is missing", refused { "run" })
    assert.equal("unexpected word \"b\"", refused { "status", "a", "b" })
    assert.equal("unexpected word \"b\"; arguments of its own stand behind --",
      refused { "run", "a.lua", "b" })
    assert.equal("list takes no arguments behind --", refused { "list", "--" })
    assert.equal("a command is missing", refused {})
    assert.equal("a command is missing", refused { "--config", "x" })
  end)

  it("explains itself on -h and --version", function()
    local result = assert(command.parse { "run", "-h" })
    assert.equal("help", result.command.name)
    assert.same({ "run" }, result.parameters)
    assert.equal("help", command.parse({ "--help" }).command.name)
    assert.equal("version", command.parse({ "--version" }).command.name)
  end)
end)

describe("usage", function()
  it("is one line from the registry", function()
    assert.equal("usage: orrery cancel JOB [--address HOST:PORT] [--json]",
      usage.line(command.find("cancel")))
    assert.truthy(usage.line():find("^usage: orrery COMMAND"))
  end)

  it("lists every command and exit code", function()
    local text = usage.overview()
    for _, row in ipairs(command.commands) do
      assert.truthy(text:find("\n  " .. row.name .. " ", 1, true), row.name)
    end
    for _, code in ipairs { "0", "1", "2", "3", "4", "130" } do
      assert.truthy(text:find("\n  " .. code .. " ", 1, true), code)
    end
  end)

  it("is what docs/cli.md says", function()
    local file = assert(io.open("docs/cli.md", "rb"))
    local text = file:read("*a")
    file:close()
    assert.equal(usage.markdown(), text)
  end)
end)
