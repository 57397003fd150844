--- What a command says: results on standard output, everything else on standard
-- error. Colours and redrawn lines only ever go to a terminal.

local errors = require("orrery.util.errors")
local exit_codes = require("orrery.cli.exit_codes")
local json = require("orrery.util.json")
local text_table = require("orrery.util.text_table")

local M = {}

local STDIN, STDERR = 0, 2
local CAUSES_MAX = 8

local drawn = false

--- Is this descriptor a terminal?
function M.is_terminal(descriptor)
  return require("luv").guess_handle(descriptor) == "tty"
end

--- May questions be asked: are input and standard error terminals?
function M.is_interactive()
  return M.is_terminal(STDIN) and M.is_terminal(STDERR)
end

--- Result text. Nothing can be done about a closed pipe but to stop quietly.
function M.write(text)
  M.clear_line()
  local ok = io.stdout:write(text)
  if ok then ok = io.stdout:flush() end
  return ok ~= nil
end

--- One line for people.
function M.note(text)
  M.clear_line()
  io.stderr:write(text, "\n")
end

--- Replaces the line that was drawn last; for terminals.
function M.draw_line(text)
  io.stderr:write("\r\27[K", text)
  io.stderr:flush()
  drawn = true
end

function M.clear_line()
  if not drawn then return end
  drawn = false
  io.stderr:write("\r\27[K")
  io.stderr:flush()
end

--- One JSON document and a newline.
function M.json(value)
  local text, why = json.encode(value)
  if not text then
    return nil, errors.new("bad_value", "the result is no JSON: " .. why)
  end
  return M.write(text .. "\n")
end

--- Message of an error and of its causes, without repetitions.
function M.describe(err)
  if not errors.is(err) then return tostring(err) end
  local parts, at, depth = {}, err, 0
  while at ~= nil and depth < CAUSES_MAX do
    local message = errors.is(at) and at.message or tostring(at)
    local last = parts[#parts]
    if not (last and last:find(message, 1, true)) then
      parts[#parts + 1] = message
    end
    at, depth = errors.is(at) and at.cause or nil, depth + 1
  end
  return table.concat(parts, ": ")
end

local NEXT_STEP = {
  unreachable = "Is the cluster running there? \"orrery up\" starts one; "
    .. "--address names another.",
  timeout = "client.timeout sets how long commands wait.",
  version_mismatch = "Both sides must be the same version and have the same "
    .. "cluster.id.",
  bad_configuration = "\"orrery config\" prints what is in effect and from "
    .. "where.",
}

--- Tells a failure as "orrery: what: why" and the next step, and answers the
-- exit code of the error.
---@param what string|nil what was tried, for example "list"
function M.fail(what, err, next_step)
  local why = text_table.printable(M.describe(err):gsub("%s*\n%s*", "; "))
  M.note("orrery: " .. (what and what .. ": " or "") .. why)
  local step = next_step or errors.is(err) and NEXT_STEP[err.code]
  if step then M.note(step) end
  return exit_codes.of(err)
end

return M
