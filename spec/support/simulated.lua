--- A simulation for each spec, freed behind it.

local testing = require("orrery.testing")

local M = {}

--- Inside of a describe: answers a table whose `sim` is new for every spec.
function M.each(busted, options)
  local holder = {}
  busted.before_each(function()
    holder.sim = testing.new(options or { seed = 7 })
  end)
  busted.after_each(function()
    holder.sim:free()
    holder.sim = nil
  end)
  return holder
end

return M
