--- The configuration of one process: values by key, each with its source.
--
-- Sources, later ones win: defaults, the file orrery.conf.lua, ORRERY_*
-- variables, -D key=value, command-line flags. Everything that is wrong is an
-- error that names key, value, expected form and source; nothing is ignored.
--
-- The file is Lua, loaded as text in an environment without any function. It
-- may assign (`jobmanager.rpc.port = 7000`), assign tables
-- (`taskmanager = { slots = 4 }`), or return one with nested or dotted keys.
-- An underscore stands for a dash where a dash cannot be written.

local errors = require("orrery.util.errors")
local nearest = require("orrery.util.nearest")
local option_types = require("orrery.util.option_types")
local time = require("orrery.util.time")

local M = {}

local FILE_NAME = "orrery.conf.lua"
local FILE_SIZE_MAX = 1024 * 1024

--- Variables that are not configuration keys.
local OTHER_VARIABLES = {
  ORRERY_CONF = true, ORRERY_LUA_PATH = true, ORRERY_HOME = true,
  ORRERY_BIN = true, ORRERY_PRESET = true, ORRERY_ROOT = true, -- of scripts/
}

--- The options in their order, and by key, alias and variable.
M.options = require("orrery.util.config_options")

local function variable_of(key)
  return "ORRERY_" .. key:upper():gsub("[.-]", "_")
end
M.variable_of = variable_of

local by_loose_key, by_variable, all_keys = {}, {}, {}
local function loose(key) return (key:lower():gsub("_", "-")) end

