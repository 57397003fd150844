--- The nearest of some known words to a mistyped one.
--
-- Optimal string alignment distance: insert, delete, replace and swap of
-- neighbours cost one each. Words are short (commands, options, keys); longer
-- ones than LENGTH_MAX get no suggestion rather than a slow one.

local M = {}

local LENGTH_MAX = 64

--- Number of edits between two short words.
---@param a string
---@param b string
---@return integer
function M.distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1)
        and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, last = last, row
  end
  return last[#b]
end

--- The candidate with the fewest edits, if it is near enough to be meant: at
--- most a third of the longer word, or the word is a beginning of it. Of equals
--- the first in the order of the alphabet wins.
---@param word string
---@param candidates string[]
---@return string|nil
function M.find(word, candidates)
  if #word == 0 or #word > LENGTH_MAX then return nil end
  local sorted = {}
  for i, candidate in ipairs(candidates) do sorted[i] = candidate end
  table.sort(sorted)
  local lower = word:lower()
  local best, best_distance
  for _, candidate in ipairs(sorted) do
    if #candidate <= LENGTH_MAX then
      local distance = M.distance(lower, candidate:lower())
      local allowed = math.max(1, math.floor(math.max(#word, #candidate) / 3))
      if #lower >= 2 and candidate:lower():sub(1, #lower) == lower then
        distance = math.min(distance, 1)
      end
      if distance <= allowed and (not best or distance < best_distance) then
        best, best_distance = candidate, distance
      end
    end
  end
  return best
end

return M
