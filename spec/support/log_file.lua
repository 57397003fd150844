--- What the log says while a function runs.

local log = require("orrery.native.log")

local M = {}

--- Runs fn with the log at level (error) in a file; answers the file's text.
function M.capture(fn, level)
  local path = os.tmpname()
  assert(log.set_file(path))
  log.set_level(level or "error")
  local ok, err = pcall(fn)
  log.set_level("warn")
  assert(log.set_file(nil))
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  os.remove(path)
  if not ok then error(err, 0) end
  return text
end

return M
