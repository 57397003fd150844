--- The command registry: find a command, parse its arguments, tell its usage.
--
-- Pure: words in, values or a usage error out. A usage error has the code
-- "usage", a message and context.command; who prints it adds the usage line.

local errors = require("orrery.util.errors")
local nearest = require("orrery.util.nearest")
local option_types = require("orrery.util.option_types")

local M = {}

M.commands = require("orrery.command.commands")

--- Options that every command takes.
M.common_options = {
  { name = "config", value = "FILE",
    help = "Configuration file; without it ./orrery.conf.lua or "
      .. "/etc/orrery/orrery.conf.lua." },
  { name = "define", short = "D", value = "KEY=VALUE", many = true,
    help = "Set a configuration key." },
  { name = "help", short = "h", help = "Explain the command." },
}

local by_name = {}
for _, command in ipairs(M.commands) do by_name[command.name] = command end

local function usage_error(message, command)
  return nil, errors.new("usage", message,
    { context = { command = command and command.name } })
end

--- "did you mean" for a mistyped word, or an empty text.
local function suggestion(word, known)
  local near = nearest.find(word, known)
  return near and (", did you mean \"%s\"?"):format(near) or ""
end

--- The command of a name, or nil and a usage error.
function M.find(name)
  local command = by_name[name]
  if command then return command end
  local names = {}
  for i, known in ipairs(M.commands) do names[i] = known.name end
  return usage_error(("unknown command \"%s\"%s"):format(name,
    suggestion(name, names)))
end

local function options_of(command)
  local list = {}
  for _, option in ipairs(command and command.options or {}) do
    list[#list + 1] = option
  end
  for _, option in ipairs(M.common_options) do list[#list + 1] = option end
  return list
end
M.options_of = options_of

local function find_option(word, command)
  local names = {}
  for _, option in ipairs(options_of(command)) do
    if word == "--" .. option.name
      or option.short and word == "-" .. option.short then
      return option
    end
    names[#names + 1] = "--" .. option.name
  end
  return usage_error(("unknown option \"%s\"%s"):format(word,
    suggestion(word, names)), command)
end

local function store_option(result, option, word, value, command)
  if option.type then
    local typed, expected = option_types[option.type](value, option)
    if typed == nil then
      return usage_error(("%s %s: expected %s"):format(word, value, expected),
        command)
    end
  end
  if option.many then
    local list = result.options[option.name] or {}
    list[#list + 1] = value
    result.options[option.name] = list
  else
    result.options[option.name] = value
  end
  return true
end

--- Flags as configuration: { key, value, source } each. An address option sets
-- a host and a port key.
local function flags_of(result)
  local flags = {}
  for _, option in ipairs(options_of(result.command)) do
    local value, keys = result.options[option.name], option.keys
    if value ~= nil and keys then
      local source = "--" .. option.name
      if option.type == "address" then
        local host, port = option_types.split_address(value)
        flags[#flags + 1] = { keys[1], host, source }
        flags[#flags + 1] = { keys[2], port, source }
      else
        flags[#flags + 1] = { keys[1], value, source }
      end
    end
  end
  return flags
end

local function check_parameters(result)
  local command = result.command
  local expected = command.parameters or {}
  for i, parameter in ipairs(expected) do
    if not parameter.optional and result.parameters[i] == nil then
      return usage_error(("%s is missing"):format(parameter.name), command)
    end
  end
  if #result.parameters > #expected then
    local extra = result.parameters[#expected + 1]
    local hint = command.rest
      and "; arguments of its own stand behind --" or ""
    return usage_error(("unexpected word \"%s\"%s"):format(extra, hint),
      command)
  end
  return true
end

-- Takes one option at args[i]; answers the index of the last word used.
local function take_option(result, args, i)
  local word = args[i]
  local name, inline = word:match("^(%-%-[^=]+)=(.*)$")
  if not name and word:match("^%-D.") then name, inline = "-D", word:sub(3) end
  local option, err = find_option(name or word, result.command)
  if not option then return nil, err end
  name = name or word
  if not option.value then
    if inline then
      return usage_error(name .. " takes no value", result.command)
    end
    result.options[option.name] = true
    return i
  end
  local value = inline
  if not value then
    i = i + 1
    value = args[i]
    if value == nil then
      return usage_error(("%s needs a value: %s"):format(name, option.value),
        result.command)
    end
  end
  local ok, bad = store_option(result, option, name, value, result.command)
  if not ok then return nil, bad end
  return i
end

--- What the words mean:
--- { command, parameters = {texts}, options = {name = text | true}, rest =
--- {texts}, flags = {{key, value, source}} }, or nil and a usage error.
---@param args string[]
function M.parse(args)
  local result = { parameters = {}, options = {}, rest = {} }
  local i = 1
  while i <= #args do
    local word = args[i]
    if word == "--" and result.command then
      if not result.command.rest then
        return usage_error(("%s takes no arguments behind --"):format(
          result.command.name), result.command)
      end
      for j = i + 1, #args do result.rest[#result.rest + 1] = args[j] end
      break
    elseif word:sub(1, 1) == "-" and word ~= "-" then
      if word == "--version" and not result.command then
        result.command = by_name.version
      else
        local last, err = take_option(result, args, i)
        if not last then return nil, err end
        i = last
      end
    elseif not result.command then
      local command, err = M.find(word)
      if not command then return nil, err end
      result.command = command
    else
      result.parameters[#result.parameters + 1] = word
    end
    i = i + 1
  end
  if result.options.help then
    result.parameters = { result.command and result.command.name }
    result.command = by_name.help
  elseif not result.command then
    return usage_error("a command is missing")
  else
    local ok, bad = check_parameters(result)
    if not ok then return nil, bad end
  end
  result.flags = flags_of(result)
  return result
end

return M
