--- Job bundles: the source text of a job file and of its local modules.
--
-- Functions never travel. The client loads the job file, which builds the job,
-- and packs the texts that took part; a task loads the same texts and gets the
-- same operators. Text only: bytecode is refused (load with mode "t").
--
-- A job file sees the usual globals, `args` (an array of strings) and a
-- `require` that looks first for a local module beside the job file
-- ("lib.words" is lib/words.lua or lib/words/init.lua), then for installed
-- ones. Local modules are those that ran and, so that a require inside a
-- function works on a task, those that a loaded text names in a literal
-- require. Globals that a job file sets stay in its own environment.
--
-- bundle = MessagePack of { entry, { { name, text }... sorted by name } }; its
-- key is the SHA-256 of these bytes in hex.

local errors = require("orrery.util.errors")
local builder = require("orrery.job.builder")
local sinks = require("orrery.job.sinks")
local sources = require("orrery.job.sources")

local M = {}

M.SIZE_MAX = 8 * 1024 * 1024
local FILES_MAX = 1000
local ARGS_MAX = 10000

local function invalid(text, options)
  return errors.new("job_invalid", text, options)
end

-- Loading --------------------------------------------------------------------

-- What was thrown in a job file, as an error with a traceback.
local function thrown(e)
  if errors.is(e) then
    if e.code == "job_invalid" then return e end
    return invalid(tostring(e), { traceback = debug.traceback("", 2) })
  end
  return invalid(tostring(e), { traceback = debug.traceback("", 2) })
end

-- orrery is on the path of a client and of a task, but a plain busted run or a
-- luajit script may load only this part.
local function orrery_module()
  local ok, orrery = pcall(require, "orrery")
  if ok and type(orrery) == "table" and orrery.job then return orrery end
  return setmetatable({ job = builder.new, sources = sources, sinks = sinks },
    { __index = ok and type(orrery) == "table" and orrery or nil })
end

-- find(module) -> text, file name or nil; texts are run once each.
local function environment(find, args)
  local env, loaded = {}, {}
  env.args = args
  env.arg = args
  env._G = env
  local function local_require(name)
    if type(name) ~= "string" then
      error("require: the name of a module must be a string", 2)
    end
    if loaded[name] ~= nil then return loaded[name] end
    if name == "orrery" then return orrery_module() end
    local text, file = find(name)
    if not text then return require(name) end
    local chunk, err = load(text, "@" .. file, "t", env)
    if not chunk then error(invalid(err), 0) end
    loaded[name] = true
    local value = chunk(name)
    if value ~= nil then loaded[name] = value end
    return loaded[name]
  end
  env.require = local_require
  return setmetatable(env, { __index = _G })
end

local RETURN = "()%f[%w_]return%f[^%w_]()"
local RETURNS_MAX = 8 -- of the last ones, some may stand in comments

