-- The REPL against a real cluster: piped, with -e, and in a terminal.

local processes = require("support.processes")

describe("orrery repl", function()
  local address

  setup(function()
    local _
    _, address = processes.serve { "up", "--port", "0", "--slots", "1" }
  end)
  teardown(processes.clean_up)

  local function piped(text)
    local repl = processes.orrery { "repl", "--address", address }
    repl:write(text)
    repl:close_stdin()
    return repl:wait(15000), repl.stdout, repl.stderr
  end

  it("evaluates piped input line by line", function()
    local code, out, err = piped("1 + 2\n_ * 2\nx = { b = 1, a = 2 }\nx\n")
    assert.equal(0, code, err)
    assert.equal("3\n6\n{ a = 2, b = 1 }\n", out)
  end)

  it("takes input over several lines", function()
    local code, out, err = piped("for i = 1, 2 do\nprint(i, 'x')\nend\n")
    assert.equal(0, code, err)
    assert.equal("1\tx\n2\tx\n", out)
  end)

  it("lists jobs and endpoints", function()
    local code, out, err = piped("jobs()\nendpoints()\n")
    assert.equal(0, code, err)
    assert.truthy(out:find("^%(none%)\n"), out)
    for _, name in ipairs { "dispatcher", "resource_manager", "blob",
      "leaders", "introspection", "task_executor" } do
      assert.truthy(out:find("\n" .. name, 1, true), name .. " in\n" .. out)
    end
  end)

  it("awaits futures and calls any endpoint", function()
    local code, out, err = piped(
      "l = connect('" .. address .. "/leaders', 'leaders'):await()\n"
      .. "l:leader('dispatcher'):await().address\n"
      .. "orrery.Future.resolved(7)\n")
    assert.equal(0, code, err)
    assert.equal("\"" .. address .. "/dispatcher\"\n7\n", out)
  end)

  it("stops piped input at the first error, with 1", function()
    local code, out, err = piped("1\nerror('boom')\n2\n")
    assert.equal(1, code)
    assert.equal("1\n", out)
    assert.truthy(err:find("input:1: boom", 1, true), err)
    code, out, err = piped("job('nope')\n")
    assert.equal(1, code)
    assert.equal("", out)
    assert.truthy(err:find("there is no job \"nope\"", 1, true), err)
  end)

  it("evaluates one text with -e", function()
    local code, out = processes.run { "repl", "--address", address, "-e",
      "overview() ~= nil" }
    assert.equal(0, code)
    assert.equal("true\n", out)
  end)

  it("is a prompt in a terminal: Ctrl-C drops input, Ctrl-D leaves",
    function()
      if os.execute("command -v tmux >/dev/null 2>&1") ~= 0 then
        return pending("tmux is not installed")
      end
      local folder = processes.folder()
      local socket = folder .. "/tmux"
      local function tmux(...)
        local process = processes.spawn("tmux", { "-S", socket, ... })
        process:close_stdin()
        assert.equal(0, process:wait(5000), process.stderr)
        return process.stdout
      end
      local command = ("%s repl --address %s; echo code=$? >%s/done; sleep 60")
        :format(processes.binary(), address, folder)
      tmux("-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30",
        command)
      local function screen(pattern)
        return processes.wait_until(function()
          local text = tmux("capture-pane", "-p")
          return text:find(pattern) and text
        end, 10000, function()
          return pattern .. " on the screen:\n" .. tmux("capture-pane", "-p")
        end)
      end
      screen("orrery>%s*\n")
      tmux("send-keys", "6 * 7", "Enter")
      screen("\n42\n")
      tmux("send-keys", "for i = 1, 2 do", "Enter")
      screen("%.%.%.>")
      tmux("send-keys", "C-c")
      screen("%.%.%.>.-\norrery>")
      tmux("send-keys", "orrery.Future.new()", "Enter")
      tmux("send-keys", "C-c")
      screen("interrupted")
      tmux("send-keys", "7 * 7", "Enter")
      screen("\n49\n")
      tmux("send-keys", "C-d")
      local done = processes.wait_until(function()
        local text = processes.read_file(folder .. "/done")
        return text and text:sub(-1) == "\n" and text
      end, 10000, function() return "the REPL to leave" end)
      tmux("kill-server")
      assert.equal("code=0\n", done)
    end)
end)
