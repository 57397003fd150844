--- SIGINT and SIGTERM as values that a command can wait for.
--
-- Waiting for work while Ctrl-C is watched: interrupts:await(future) answers
-- what the future does, or nil and the error "interrupted". The work itself
-- goes on; the caller decides what becomes of it.

local uv = require("luv")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")

local M = {}

local SIGNALS = { "sigint", "sigterm" }

local Interrupts = {}
Interrupts.__index = Interrupts

--- Begins to watch. on_signal(count) is optional and runs at each signal.
function M.watch(on_signal)
  local interrupts = setmetatable({ count = 0, _handles = {}, _waiting = nil },
    Interrupts)
  for i, name in ipairs(SIGNALS) do
    local handle = uv.new_signal()
    handle:start(name, function()
      interrupts.count = interrupts.count + 1
      interrupts.last = name
      local waiting = interrupts._waiting
      interrupts._waiting = nil
      if waiting then waiting:resolve(true) end
      if on_signal then on_signal(interrupts.count) end
    end)
    handle:unref()
    interrupts._handles[i] = handle
  end
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
  for _, handle in ipairs(self._handles) do
    if not handle:is_closing() then handle:close() end
  end
end

return M
