--- A program in a terminal of its own, by tmux.

local processes = require("support.processes")

local M = {}

local Terminal = {}
Terminal.__index = Terminal

function M.is_there()
  return os.execute("command -v tmux >/dev/null 2>&1") == 0
end

local function tmux(self, ...)
  local process = processes.spawn("tmux", { "-S", self.socket, ... })
  process:close_stdin()
  if process:wait(5000) ~= 0 then error(process.stderr, 2) end
  return process.stdout
end

--- Starts a shell command line; close() tells its exit code.
function M.open(command)
  local folder = processes.folder()
  local self = setmetatable({ socket = folder .. "/tmux",
    done = folder .. "/done" }, Terminal)
  tmux(self, "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30",
    ("%s; echo $? >%s; exec cat"):format(command, self.done))
  return self
end

--- Keys as tmux names them: "C-c", "Enter", or text.
function Terminal:keys(...)
  tmux(self, "send-keys", ...)
end

--- Waits for a pattern on the screen.
function Terminal:screen(pattern)
  return processes.wait_until(function()
    local text = tmux(self, "capture-pane", "-p")
    return text:find(pattern) and text
  end, 10000, function()
    return pattern .. " on the screen:\n" .. tmux(self, "capture-pane", "-p")
  end)
end

--- Waits for the end of the command and closes the terminal; its exit code.
function Terminal:close()
  local code = processes.wait_until(function()
    local text = processes.read_file(self.done)
    return text and text:match("^(%d+)\n")
  end, 10000, function()
    return "the command to end:\n" .. tmux(self, "capture-pane", "-p")
  end)
  tmux(self, "kill-server")
  return tonumber(code)
end

return M
