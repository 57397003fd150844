--- The endpoint `introspection`: what lives in this process, from the core.
--
-- It reads counters and asks no endpoint anything, so it tells of one that
-- hogs its executor or never answers. It is on the executor that has the
-- connections of the process, and is therefore silent while an endpoint of
-- that very executor runs: for that there is the watchdog's line in the log.

local errors = require("orrery.util.errors")
local native = require("orrery.native.introspection")
local orrery = require("orrery")
local trace = require("orrery.rpc.trace")

local M = {}

local Introspection = orrery.endpoint(require("orrery.gateway.introspection"))

function Introspection:endpoints()
  local list = self.service:endpoints()
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function slot_of(self, name)
  if type(name) ~= "string" then
    return nil, errors.new("bad_argument", "the name of an endpoint is needed")
  end
  for _, endpoint in ipairs(self.service:endpoints()) do
    if endpoint.name == name then return endpoint.slot end
  end
  return nil, errors.new("not_found", "there is no endpoint " .. name
    .. " here; endpoints() tells which there are")
end

function Introspection:methods(name)
  local slot, err = slot_of(self, name)
  if not slot then return nil, err end
  return native.methods(self.service._pointer, slot)
end

function Introspection:reset(name)
  local slot, err = slot_of(self, name)
  if not slot then return nil, err end
  return native.reset(self.service._pointer, slot)
end

function Introspection:executors()
  return native.executors()
end

function Introspection:connections()
  return self.service:net_info() or {}
end

function Introspection:trace(filter, duration)
  if duration == nil or duration == 0 then return trace.stop() end
  if type(filter) ~= "string" or #filter > 127 then
    return nil, errors.new("bad_argument",
      "a filter is a text of at most 127 bytes")
  end
  return trace.start(filter, duration)
end

function Introspection:traces(id)
  return trace.spans(id)
end

--- Starts it on a service; true or nil, err.
function M.start(service)
  local server, err = service:start(Introspection, { id = "introspection" })
  return server and true, err
end

return M
