-- Every example of the RPC framework runs as its header says.

local host = require("support.host")

local function run(name, ...)
  local output, code = host.run("examples/" .. name .. ".lua", ...)
  assert.are.equal(0, code, output)
  return output
end

local function says(output, ...)
  local at = 1
  for _, line in ipairs({ ... }) do
    local _, last = output:find(line, at)
    assert.is_truthy(last, line .. " after byte " .. at .. " of:\n" .. output)
    at = last
  end
end

describe("the example", function()
  it("20 serves tasks that 22 submits from another process", function()
    local pipe = io.popen("echo $$; exec env "
      .. host.command("examples/20_task_manager.lua", "0")
        :gsub("timeout 60 ", ""))
    local pid = pipe:read("*l")
    local address = pipe:read("*l"):match("started at (%S+)$")
    local output = run("22_submit_tasks", address)
    os.execute("kill -TERM " .. pid)
    local rest = pipe:read("*a")
    pipe:close()
    says(output, "connected to " .. address:gsub("%p", "%%%0"),
      "vertex_1 finished", "vertex_2 finished", "vertex_3 finished",
      "cancel: task_not_found", "tasks so far: 3")
    says(rest, "TaskManager endpoint stopping")
  end)

  it("22 says when nobody listens", function()
    local output, code = host.run("examples/22_submit_tasks.lua",
      "127.0.0.1:1/task_manager")
    assert.are.equal(3, code)
    says(output, "cannot submit: nobody listens there")
  end)

  it("21 sets a service up and takes it down", function()
    says(run("21_rpc_service"), "available at localhost:50[12]%d%d/clock",
      "up for %d%.%d s", "service stopped")
  end)

  it("23 follows a fenced leader", function()
    says(run("23_fenced_resource_manager"), "tm%-1 registered by rm%-1",
      "tm%-2 registered by rm%-2", "with an old token: fenced")
  end)

  it("24 tries again and books once", function()
    says(run("24_retries"), "attempt 1 failed %(unreachable%)",
      "failed %(remote%)", "done at try 3", "booked once: 100\n",
      "not tried again: expired_in_handler")
  end)

  it("25 ends everything in order and tells the failure", function()
    says(run("25_life_cycle"), "reached three", "three stops", "two stops",
      "one stops", "shut down: two could not save its state")
  end)

  it("26 limits the time of calls", function()
    says(run("26_timeouts"), "worked 20 ms",
      "expired_in_handler in the handler after 50 ms", "timeout: not done",
      "the race: worked 40 ms", "handlers that ended: %d")
  end)
end)
