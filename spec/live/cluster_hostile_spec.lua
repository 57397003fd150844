-- Strangers on the RPC port leave the cluster unharmed.

local uv = require("luv")
local jobs = require("support.jobs")
local processes = require("support.processes")

-- Connects, writes, and tells when the other side closed.
local function stranger(address, bytes)
  local host, port = address:match("^(.*):(%d+)$")
  local state = { tcp = uv.new_tcp(), closed = false, connected = false }
  state.tcp:connect(host, tonumber(port), function(err)
    assert(not err, err)
    state.connected = true
    if bytes then state.tcp:write(bytes) end
    state.tcp:read_start(function(read_err, data)
      if read_err or not data then state.closed = true end
    end)
  end)
  return state
end

local function close_all(strangers)
  for _, state in ipairs(strangers) do
    if not state.tcp:is_closing() then state.tcp:close() end
  end
end

local function random_bytes(n)
  return uv.random(n)
end

-- The resident memory of a process in KiB.
local function resident_kib(pid)
  local text = processes.read_file("/proc/" .. pid .. "/status")
  return tonumber(text:match("VmRSS:%s*(%d+)"))
end

describe("garbage on the RPC port", function()
  after_each(processes.clean_up)

  it("closes its connection and harms nobody", function()
    local cluster, address = processes.serve { "up", "--port", "0", "--slots",
      "2" }
    local before = resident_kib(cluster.pid)
    local huge = "\255\255\255\127" .. ("\1"):rep(60)
    local strangers = {}
    for i = 1, 8 do
      strangers[i] = stranger(address, i % 2 == 0 and huge
        or random_bytes(4096))
    end
    processes.wait_until(function()
      for _, state in ipairs(strangers) do
        if not state.closed then return false end
      end
      return true
    end, 15000, function() return "the cluster to close strangers" end)
    close_all(strangers)

    -- One that says nothing stays until its handshake time is over; meanwhile
    -- others are served.
    local stalled = { stranger(address, nil), stranger(address, "\64") }
    processes.wait_until(function()
      return stalled[1].connected and stalled[2].connected
    end, 5000, function() return "strangers to connect" end)
    local text = jobs.text_file(processes.folder(), 2000)
    local code, out, err = processes.run { "run", "--address", address,
      "examples/word_count.lua", "--", "--top", "0", text }
    assert.equal(0, code, err)
    assert.same(jobs.expected { text }, jobs.counts_of(out))
    processes.wait_until(function()
      return stalled[1].closed and stalled[2].closed
    end, 20000, function() return "the cluster to close silent strangers" end)
    close_all(stalled)
    assert.is_true(resident_kib(cluster.pid) - before < 128 * 1024)
    cluster:kill("sigint")
    assert.equal(0, cluster:wait(6000))
  end)
end)
