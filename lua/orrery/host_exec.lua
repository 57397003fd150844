--- `orrery exec FILE [-- args]`: runs a Lua file as the interpreter would.
--
-- The file is text, runs on the main chunk (so that it may await there), sees
-- the global `arg`, and may end the process by os.exit.

local M = {}

local function complain(message)
  io.stderr:write("orrery: ", tostring(message), "\n")
  return 1
end

local function handler(message)
  if type(message) == "table" and message.describe then
    return message:describe()
  end
  return debug.traceback(tostring(message), 2)
end

--- args: the file, then what it gets. Answers the exit code.
function M.main(args)
  local path = args[1]
  if not path then return complain("exec: name a Lua file to run") end
  local file, reason
  if path == "-" then
    file = io.stdin
  else
    file, reason = io.open(path, "rb")
    if not file then return complain("exec: cannot open " .. reason) end
  end
  local text = file:read("*a")
  if not text then return complain("exec: cannot read " .. path) end
  text = text:gsub("^#[^\n]*", "")
  local chunk, message = load(text, "@" .. path, "t")
  if not chunk then return complain(message) end
  local global_arg = { [0] = path, [-1] = "orrery" }
  local first = args[2] == "--" and 3 or 2
  for i = first, #args do global_arg[i - first + 1] = args[i] end
  _G.arg = global_arg
  local ok, failure = xpcall(chunk, handler, unpack(global_arg))
  if not ok then return complain(failure) end
  return 0
end

return M
