-- Runs busted inside of the interpreter that runs this file.
--
--   build/release/bin/orrery exec scripts/run_specs.lua -- [OPTION...] FILE...
--   luajit scripts/run_specs.lua [OPTION...] FILE...
--
-- The options are those of busted. With plain luajit the native parts are taken
-- from build/$ORRERY_PRESET (default release). Prints TAP. Ends by returning
-- when all is well, so that the host closes its state and a leak checker has
-- something to say.

local root = arg[0]:match("^(.*)/scripts/[^/]*$")
  or (arg[0]:match("^scripts/[^/]*$") and ".")
  or ".."

local function prepend(list, ...)
  return table.concat({ ... }, ";") .. ";" .. list
end

package.path = prepend(package.path,
  root .. "/lua/?.lua", root .. "/lua/?/init.lua", root .. "/spec/?.lua")
local preset = os.getenv("ORRERY_PRESET") or "release"
package.cpath = prepend(package.cpath,
  ("%s/build/%s/lua/?.so"):format(root, preset))

-- busted ends the process by os.exit. The host shall end it instead.
local exit = os.exit
local Exit = {}
os.exit = function(code) -- luacheck: ignore 122
  local failed = code == false or (type(code) == "number" and code ~= 0)
  error(setmetatable({ code = failed and 1 or 0 }, Exit), 0)
end

local defaults = { "--ignore-lua", "--run=host",
  "--config-file=" .. root .. "/.busted" }
local given = { [0] = "busted" }
for _, option in ipairs(defaults) do given[#given + 1] = option end
for _, option in ipairs(arg) do
  if option ~= "--" or #given > #defaults then given[#given + 1] = option end
end
arg = given -- luacheck: ignore 121

local ok, err = xpcall(function()
  require("busted.runner")({ standalone = false })
end, function(e)
  if getmetatable(e) == Exit then return e end
  return debug.traceback(tostring(e), 2)
end)
os.exit = exit -- luacheck: ignore 122

local code = 0
if not ok then
  if getmetatable(err) == Exit then
    code = err.code
  else
    io.stderr:write("run_specs: ", err, "\n")
    code = 1
  end
end
io.stdout:flush()
if code ~= 0 then os.exit(code) end
