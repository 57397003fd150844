--- Where records come from.
--
-- A source is a table; users write their own the same way:
--
--   bounded      true when it ends
--   parallelism  n: the only one that it can run with; nil: any
--   splits       function(self, parallelism) -> array of plain values: the work
--                of a bounded source in parts, made once, on the client. A
--                bounded source without it is opened once by each subtask.
--   open         function(self, split, ctx) -> read, close. split is nil when
--                there are none. close() is optional and is always called.
--
-- read(emit) emits a bounded number of records (one buffer, or what takes about
-- a millisecond) and answers true (call again soon), a number (nothing now,
-- call again after so many ms or after ctx.wake()), or nil (the end of this
-- split). Between calls the task takes messages: cancel, credits, data.
--
-- File reads block, but briefly: at most 64 KiB a call, on the slot's own
-- executor, where nobody else waits.

local errors = require("orrery.util.errors")
local files = require("orrery.job.files")
local splits = require("orrery.job.splits")

local M = {}

local SPLITS_WANTED = 4096  -- of one file source; keeps plans small
local NUMBERS_AT_ONCE = 1000
local SOCKET_QUEUE_MAX = 256 * 1024

local function bad(text)
  error(errors.new("job_invalid", text), 3)
end

local function whole(value)
  return type(value) == "number" and value == math.floor(value)
    and math.abs(value) < 2 ^ 53
end

