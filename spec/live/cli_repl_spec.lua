-- The REPL against a real cluster: piped, with -e, and in a terminal.

local processes = require("support.processes")
local terminal = require("support.terminal")

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
      if not terminal.is_there() then
        return pending("tmux is not installed")
      end
      local prompt = terminal.open(processes.binary() .. " repl --address "
        .. address)
      prompt:screen("orrery>%s*\n")
      prompt:keys("6 * 7", "Enter")
      prompt:screen("\n42\n")
      prompt:keys("for i = 1, 2 do", "Enter")
      prompt:screen("%.%.%.>")
      prompt:keys("C-c")
      prompt:screen("%.%.%.>.-\norrery>")
      prompt:keys("orrery.Future.new()", "Enter")
      prompt:keys("C-c")
      prompt:screen("interrupted")
      prompt:keys("7 * 7", "Enter")
      prompt:screen("\n49\n")
      prompt:keys("C-d")
      assert.equal(0, prompt:close())
    end)
end)
