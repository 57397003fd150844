local bundle = require("orrery.job.bundle")
local cluster = require("job.cluster")

local function output(name, arguments)
  local loaded = assert(bundle.load("examples/" .. name, arguments))
  local result, err = cluster.new(loaded):run()
  if not result then return nil, err end
  local lines = {}
  assert(loaded.job:run_on_result(result, function(line)
    lines[#lines + 1] = line
  end))
  return lines
end

describe("the example", function()
  it("10_sessions joins visits into sessions", function()
    assert.same({
      "ada    minute  0 to 12, 2 visits",
      "ada    minute 90 to 95, 2 visits",
      "grace  minute  5 to 31, 2 visits",
      "6 visits in all",
    }, output("10_sessions.lua"))
  end)

  it("11_socket makes a plan with one task", function()
    local loaded = assert(bundle.load("examples/11_socket.lua", { "h", "1" }))
    assert.equal(1, #cluster.new(loaded).list)
  end)

  it("12_own_ends finds the longest sequence", function()
    local lines = output("12_own_ends.lua")
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find("^27 takes 111 steps: 27 82 41 "))
  end)

  it("12_own_ends fails with the place when told to", function()
    local lines, err = output("12_own_ends.lua", { "--fail" })
    assert.is_nil(lines)
    assert.truthy(err.message:find('^operator "longest", subtask %d, record '
      .. "%d+: 12_own_ends.lua:%d+: this sink was told to fail"))
  end)
end)
