--- Tables walked in a fixed order. `pairs` answers in an order that depends on
-- addresses; wherever that order could be seen from outside (a list sent to a
-- peer, the order of actions, chance drawn per item) these are used instead.
local M = {}

-- Numbers before strings, each by value; anything else by its printed form.
local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta == tb and (ta == "number" or ta == "string") then return a < b end
  if ta ~= tb then return ta < tb end
  return tostring(a) < tostring(b)
end

--- The keys of `t`, sorted.
---@param t table
---@return any[]
function M.keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, before)
  return keys
end

--- The values of `t` in the order of their keys.
---@param t table
---@return any[]
function M.values(t)
  local keys = M.keys(t)
  for i = 1, #keys do keys[i] = t[keys[i]] end
  return keys
end

--- Like `pairs`, in the order of the keys, over the keys there were at the
-- start; entries removed meanwhile are skipped.
---@param t table
function M.pairs(t)
  local keys, i = M.keys(t), 0
  return function()
    while i < #keys do
      i = i + 1
      local value = t[keys[i]]
      if value ~= nil then return keys[i], value end
    end
  end
end

--- How many entries `t` has.
---@param t table
---@return integer
function M.count(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end

return M
