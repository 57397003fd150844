--- The exception family of the RPC framework, as a view of error codes.
--
--   local _, err = gateway:add(1):await()
--   if exceptions.is(err, "RecipientUnreachableException") then ... end
--   return nil, exceptions.FencingTokenException("no longer the leader")
--
-- An error has one code; a family is a set of codes, and families nest as the
-- classes do. Codes travel, so a family survives the wire. What a handler
-- answered arrives as the cause of a `remote` error, which is in no family:
-- it is the callee's own failure. `find` looks into causes.
--
--   RpcException
--     RpcConnectionException       no connection, or none to such an endpoint
--       HandshakeException         protocol, cluster or gateway do not match
--     EndpointNotStartedException
--     FencingTokenException
--     RecipientUnreachableException
--     RpcTimeoutException          the deadline passed; the code is the phase
--   RpcRuntimeException            a use that cannot work
--     UnknownMessageException
--     RpcInvalidStateException

local errors = require("orrery.util.errors")

local M = {}

-- name, parent, the code its constructor gives, codes of its own.
local ROWS = {
  { "RpcException", nil, "rpc", { "rpc", "callee_died", "overloaded",
    "cancelled", "too_large", "io" } },
  { "RpcConnectionException", "RpcException", "connection_failed",
    { "connection_failed", "expired_unsent", "no_method" } },
  { "HandshakeException", "RpcConnectionException", "version_mismatch",
    { "version_mismatch" } },
  { "EndpointNotStartedException", "RpcException", "not_started",
    { "not_started" } },
  { "FencingTokenException", "RpcException", "fenced", { "fenced" } },
  { "RecipientUnreachableException", "RpcException", "unreachable",
    { "unreachable", "callee_died" } },
  { "RpcTimeoutException", "RpcException", "timeout", { "timeout",
    "expired_unsent", "expired_in_queue", "expired_in_handler",
    "expired_unknown" } },
  { "RpcRuntimeException", nil, "rpc_runtime", { "rpc_runtime", "exists",
    "bad_argument", "invalid" } },
  { "UnknownMessageException", "RpcRuntimeException", "protocol",
    { "protocol" } },
  { "RpcInvalidStateException", "RpcRuntimeException", "closed",
    { "closed" } },
}

--- Java's name of a timeout in general.
local ALIASES = { TimeoutException = "RpcTimeoutException" }

local families = {}

local function family_of(name, who)
  local family = families[ALIASES[name] or name]
  if family then return family end
  local names = {}
  for _, row in ipairs(ROWS) do names[#names + 1] = row[1] end
  local near = errors.nearest(tostring(name), names)
  error(string.format("%s: there is no exception %s%s", who, tostring(name),
    near and "; did you mean " .. near .. "?" or ""), 3)
end

local function belongs(family, err)
  if family.codes[err.code] then return true end
  -- A connect can fail for several reasons; all of them are this.
  return family.connect and err.context ~= nil
    and err.context.phase == "connect"
end

--- Is err of that family?
function M.is(err, name)
  local family = family_of(name, "exceptions.is")
  return errors.is(err) and belongs(family, err) or false
end

--- The first error of that family in the chain of causes, or nil.
function M.find(err, name)
  local family = family_of(name, "exceptions.find")
  while errors.is(err) do
    if belongs(family, err) then return err end
    err = err.cause
  end
  return nil
end

--- The narrowest families of err first: names, in the order of the list above.
function M.names(err)
  local out = {}
  for i = #ROWS, 1, -1 do
    if M.is(err, ROWS[i][1]) then out[#out + 1] = ROWS[i][1] end
  end
  return out
end

--- Codes of a family and of those below it, sorted.
function M.codes(name)
  local out = {}
  for code in pairs(family_of(name, "exceptions.codes").codes) do
    out[#out + 1] = code
  end
  table.sort(out)
  return out
end

--- The address that a failed connect or call was for, or nil.
function M.target_address(err)
  return errors.is(err) and err.context and err.context.address or nil
end

--- The name of the gateway that a failed connect asked for, or nil.
function M.gateway_class(err)
  return errors.is(err) and err.context and err.context.gateway or nil
end

--- What the callee failed with: the innermost cause.
function M.root(err)
  while errors.is(err) and err.cause ~= nil do err = err.cause end
  return err
end

-- Constructors: exceptions.Name(message [, cause]); for RpcConnectionException
-- also (address, gateway, cause).
local Family = {}
Family.__index = Family

function Family.__call(self, message, cause, third)
  if type(message) ~= "string" then
    error(self.name .. ": the message must be a string, got "
      .. type(message), 2)
  end
  local context
  if self.connect and (type(cause) == "string" or third ~= nil) then
    local gateway = type(cause) == "table" and not errors.is(cause)
      and cause.name or cause
    context = { address = message, gateway = gateway, phase = "connect" }
    message = "cannot connect to " .. message .. " as " .. tostring(gateway)
    cause = third
  end
  return errors.new(self.code, message, {
    context = context, cause = cause ~= nil and errors.wrap(cause) or nil,
  })
end

function Family:__tostring()
  return "exception " .. self.name
end

for _, row in ipairs(ROWS) do
  local family = setmetatable({
    name = row[1], parent = row[2], code = row[3], codes = {},
    connect = row[1] == "RpcConnectionException",
  }, Family)
  families[row[1]] = family
  M[row[1]] = family
end

for _, row in ipairs(ROWS) do
  local family = families[row[1]]
  while family do
    for _, code in ipairs(row[4]) do family.codes[code] = true end
    if family.name == "RpcException" then family.connect = true end
    family = families[family.parent]
  end
end

return M
