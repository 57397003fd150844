--- Real Redis servers and sentinels for live specs: each on a free loopback
-- port in a folder of its own, ended by support.processes' clean_up.

local processes = require("support.processes")
local uv = require("luv")

local M = {}

local PLACES = { "/usr/bin/redis-server", "/usr/bin/redis-check-rdb",
  "/usr/local/bin/redis-server" }

--- The server's program, which goes by the name it is called; nil without one.
function M.program()
  for _, path in ipairs(PLACES) do
    if uv.fs_access(path, "X") then return path end
  end
end

function M.free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  return port
end

local function answers(port)
  local state
  local socket = uv.new_tcp()
  socket:connect("127.0.0.1", port, function(err) state = err or "up" end)
  processes.wait_until(function() return state end, 5000, function()
    return "an answer of port " .. port
  end)
  socket:close()
  return state == "up"
end

local Server = {}
Server.__index = Server

local function start(name, lines, options)
  local folder = processes.folder()
  local port = options.port or M.free_port()
  local program = folder .. "/redis-" .. name
  assert(uv.fs_symlink(assert(M.program(), "no redis-server here"), program))
  lines[#lines + 1] = "port " .. port
  lines[#lines + 1] = "bind 127.0.0.1"
  lines[#lines + 1] = "dir " .. folder
  for _, line in ipairs(options.lines or {}) do lines[#lines + 1] = line end
  local config = processes.write_file(folder .. "/conf",
    table.concat(lines, "\n") .. "\n")
  local process = processes.spawn(program, { config })
  local server = setmetatable({ process = process, port = port,
    folder = folder, address = "127.0.0.1:" .. port,
    unix_address = "unix:" .. folder .. "/s", _options = options,
    _name = name }, Server)
  processes.wait_until(function() return process.code or answers(port) end,
    10000, function() return "Redis on port " .. port end)
  assert(not process.code, "Redis ended at once:\n" .. process.stdout)
  return server
end

--- Starts a server. options: lines (of its configuration), port, and append
-- (true: an append-only file, synced always).
function M.start(options)
  options = options or {}
  local lines = { 'save ""', "enable-debug-command yes",
    "repl-diskless-sync-delay 0" }
  if options.append then
    lines[#lines + 1] = "appendonly yes"
    lines[#lines + 1] = "appendfsync always"
  end
  local server = start("server", lines, options)
  return server
end

--- Starts a sentinel of a primary on a port. options: name ("m"), quorum (1),
-- down_after_ms (1000), lines.
function M.sentinel(primary_port, options)
  options = options or {}
  local name = options.name or "m"
  return start("sentinel", {
    ("sentinel monitor %s 127.0.0.1 %d %d"):format(name, primary_port,
      options.quorum or 1),
    ("sentinel down-after-milliseconds %s %d"):format(name,
      options.down_after_ms or 1000),
    ("sentinel failover-timeout %s 5000"):format(name),
  }, options)
end

--- Ends it as a crash would and waits for its end.
function Server:kill()
  self.process:kill("sigkill")
  self.process:wait()
end

function Server:pause() self.process:kill("sigstop") end
function Server:resume() self.process:kill("sigcont") end

return M
