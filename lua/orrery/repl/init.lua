--- The interactive prompt: read, evaluate, print.
--
-- Input is evaluated as a task, so that Ctrl-C can give up waiting for it; what
-- waited then is abandoned, not undone. Ctrl-C while typing drops the input. On
-- a terminal there is a prompt; piped input is evaluated line by line and the
-- first error ends the session with 1.

local errors = require("orrery.util.errors")
local evaluate = require("orrery.repl.evaluate")
local lines_module = require("orrery.repl.lines")
local objects = require("orrery.repl.objects")
local orrery = require("orrery")
local print_module = require("orrery.repl.print")

local M = {}

local PROMPT, MORE_PROMPT = "orrery> ", "     ...> "
local INPUT_MAX = 1024 * 1024

local Session = {}
Session.__index = Session

--- A session on a connected cluster. terminal: prompts are shown. write(text)
-- takes results, complain(text) errors; interrupts is orrery.cli.interrupts'.
function M.new(options)
  local session = setmetatable({ terminal = options.terminal,
    write = options.write, complain = options.complain,
    interrupts = options.interrupts }, Session)
  session.environment = objects.environment(options.cluster, function(...)
    local words = { n = select("#", ...), ... }
    for i = 1, words.n do words[i] = tostring(words[i]) end
    options.write(table.concat(words, "\t") .. "\n")
  end)
  return session
end

function Session:print(results)
  if results.n == 0 then return end
  local parts = {}
  for i = 1, results.n do parts[i] = print_module.format(results[i]) end
  self.environment._ = results[1]
  self.write(table.concat(parts, "\t") .. "\n")
end

-- Runs a chunk as a task; Ctrl-C gives up waiting for it.
local function run_interruptible(self, chunk)
  local done = orrery.async(function()
    local ok, value = evaluate.run(chunk, objects.is_future)
    return { ok = ok, value = value }
  end)
  local outcome, err = self.interrupts:await(done)
  if not outcome then return false, err end
  return outcome.ok, outcome.value
end

--- Evaluates one complete input; true when it went well.
function Session:evaluate(source)
  local state, chunk = evaluate.compile(source, self.environment)
  if state == "more" then
    self.complain("the input is not complete")
    return false
  elseif state == "bad" then
    self.complain(chunk)
    return false
  end
  local ok, results = run_interruptible(self, chunk)
  if not ok then
    self.complain(print_module.format(results):gsub("^\"(.*)\"$", "%1"))
    return false
  end
  local err = results[2]
  if results.n == 2 and results[1] == nil and objects.is_error(err) then
    self.complain(tostring(err))
    return false
  end
  self:print(results)
  return true
end

function Session:prompt(text)
  if self.terminal then self.write(text) end
end

-- The next whole input: text, false at the end, or nil when it was dropped.
function Session:read()
  local source
  while true do
    self:prompt(source and MORE_PROMPT or PROMPT)
    self.pending_line = self.pending_line or self.lines:read()
    local line, err = self.interrupts:await(self.pending_line)
    if err and err.code == "interrupted" then
      self.write("\n")
      return nil
    end
    self.pending_line = nil
    if err then return nil, err end
    if not line then
      if source and not self.terminal then return source end
      return false
    end
    source = source and source .. "\n" .. line or line
    if #source > INPUT_MAX then
      return nil, errors.new("too_large", "the input is too long")
    end
    if evaluate.compile(source, self.environment) ~= "more" then
      return source
    end
  end
end

--- Reads until the end of the input; the exit code.
function Session:loop()
  self.lines = lines_module.open()
  local code = 0
  while true do
    local source, err = self:read()
    if source == false then break end
    if source == nil then
      if err then self.complain(tostring(err)) end
      if not self.terminal then
        code = err and 1 or 130
        break
      end
    elseif not self:evaluate(source) and not self.terminal then
      code = 1
      break
    end
  end
  if self.terminal then self.write("\n") end
  self.lines:close()
  return code
end

return M
