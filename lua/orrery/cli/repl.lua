--- `orrery repl`.

local interrupts_module = require("orrery.cli.interrupts")
local output = require("orrery.cli.output")
local repl = require("orrery.repl")
local session_module = require("orrery.cli.session")

local M = {}

local STDIN, STDOUT = 0, 1

function M.run(context)
  local config, source = context.config, context.options.eval
  local cluster, err = session_module.connect(config)
  if not cluster then return output.fail("repl", err) end
  local terminal = not source and output.is_terminal(STDIN)
    and output.is_terminal(STDOUT)
  local interrupts = interrupts_module.watch()
  local session = repl.new { cluster = cluster, terminal = terminal,
    interrupts = interrupts, write = output.write, complain = output.note }
  local code
  if source then
    code = session:evaluate(source) and 0 or 1
  else
    if terminal then
      output.write(("Connected to %s. help() explains, Ctrl-D leaves.\n")
        :format(cluster.address))
    end
    code = session:loop()
  end
  interrupts:close()
  cluster:close()
  return code
end

return M
