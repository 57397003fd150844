--- Loads liborrery.so and declares what it shares with Lua.
--
-- The library carries its own declarations (orr_cdef), so that C and Lua cannot
-- disagree. ffi.cdef runs once a Lua state: test runners drop modules from
-- package.loaded and require them again, and repeated declarations leak.

local ffi = require("ffi")

local ABI = 1
local KEY = "orrery.native.lib"

local function candidates()
  local names = {}
  local function add(name)
    if name and name ~= "" then names[#names + 1] = name end
  end
  add(os.getenv("ORRERY_LIBRARY"))
  -- The host program and core.so are linked to the library already: the same
  -- file must be used, or there would be two cores in one process.
  local core = package.loaded["orrery.core"]
  add(core and core.library and core.library())
  for path in package.cpath:gmatch("[^;]+") do
    add(path:gsub("/lua/5%.1/%?%.so$", "/liborrery.so"):match("liborrery.so$")
      and path:gsub("/lua/5%.1/%?%.so$", "/liborrery.so"))
    add(path:match("^(.*)/%?%.so$") and path:gsub("%?%.so$", "liborrery.so"))
  end
  add("liborrery.so")
  return names
end

local function load()
  local tried = {}
  for _, name in ipairs(candidates()) do
    local ok, lib = pcall(ffi.load, name)
    if ok then return lib, name end
    tried[#tried + 1] = "  " .. name .. ": " .. tostring(lib)
  end
  error("liborrery.so was not found; build or install Orrery, or set "
    .. "ORRERY_LIBRARY to its path. Tried:\n" .. table.concat(tried, "\n"), 0)
end

local registry = debug.getregistry()
local known = registry[KEY]
if not known then
  require("orrery.core")
  local lib, name = load()
  if not pcall(function() return ffi.typeof("orr_executor *") end) then
    ffi.cdef("const char *orr_cdef(void); int orr_abi(void);")
    ffi.cdef((ffi.string(lib.orr_cdef())
      :gsub("const char %*orr_cdef%(void%);", "")
      :gsub("int orr_abi%(void%);", "")))
  end
  local abi = lib.orr_abi()
  if abi ~= ABI then
    error(string.format("%s speaks ABI %d, these Lua modules need %d: "
      .. "two versions of Orrery are mixed", name, abi, ABI), 0)
  end
  known = { C = lib, path = name }
  registry[KEY] = known
end

local M = { C = known.C, ffi = ffi, path = known.path }

--- nil, err of a negative code and an orr_error, for native modules.
function M.fail(code, err)
  local errors = require("orrery.util.errors")
  local name = ffi.string(known.C.orr_code_name(code))
  local text = err and ffi.string(err.text) or ""
  if text == "" then text = "the core answered " .. name end
  return nil, errors.new(name, text)
end

--- Name of a code: -32 -> "not_started".
function M.code_name(code)
  return ffi.string(known.C.orr_code_name(code))
end

return M
