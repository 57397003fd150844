local core = require("orrery.core") -- first: it gives luv its loop
local uv = require("luv")
local host = require("support.host")
local processes = require("support.processes")

local SCRIPT = "spec/support/watchdog_script.lua"

local function run(case, ...)
  local output, code = host.run(SCRIPT, case, ...)
  assert.are.equal(0, code, output)
  return output
end

local function count(text, pattern)
  local _, n = text:gsub(pattern, "")
  return n
end

-- Once that it runs, with its stack, and once that it ended.
local function check(output, method, sender)
  local first = output:match("watchdog (" .. method
    .. " of endpoint slow[^\n]* runs for [^\n]*)")
  assert.is_truthy(first, output)
  assert.is_truthy(first:find("called by " .. sender, 1, true), first)
  assert.is_truthy(first:match("slow%.lua:%d+: in function"), first)
  local runs = tonumber(first:match("runs for (%d+) ms"))
  assert.is_true(runs >= 100, first)
  local took = tonumber(output:match(method
    .. " of endpoint slow %(executor %d+%) went on after (%d+) ms"))
  assert.is_true(took ~= nil and took >= 390, output)
  assert.are.equal(1, count(output, " runs for "))
  assert.are.equal(1, count(output, " went on after "))
end

describe("the watchdog", function()
  it("RPC+6 tells of a long handler, its caller and its stack", function()
    check(run("interpreted"), "interpret", "executor 1")
  end)

  it("RPC+6 tells of one on a spawned executor", function()
    local output = run("spawned")
    check(output, "interpret", "executor 1")
    assert.is_truthy(output:find("slow (executor 2)", 1, true), output)
  end)

  it("RPC+6 names the address of a remote caller", function()
    check(run("remote"), "interpret", "127.0.0.1:")
  end)

  it("RPC+6 names the endpoint that called", function()
    check(run("nested"), "interpret", "endpoint slow")
  end)

  it("RPC+6 sees a handler that waited before", function()
    check(run("after_await"), "wait_then_interpret", "executor 1")
  end)

  it("RPC+6 says where a compiled handler begins", function()
    local output = run("compiled")
    assert.is_truthy(output:match("compute of endpoint slow"), output)
    assert.is_truthy(output:match("handler begins at [^\n]*slow%.lua:%d+")
      or output:match("slow%.lua:%d+: in function"), output)
    assert.are.equal(1, count(output, " went on after "))
  end)

  it("RPC+6 is silent for many short handlers, and for waiting", function()
    assert.is_nil(run("quick"):match("watchdog"))
    assert.is_nil(run("waits"):match("watchdog"))
    assert.is_nil(run("off"):match("watchdog"))
  end)

  it("RPC+6 forgives the time that the process was stopped", function()
    local flag = os.tmpname()
    os.remove(flag)
    local pipe = assert(io.popen(host.command(SCRIPT, "stopped", flag)))
    local pid = tonumber(pipe:read("*l"))
    local function pause(ms)
      local ends = uv.hrtime() + ms * 1e6
      processes.wait_until(function() return uv.hrtime() > ends end, ms * 10,
        function() return "time to pass" end)
    end
    uv.kill(pid, "sigstop")
    pause(700)
    uv.kill(pid, "sigcont")
    local file = assert(io.open(flag, "w"))
    file:close()
    local output = pipe:read("*a")
    pipe:close()
    os.remove(flag)
    assert.is_truthy(output:match("done"), output)
    assert.is_nil(output:match("watchdog"), output)
    assert.is_truthy(core)
  end)
end)
