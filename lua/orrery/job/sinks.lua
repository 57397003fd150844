--- Where records go.
--
-- A sink is a table; users write their own the same way:
--
--   parallelism  n: the only one that it can run with; nil: any
--   open         function(self, ctx) -> writer, a table of functions:
--     write(record)      for each record
--     finish()           after the last one, optional; an array that it answers
--                        goes into the job result under `self.collect`
--     abort()            instead of finish, when the task failed or was
--                        cancelled; optional
--
-- A restarted job runs every sink again from the start, so a sink should show
-- what it wrote only in finish, or be able to write it twice.

local errors = require("orrery.util.errors")

local M = {}

local COLLECT_LIMIT = 10000
local FILE_BUFFER = 64 * 1024

local function bad(text)
  error(errors.new("job_invalid", text), 3)
end

--- How files, print and user sinks show a record: strings as they are, arrays
-- with tabs between their fields, other tables as key=value in order of keys.
function M.format(record)
  if type(record) ~= "table" then return tostring(record) end
  local parts = {}
  if #record > 0 or next(record) == nil then
    for i = 1, #record do parts[i] = M.format(record[i]) end
  else
    local keys = {}
    for key in pairs(record) do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    for i, key in ipairs(keys) do
      parts[i] = tostring(key) .. "=" .. M.format(record[key])
    end
  end
  return table.concat(parts, "\t")
end

--- Records go into the job result as result.collected[name], in order within a
-- subtask, subtask after subtask. More than limit (10000) of them fail the job.
---@param name string
---@param options { limit: integer }|nil
function M.collect(name, options)
  if type(name) ~= "string" or name == "" then
    bad("sinks.collect: needs a name")
  end
  local limit = options and options.limit or COLLECT_LIMIT
  if type(limit) ~= "number" or limit < 1 or limit ~= math.floor(limit) then
    bad("sinks.collect: limit must be a whole number from 1")
  end
  return {
    collect = name,
    open = function()
      local list, n = {}, 0
      return {
        write = function(record)
          if n >= limit then
            error(string.format("sinks.collect(%q) was given more than %d "
              .. "records; raise its limit or write to sinks.file", name,
              limit), 0)
          end
          n = n + 1
          list[n] = record
        end,
        finish = function() return list end,
      }
    end,
  }
end

local function make_folder(folder)
  local uv = require("luv")
  local at = folder:sub(1, 1) == "/" and "/" or ""
  for part in folder:gmatch("[^/]+") do
    at = at .. part
    local ok, err = uv.fs_mkdir(at, 493) -- 0755
    if not ok then
      -- It may be there, made long ago or by another subtask just now.
      local stat = uv.fs_stat(at)
      if not stat or stat.type ~= "directory" then
        error(string.format("cannot make the folder %s: %s", folder, err), 0)
      end
    end
    at = at .. "/"
  end
end

-- The file is written under a name of this attempt and renamed at the end: a
-- reader never sees half of it, and a restarted attempt replaces it.
local function file_writer(folder, format, ctx)
  make_folder(folder)
  local final = string.format("%s/part-%d", folder, ctx.subtask)
  local temporary = string.format("%s/.part-%d.%s", folder, ctx.subtask,
    ctx.attempt)
  local file, err = io.open(temporary, "wb")
  if not file then error("cannot write " .. err, 0) end
  file:setvbuf("full", FILE_BUFFER)
  local function check(ok, why)
    if not ok then
      error(string.format("cannot write %s: %s", temporary, why), 0)
    end
  end
  return {
    write = function(record) check(file:write(format(record), "\n")) end,
    finish = function()
      check(file:flush())
      local done = file
      file = nil
      check(done:close())
      check(os.rename(temporary, final))
    end,
    abort = function()
      if file then file:close() end
      os.remove(temporary)
    end,
  }
end

--- One text file for each subtask, <folder>/part-<n>, a line a record.
-- options: format, a function(record) -> string.
function M.file(folder, options)
  if type(folder) ~= "string" or folder == "" then
    bad("sinks.file: needs the path of a folder")
  end
  local format = options and options.format or M.format
  if type(format) ~= "function" then
    bad("sinks.file: format must be a function")
  end
  return {
    open = function(_, ctx) return file_writer(folder, format, ctx) end,
  }
end

--- A line for each record on the standard output of the process that runs the
-- task (`orrery up`: its own terminal).
function M.print()
  return {
    open = function()
      return {
        write = function(record) io.stdout:write(M.format(record), "\n") end,
        finish = function() io.stdout:flush() end,
      }
    end,
  }
end

-- The name under which stdout collects; the client prints what has it.
M.STDOUT = "stdout"

--- A line for each record on the standard output of `orrery run`, after the end
-- of the job: a job that failed printed nothing. More than limit (1,000,000)
-- lines fail the job.
---@param options { limit: integer }|nil
function M.stdout(options)
  local sink = M.collect(M.STDOUT, { limit = options and options.limit or 1e6 })
  local open = sink.open
  sink.open = function(self, ctx)
    local writer = open(self, ctx)
    local write = writer.write
    writer.write = function(record) write(M.format(record)) end
    return writer
  end
  return sink
end

--- Drops every record and counts them in the accumulator `name` ("discarded").
function M.discard(name)
  return {
    open = function(_, ctx)
      local counter = ctx:counter(name or "discarded")
      return { write = function() counter:add(1) end }
    end,
  }
end

return M
