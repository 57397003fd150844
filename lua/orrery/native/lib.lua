--- Loads liborrery.so and declares what it shares with Lua.
--
-- The library carries its own declarations (orr_cdef), so that C and Lua cannot
-- disagree. ffi.cdef runs once a Lua state: test runners drop modules from
-- package.loaded and require them again, and repeated declarations leak.

local ffi = require("ffi")
local core = require("orrery.core")

local ABI = 7
local KEY = "orrery.native.lib"

local function load_library()
  -- The file that this process has mapped already: there must not be two cores.
  local path = core.library()
  local lib = ffi.load(path)
  ffi.cdef("const char *orr_cdef(void); int orr_abi(void);")
  local abi = lib.orr_abi()
  if abi ~= ABI then
    error(string.format("%s speaks ABI %d, these Lua modules need %d: "
      .. "two versions of Orrery are mixed", path, abi, ABI), 0)
  end
  ffi.cdef(ffi.string(lib.orr_cdef()))
  return { C = lib, path = path }
end

local registry = debug.getregistry()
local known = registry[KEY]
if not known then
  known = load_library()
  registry[KEY] = known
end

local M = { C = known.C, ffi = ffi, path = known.path }

--- nil, err of a code and an orr_error (may be nil), for native modules.
function M.fail(code, err)
  local errors = require("orrery.util.errors")
  local name = core.code_name(tonumber(code))
  local text = err and ffi.string(err.text) or ""
  if text == "" then text = "the core answered " .. name end
  return nil, errors.new(name, text)
end

return M
