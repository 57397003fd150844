--- SIGINT and SIGTERM as values that a command can wait for.
--
-- Waiting for work while Ctrl-C is watched: interrupts:await(future) answers
-- what the future does, or nil and the error "interrupted". The work itself
-- goes on; the caller decides what becomes of it.

--
-- The core counts signals and wakes the loop of the main executor; a check
-- handle looks at the count once a turn of that loop: idle stays idle.

local core = require("orrery.core")
local uv = require("luv")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")

local M = {}

local Interrupts = {}
Interrupts.__index = Interrupts

--- Begins to watch. on_signal(count) is optional and runs at each signal.
function M.watch(on_signal)
  local first = core.interrupted()
  local interrupts = setmetatable({ count = 0, _handle = uv.new_check() },
    Interrupts)
  interrupts._handle:start(function()
    local count = core.interrupted() - first
    if count == interrupts.count then return end
    interrupts.count = count
    local waiting = interrupts._waiting
    interrupts._waiting = nil
    if waiting then waiting:resolve(true) end
    if on_signal then on_signal(count) end
  end)
  interrupts._handle:unref()
  return interrupts
end

--- Future of the next signal.
function Interrupts:next()
  self._waiting = self._waiting or Future.new()
  return self._waiting
end

--- Value or nil, err of the future, or nil and "interrupted".
function Interrupts:await(future)
  local first = Future.new()
  future:on_done(function(value, err)
    if err ~= nil then first:reject(err) else first:resolve(value) end
  end)
  self:next():on_done(function()
    first:reject(errors.new("interrupted", "interrupted"))
  end)
  return first:await()
end

function Interrupts:close()
  if not self._handle:is_closing() then self._handle:close() end
end

return M
