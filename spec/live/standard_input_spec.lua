-- Standard input of `orrery run` as a source, its standard output as a sink.

local processes = require("support.processes")

describe("standard input of orrery run", function()
  local address
  setup(function()
    address = select(2, processes.serve { "up", "--port", "0", "--slots", "1" })
  end)
  teardown(processes.clean_up)

  local function filter(input, word)
    local pipe = assert(io.popen(("printf '%s' | '%s' run --quiet --address %s "
      .. "examples/13_standard_input.lua -- '%s' 2>&1"):format(input,
      processes.binary(), address, word)))
    local output = pipe:read("*a")
    pipe:close()
    return output
  end

  it("goes through the job line by line, the last without its newline",
    function()
      assert.equal("3\ta b\n4\tlast\n", filter("a b\\nc\\nlast", "a"))
    end)

  it("may be empty", function()
    assert.equal("", filter("", "a"))
  end)

  it("arrives whole when it is larger than a block", function()
    local pipe = assert(io.popen(("seq 1 60000 | '%s' run --quiet --address %s "
      .. "examples/13_standard_input.lua | tail -n 1"):format(
      processes.binary(), address)))
    local output = pipe:read("*a")
    pipe:close()
    assert.equal("5\t60000\n", output)
  end)
end)
