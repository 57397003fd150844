--- The endpoint `introspection`: what lives in this process, from the core.

local native_service = require("orrery.native.service")
local orrery = require("orrery")

local M = {}

local Introspection = orrery.endpoint(require("orrery.gateway.introspection"))

function Introspection:init(pointer, now_ms)
  self._pointer, self._now_ms = pointer, now_ms
end

function Introspection:endpoints()
  local list = native_service.endpoints(self._pointer, self._now_ms())
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- Starts it on a service; true or nil, err.
function M.start(service)
  local server, err = service:start(Introspection, { id = "introspection",
    args = { service._pointer, function() return service:now_ms() end } })
  return server and true, err
end

return M
