-- The other process of the benchmarks: spec/bench/server.lua.

local uv = require("luv")
local Future = require("orrery.util.future")

local M = {}

--- Starts it; answers its address and a function that ends it.
function M.start_server(arguments)
  local here = arg[0]:match("^(.*)/[^/]*$") or "."
  local words = { "exec", here .. "/server.lua", "--" }
  for _, word in ipairs(arguments or {}) do words[#words + 1] = word end
  local output, input = uv.new_pipe(false), uv.new_pipe(false)
  local address = Future.new()
  local process = assert(uv.spawn(assert(uv.exepath()), {
    args = words, stdio = { input, output, 2 },
  }, function() end))
  output:read_start(function(_, data)
    if data and not address:is_done() then
      address:resolve((data:gsub("%s+$", "")))
    end
  end)
  return assert(address:await()), function()
    input:close()
    output:close()
    if not process:is_closing() then process:close() end
  end
end

return M
