-- Checks the layer rules of ARCHITECTURE.md: arrows point down only.
--
--   luajit scripts/check_layers.lua [ROOT]
--
-- Prints every breach as file:line: sentence, then what was checked. Exits 1
-- when there is a breach.

local root = arg[1] or arg[0]:match("^(.*)/scripts/[^/]*$") or "."

-- C layers, lowest first. A file may include its own layer and those below.
local c_layers = { "base", "wire", "exec", "loop", "net", "redis", "lease",
  "blob", "sim", "host" }
local c_rank = {}
for i, name in ipairs(c_layers) do c_rank[name] = i end

-- Headers from outside that only some layers may include.
local c_outside = {
  { "^lua%.h$", { "host" } }, { "^lauxlib%.h$", { "host" } },
  { "^lualib%.h$", { "host" } }, { "^luajit%.h$", { "host" } },
  { "^luv/", { "host" } },
  { "^uv%.h$", { "loop", "net", "redis", "blob", "host" } },
}

-- Lua layers, lowest first; names in one row may require each other, but for
-- the roles. `orrery` is the face that users require: rpc and below make it,
-- so they must not require it.
local lua_layers = {
  { "core" },
  { "native", "util" },
  { "rpc" },
  { "init", "host_exec" },
  { "gateway", "heartbeat", "ha", "blob", "job", "task" },
  { "dispatcher", "resource_manager", "job_master", "task_executor" },
  { "cluster", "client", "command", "testing" },
  { "cli", "repl", "rest" },
}
local roles = { dispatcher = true, resource_manager = true, job_master = true,
  task_executor = true }
local lua_rank = {}
for i, row in ipairs(lua_layers) do
  for _, name in ipairs(row) do lua_rank[name] = i end
end

local breaches, checked = 0, { c = 0, lua = 0 }

local function breach(path, line, format, ...)
  breaches = breaches + 1
  print(("%s:%d: %s"):format(path, line, format:format(...)))
end

