--- Chance of an executor: of the system for real ones, of the seed in
-- simulation. Borrowed from the executor.

local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C

local Chance = {}
Chance.__index = Chance

--- Whole number 0 .. bound - 1.
function Chance:below(bound)
  return tonumber(C.orr_chance_below(self._c, bound))
end

--- 0 <= x < 1.
function Chance:real()
  return C.orr_chance_real(self._c)
end

--- n bytes as a string.
function Chance:bytes(n)
  local out = ffi.new("uint8_t[?]", n)
  C.orr_chance_bytes(self._c, out, n)
  return ffi.string(out, n)
end

--- n bytes in hexadecimal digits.
function Chance:hex(n)
  return (self:bytes(n):gsub(".", function(c)
    return string.format("%02x", c:byte())
  end))
end

local M = {}

function M.of_executor(pointer)
  local ex = ffi.cast("orr_executor *", pointer)
  return setmetatable({ _c = C.orr_executor_chance(ex) }, Chance)
end

--- Wraps an orr_chance pointer that somebody else owns.
function M.adopt(pointer)
  return setmetatable({ _c = pointer }, Chance)
end

return M
