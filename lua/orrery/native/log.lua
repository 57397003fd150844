--- The process-wide log.

local core = require("orrery.core")
local lib = require("orrery.native.lib")

local M = {}

local LEVELS = { debug = 0, info = 1, warn = 2, error = 3, off = 4 }

-- What every line begins with: fn() -> string or nil.
local context_of

--- Sets who knows the context of what runs now.
function M.set_context(fn)
  context_of = fn
end

for _, name in ipairs({ "debug", "info", "warn", "error" }) do
  local level = LEVELS[name]
  M[name] = function(component, format, ...)
    local text = format
    if select("#", ...) > 0 then text = string.format(format, ...) end
    local context = context_of and context_of()
    if context then text = context .. text end
    core.log(level, component, text)
  end
end

--- Sets the level by name; nil, message for an unknown one.
function M.set_level(name)
  local level = LEVELS[name]
  if not level then
    return nil, "log level " .. tostring(name)
      .. " is not one of debug, info, warn, error, off"
  end
  lib.C.orr_log_set_level(level)
  return true
end

--- Writes to a file from now on; nil means standard error.
function M.set_file(path)
  local code = lib.C.orr_log_set_file(path)
  if code ~= 0 then return lib.fail(code) end
  return true
end

return M
