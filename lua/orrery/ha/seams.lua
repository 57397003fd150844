--- Clock and chance of the executor that a service lives on: real ones, or
-- those of a simulation.
local Seams = {}
Seams.__index = Seams

local M = {}

function M.of(service)
  return setmetatable({ _executor = service._executor }, Seams)
end

--- Monotonic milliseconds.
function Seams:now_ms() return self._executor:now_ms() end

--- Milliseconds since 1970.
function Seams:wall_ms() return math.floor(self._executor:wall_ms()) end

--- n bytes of chance.
function Seams:bytes(n) return self._executor.chance:bytes(n) end

--- A number in [0, 1).
function Seams:real() return self._executor.chance:real() end

return M
