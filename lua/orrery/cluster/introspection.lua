--- The endpoint `introspection`: what lives in this process, from the core.

local orrery = require("orrery")

local M = {}

local Introspection = orrery.endpoint(require("orrery.gateway.introspection"))

function Introspection:endpoints()
  local list = self.service:endpoints()
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- Starts it on a service; true or nil, err.
function M.start(service)
  local server, err = service:start(Introspection, { id = "introspection" })
  return server and true, err
end

return M
