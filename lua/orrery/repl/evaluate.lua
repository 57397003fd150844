--- Evaluates what is typed: an expression if it compiles as one, else a
-- statement; more input is wanted while the end is missing. Pure but for the
-- code that is run.

local M = {}

local MORE = "'<eof>'"

-- An expression becomes the argument of a call: `return error("x")` would be a
-- tail call, whose errors have lost their position.
local EXPRESSION = "return (function(...) return ... end)(%s\n)"

local function compile(source, environment)
  local chunk
  if load("return " .. source, "=input", "t", environment) then
    chunk = load(EXPRESSION:format(source), "=input", "t",
      environment)
  end
  if chunk then return chunk end
  local err
  chunk, err = load(source, "=input", "t", environment)
  return chunk, err
end

--- Does a compile error say that input is missing at the end?
local function wants_more(err)
  return err:sub(-#MORE) == MORE
    or err:find("unfinished long string", 1, true) ~= nil
    or err:find("unfinished long comment", 1, true) ~= nil
end

--- Compiles one input: "ready" and a function, "more", or "bad" and the error.
function M.compile(source, environment)
  if source:match("^%s*$") then return "ready", function() end end
  local chunk, err = compile(source:gsub("^%s*=", ""), environment)
  if chunk then return "ready", chunk end
  if wants_more(err) then return "more" end
  return "bad", err
end

local function pack(...)
  return { n = select("#", ...), ... }
end

local function settle(results, is_future)
  local first = results[1]
  if results.n == 1 and is_future(first) then
    return pack(first:await())
  end
  return results
end

--- Runs a compiled input on this stack (it may await) and waits for a future
-- that it gives.
---@return boolean ok, table|any results { n = , ... } or what was thrown
function M.run(chunk, is_future)
  local results
  local ok, fault = xpcall(function()
    results = settle(pack(chunk()), is_future)
  end, function(thrown)
    if type(thrown) ~= "string" then return thrown end
    local trace = debug.traceback(thrown, 2)
    -- The frames of this module and below say nothing to who typed the input.
    return (trace:gsub("\n[^\n]*%[C%]: in function 'xpcall'.*$", "")
      :gsub("\n[^\n]*repl/evaluate%.lua[^\n]*", ""))
  end)
  if ok then return true, results end
  return false, fault
end

return M