--- Lines of text files. Takes paths of files and folders (read recursively).
-- unit = "lines" (records are lines without newline) or "blocks" (records are
-- strings of many whole lines, faster for programs that scan text themselves);
-- split_size in bytes.
function M.files(options)
  if type(options) == "string" then options = { options } end
  if type(options) ~= "table" or #options == 0 then
    bad("sources.files: give at least one path")
  end
  for i, path in ipairs(options) do
    if type(path) ~= "string" or path == "" then
      bad(string.format("sources.files: path %d must be a string", i))
    end
  end
  local unit = options.unit or "lines"
  if unit ~= "lines" and unit ~= "blocks" then
    bad("sources.files: unit must be \"lines\" or \"blocks\"")
  end
  local size = options.split_size or splits.SPLIT_SIZE
  if not whole(size) or size < 1 then
    bad("sources.files: split_size must be a positive number of bytes")
  end
  return {
    bounded = true,
    splits = function()
      local found, err = files.find(options)
      if not found then return nil, err end
      local total = 0
      for _, file in ipairs(found) do total = total + file.size end
      local step = splits.size_for(total, #found,
        math.max(SPLITS_WANTED, #found + 1), size)
      local list = {}
      for _, file in ipairs(found) do
        splits.cut(list, file.path, file.size, step)
      end
      return list
    end,
    open = function(_, split)
      local file, err = io.open(split.path, "rb")
      if not file then error("cannot read " .. err, 0) end
      file:setvbuf("no") -- blocks are large; a second copy is of no use
      local next_block = splits.blocks(file, split)
      local function read(emit)
        local block = next_block()
        if not block then return nil end
        if block ~= "" then
          if unit == "blocks" then
            emit(block)
          else
            splits.lines(block, emit)
          end
        end
        return true
      end
      return read, function() file:close() end
    end,
  }
end

local function ranges(from, to, parts)
  local list, count = {}, to - from + 1
  parts = math.min(parts, count)
  for i = 0, parts - 1 do
    list[#list + 1] = {
      from = from + math.floor(count * i / parts),
      to = from + math.floor(count * (i + 1) / parts) - 1,
    }
  end
  return list
end

local function bounded_numbers(from, to)
  return {
    bounded = true,
    splits = function(_, parallelism)
      return ranges(from, to, parallelism * 4)
    end,
    open = function(_, split)
      local at = split.from
      return function(emit)
        local last = math.min(at + NUMBERS_AT_ONCE - 1, split.to)
        for n = at, last do emit(n) end
        at = last + 1
        if at > split.to then return nil end
        return true
      end
    end,
  }
end

-- 1, 2, 3 ... shared out over the subtasks (subtask s of p gives s + 1, s + 1 +
-- p, ...), so many a second over all of them. ctx.now() is in ms.
local function unbounded_numbers(rate)
  return {
    bounded = false,
    open = function(_, _, ctx)
      local started, given = ctx.now(), 0
      local own_rate = rate / ctx.parallelism
      return function(emit)
        local due = math.floor((ctx.now() - started) / 1000 * own_rate)
        local last = math.min(due, given + NUMBERS_AT_ONCE)
        for i = given, last - 1 do
          emit(ctx.subtask + 1 + i * ctx.parallelism)
        end
        given = math.max(given, last)
        if given < due then return true end
        return math.max(1, 1000 / own_rate)
      end
    end,
  }
end

--- Numbers: { from =, to = } is bounded, { rate = n a second } never ends.
function M.numbers(options)
  if type(options) ~= "table" then
    bad("sources.numbers: needs { from =, to = } or { rate = }")
  end
  if options.rate ~= nil then
    if type(options.rate) ~= "number" or options.rate <= 0
      or options.rate ~= options.rate or options.rate > 1e9 then
      bad("sources.numbers: rate must be a positive number a second")
    end
    return unbounded_numbers(options.rate)
  end
  local from, to = options.from or 1, options.to
  if not whole(from) or not whole(to) then
    bad("sources.numbers: from and to must be whole numbers")
  end
  return bounded_numbers(from, to)
end

--- The items of an array that is part of the job file.
function M.list(items)
  if type(items) ~= "table" then
    bad("sources.list: needs an array")
  end
  local source = bounded_numbers(1, #items)
  local open = source.open
  source.open = function(self, split, ctx)
    local read = open(self, split, ctx)
    return function(emit)
      return read(function(i) emit(items[i]) end)
    end
  end
  return source
end

-- Splits a byte stream into lines; the last may lack its newline.
local function line_cutter(emit_line)
  local rest = ""
  return function(bytes, at_end)
    local text = rest .. bytes
    local cut = 0
    for i = #text, 1, -1 do
      if text:byte(i) == 10 then cut = i break end
    end
    if at_end then cut = #text end
    rest = text:sub(cut + 1)
    if #rest > splits.LINE_MAX then
      error(string.format("a line is longer than %d bytes", splits.LINE_MAX), 0)
    end
    splits.lines(text:sub(1, cut), emit_line)
  end
end

-- Reads from a connection into a bounded queue; stops reading while it is full.
local function socket_reader(uv, options, ctx)
  local tcp = assert(uv.new_tcp())
  local queue, queued, reading = {}, 0, false
  local failure, ended

  local function on_read(err, bytes)
    if err then
      failure = err
    elseif not bytes then
      ended = true
    else
      queue[#queue + 1] = bytes
      queued = queued + #bytes
      if queued >= SOCKET_QUEUE_MAX then
        tcp:read_stop()
        reading = false
      end
    end
    ctx.wake()
  end
  local function resume()
    if reading or ended or failure then return end
    reading = true
    local ok, err = tcp:read_start(on_read)
    if not ok then failure = err end
  end
  local function connect(address)
    tcp:connect(address, options.port, function(err)
      failure = err
      if not err then resume() end
      ctx.wake()
    end)
  end
  uv.getaddrinfo(options.host, nil, { socktype = "stream", family = "inet" },
    function(err, found)
      if tcp:is_closing() then return end
      if err or not found[1] then
        failure = err or "no address"
        return ctx.wake()
      end
      connect(found[1].addr)
    end)

  local emit_line
  local cut = line_cutter(function(line) emit_line(line) end)
  local function read(emit)
    if #queue > 0 then
      emit_line = emit
      local bytes = table.remove(queue, 1)
      queued = queued - #bytes
      cut(bytes)
      if queued < SOCKET_QUEUE_MAX / 2 and not ended then
        if tcp:is_active() or reading or not failure then resume() end
      end
      return true
    end
    if failure then
      error(string.format("socket %s:%d: %s", options.host, options.port,
        failure), 0)
    end
    if ended then
      emit_line = emit
      cut("", true)
      return nil
    end
    return 1000
  end
  return read, function()
    if not tcp:is_closing() then tcp:close() end
  end
end

--- Lines from a TCP connection to { host =, port = }. Ends when the peer
-- closes; with bounded = true the job may wait for that end (count, top),
-- otherwise it counts as endless. Parallelism 1.
function M.socket(options)
  if type(options) ~= "table" or type(options.host) ~= "string"
    or not whole(options.port) or options.port < 1 or options.port > 65535 then
    bad("sources.socket: needs { host = \"...\", port = 1 to 65535 }")
  end
  return {
    bounded = options.bounded == true,
    parallelism = 1,
    open = function(_, _, ctx)
      return socket_reader(require("luv"), options, ctx)
    end,
  }
end

-- The standard input that goes with a job: on the client a function that reads
-- it, on a task the text that came in the bundle. Set by orrery.job.bundle
-- while it runs a job file.
local standard_input

--- Runs fn() while `read` gives the standard input of the job; fn's results.
function M.with_stdin(read, fn)
  local before = standard_input
  standard_input = read
  local a, b = fn()
  standard_input = before
  return a, b
end

--- Lines of the standard input of `orrery run`. The client reads it to its end
-- before it submits and sends it along, so the job may be detached, and starts
-- again from the first line after a failure. Parallelism 1.
function M.stdin()
  if not standard_input then
    bad("sources.stdin: only a job file that orrery run loads has one")
  end
  local text = standard_input()
  return {
    bounded = true,
    parallelism = 1,
    open = function()
      local at = 1
      return function(emit)
        if at > #text then return nil end
        local last = math.min(at + splits.BLOCK_SIZE - 1, #text)
        last = text:find("\n", last, true) or #text
        splits.lines(text:sub(at, last), emit)
        at = last + 1
        return true
      end
    end,
  }
end

return M
