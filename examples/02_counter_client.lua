-- Calls the endpoint of examples/01_counter_server.lua from another process.
--
--   orrery exec examples/02_counter_client.lua
--   orrery exec examples/02_counter_client.lua -- 127.0.0.1:8001/counter

local orrery = require("orrery")

local address = arg and arg[1] or "127.0.0.1:7001/counter"
local service = orrery.service { name = "client" }

local counter, err = service:connect(address, "counter"):await()
if not counter then
  io.stderr:write("cannot reach the counter: ", tostring(err), "\n")
  os.exit(3)
end

counter:reset()

-- Every call gives a future at once; they are all under way together.
local futures = {}
for i = 1, 100 do futures[i] = counter:add(i) end
assert(orrery.Future.all(futures):await())
print("1 + 2 + ... + 100 = " .. assert(counter:read():await()))

-- What goes wrong there comes back here as an error with a cause.
local _, refused = counter:add("many"):await()
print("add(\"many\") answers " .. refused.code .. ": "
  .. tostring(refused.cause and refused.cause.message))

service:stop():await()
