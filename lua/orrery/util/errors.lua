--- Typed errors: a code for programs, a sentence for people, what it happened
-- on, and the error below it.
--
-- Functions answer a value or `nil, err`. A code is one of the names of the
-- core ("not_started", "unreachable", "expired_in_queue", ...) or a word of a
-- domain ("job_not_found"). Nothing ever looks into the text.

local nearest = require("orrery.util.nearest")

local M = {}

local CAUSES_MAX = 16

---@class orrery.Error
---@field code string
---@field message string
---@field context table|nil plain values only
---@field cause orrery.Error|nil
---@field traceback string|nil
local Error = {}
Error.__index = Error

local function indent(text)
  return (text:gsub("\n", "\n  "))
end

function Error:__tostring()
  local lines = { self.code .. ": " .. self.message }
  local cause, depth = self.cause, 0
  while cause ~= nil and depth < CAUSES_MAX do
    if M.is(cause) then
      lines[#lines + 1] = "  caused by " .. indent(cause.code .. ": "
        .. cause.message)
      cause = cause.cause
    else
      lines[#lines + 1] = "  caused by " .. indent(tostring(cause))
      cause = nil
    end
    depth = depth + 1
  end
  return table.concat(lines, "\n")
end

--- Text and every traceback that is known, for logs.
function Error:describe()
  local lines = { tostring(self) }
  local at, depth = self, 0
  while M.is(at) and depth < CAUSES_MAX do
    if at.traceback then lines[#lines + 1] = at.traceback end
    at, depth = at.cause, depth + 1
  end
  return table.concat(lines, "\n")
end

--- Is v an error of this module?
function M.is(v)
  return type(v) == "table" and getmetatable(v) == Error
end

--- Makes an error. options: context, cause, traceback.
---@return orrery.Error
function M.new(code, message, options)
  if type(code) ~= "string" or type(message) ~= "string" then
    error("errors.new: code and message must be strings", 2)
  end
  options = options or {}
  return setmetatable({
    code = code,
    message = message,
    context = options.context,
    cause = options.cause,
    traceback = options.traceback,
  }, Error)
end

--- Makes an error of whatever was thrown or answered. An error stays as it is.
function M.wrap(v, code)
  if M.is(v) then return v end
  if type(v) == "table" and type(v.code) == "string"
    and type(v.message) == "string" then
    return M.from_table(v)
  end
  return M.new(code or "error", tostring(v))
end

--- The first error of the chain with this code, or nil.
function M.find(v, code)
  local depth = 0
  while M.is(v) and depth < CAUSES_MAX do
    if v.code == code then return v end
    v, depth = v.cause, depth + 1
  end
  return nil
end

local SENDABLE = { string = true, number = true, boolean = true }

-- Contexts are for reading; what cannot be sent is sent as its text.
local function plain(value, depth)
  if SENDABLE[type(value)] then return value end
  if type(value) ~= "table" or depth > 8 then return tostring(value) end
  local out = {}
  for k, v in pairs(value) do
    if type(k) == "string" or type(k) == "number" then
      out[k] = plain(v, depth + 1)
    end
  end
  return out
end

--- Plain table that can be sent; from_table makes an error of it again.
function M.to_table(e)
  local top, at, depth = nil, nil, 0
  e = M.wrap(e)
  while e ~= nil and depth < CAUSES_MAX do
    if not M.is(e) then e = M.wrap(e) end
    local t = {
      code = e.code,
      message = e.message,
      context = e.context and plain(e.context, 0) or nil,
      traceback = e.traceback,
    }
    if at then at.cause = t else top = t end
    at, e, depth = t, e.cause, depth + 1
  end
  return top
end

--- Never fails: bytes from outside may lack anything.
function M.from_table(t)
  local top, at, depth = nil, nil, 0
  while t ~= nil and depth < CAUSES_MAX do
    local e
    if type(t) == "table" then
      e = setmetatable({
        code = type(t.code) == "string" and t.code or "error",
        message = type(t.message) == "string" and t.message or "no message",
        context = type(t.context) == "table" and t.context or nil,
        traceback = type(t.traceback) == "string" and t.traceback or nil,
      }, Error)
      t = t.cause
    else
      e = M.new("error", tostring(t))
      t = nil
    end
    if at then at.cause = e else top = e end
    at, depth = e, depth + 1
  end
  return top or M.new("error", "no message")
end

--- Of a list of words, the one that was probably meant, or nil.
M.nearest = nearest.find

return M
