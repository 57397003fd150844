-- A user's own endpoint with a client in another process, as the README has it.

local processes = require("support.processes")

describe("the counter example", function()
  after_each(processes.clean_up)

  it("serves a client in another process", function()
    local server = processes.orrery { "exec", "examples/01_counter_server.lua",
      "--", "0" }
    local address = server:wait_for("stdout", "serves at (%S+),")
    local code, out, err = processes.run { "exec",
      "examples/02_counter_client.lua", "--", address }
    assert.equal(0, code, err)
    assert.truthy(out:find("1 + 2 + ... + 100 = 5050", 1, true), out)
    assert.truthy(out:find("add takes a number, got a string", 1, true), out)
    server:kill("sigint")
    server:wait(6000)
  end)

  it("says that nobody serves", function()
    local code, _, err = processes.run { "exec",
      "examples/02_counter_client.lua", "--", "127.0.0.1:1/counter" }
    assert.equal(3, code)
    assert.truthy(err:find("cannot reach the counter", 1, true), err)
  end)
end)
