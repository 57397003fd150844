--- Waiting for whatever comes first. For the main chunk of commands.

local uv = require("luv")
local Future = require("orrery.util.future")

local M = {}

--- Waits until one of the futures is done or ms have passed (nil: no limit).
-- Answers the index of the first that is done, or nil.
---@param futures table[]
---@param ms number|nil
function M.race(futures, ms)
  for i, future in ipairs(futures) do
    if future:is_done() then return i end
  end
  local first, timer = Future.new(), nil
  for _, future in ipairs(futures) do
    future:on_done(function() first:resolve(true) end)
  end
  if ms then
    timer = uv.new_timer()
    timer:start(math.ceil(ms), 0, function() first:resolve(true) end)
  end
  first:await()
  if timer then timer:close() end
  for i, future in ipairs(futures) do
    if future:is_done() then return i end
  end
end

return M
