--- SHA-256 by the core.
local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

--- The digest of a string in 64 lower-case hex digits.
---@param bytes string
---@return string
function M.hex(bytes)
  local out = ffi.new("uint8_t[32]")
  local code = C.orr_sha256(bytes, #bytes, out)
  if code ~= 0 then error(select(2, lib.fail(code)), 2) end
  return (ffi.string(out, 32):gsub(".", function(c)
    return string.format("%02x", c:byte())
  end))
end

return M
