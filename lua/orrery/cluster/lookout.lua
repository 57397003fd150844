--- Tells the people at a taskmanager whether its jobmanager can be found. The
-- taskmanager itself looks for it on its own (orrery.ha); this only speaks:
-- once when it is missing, again every REMIND_MS, and once when it is back.

local uv = require("luv")
local orrery = require("orrery")

local M = {}

local RETRY_MS, ATTEMPT_MS, REMIND_MS = 1000, 5000, 60000
local ROLE = "resource_manager"

local Lookout = {}
Lookout.__index = Lookout

local function missing(self)
  local now = uv.now()
  if self._told_at and now - self._told_at < REMIND_MS then return end
  self._told_at = now
  self._notice(("no jobmanager at %s yet, still looking"):format(self._address))
end

local function found(self)
  if self._told_at then
    self._notice(("found the jobmanager at %s"):format(self._address))
  end
  self._told_at = nil
end

-- Holds on to the directory until it is gone.
local function stay(self, leaders)
  local token
  while not self._stopped do
    local leader, err = leaders:watch(ROLE, token):await()
    if err then return end
    token = leader and leader.token
    if not leader then orrery.sleep(RETRY_MS) end
  end
end

local function look(self)
  while not self._stopped do
    local leaders = self._service:connect(self._address .. "/leaders",
      "leaders", { timeout = ATTEMPT_MS }):await()
    if self._stopped then return true end
    if leaders then
      found(self)
      stay(self, leaders)
    else
      missing(self)
    end
    if not self._stopped then orrery.sleep(RETRY_MS) end
  end
  return true
end

--- Begins to look. notice(text) says a line.
function M.start(service, address, notice)
  local lookout = setmetatable({ _service = service, _address = address,
    _notice = notice, _stopped = false }, Lookout)
  orrery.async(function() return look(lookout) end)
  return lookout
end

function Lookout:stop()
  self._stopped = true
end

return M
