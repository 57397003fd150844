--- The program `orrery`: words in, exit code out.
--
-- main(args) is called once, on the main chunk of the main Lua state. `exec` is
-- dispatched before anything else is loaded, so that a script starts as fast
-- as under plain luajit.

local M = {}

local function environment()
  return require("luv").os_environ()
end

local function usage_failure(err)
  local command = require("orrery.command")
  local output = require("orrery.cli.output")
  local name = err.context and err.context.command
  output.note("orrery: " .. err.message)
  output.note(require("orrery.command.usage").line(
    name and command.find(name) or nil))
  return require("orrery.cli.exit_codes").USAGE
end

local function exec(file, first, args)
  local words = { file }
  for i = first, #args do
    if not (i == first and args[i] == "--") then
      words[#words + 1] = args[i]
    end
  end
  return require("orrery.host_exec").main(words)
end

local function is_script(args)
  local file = args[1] == "exec" and args[2]
  return file and (file == "-" or file:sub(1, 1) ~= "-")
end

local function load_config(parsed)
  return require("orrery.util.config").load {
    file = parsed.options.config,
    environment = environment(),
    definitions = parsed.options.define,
    flags = parsed.flags,
  }
end

local function run(parsed)
  local output = require("orrery.cli.output")
  local config, err
  if parsed.command.is_configured ~= false then
    config, err = load_config(parsed)
    if not config then return output.fail(nil, err) end
  end
  local face = require(parsed.command.module)
  return face.run {
    command = parsed.command.name,
    config = config,
    options = parsed.options,
    parameters = parsed.parameters,
    rest = parsed.rest,
  }
end

local function describe_fault(fault)
  return debug.traceback(tostring(fault), 2)
end

--- Runs one command line.
---@param args string[] the words behind "orrery"
---@return integer exit code
function M.main(args)
  if is_script(args) then return exec(args[2], 3, args) end
  local parsed, err = require("orrery.command").parse(args)
  if not parsed then return usage_failure(err) end
  if parsed.command.name == "exec" then
    return exec(parsed.parameters[1], 1, parsed.rest)
  end
  local ok, code = xpcall(run, describe_fault, parsed)
  if ok then return code end
  local output = require("orrery.cli.output")
  output.note("orrery: a fault of Orrery itself, please report it:")
  output.note(code)
  return require("orrery.cli.exit_codes").FAILED
end

return M
