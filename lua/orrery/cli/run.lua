--- `orrery run JOB.lua [-- args]`: submit, show progress, print the result.
--
-- Ctrl-C on a terminal asks: detach (the job runs on, exit 0), cancel, or wait
-- on. Without a terminal it cancels the job. A second Ctrl-C, while the
-- question stands or the job is being canceled, leaves at once with 130; the
-- job is left as it is and its id is told.

local uv = require("luv")
local client = require("orrery.client")
local errors = require("orrery.util.errors")
local exit_codes = require("orrery.cli.exit_codes")
local interrupts_module = require("orrery.cli.interrupts")
local orrery = require("orrery")
local output = require("orrery.cli.output")
local session = require("orrery.cli.session")
local show = require("orrery.cli.show")
local wait = require("orrery.cli.wait")

local M = {}

local TERMINAL_MS, PLAIN_MS, FIRST_MS = 250, 3000, 100
local DETAILS_TIMEOUT_MS = 5000

local Run = {}
Run.__index = Run

function Run:short_id()
  return self.job_id:sub(1, 8)
end

-- Looks at the job; answers a future, so that Ctrl-C is heard meanwhile.
function Run:look()
  return orrery.async(function()
    return self.cluster:details(self.job_id, DETAILS_TIMEOUT_MS)
  end)
end

-- Draws or prints what look() gave. A failed look is no failure of the job, but
-- silence would be a riddle.
function Run:progress(details)
  if not details then
    if not self.lost then
      output.note("the cluster does not answer; trying on")
    end
    self.lost = true
    return
  end
  self.lost = false
  local line
  line, self.before = show.progress_line(details, uv.now(), self.before)
  if self.redraws then
    output.draw_line(line)
  elseif line ~= self.last_line then
    output.note(self:short_id() .. "  " .. line)
    self.last_line = line
  end
end

function Run:how_to_return()
  output.note(("job %s runs on; \"orrery status %s\" shows it, "
    .. "\"orrery cancel %s\" ends it"):format(self.job_id, self:short_id(),
    self:short_id()))
end

-- Asks on the terminal: "d", "c" or "w". End of input means detach.
function Run:ask()
  self.lines = self.lines or require("orrery.repl.lines").open()
  while true do
    output.clear_line()
    self.asking = true
    io.stderr:write("job ", self:short_id(),
      " is running: (d)etach, (c)ancel or (w)ait? ")
    io.stderr:flush()
    local line, err = self.lines:read():await()
    self.asking = false
    if err or not line then return "d" end
    local answer = line:lower():match("^%s*([dcw])")
    if answer then return answer end
  end
end

-- After the first Ctrl-C: an exit code to leave with, or nil to wait on.
function Run:interrupted()
  self.impatient = true
  local answer = output.is_interactive() and self:ask() or "c"
  if answer == "d" then
    self:how_to_return()
    return exit_codes.OK
  elseif answer == "w" then
    self.impatient = false
    return nil
  end
  output.note("canceling job " .. self:short_id()
    .. " (Ctrl-C again leaves at once)")
  local ok, err = self.cluster:cancel(self.job_id)
  self.canceled = true
  if not ok then return nil, err end
  return nil
end

-- Waits for the outcome; nil, err, code when the user left.
function Run:watch()
  local result = self.cluster:outcome(self.job_id)
  local pause, looking = FIRST_MS, nil
  while true do
    local first = wait.race({ result, self.interrupts:next(), looking },
      not looking and self.shows and pause or nil)
    if first == 1 then
      output.clear_line()
      return result:await()
    elseif first == 2 then
      local code, err = self:interrupted()
      if code or err then return nil, err, code end
    elseif looking then
      self:progress((looking:await()))
      looking = nil
    else
      looking = self:look()
      pause = self.redraws and TERMINAL_MS or PLAIN_MS
    end
  end
end

local function print_plain(result)
  local lines = {}
  local function add(title, map, format)
    local names = {}
    for name in pairs(map) do names[#names + 1] = name end
    table.sort(names)
    for _, name in ipairs(names) do
      lines[#lines + 1] = ("%s %s: %s"):format(title, name, format(map[name]))
    end
  end
  add("accumulator", result.accumulators, tostring)
  add("collected", result.collected, function(list)
    return require("orrery.repl.print").format(list)
  end)
  if #lines > 0 then output.write(table.concat(lines, "\n") .. "\n") end
end

local function print_line(...)
  local words = { n = select("#", ...), ... }
  for i = 1, words.n do words[i] = tostring(words[i]) end
  output.write(table.concat(words, "\t") .. "\n")
end

-- Prints what the job gave; true, or nil, err.
function Run:print_result(outcome)
  local result = self.prepared:user_result(outcome.result)
  if self.json then
    return output.json { job_id = self.job_id, name = self.prepared.name,
      status = outcome.status, result = show.document(result) }
  elseif self.prepared:has_on_result() then
    return self.prepared:on_result(result, print_line)
  end
  print_plain(result)
  return true
end

local function failed(outcome)
  local cause = outcome.failure and errors.from_table(outcome.failure)
  if outcome.status == "CANCELED" then
    return errors.new("job_canceled", "the job was canceled")
  end
  return errors.new("job_failed", "job " .. outcome.status, { cause = cause })
end

function Run:finish(outcome)
  if outcome.status == "FINISHED" then
    local ok, err = self:print_result(outcome)
    if not ok then return output.fail("run", err) end
    return exit_codes.OK
  end
  if self.json then
    output.json { job_id = self.job_id, name = self.prepared.name,
      status = outcome.status,
      failure = outcome.failure and show.document(outcome.failure) }
  end
  if self.canceled then
    output.note("job " .. self.job_id .. " is canceled")
    return exit_codes.INTERRUPTED
  end
  return output.fail("run", failed(outcome), ("\"orrery status %s\" shows "
    .. "more."):format(self:short_id()))
end

function Run:submit()
  local job_id, err = self.cluster:submit(self.prepared)
  if not job_id then return output.fail("run", err) end
  self.job_id = job_id
  if self.detach then
    if self.json then
      output.json { job_id = job_id, name = self.prepared.name }
    else
      output.write(job_id .. "\n")
    end
    return exit_codes.OK
  end
  if self.shows then
    output.note(("job %s (%s) is submitted"):format(job_id,
      self.prepared.name))
  end
  local outcome, bad, code = self:watch()
  if code then return code end
  if not outcome then
    code = output.fail("run", bad)
    self:how_to_return()
    return code
  end
  return self:finish(outcome)
end

local function on_signal(run)
  return function()
    if not run.impatient then return end
    output.clear_line()
    if run.asking then output.note("") end
    if run.job_id and not run.canceled then run:how_to_return() end
    os.exit(exit_codes.INTERRUPTED)
  end
end

function M.run(context)
  local options, config = context.options, context.config
  local prepared, err = client.prepare(context.parameters[1], context.rest,
    { parallelism = config:get("parallelism.default") })
  if not prepared then return output.fail("run", err) end
  local run = setmetatable({ prepared = prepared, json = options.json,
    detach = options.detach, shows = not options.quiet, impatient = true,
    redraws = output.is_terminal(2) }, Run)
  run.interrupts = interrupts_module.watch(on_signal(run))
  run.cluster, err = session.connect(config)
  if not run.cluster then return output.fail("run", err) end
  run.impatient = false
  local code = run:submit()
  run.cluster:close()
  run.interrupts:close()
  return code
end

return M
