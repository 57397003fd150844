-- Ends by an error that escapes the event loop; arg[1] chooses where from.

local orrery = require("orrery")
local Executor = require("orrery.rpc.executor")

local service = assert(orrery.service({ bind = "127.0.0.1:0" }))
if arg[1] == "loop" then
  local executor = Executor.default()
  executor.turn = function() error("the event loop is broken") end
else
  -- Garbage from a stranger: the connection ends, nothing else does.
  local uv = require("luv")
  local stranger = uv.new_tcp()
  local host, port = service.address:match("^(.-):(%d+)$")
  stranger:connect(host, tonumber(port), function()
    stranger:write(("garbage "):rep(64), function() stranger:close() end)
  end)
  service:schedule(100, function()
    print("garbage: " .. service:net_info().protocol_errors)
    service:stop()
  end)
end
orrery.run(service)
print("planned end")
