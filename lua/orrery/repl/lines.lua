--- Lines of standard input as futures, so that the event loop turns while
-- somebody types. A terminal stays in its ordinary (cooked) mode: the kernel
-- edits the line and Ctrl-D ends the input.
--
-- Bounds: a line has at most LINE_MAX bytes, and input that nobody asks for is
-- not read ahead beyond what one chunk brought.

local uv = require("luv")
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")

local M = {}

local STDIN, LINE_MAX, CHUNK = 0, 1024 * 1024, 65536

local Lines = {}
Lines.__index = Lines

local function too_long()
  return errors.new("too_large", ("a line of more than %d bytes"):format(
    LINE_MAX))
end

-- Answers what can be answered from the buffer; true when it did.
function Lines:_serve()
  local wanted = self._wanted
  local line_end = self._buffer:find("\n", 1, true)
  local line
  if line_end then
    line = self._buffer:sub(1, line_end - 1):gsub("\r$", "")
    self._buffer = self._buffer:sub(line_end + 1)
  elseif #self._buffer > LINE_MAX then
    self._wanted, self._buffer = nil, ""
    wanted:reject(too_long())
    return true
  elseif self._ended then
    line = #self._buffer > 0 and self._buffer or false
    self._buffer = ""
  else
    return false
  end
  self._wanted = nil
  wanted:resolve(line)
  return true
end

function Lines:_got(chunk)
  if chunk and #chunk > 0 then
    self._buffer = self._buffer .. chunk
  else
    self._ended = true
  end
  if self._wanted and self:_serve() then self:_pause() end
end

function Lines:_pause()
  if self._stream then self._stream:read_stop() end
end

function Lines:_request()
  if self._stream then
    self._stream:read_start(function(err, chunk)
      self:_got(not err and chunk or nil)
    end)
    return
  end
  uv.fs_read(self._file, CHUNK, -1, function(err, chunk)
    self:_got(not err and chunk or nil)
    if self._wanted then self:_request() end
  end)
end

--- Future of the next line without its end, or of false when there is no more.
-- One at a time.
function Lines:read()
  if self._wanted then error("Lines:read: a read is under way", 2) end
  local future = Future.new()
  self._wanted = future
  if not self:_serve() then self:_request() end
  return future
end

function Lines:close()
  if self._stream and not self._stream:is_closing() then
    self._stream:close()
  end
end

--- Opens standard input.
function M.open()
  local lines = setmetatable({ _buffer = "", _ended = false }, Lines)
  local kind = uv.guess_handle(STDIN)
  if kind == "tty" then
    lines._stream = uv.new_tty(STDIN, true)
  elseif kind == "pipe" then
    lines._stream = uv.new_pipe(false)
    lines._stream:open(STDIN)
  else
    lines._file = STDIN
  end
  return lines
end

return M
