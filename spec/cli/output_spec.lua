local errors = require("orrery.util.errors")
local exit_codes = require("orrery.cli.exit_codes")
local output = require("orrery.cli.output")

describe("errors of commands", function()
  it("lead to the documented exit codes", function()
    local function code(name) return exit_codes.of(errors.new(name, "x")) end
    assert.equal(2, code("usage"))
    assert.equal(2, code("bad_configuration"))
    assert.equal(3, code("unreachable"))
    assert.equal(4, code("expired_in_queue"))
    assert.equal(4, code("timeout"))
    assert.equal(130, code("interrupted"))
    assert.equal(1, code("job_not_found"))
    assert.equal(1, exit_codes.of("text"))
    assert.equal(1, exit_codes.of(errors.new("remote", "x",
      { cause = errors.new("unreachable", "y") })))
  end)

  it("are described with their causes, without repetitions", function()
    assert.equal("call failed: disk full", output.describe(
      errors.new("remote", "call failed",
        { cause = errors.new("io", "disk full") })))
    assert.equal("call failed: disk full", output.describe(
      errors.new("remote", "call failed: disk full",
        { cause = errors.new("io", "disk full") })))
    assert.equal("text", output.describe("text"))
  end)
end)
