-- Runs busted inside of the interpreter that runs this file.
--
--   build/release/bin/orrery exec scripts/run_specs.lua -- [OPTION...] FILE...
--   luajit scripts/run_specs.lua [OPTION...] FILE...
--
-- The options are those of busted. With plain luajit the native parts are taken
-- from build/$ORRERY_PRESET (default release). Prints TAP. Ends by returning or
-- by an error, never by os.exit, so that the host closes its state and a leak
-- checker has something to say.

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

-- The TAP writer of busted fails itself on a file that is no Lua.
for _, path in ipairs(arg) do
  if path:find("%.lua$") then
    local chunk, message = loadfile(path, "t")
    if not chunk then
      print("not ok 1 - " .. message)
      error("run_specs: a spec file cannot be loaded", 0)
    end
  end
end

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
  -- busted throws nil when it has told everything itself.
  if e == nil then return setmetatable({ code = 1 }, Exit) end
  if getmetatable(e) == Exit then return e end
  return debug.traceback(tostring(e), 2)
end)
os.exit = exit -- luacheck: ignore 122

io.stdout:flush()
if not ok and getmetatable(err) ~= Exit then
  error("run_specs: " .. err, 0)
elseif not ok and err.code ~= 0 then
  error("run_specs: some specs failed", 0)
end
