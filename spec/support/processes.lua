--- Real processes for live specs: started on free ports with folders of their
-- own, watched without sleeping (the loop turns until a condition holds or a
-- bound passes), and all ended by their own handles.

local core = require("orrery.core") -- first: it gives luv its loop
local uv = require("luv")

local M = {}

local TICK_MS = 10
local alive, folders = {}, {}

--- The program under test.
function M.binary()
  local named = os.getenv("ORRERY_BINARY")
  if named then return named end
  local preset = os.getenv("ORRERY_PRESET") or "release"
  return uv.cwd() .. "/build/" .. preset .. "/bin/orrery"
end

--- Turns the loop until check() answers something true and answers it; fails
-- after timeout_ms. Sanitizer builds are slower: ORRERY_SPEC_PATIENCE
-- multiplies the bound.
function M.wait_until(check, timeout_ms, what)
  local patience = tonumber(os.getenv("ORRERY_SPEC_PATIENCE") or "1")
  local deadline = uv.hrtime() + timeout_ms * patience * 1e6
  local tick = uv.new_timer()
  tick:start(TICK_MS, TICK_MS, function() end)
  local result = check()
  while not result and uv.hrtime() < deadline do
    core.poll(true)
    result = check()
  end
  tick:close()
  core.poll(false) -- a closed handle is gone only after a turn
  if not result then
    error(("waited %d ms for %s"):format(timeout_ms, what()), 2)
  end
  return result
end

local Process = {}
Process.__index = Process

local function collect(process, pipe, name)
  pipe:read_start(function(err, data)
    if data then
      process[name] = process[name] .. data
    elseif not pipe:is_closing() then
      process.open_pipes = process.open_pipes - 1
      if err then process[name] = process[name] .. "\n" .. err end
      pipe:close()
    end
  end)
end

--- Starts a program. options: cwd, env (table of additions).
function M.spawn(file, args, options)
  options = options or {}
  local process = setmetatable({ stdout = "", stderr = "", open_pipes = 2,
    what = file:match("[^/]+$") .. " " .. table.concat(args, " ") }, Process)
  local env = {}
  local added = options.env or {}
  for name, value in pairs(uv.os_environ()) do
    if not name:match("^ORRERY_") and not added[name] then
      env[#env + 1] = name .. "=" .. value
    end
  end
  for name, value in pairs(added) do env[#env + 1] = name .. "=" .. value end
  local stdin, stdout, stderr = uv.new_pipe(), uv.new_pipe(), uv.new_pipe()
  local handle, pid = uv.spawn(file, {
    args = args, stdio = { stdin, stdout, stderr }, cwd = options.cwd,
    env = env,
  }, function(code, signal)
    process.code, process.signal = code, signal
    process.handle:close()
    alive[process] = nil
  end)
  if not handle then error(("cannot start %s: %s"):format(file, pid), 2) end
  process.handle, process.pid, process.stdin = handle, pid, stdin
  alive[process] = true
  collect(process, stdout, "stdout")
  collect(process, stderr, "stderr")
  return process
end

--- Starts the program under test with these words.
-- Its temporary folders lie in one of the spec's, so that a killed one leaves
-- nothing behind.
function M.orrery(args, options)
  options = options or {}
  local env = { TMPDIR = M.folder() }
  for name, value in pairs(options.env or {}) do env[name] = value end
  return M.spawn(M.binary(), args, { cwd = options.cwd, env = env })
end

function Process:write(text)
  self.stdin:write(text)
end

function Process:close_stdin()
  if not self.stdin:is_closing() then self.stdin:close() end
end

function Process:kill(signal)
  if not self.code then self.handle:kill(signal) end
end

--- Waits for the end of the process and of its output; answers its exit code.
function Process:wait(timeout_ms)
  M.wait_until(function() return self.code and self.open_pipes == 0 end,
    timeout_ms or 20000, function()
      return "the end of " .. self.what .. "; it said:\n" .. self.stdout
        .. self.stderr
    end)
  return self.code, self.signal
end

--- Waits for a pattern on one stream ("stdout" or "stderr").
function Process:wait_for(stream, pattern, timeout_ms)
  return M.wait_until(function()
    if self[stream]:match(pattern) then return self[stream]:match(pattern) end
    if self.code and self.open_pipes == 0 then
      error(("%s ended with %d before it said %q:\n%s%s"):format(self.what,
        self.code, pattern, self.stdout, self.stderr), 3)
    end
  end, timeout_ms or 20000, function()
    return ("%q of %s; it said:\n%s%s"):format(pattern, self.what, self.stdout,
      self.stderr)
  end)
end

--- Runs the program to its end: exit code, stdout, stderr.
function M.run(args, options)
  local process = M.orrery(args, options)
  process:close_stdin()
  local code = process:wait(options and options.timeout_ms)
  return code, process.stdout, process.stderr
end

--- A fresh folder, removed by M.clean_up.
function M.folder()
  local path = assert(uv.fs_mkdtemp(
    (os.getenv("TMPDIR") or "/tmp") .. "/orrery-spec-XXXXXX"))
  folders[#folders + 1] = path
  return path
end

function M.write_file(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  file:close()
  return path
end

function M.read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

local function remove(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if kind == "directory" then
      remove(path .. "/" .. name)
    else
      uv.fs_unlink(path .. "/" .. name)
    end
  end
  uv.fs_rmdir(path)
end

--- Ends what still runs and removes the folders.
function M.clean_up()
  for process in pairs(alive) do process:kill("sigkill") end
  M.wait_until(function() return next(alive) == nil end, 10000, function()
    return "killed processes to end"
  end)
  for _, path in ipairs(folders) do remove(path) end
  folders = {}
end

--- Starts a serving process and waits until it is ready: process, address.
function M.serve(args, options)
  local ready = M.folder() .. "/ready"
  local words = { unpack(args) }
  words[#words + 1] = "--ready-file"
  words[#words + 1] = ready
  local process = M.orrery(words, options)
  local text = M.wait_until(function()
    local found = M.read_file(ready)
    if found and found:sub(-1) == "\n" then return found end
    if process.code then
      error(("%s ended with %d:\n%s%s"):format(process.what, process.code,
        process.stdout, process.stderr), 3)
    end
  end, 20000, function()
    return process.what .. " to be ready; it said:\n" .. process.stdout
      .. process.stderr
  end)
  return process, text:match("^(%S+)")
end

return M
