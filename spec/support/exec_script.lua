-- What exec_spec looks at; arg[1] names the case.
local case = arg[1]
if case == "arg" then
  print(arg[0]:match("[^/]+$"), arg[1], arg[2], #arg, ...)
elseif case == "exit" then
  os.exit(tonumber(arg[2]))
elseif case == "throw" then
  local function inner() error("thrown on purpose") end
  inner()
elseif case == "table" then
  error({})
elseif case == "luv" then
  local luv = require("luv")
  print(pcall(luv.run))
  local timer = luv.new_timer()
  timer:start(1, 0, function() timer:close() error("in a callback") end)
  require("orrery").sleep(20)
  local open = luv.new_timer() -- left open on purpose
  open:start(100000, 0, function() end)
  print("still here")
elseif case == "loop await" then
  local luv = require("luv")
  local orrery = require("orrery")
  local timer = luv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    print(pcall(function() orrery.Future.new():await() end))
  end)
  orrery.sleep(20)
end
