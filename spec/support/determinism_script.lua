-- A small history with faults; prints its trace hash. arg[1] is the seed.

local orrery = require("orrery")
local testing = require("orrery.testing")

local sim = testing.new({ seed = tonumber(arg[1]), latency_ms = { 1, 9 } })
local Store = orrery.endpoint("store", { put = { timeout = "300ms" } })
function Store:init() self.data = {} end
function Store:put(key, value)
  orrery.sleep(sim:chance():below(20))
  self.data[key] = value
  return { key = key, size = #value, tags = { a = 1, b = 2, c = 3, d = 4 } }
end

local names = { "n1", "n2", "n3" }
local services = {}
for i, name in ipairs(names) do
  services[i] = sim:service(name)
  services[i]:start(Store, { id = "store" })
end
local done = 0
for i, service in ipairs(services) do
  service:execute(function()
    local gateway = service:connect(names[i % 3 + 1] .. ":1/store",
      "store"):await()
    for k = 1, 40 do
      gateway:put("k" .. k, ("v"):rep(k)):await()
      orrery.sleep(5)
    end
    done = done + 1
  end)
end
sim:advance(100)
sim:partition({ "n1" }, { "n2", "n3" })
sim:advance(400)
sim:heal()
sim:reset_connections("n2", "n3")
while done < 3 do sim:advance(100) end
print(sim:trace_hash(), sim:events())
sim:free()
