-- A source and a sink of one's own: tables of functions.
--
--     orrery run examples/12_own_ends.lua -- [--fail]
--
-- The source makes the Collatz sequences of the numbers up to 30; a split is a
-- range of them, made once on the client. The sink keeps the longest sequence
-- of its subtask. With --fail the sink throws, to show what that looks like.

local orrery = require("orrery")

local collatz = {
  bounded = true,
  splits = function(_, parallelism)
    local list, size = {}, math.ceil(30 / parallelism)
    for from = 1, 30, size do
      list[#list + 1] = { from = from, to = math.min(30, from + size - 1) }
    end
    return list
  end,
  open = function(_, split)
    local n = split.from - 1
    -- One sequence a call: true = there is more, nothing = the split is done.
    return function(emit)
      n = n + 1
      local sequence, at = { n }, n
      while at ~= 1 do
        at = at % 2 == 0 and at / 2 or 3 * at + 1
        sequence[#sequence + 1] = at
      end
      emit(sequence)
      return n < split.to or nil
    end
  end,
}

local longest = {
  collect = "longest", -- what finish answers goes there
  open = function()
    local best = {}
    return {
      write = function(sequence)
        if args[1] == "--fail" then error("this sink was told to fail") end
        if #sequence > #best then best = sequence end
      end,
      finish = function() return { best } end,
    }
  end,
}

local job = orrery.job("collatz", { parallelism = 2 })
job:source(collatz, { name = "collatz" }):sink(longest, { name = "longest" })

job:on_result(function(result, print)
  local best = {}
  for _, sequence in ipairs(result.collected.longest) do
    if #sequence > #best then best = sequence end
  end
  print(string.format("%d takes %d steps: %s", best[1], #best - 1,
    table.concat(best, " ")))
end)

return job
