--- The result of a job, merged from the results of its tasks:
-- `{ accumulators = { name = { kind, value } }, collected = { name = array } }`.
-- Accumulators merge by kind; collected arrays are joined in the order of
-- vertices and subtasks. Pure.
local errors = require("orrery.util.errors")
local sorted = require("orrery.util.sorted")

local M = {}

local function sum(a, b) return a + b end

local merge = {
  count = sum,
  sum = sum,
  min = function(a, b) return math.min(a, b) end,
  max = function(a, b) return math.max(a, b) end,
}

function merge.list(a, b)
  local joined = {}
  for _, value in ipairs(a) do joined[#joined + 1] = value end
  for _, value in ipairs(b) do joined[#joined + 1] = value end
  return joined
end

function merge.histogram(a, b)
  local total = {}
  for key, value in pairs(a) do total[key] = value end
  for key, value in pairs(b) do total[key] = (total[key] or 0) + value end
  return total
end

local expected = { list = "table", histogram = "table" }

local function check(name, kind, value)
  if not merge[kind] then
    return nil, errors.new("bad_result",
      ("accumulator %s: unknown kind %s; known are %s")
        :format(name, tostring(kind), table.concat(sorted.keys(merge), ", ")))
  end
  local wanted = expected[kind] or "number"
  if type(value) ~= wanted then
    return nil, errors.new("bad_result",
      ("accumulator %s of kind %s has a %s, a %s is expected")
        :format(name, kind, type(value), wanted))
  end
  return true
end

-- `{ kind, value }` or `{ kind = , value = }`.
local function parts(entry)
  if type(entry) ~= "table" then return nil, nil end
  return entry.kind or entry[1], entry.kind and entry.value or entry[2]
end

local function add_accumulators(total, accumulators)
  for name, entry in sorted.pairs(accumulators or {}) do
    local kind, value = parts(entry)
    local ok, err = check(name, kind, value)
    if not ok then return nil, err end
    local before = total[name]
    if before and before.kind ~= kind then
      return nil, errors.new("bad_result",
        ("accumulator %s is a %s in one task and a %s in another")
          :format(name, before.kind, kind))
    end
    total[name] = {
      kind = kind, value = before and merge[kind](before.value, value) or value,
    }
  end
  return true
end

--- Merges the results of tasks, given in the order of vertices and subtasks.
---@param results table[]
---@return table?, table?
function M.merge(results)
  local accumulators, collected = {}, {}
  for _, result in ipairs(results) do
    local ok, err = add_accumulators(accumulators, result.accumulators)
    if not ok then return nil, err end
    for name, values in sorted.pairs(result.collected or {}) do
      local all = collected[name] or {}
      collected[name] = all
      for _, value in ipairs(values) do all[#all + 1] = value end
    end
  end
  return { accumulators = accumulators, collected = collected }
end

return M
