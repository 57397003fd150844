--- `orrery help [COMMAND]`.

local command = require("orrery.command")
local output = require("orrery.cli.output")
local usage = require("orrery.command.usage")

local M = {}

function M.run(context)
  if context.options.markdown then
    output.write(usage.markdown())
    return 0
  end
  local name = context.parameters[1]
  if not name then
    output.write(usage.overview())
    return 0
  end
  local found, err = command.find(name)
  if not found then
    output.note("orrery: " .. err.message)
    output.note(usage.line())
    return 2
  end
  output.write(usage.page(found))
  return 0
end

return M
