--- An endpoint whose handlers take long, in several ways.

local orrery = require("orrery")
local uv = require("luv")

local Slow = orrery.endpoint("slow", {
  interpret = { timeout = "60s" }, compute = { timeout = "60s" },
  wait = { timeout = "60s" }, wait_then_interpret = { timeout = "60s" },
  ask_self = { timeout = "60s" },
})

local function busy_loop(ms)
  local ends = uv.hrtime() + ms * 1e6
  while uv.hrtime() < ends do end
  return true
end
jit.off(busy_loop)

function Slow:interpret(ms) return busy_loop(ms) end

function Slow:compute(ms)
  local per_round, x = 2e6, 0
  local began, rounds = uv.hrtime(), 0
  for i = 1, per_round do x = x + i % 7 end
  local each = (uv.hrtime() - began) / 1e6
  -- From here on nothing but machine code.
  for i = 1, per_round * math.ceil(ms / each) do x = x + i % 7 end
  return x + rounds > 0
end

function Slow:wait(ms)
  orrery.sleep(ms)
  return true
end

function Slow:wait_then_interpret(ms)
  orrery.sleep(5)
  return busy_loop(ms)
end

function Slow:ask_self(ms)
  return self:self_gateway():interpret(ms)
end

return Slow
