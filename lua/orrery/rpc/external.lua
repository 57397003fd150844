--- Futures of slots that no endpoint answers: calls of a native module to the
-- outside, a Redis say. Their errors come as the module made them.

local errors = require("orrery.util.errors")
local Executor = require("orrery.rpc.executor")
local Future = require("orrery.util.future")

local M = {}

local call = {
  failure = function(_, _, body) return errors.from_table(body or {}) end,
  cancel = function(future) future._executor.core.cancel(future._slot) end,
}

--- The future of a slot of this executor; nil, err becomes a rejected one.
function M.future(slot, err)
  if not slot then return Future.rejected(err) end
  local executor = Executor.current()
  local future = Future.new()
  future._call, future._slot, future._executor = call, slot, executor
  executor.pending[slot] = future
  return future
end

return M
