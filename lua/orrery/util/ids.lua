--- Identifiers. Job, allocation and instance ids are 16 bytes printed as 32
-- lower-case hex digits; they are drawn from the chance of the caller's
-- executor, so that a simulated run makes the same ones again.
-- An attempt prints as `<graph>_<vertex>_<subtask>_<attempt>`.
local errors = require("orrery.util.errors")

local M = {}

--- Bytes as lower-case hex.
---@param bytes string
---@return string
function M.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- A new id of 32 hex digits.
---@param random_bytes fun(n: integer): string
---@return string
function M.new(random_bytes)
  return M.hex(random_bytes(16))
end

--- Whether `id` looks like one that `new` makes.
function M.is_id(id)
  return type(id) == "string" and #id == 32
    and id:find("^[0-9a-f]+$") ~= nil
end

--- `id` itself, or nil and `bad_argument`.
function M.check(id, what)
  if M.is_id(id) then return id end
  return nil, errors.new("bad_argument",
    ("%s: %s is not an id: 32 lower-case hex digits are expected")
      :format(what, type(id) == "string" and ("%q"):format(id) or type(id)))
end

--- The printed form of an attempt.
---@param graph string
---@param vertex integer
---@param subtask integer from 0
---@param attempt integer from 0
function M.attempt(graph, vertex, subtask, attempt)
  return ("%s_%d_%d_%d"):format(graph, vertex, subtask, attempt)
end

--- The parts of a printed attempt, or nil and `bad_argument`.
---@return { graph: string, vertex: integer, subtask: integer,
---          attempt: integer }?, table?
function M.parse_attempt(text)
  local graph, vertex, subtask, attempt
  if type(text) == "string" then
    graph, vertex, subtask, attempt =
      text:match("^(%x+)_(%d+)_(%d+)_(%d+)$")
  end
  if not graph then
    return nil, errors.new("bad_argument",
      ("attempt: %s is not <graph>_<vertex>_<subtask>_<attempt>")
        :format(tostring(text)))
  end
  return {
    graph = graph, vertex = tonumber(vertex), subtask = tonumber(subtask),
    attempt = tonumber(attempt),
  }
end

return M
