--- Results of tasks into the result of the job.
--
-- Pure. A task ends with { accumulators = { name = { kind, value } }, collected
-- = { name = array } }; the JobMaster joins those of all tasks, in the order of
-- vertex and subtask, so that equal runs give equal results.

local errors = require("orrery.util.errors")

local M = {}

local JOIN = {
  counter = function(a, b) return a + b end,
  maximum = math.max,
  minimum = math.min,
}

M.KINDS = JOIN

local function join_accumulators(into, from)
  local names = {}
  for name in pairs(from or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local kind, value = from[name][1], from[name][2]
    local have = into[name]
    if not JOIN[kind] then
      return nil, errors.new("job_failed", string.format(
        "accumulator %q has the unknown kind %q", name, tostring(kind)))
    end
    if have and have[1] ~= kind then
      return nil, errors.new("job_failed", string.format(
        "accumulator %q is a %s in one task and a %s in another", name, have[1],
        kind))
    end
    into[name] = { kind, have and JOIN[kind](have[2], value) or value }
  end
  return true
end

--- Joins the results of tasks, given in order. Gives a result of the same form.
function M.merge(results)
  local merged = { accumulators = {}, collected = {} }
  for _, result in ipairs(results) do
    local ok, err = join_accumulators(merged.accumulators, result.accumulators)
    if not ok then return nil, err end
    for name, list in pairs(result.collected or {}) do
      local all = merged.collected[name] or {}
      merged.collected[name] = all
      for _, record in ipairs(list) do all[#all + 1] = record end
    end
  end
  return merged
end

--- The form that on_result handlers see: accumulators as plain values.
function M.for_user(merged)
  local accumulators = {}
  for name, pair in pairs(merged.accumulators or {}) do
    accumulators[name] = pair[2]
  end
  return { accumulators = accumulators, collected = merged.collected or {} }
end

return M