local function files(folder, pattern)
  local command = ("cd '%s' && [ -d '%s' ] && LC_ALL=C find '%s' -name '%s'"
    .. " -type f | LC_ALL=C sort"):format(root, folder, folder, pattern)
  local list, pipe = {}, assert(io.popen(command))
  for path in pipe:lines() do list[#list + 1] = path end
  pipe:close()
  return list
end

local function read(path)
  local file = assert(io.open(root .. "/" .. path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function contains(list, value)
  for _, v in ipairs(list) do
    if v == value then return true end
  end
  return false
end

-- C ------------------------------------------------------------------------

--- The layer that an included file belongs to; nil when it is from outside or
--- beside the including file.
local function c_target(name)
  local header = name:match("^orrery/([%w_]+)%.h$")
  if header then return header, "orrery/" .. header .. ".h" end
  local folder = name:match("^([%w_]+)/")
  if c_rank[folder] then return folder, name end
end

local function check_c(path, layer)
  checked.c = checked.c + 1
  local rank, number = c_rank[layer], 0
  for line in (read(path) .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local name = line:match('^%s*#%s*include%s*[<"]([^>"]+)[>"]')
    if name then
      if name:find("..", 1, true) then
        breach(path, number, "include \"%s\" from src/, not by \"..\"", name)
      end
      local target, shown = c_target(name)
      if target and not c_rank[target] then
        breach(path, number, "%s is the header of no layer", shown)
      elseif target and c_rank[target] > rank then
        breach(path, number, "%s includes %s, which is above it", layer, shown)
      end
      for _, rule in ipairs(c_outside) do
        if name:find(rule[1]) and not contains(rule[2], layer) then
          breach(path, number, "%s is only for src/%s", name,
            table.concat(rule[2], ", src/"))
        end
      end
    end
  end
end

for _, pattern in ipairs({ "*.c", "*.h" }) do
  for _, path in ipairs(files("src", pattern)) do
    local layer = path:match("^src/include/orrery/([%w_]+)%.h$")
      or path:match("^src/([%w_]+)/")
    if c_rank[layer] then
      check_c(path, layer)
    else
      breach(path, 1, "src/%s is no layer; the layers are in "
        .. "scripts/check_layers.lua", tostring(layer))
    end
  end
end

-- Lua ----------------------------------------------------------------------

--- The text with comments and long comments as blanks, so that positions stay.
--- Strings are kept; a "--" in a string of this project follows a quote, which
--- the pattern for strings skips.
local function without_comments(text)
  local out, i, n = {}, 1, #text
  local function blank(from, to)
    out[#out + 1] = text:sub(from, to):gsub("[^\n]", " ")
  end
  while i <= n do
    local c = text:sub(i, i)
    local two = text:sub(i, i + 1)
    if two == "--" then
      local equals = text:match("^%-%-%[(=*)%[", i)
      local stop
      if equals then
        local _, close = text:find("]" .. equals .. "]", i, true)
        stop = close or n
      else
        stop = (text:find("\n", i, true) or n + 1) - 1
      end
      blank(i, stop)
      i = stop + 1
    elseif c == '"' or c == "'" then
      local j = i + 1
      while j <= n and text:sub(j, j) ~= c do
        if text:sub(j, j) == "\\" then j = j + 1 end
        j = j + 1
      end
      out[#out + 1] = text:sub(i, j)
      i = j + 1
    elseif two == "[[" or two == "[=" then
      local equals = text:match("^%[(=*)%[", i)
      local stop = i
      if equals then
        local _, close = text:find("]" .. equals .. "]", i, true)
        stop = close or n
      end
      out[#out + 1] = text:sub(i, stop)
      i = stop + 1
    else
      out[#out + 1] = c
      i = i + 1
    end
  end
  return table.concat(out)
end

local function line_of(text, position)
  local _, count = text:sub(1, position - 1):gsub("\n", "")
  return count + 1
end

local function lua_layer(path)
  local name = path:match("^lua/orrery/([%w_]+)")
  if path == "lua/orrery.lua" then name = "init" end
  return name
end

local function required_layer(module)
  if module == "orrery" then return "init" end
  return module:match("^orrery%.([%w_]+)")
end

local function check_require(path, layer, line, module)
  if module == "ffi" and layer ~= "native" then
    breach(path, line, "only lua/orrery/native requires ffi")
  end
  local target = required_layer(module)
  if not target then return end
  if not lua_rank[target] then
    breach(path, line, "%s belongs to no layer; add it to "
      .. "scripts/check_layers.lua", module)
  elseif not lua_rank[layer] then
    return
  elseif target == "testing" and layer ~= "testing" then
    breach(path, line, "orrery.testing is for specs and users only")
  elseif lua_rank[target] > lua_rank[layer] and layer ~= "init" then
    breach(path, line, "%s requires %s, which is above it", layer, module)
  elseif roles[target] and roles[layer] and target ~= layer then
    breach(path, line, "%s requires %s: the roles speak by gateways only",
      layer, module)
  end
end

-- What no module of ours does: code from outside that is not text, globals
-- that read files without a mode, the unsafe decoder.
local forbidden = {
  { "loadstring%s*%(", "use load(text, name, \"t\", environment)" },
  { "dofile%s*%(", "use loadfile(path, \"t\", environment)" },
  { "string%.dump%s*%(", "functions are never shipped" },
  { "require%s*%(?%s*[\"']string%.buffer[\"']",
    "string.buffer trusts its input; use orrery.core.encode and decode" },
}

local function check_text_mode(path, text)
  for _, name in ipairs({ "load", "loadfile" }) do
    for before, from, args in
      text:gmatch("([%w_.:]?)%f[%w_]" .. name .. "()%s*(%b())") do
      if before == "" or not before:find("[%w_.:]") then
        -- Without arguments it is a function of that name of the file's own.
        if args:find("%S", 2) ~= #args and not args:find('"t"', 1, true) then
          breach(path, line_of(text, from), "%s without the mode \"t\"", name)
        end
      end
    end
  end
end

local cdef_callers = {}

local function check_lua(path)
  checked.lua = checked.lua + 1
  local layer = lua_layer(path)
  local text = without_comments(read(path))
  if path:find("^lua/") and not lua_rank[layer] then
    breach(path, 1, "%s belongs to no layer; add it to "
      .. "scripts/check_layers.lua", tostring(layer))
  end
  for position, module in
    text:gmatch("%f[%w_]require%s*%(?%s*()[\"']([%w_.]+)[\"']") do
    check_require(path, layer, line_of(text, position), module)
  end
  for _, rule in ipairs(forbidden) do
    local from = text:find("%f[%w_]" .. rule[1])
    if from then breach(path, line_of(text, from), "%s", rule[2]) end
  end
  check_text_mode(path, text)
  local from = text:find("%f[%w_]cdef%s*[%(%[\"']")
  if from then
    cdef_callers[#cdef_callers + 1] = { path, line_of(text, from) }
  end
end

for _, path in ipairs(files("lua", "*.lua")) do check_lua(path) end
for i = 2, #cdef_callers do
  breach(cdef_callers[i][1], cdef_callers[i][2],
    "ffi.cdef is called by %s already; one caller only", cdef_callers[1][1])
end
for _, path in ipairs(files("examples", "*.lua")) do
  local text = without_comments(read(path))
  checked.lua = checked.lua + 1
  local from = text:find("%f[%w_]require%s*%(?%s*[\"']ffi[\"']")
  if from then
    breach(path, line_of(text, from), "an example needs no ffi")
  end
  check_text_mode(path, text)
end

if breaches > 0 then
  print(("layers: %d breaches"):format(breaches))
  os.exit(1)
end
print(("layers: %d C files and %d Lua files point down only")
  :format(checked.c, checked.lua))
