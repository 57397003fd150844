--- What up, jobmanager and taskmanager share: start, tell, wait for the signal,
-- stop within a bound. A second signal leaves at once.

local uv = require("luv")
local exit_codes = require("orrery.cli.exit_codes")
local errors = require("orrery.util.errors")
local interrupts_module = require("orrery.cli.interrupts")
local output = require("orrery.cli.output")
local wait = require("orrery.cli.wait")

local M = {}

local STOP_MS = 5000

-- Written beside and renamed, so that a reader never sees a half.
local function write_ready_file(path, text)
  local temporary = path .. ".new"
  local file, why = io.open(temporary, "wb")
  if not file then return nil, why end
  local ok
  ok, why = file:write(text)
  file:close()
  if ok then ok, why = os.rename(temporary, path) end
  return ok, why
end

local function tell_ready(context, process)
  local path = context.options["ready-file"]
  if not path then return true end
  local ok, why = write_ready_file(path, ("%s\n%d\n"):format(process.address,
    uv.os_getpid()))
  if ok then return true end
  return nil, errors.new("io", ("cannot write the ready file: %s"):format(why))
end

local function stop(process, interrupts)
  if interrupts.count > 1 then return exit_codes.INTERRUPTED end
  output.note("stopping")
  local stopped = process:stop()
  local first = wait.race({ stopped, interrupts:next() }, STOP_MS)
  if first == 2 then return exit_codes.INTERRUPTED end
  if not first then
    output.note(("orrery: not stopped after %d s, leaving"):format(
      STOP_MS / 1000))
    return exit_codes.FAILED
  end
  local _, err = stopped:await()
  if err then return output.fail("stop", err) end
  return exit_codes.OK
end

--- Runs a process of the cluster. start(config, notice) answers a process or
-- nil, err; describe(process) the lines that it says when it serves.
function M.run(context, start, describe)
  local interrupts = interrupts_module.watch()
  local process, err = start(context.config, output.note)
  local ok = process ~= nil
  if ok then ok, err = tell_ready(context, process) end
  if not ok then
    if process then wait.race({ process:stop() }, STOP_MS) end
    interrupts:close()
    return output.fail(context.command, err)
  end
  output.write(describe(process))
  wait.race({ interrupts:next(), process.ended })
  local code
  if process.ended:is_done() then
    local _, why = process.ended:await()
    code = why and output.fail(context.command, why) or exit_codes.OK
    wait.race({ process:stop() }, STOP_MS)
  else
    code = stop(process, interrupts)
  end
  process:clean_up()
  -- Threads of tasks that do not end in time must not keep the process.
  if code ~= exit_codes.OK then os.exit(code) end
  interrupts:close()
  return code
end

return M
