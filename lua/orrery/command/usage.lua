--- Usage lines, help pages and the reference page, all from the registry.

local command_registry = require("orrery.command")

local M = {}

M.EXIT_CODES = {
  { 0, "the command did what it says" },
  { 1, "the command failed" },
  { 2, "wrong usage: unknown word, option or configuration" },
  { 3, "the cluster cannot be reached" },
  { 4, "a time limit passed" },
  { 130, "interrupted by Ctrl-C" },
}

local function option_text(option)
  local text = "--" .. option.name
  if option.short then text = "-" .. option.short .. ", " .. text end
  if option.value then text = text .. " " .. option.value end
  return text
end

local function parameter_text(parameter)
  return parameter.optional and "[" .. parameter.name .. "]" or parameter.name
end

--- "usage: orrery run JOB.lua [--address HOST:PORT] ... [-- ARGUMENTS]".
function M.line(command)
  if not command then
    return "usage: orrery COMMAND [OPTIONS]   (\"orrery help\" lists the "
      .. "commands)"
  end
  local parts = { "usage: orrery " .. command.name }
  for _, parameter in ipairs(command.parameters or {}) do
    parts[#parts + 1] = parameter_text(parameter)
  end
  for _, option in ipairs(command.options) do
    local text = "--" .. option.name
    if option.value then text = text .. " " .. option.value end
    parts[#parts + 1] = "[" .. text .. "]"
  end
  if command.rest then parts[#parts + 1] = "[-- ARGUMENTS]" end
  return table.concat(parts, " ")
end

local function rows(out, list)
  local widest = 0
  for _, row in ipairs(list) do widest = math.max(widest, #row[1]) end
  for _, row in ipairs(list) do
    out[#out + 1] = ("  %-" .. widest .. "s  %s"):format(row[1], row[2])
  end
end

local function option_rows(list)
  local result = {}
  for i, option in ipairs(list) do
    result[i] = { option_text(option), option.help }
  end
  return result
end

--- The page of one command.
function M.page(command)
  local out = { "orrery " .. command.name .. ": " .. command.summary, "",
    M.line(command) }
  if command.parameters or command.rest then
    out[#out + 1] = ""
    local list = {}
    for _, parameter in ipairs(command.parameters or {}) do
      list[#list + 1] = { parameter_text(parameter), parameter.help }
    end
    if command.rest then
      list[#list + 1] = { "-- ARGUMENTS", command.rest }
    end
    rows(out, list)
  end
  out[#out + 1] = ""
  out[#out + 1] = "Options:"
  rows(out, option_rows(command_registry.options_of(command)))
  if command.notes then
    out[#out + 1] = ""
    out[#out + 1] = command.notes
  end
  out[#out + 1] = ""
  out[#out + 1] = "Examples:"
  for _, example in ipairs(command.examples) do
    out[#out + 1] = "  " .. example
  end
  return table.concat(out, "\n") .. "\n"
end

--- The list of all commands.
function M.overview()
  local out = { "Orrery: a Lua-scriptable coordination runtime.", "",
    M.line(), "", "Commands:" }
  local list = {}
  for i, command in ipairs(command_registry.commands) do
    list[i] = { command.name, command.summary }
  end
  rows(out, list)
  out[#out + 1] = ""
  out[#out + 1] = "Options of every command:"
  rows(out, option_rows(command_registry.common_options))
  out[#out + 1] = ""
  out[#out + 1] = "Exit codes:"
  list = {}
  for i, code in ipairs(M.EXIT_CODES) do
    list[i] = { tostring(code[1]), code[2] }
  end
  rows(out, list)
  return table.concat(out, "\n") .. "\n"
end

--- docs/cli.md.
function M.markdown()
  local out = { "# Commands", "",
    "Written by `orrery help --markdown` from the command registry.", "" }
  for _, command in ipairs(command_registry.commands) do
    out[#out + 1] = "## orrery " .. command.name
    out[#out + 1] = ""
    out[#out + 1] = "```"
    out[#out + 1] = M.page(command):gsub("\n$", "")
    out[#out + 1] = "```"
    out[#out + 1] = ""
  end
  out[#out + 1] = "## Exit codes"
  out[#out + 1] = ""
  out[#out + 1] = "| code | meaning |"
  out[#out + 1] = "|---|---|"
  for _, code in ipairs(M.EXIT_CODES) do
    out[#out + 1] = ("| %d | %s |"):format(code[1], code[2])
  end
  return table.concat(out, "\n") .. "\n"
end

return M