for _, option in ipairs(M.options) do
  all_keys[#all_keys + 1] = option.key
  by_variable[variable_of(option.key)] = option
  by_loose_key[loose(option.key)] = option
  for _, alias in ipairs(option.aliases or {}) do
    by_loose_key[loose(alias)] = option
    all_keys[#all_keys + 1] = alias
  end
end

-- Keys that people bring along and that mean nothing here: why.
local foreign = {}
for _, row in ipairs(require("orrery.util.config_foreign")) do
  foreign[loose(row[1])] = row[2]
end

local function fail(message, context)
  return nil, errors.new("bad_configuration", message, { context = context })
end

local function shown(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "table" then return "a table" end
  return tostring(value)
end

local function find_option(key, source)
  local option = by_loose_key[loose(key)]
  if option then return option end
  local why = foreign[loose(key)]
  if why then
    return fail(("%s: the configuration key %q has no use here: %s; remove it")
      :format(source, key, why), { key = key })
  end
  local near = nearest.find(key, all_keys)
  return fail(("%s: unknown configuration key %q%s"):format(source, key,
    near and (", did you mean %q?"):format(near)
      or "; \"orrery config\" lists the keys"), { key = key })
end

--- One configuration under construction: later set() calls win.
local Layers = {}
Layers.__index = Layers

function Layers:set(key, value, source)
  local option, err = find_option(key, source)
  if not option then return nil, err end
  local typed, expected = option_types[option.type](value, option)
  if typed == nil then
    return fail(("%s: %s = %s: expected %s"):format(source, option.key,
      shown(value), expected), { key = option.key })
  end
  self.values[option.key] = typed
  self.sources[option.key] = source
  return true
end

-- The file ---------------------------------------------------------------

local function is_list(value)
  return type(value) == "table" and value[1] ~= nil
end

--- Calls set(key, value) for each leaf, in the order of the keys.
local function flatten(prefix, value, set, depth)
  if type(value) ~= "table" or is_list(value) then
    return set(prefix, value)
  end
  if depth > 16 then
    return fail(("%s: tables nested deeper than 16"):format(prefix))
  end
  local keys = {}
  for key in pairs(value) do
    if type(key) ~= "string" then
      return fail(("%s: %s is no configuration key"):format(
        prefix == "" and "returned table" or prefix, tostring(key)))
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local path = prefix == "" and key or prefix .. "." .. key
    local ok, err = flatten(path, value[key], set, depth + 1)
    if not ok then return nil, err end
  end
  return true
end

--- An environment that records assignments to any path with their lines.
local function recording_environment(record)
  local function node(path)
    return setmetatable({}, {
      __index = function(_, key)
        return node(path == "" and key or path .. "." .. key)
      end,
      __newindex = function(_, key, value)
        local where = debug.getinfo(2, "l")
        record(path == "" and tostring(key) or path .. "." .. tostring(key),
          value, where and where.currentline)
      end,
      __call = function()
        error(("%s: a configuration file has no functions"):format(path), 2)
      end,
      __concat = function()
        error(("%s: a value that is not set"):format(path), 2)
      end,
    })
  end
  return node("")
end

--- The first line that mentions the last word of a key; for returned tables.
local function line_of(text, key)
  local word = key:match("[^.]+$"):gsub("%-", "[-_]")
  local number = 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if line:find("%f[%w]" .. word .. "%f[^%w_-]") then return number end
  end
end

local function read_file(path)
  local file, why = io.open(path, "rb")
  if not file then
    return fail(("cannot read the configuration file: %s"):format(why))
  end
  local text, read_why = file:read(FILE_SIZE_MAX + 1)
  file:close()
  if not text and read_why then
    return fail(("cannot read the configuration file %s: %s"):format(path,
      read_why))
  end
  text = text or ""
  if #text > FILE_SIZE_MAX then
    return fail(("%s: larger than %d bytes"):format(path, FILE_SIZE_MAX))
  end
  return text
end

--- Adds the assignments of a configuration text.
function Layers:add_text(text, name)
  local records = {}
  local environment = recording_environment(function(key, value, line)
    records[#records + 1] = { key = key, value = value, line = line }
  end)
  local chunk, why = load(text, "=" .. name, "t", environment)
  if not chunk then return fail(why) end
  local ran, result = pcall(chunk)
  if not ran then return fail(tostring(result)) end
  if result ~= nil and (type(result) ~= "table" or getmetatable(result)) then
    return fail(("%s: returns %s, expected a table or nothing"):format(name,
      type(result) == "table" and "a name that is not set" or type(result)))
  end
  if result then records[#records + 1] = { key = "", value = result } end
  for _, record in ipairs(records) do
    local ok, err = flatten(record.key, record.value, function(key, value)
      local line = record.line or line_of(text, key)
      local source = line and ("%s:%d"):format(name, line) or name
      return self:set(key, value, source)
    end, 0)
    if not ok then return nil, err end
  end
  return true
end

-- The other sources --------------------------------------------------------

--- Adds ORRERY_* variables. One that is no key but looks like a mistyped one
-- is an error; others belong to somebody else.
function Layers:add_environment(environment)
  local names, variables = {}, {}
  for name in pairs(environment) do
    if name:sub(1, 7) == "ORRERY_" then names[#names + 1] = name end
  end
  table.sort(names)
  for variable in pairs(by_variable) do variables[#variables + 1] = variable end
  for _, name in ipairs(names) do
    local option = by_variable[name]
    if option then
      local ok, err = self:set(option.key, environment[name], name)
      if not ok then return nil, err end
    elseif not OTHER_VARIABLES[name] then
      local near = nearest.find(name, variables)
      if near then
        return fail(("%s: unknown variable, did you mean %s?"):format(name,
          near))
      end
    end
  end
  return true
end

--- Adds definitions of the form key=value.
function Layers:add_definitions(definitions)
  for _, definition in ipairs(definitions) do
    local key, value = definition:match("^([^=]+)=(.*)$")
    if not key then
      return fail(("-D %s: expected key=value"):format(definition))
    end
    local ok, err = self:set(key, value, "-D " .. key)
    if not ok then return nil, err end
  end
  return true
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- The file to use: the one asked for (which must exist), or the first of the
-- usual places that is there.
local function find_file(asked, environment)
  if asked then return asked end
  local named = environment.ORRERY_CONF
  if named and named ~= "" then return named end
  for _, path in ipairs { FILE_NAME, "/etc/orrery/" .. FILE_NAME } do
    if exists(path) then return path end
  end
end

local Config = {}
Config.__index = Config

--- Reads all sources.
---
--- sources.file: path or nil; false looks nowhere. sources.environment: table
--- of variables. sources.definitions: texts of -D. sources.flags: array of
--- { key, value, flag }.
---@return table|nil config, table|nil error
function M.load(sources)
  local environment = sources.environment or {}
  local layers = setmetatable({ values = {}, sources = {} }, Layers)
  local path
  if sources.file ~= false then
    path = find_file(sources.file, environment)
  end
  if path then
    local text, err = read_file(path)
    if not text then return nil, err end
    local ok, bad = layers:add_text(text, path)
    if not ok then return nil, bad end
  end
  local ok, err = layers:add_environment(environment)
  if ok then ok, err = layers:add_definitions(sources.definitions or {}) end
  if not ok then return nil, err end
  for _, flag in ipairs(sources.flags or {}) do
    ok, err = layers:set(flag[1], flag[2], flag[3])
    if not ok then return nil, err end
  end
  for _, option in ipairs(M.options) do
    if layers.values[option.key] == nil then
      local default = option.default
      if type(default) == "function" then default = default() end
      layers.values[option.key] = default
      layers.sources[option.key] = "default"
    end
  end
  return setmetatable({
    file = path, _values = layers.values, _sources = layers.sources,
  }, Config)
end

--- The typed value of a key.
function Config:get(key)
  local value = self._values[key]
  if value == nil then
    error(("config: no option %q"):format(tostring(key)), 2)
  end
  return value
end

--- Where the value came from: "default", "file:line", a variable, "-D key" or
-- a flag.
function Config:source(key)
  return self._sources[key]
end

--- A function config(key) -> value, the form that the roles take.
function Config:reader()
  return function(key) return self:get(key) end
end

--- The same configuration with some values replaced.
function Config:with(values, source)
  local copy = setmetatable({ file = self.file, _values = {}, _sources = {} },
    Config)
  for key, value in pairs(self._values) do copy._values[key] = value end
  for key, from in pairs(self._sources) do copy._sources[key] = from end
  for key, value in pairs(values) do
    copy._values[key], copy._sources[key] = value, source
  end
  return copy
end

--- A value as it would be written.
function M.format_value(option, value)
  if option.type == "duration" then
    return time.format_ms(value)
  elseif option.type == "list" then
    return table.concat(value, ",")
  elseif option.type == "string" then
    return ("%q"):format(value)
  end
  return tostring(value)
end

return M
