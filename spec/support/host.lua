--- Runs scripts in a process of their own, with the same modules and the same
-- interpreter as this one.

local core = require("orrery.core")

local M = {}

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local root = arg and arg[0] and arg[0]:match("^(.*)/scripts/[^/]*$")
  or os.getenv("PWD")

--- Path of a file of the checkout.
function M.path(file)
  if file:sub(1, 1) == "/" then return file end
  return (root == "" and "." or root or ".") .. "/" .. file
end

--- The shell command that runs a Lua file there; stderr joins stdout.
function M.command(file, ...)
  local host = core.library():gsub("/lib/[^/]*$", "/bin/orrery")
  local words = {
    "LUA_PATH=" .. quote(package.path), "LUA_CPATH=" .. quote(package.cpath),
    "timeout 60", quote(host), "exec", quote(M.path(file)), "--",
  }
  for i = 1, select("#", ...) do words[#words + 1] = quote((select(i, ...))) end
  return table.concat(words, " ") .. " 2>&1"
end

--- Runs it to its end; its output, and its exit code.
function M.run(file, ...)
  local pipe = assert(io.popen(M.command(file, ...) .. '; echo "code $?"'))
  local output = pipe:read("*a")
  pipe:close()
  local text, code = output:match("^(.*)code (%d+)%s*$")
  return text, tonumber(code)
end

return M
