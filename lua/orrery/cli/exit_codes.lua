--- Exit codes, and the one that an error leads to.

local errors = require("orrery.util.errors")

local M = {
  OK = 0, FAILED = 1, USAGE = 2, CANNOT_CONNECT = 3, TIMEOUT = 4,
  INTERRUPTED = 130,
}

local BY_ERROR = {
  usage = M.USAGE,
  bad_configuration = M.USAGE,
  unreachable = M.CANNOT_CONNECT,
  not_started = M.CANNOT_CONNECT,
  version_mismatch = M.CANNOT_CONNECT,
  no_leader = M.CANNOT_CONNECT,
  timeout = M.TIMEOUT,
  expired_unsent = M.TIMEOUT,
  expired_in_queue = M.TIMEOUT,
  expired_in_handler = M.TIMEOUT,
  expired_unknown = M.TIMEOUT,
  interrupted = M.INTERRUPTED,
}

--- The exit code of an error. What happened behind a remote call (its cause) is
-- a failure of the command, whatever its own code is.
function M.of(err)
  return errors.is(err) and BY_ERROR[err.code] or M.FAILED
end

return M
