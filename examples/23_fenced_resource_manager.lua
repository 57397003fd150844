-- A fenced ResourceManager: only callers that know who leads get through.
--
--   orrery exec examples/23_fenced_resource_manager.lua
--
-- A leader session has a fencing token { epoch, session }. A new session is a
-- new endpoint: work of the old one can never be done by the new one. A gateway
-- of the role follows the leader, whoever that is.

local orrery = require("orrery")
local exceptions = require("orrery.rpc.exceptions")

local gateway = {
  name = "resource_manager", fenced = true, methods = {
    register_task_manager = { timeout = "15 s" },
  },
}
local ResourceManager = orrery.endpoint(gateway)

function ResourceManager:init(name) self.name, self.registered = name, 0 end

function ResourceManager:register_task_manager(registration)
  self.registered = self.registered + 1
  return { type = "success", by = self.name, id = registration.id }
end

-- Who leads. A real cluster asks its directory: orrery.ha.leader_source.
local leaders = { listeners = {} }
function leaders:follow(_, on_leader)
  table.insert(self.listeners, on_leader)
  if self.address then on_leader(self.address, self.token) end
  return { stop = function() end }
end
function leaders:confirm(address, token)
  self.address, self.token = address, token
  for _, on_leader in ipairs(self.listeners) do on_leader(address, token) end
end

local service = assert(orrery.service { bind = "127.0.0.1:0" })
local client = assert(orrery.service { name = "client" })

local function become_leader(name, epoch)
  local token = { epoch = epoch, session = service._executor.chance:bytes(16) }
  local server = assert(service:start(ResourceManager, {
    id = name, token = token, args = { name },
  }))
  leaders:confirm(server.address, token)
  print(name .. " became the leader of epoch " .. epoch)
  return server, token
end

local manager = client:role_gateway("resource_manager", leaders,
  { gateway = gateway })

-- Nobody leads yet: the call waits for a leader, 15 s at most.
local early = manager:register_task_manager({ id = "tm-1" })
local first, old_token = become_leader("rm-1", 1)
print("tm-1 registered by " .. assert(early:await()).by)

-- The leadership is lost and won by another: the same gateway goes on.
assert(first:stop():await())
become_leader("rm-2", 2)
local answer = assert(manager:register_task_manager({ id = "tm-2" }):await())
print("tm-2 registered by " .. answer.by)

-- Who still holds the token of the old session is refused.
local stale = assert(client:connect(leaders.address, "resource_manager",
  { token = old_token }):await())
local _, err = stale:register_task_manager({ id = "tm-3" }):await()
assert(exceptions.is(err, "FencingTokenException"))
print("tm-3 with an old token: " .. err.code)

assert(client:stop():await())
assert(service:stop():await())
