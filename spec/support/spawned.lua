--- An endpoint for the specs of spawn.

local orrery = require("orrery")

local Spawned = orrery.endpoint("spawned", {
  arguments = {}, call = {}, executor = {}, finish = {}, die = { tell = true },
})

function Spawned:init(...)
  if (...) == "fail in init" then error("init refused") end
  self.given = { ... }
end

function Spawned:on_start()
  if self.given[1] == "fail in on_start" then error("on_start refused") end
end

function Spawned:arguments()
  return self.given
end

function Spawned:call(address, x)
  local gateway, err = self:connect_to(address, "echo"):await()
  if not gateway then return nil, err end
  return gateway:echo(x)
end

--- The number of the executor it lives on.
function Spawned:executor()
  return self.service._executor.number or require("orrery.core").number()
end

--- Ends by itself.
function Spawned:finish()
  self:close_async()
  return true
end

function Spawned:on_stop()
  if self.given[1] == "fail in on_stop" then error("on_stop refused") end
end

--- Makes the loop of its executor throw.
function Spawned:die()
  self.service._executor.turn = function() error("the loop broke") end
  self:schedule_run_async(0, function() end)
end

return Spawned
