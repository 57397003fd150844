--- What commands that talk to a cluster share: connect, work, tell failures,
-- and leave with 130 on Ctrl-C.

local client = require("orrery.client")
local exit_codes = require("orrery.cli.exit_codes")
local interrupts_module = require("orrery.cli.interrupts")
local log = require("orrery.native.log")
local option_types = require("orrery.util.option_types")
local output = require("orrery.cli.output")
local security = require("orrery.rpc.security")

local M = {}

--- The address that a configuration names.
function M.address(config)
  return option_types.join_address(config:get("jobmanager.rpc.address"),
    config:get("jobmanager.rpc.port"))
end

--- Connects as the configuration says. People at a command are told what fails
-- by the command; the log speaks only of errors unless it is asked for more.
---@return table|nil cluster, table|nil error
function M.connect(config)
  log.set_level(config:source("log.level") == "default" and "error"
    or config:get("log.level"))
  local tls, err = security.of_config(config)
  if tls == false then return nil, err end
  return client.connect(M.address(config), {
    tls = tls,
    timeout = config:get("client.timeout"),
    cluster_id = config:get("cluster.id"),
  })
end

local function leave_at_once()
  output.note("orrery: interrupted")
  os.exit(exit_codes.INTERRUPTED)
end

--- Connects and calls work(cluster); answers the exit code that work answers,
-- or tells its nil, err. A Ctrl-C leaves at once.
function M.with_cluster(context, work)
  local interrupts = interrupts_module.watch(leave_at_once)
  local cluster, err = M.connect(context.config)
  local code
  if cluster then
    code, err = work(cluster)
    cluster:close()
  end
  interrupts:close()
  return code or output.fail(context.command, err)
end

return M
