--- Elections without competition: who contends is granted at once, for good.
--
-- This is the seam for real elections. `services:election(role)` gives
--   start({ on_grant = fn(token), on_revoke = fn() })
--   confirm(token, address)   the granted session is served there from now on;
--                             false when it is not the current session
--   close()                   revokes, synchronously, and removes the record
-- The epoch grows with every grant of this process and, as it begins at the
-- wall clock, over restarts; the session is 16 bytes of chance.
local directories = require("orrery.ha.directory")

local M = {}

local Services = {}
Services.__index = Services

local Election = {}
Election.__index = Election

--- @param options { wall_ms: fun(): number,
---   random_bytes: fun(n: integer): string }
function M.new(options)
  return setmetatable({
    directory = directories.new(), _epoch = options.wall_ms(),
    _random_bytes = options.random_bytes,
  }, Services)
end

function Services:election(role)
  return setmetatable({ role = role, _services = self }, Election)
end

function Election:start(contender)
  if self._contender then
    error(("election of %s: started twice"):format(self.role), 2)
  end
  local services = self._services
  self._contender = contender
  services._epoch = services._epoch + 1
  self.token = {
    epoch = services._epoch, session = services._random_bytes(16),
  }
  contender.on_grant(self.token)
end

function Election:confirm(token, address)
  if self._is_closed or not directories.same_token(token, self.token) then
    return false
  end
  return self._services.directory:confirm(self.role,
    { address = address, token = token })
end

function Election:close()
  if self._is_closed then return end
  self._is_closed = true
  local token = self.token
  self.token = nil
  if not token then return end
  self._services.directory:revoke(self.role, token)
  if self._contender.on_revoke then self._contender.on_revoke() end
end

return M
