-- Measures in rounds: our path and its raw baseline take turns, so that both
-- meet the same machine; what is compared is the median of the ratios of
-- neighbouring rounds. Prints lines `name value unit`.

local uv = require("luv")

local M = { rounds = 5 }

function M.now_ns()
  return tonumber(uv.hrtime())
end

--- @param values number[]
--- @param q number 0..1
--- @return number
function M.quantile(values, q)
  local sorted = {}
  for i, v in ipairs(values) do sorted[i] = v end
  table.sort(sorted)
  return sorted[math.max(1, math.ceil(q * #sorted))]
end

function M.median(values)
  return M.quantile(values, 0.5)
end

local function print_value(name, value, unit)
  local text
  if value >= 1000 then
    text = ("%.0f"):format(value)
  elseif value >= 10 then
    text = ("%.1f"):format(value)
  else
    text = ("%.3f"):format(value)
  end
  print(("%-46s %12s %s"):format(name, text, unit))
  io.stdout:flush()
end
M.print = print_value

--- Runs ours and theirs in turns and prints both medians and their ratio.
--- @param spec {name: string, unit: string, ours: fun(): number,
---   raw: (fun(): number)?, raw_name: string?, goal: number?,
---   higher: boolean?, rounds: integer?}
--- @return number ratio of ours to raw, or our median without a baseline
function M.compare(spec)
  local ours, raw, ratios = {}, {}, {}
  for round = 1, spec.rounds or M.rounds do
    ours[round] = spec.ours()
    if spec.raw then
      raw[round] = spec.raw()
      ratios[round] = ours[round] / raw[round]
    end
  end
  local result = M.median(ours)
  print_value(spec.name, result, spec.unit)
  if spec.raw then
    print_value("  baseline " .. spec.raw_name, M.median(raw), spec.unit)
    result = M.median(ratios)
    print_value("  ratio (median of pairs)", result, "x")
  end
  if spec.goal then
    local met = spec.higher and result >= spec.goal
      or not spec.higher and result <= spec.goal
    print(("  goal %s %g: %s"):format(spec.higher and ">=" or "<=",
      spec.goal, met and "met" or "MISSED"))
  end
  return result
end

--- Runs one of the raw programs and gives its figures by name.
--- @param program string
--- @param args string
--- @return table<string, number>
function M.raw(program, args)
  local folder = assert(os.getenv("ORRERY_BENCH_RAW"),
    "ORRERY_BENCH_RAW names the folder of the raw programs; "
    .. "scripts/bench sets it")
  local command = ("'%s/%s' %s"):format(folder, program, args)
  local pipe = assert(io.popen(command, "r"))
  local figures = {}
  for line in pipe:lines() do
    local name, value = line:match("^(%S+)%s+(%S+)")
    if name then figures[name] = tonumber(value) end
  end
  pipe:close()
  if next(figures) == nil then error(command .. " printed no figure", 2) end
  return figures
end

return M
