--- Fenced endpoints: what only those with a token can do, and tokens.
--
-- A token is final: { epoch, session } of one leadership. A new leadership
-- makes a new endpoint object, so posted work and timers of an old session
-- never run in the new one: they end with their endpoint. The core compares the
-- token of every call when it is taken from the mailbox; both tokens are in the
-- error.

local M = {}

--- A copy that its giver cannot change any more.
function M.copy(token)
  return { epoch = token.epoch, session = token.session }
end

--- For people: "7/6162...".
function M.format(token)
  return ("%.0f/%s"):format(token.epoch, (token.session:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)))
end

-- What fenced endpoints have beyond the others.
local Fenced = {}
M.base = Fenced

--- The token that this endpoint serves, as a copy.
function Fenced:get_fencing_token()
  return M.copy(self._cell.token)
end

--- Work posted from inside needs no token: an endpoint has the one token for
-- life. The names are those of older frameworks.
function Fenced:run_async_without_fencing(fn)
  return self:run_async(fn)
end

function Fenced:call_async_without_fencing(fn, timeout)
  return self:call_async(fn, timeout)
end

return M
