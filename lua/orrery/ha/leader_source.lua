--- Who leads, for gateways of roles (service:role_gateway): a directory asked
-- through an endpoint of its own.
--
--   local leaders = leader_source.new(service, "10.0.0.7:6123")
--   local rm = service:role_gateway("resource_manager", leaders)
--   ...
--   leaders:stop()
local orrery = require("orrery")
local retrieval = require("orrery.ha.retrieval")

local Follower = orrery.endpoint("$leader_source", {})

function Follower:init() self.retrievals = {} end

function Follower:on_stop()
  for _, followed in ipairs(self.retrievals) do followed:stop() end
  self.retrievals = {}
end

local Source = {}
Source.__index = Source

local M = {}

--- directory: "host:port", or "" for the own service.
function M.new(service, directory)
  local server, err = service:start(Follower)
  if not server then return nil, err end
  return setmetatable({ _server = server, _directory = directory }, Source)
end

--- Tells on_leader(address, token) of every leader of a role, with nil when it
-- is lost; a handle with stop().
function Source:follow(role, on_leader)
  local endpoint = self._server.endpoint
  local followed = retrieval.new({
    endpoint = endpoint, directory = self._directory, role = role,
    on_leader = on_leader,
  })
  local handle, is_stopped = {}, false
  function handle.stop()
    if is_stopped then return end
    is_stopped = true
    followed:stop()
    for i, other in ipairs(endpoint.retrievals) do
      if other == followed then table.remove(endpoint.retrievals, i) break end
    end
  end
  table.insert(endpoint.retrievals, followed)
  endpoint:run_async(function()
    if not is_stopped then followed:start() end
  end)
  return handle
end

--- Ends it with all that it follows; future.
function Source:stop()
  return self._server:stop()
end

return M