-- `return job:map(...)` is a tail call: its line would be lost for errors, and
-- its frame with it. `return (job:map(...))` is none. Only the real last return
-- of a text still compiles with the bracket.
local function compile(text, entry, env)
  local name = "@" .. entry
  local chunk, err = load(text, name, "t", env)
  if not chunk then return nil, err end
  local places = {}
  for _, behind in text:gmatch(RETURN) do places[#places + 1] = behind end
  for i = #places, math.max(1, #places - RETURNS_MAX + 1), -1 do
    local bracketed = load(text:sub(1, places[i] - 1) .. "("
      .. text:sub(places[i]) .. "\n)", name, "t", env)
    if bracketed then return bracketed end
  end
  return chunk
end

local function run(text, entry, env)
  local chunk, err = compile(text, entry, env)
  if not chunk then return nil, invalid(err) end
  local ok, job = xpcall(chunk, thrown)
  if not ok then return nil, job end
  if not builder.is(job) then
    return nil, invalid(string.format("%s: a job file must end with "
      .. "`return job`, but it returned %s", entry, job == nil and "nothing"
      or "a " .. type(job)))
  end
  return job
end

-- Collecting -----------------------------------------------------------------

local function read_text(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, invalid("cannot read " .. err) end
  local text, why = file:read(M.SIZE_MAX + 1)
  file:close()
  if not text then
    if why then
      return nil, invalid(string.format("cannot read %s: %s", path, why))
    end
    text = ""
  end
  if #text > M.SIZE_MAX then
    return nil, invalid(string.format("%s is larger than %d bytes", path,
      M.SIZE_MAX))
  end
  return text
end

-- Where a module may lie, relative to the job file.
local function candidates(name)
  if not name:match("^[%w_%-][%w_%-%.]*$") or name:find("..", 1, true) then
    return {}
  end
  local path = name:gsub("%.", "/")
  return { path .. ".lua", path .. "/init.lua" }
end

local REQUIRE = "require%s*%(?%s*[\"']([%w_%-%.]+)[\"']"

local function collector(folder)
  local files, count = {}, 0
  local function add(name, text)
    if files[name] then return end
    files[name] = text
    count = count + 1
    if count > FILES_MAX then
      error(invalid(string.format("the job has more than %d local modules",
        FILES_MAX)), 0)
    end
  end
  local function find(module)
    for _, name in ipairs(candidates(module)) do
      if files[name] then return files[name], name end
      local file = io.open(folder .. "/" .. name, "rb")
      if file then
        file:close()
        local text, err = read_text(folder .. "/" .. name)
        if not text then error(err, 0) end
        add(name, text)
        return text, name
      end
    end
    return nil
  end
  -- Follows literal requires through every text that is known.
  local function scan()
    local queue, seen = {}, {}
    for name in pairs(files) do queue[#queue + 1] = name end
    table.sort(queue)
    local at = 1
    while queue[at] do
      local name = queue[at]
      at = at + 1
      if not seen[name] then
        seen[name] = true
        for module in files[name]:gmatch(REQUIRE) do
          local _, found = find(module)
          if found then queue[#queue + 1] = found end
        end
      end
    end
  end
  return { files = files, add = add, find = find, scan = scan }
end

local function sorted_files(files)
  local list, size = {}, 0
  for name, text in pairs(files) do
    list[#list + 1] = { name, text }
    size = size + #text
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list, size
end

local function check_args(args)
  args = args or {}
  if #args > ARGS_MAX then
    return nil, invalid(string.format("more than %d arguments", ARGS_MAX))
  end
  for i = 1, #args do
    if type(args[i]) ~= "string" then
      return nil, invalid(string.format("argument %d is a %s, not a string", i,
        type(args[i])))
    end
  end
  return args
end

--- Loads a job file on the client. Gives { job, entry, args, files }, files as
-- { { name, text } ... }; or nil and what is wrong, with file and line.
---@param path string
---@param args string[]|nil
function M.load(path, args)
  local err
  args, err = check_args(args)
  if not args then return nil, err end
  local text
  text, err = read_text(path)
  if not text then return nil, err end
  local folder, entry = path:match("^(.*)/([^/]+)$")
  folder, entry = folder or ".", entry or path
  local found = collector(folder)
  found.add(entry, text)
  local job
  job, err = run(text, entry, environment(found.find, args))
  if not job then return nil, err end
  local ok, scan_error = pcall(found.scan)
  if not ok then return nil, errors.wrap(scan_error, "job_invalid") end
  local files, size = sorted_files(found.files)
  if size > M.SIZE_MAX then
    return nil, invalid(string.format("the job file and its modules are %d "
      .. "bytes together, at most %d are allowed", size, M.SIZE_MAX))
  end
  return { job = job, entry = entry, args = args, files = files }
end

--- Packs what load gave: bytes and their key. codec is orrery.core or has its
-- encode; sha256_hex is a function of bytes.
---@return string bytes
---@return string key
function M.pack(loaded, codec, sha256_hex)
  local bytes = codec.encode({ loaded.entry, loaded.files })
  return bytes, sha256_hex(bytes)
end

local function files_of(list)
  if type(list) ~= "table" then return nil end
  local files = {}
  for _, file in ipairs(list) do
    if type(file) ~= "table" or type(file[1]) ~= "string"
      or type(file[2]) ~= "string" then
      return nil
    end
    files[file[1]] = file[2]
  end
  return files
end

--- Builds the job again from the bytes of its bundle, on a task.
---@return orrery.job.Job|nil
---@return orrery.Error|nil
function M.rebuild(bytes, args, codec)
  local err
  args, err = check_args(args)
  if not args then return nil, err end
  local bundle, why = codec.decode(bytes)
  local entry = type(bundle) == "table" and bundle[1]
  local files = type(bundle) == "table" and files_of(bundle[2])
  if type(entry) ~= "string" or not files or not files[entry] then
    return nil, invalid("the bytes given are no job bundle"
      .. (bundle == nil and why and ": " .. tostring(why) or ""))
  end
  local function find(module)
    for _, name in ipairs(candidates(module)) do
      if files[name] then return files[name], name end
    end
    return nil
  end
  return run(files[entry], entry, environment(find, args))
end

--- Compares the operators that a task rebuilt with those of its descriptor.
---@return true|nil
---@return orrery.Error|nil
function M.check_operators(rebuilt, expected, entry)
  for i = 1, math.max(#rebuilt, #expected) do
    local a, b = rebuilt[i], expected[i]
    if not a or not b or a.id ~= b.id or a.kind ~= b.kind or a.name ~= b.name
    then
      local function show(operator)
        return operator and string.format("%d %s %q", operator.id,
          operator.kind, operator.name) or "nothing"
      end
      return nil, invalid(string.format("%s builds other operators on a task "
        .. "than on the client (here %s, there %s); a job file must build the "
        .. "same operators each time it runs: no clock, chance or environment",
        entry or "the job file", show(a), show(b)))
    end
  end
  return true
end

return M
