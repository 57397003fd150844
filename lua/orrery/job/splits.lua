--- Byte ranges of text files, and reading the lines of one range.
--
-- A file is cut into ranges of equal size without looking into it. The line
-- rule gives every line to exactly one range: the one in which its first byte
-- lies. So a reader that starts in the middle goes one byte back and skips to
-- behind the first newline, and reads on behind its end until its last line is
-- whole.
--
-- The range arithmetic and the reader are pure but for the file handed in
-- (`read(n)`, `seek(whence, offset)` as in io).

local M = {}

M.SPLIT_SIZE = 1024 * 1024
M.BLOCK_SIZE = 64 * 1024
-- A longer line is refused: a record must fit into a message.
M.LINE_MAX = 8 * 1024 * 1024

--- Appends the ranges { path, from, to } of a file to list; to is exclusive.
function M.cut(list, path, size, split_size)
  local from = 0
  while from < size do
    local to = math.min(from + split_size, size)
    list[#list + 1] = { path = path, from = from, to = to }
    from = to
  end
  return list
end

--- A split size under which `total` bytes in `files` files make at most `most`
-- splits; never below the wanted one.
function M.size_for(total, files, most, wanted)
  local room = math.max(1, most - files)
  return math.max(wanted, math.ceil(total / room))
end

-- Position of the last newline of a string, or nil.
local function last_newline(text)
  local at = #text
  while at > 0 do
    if text:byte(at) == 10 then return at end
    at = at - 1
  end
  return nil
end

--- A reader of the whole lines of a range: a function that answers the next
-- block of them (text that ends at a line's end; the last line of a file may
-- lack its newline), "" when it only made progress, or nil at the end. Each
-- call reads block_size bytes at most.
---@param file table io file, open for reading in binary
---@param split { path: string, from: integer, to: integer }
---@param block_size integer|nil
function M.blocks(file, split, block_size)
  block_size = block_size or M.BLOCK_SIZE
  local to = split.to
  local position = split.from -- of the next byte to read from the file
  local skipping = false
  local parts, parts_size = {}, 0 -- an unfinished line, and its bytes
  local done = false
  if position > 0 then
    position = position - 1
    skipping = true
  end
  assert(file:seek("set", position))

  local function keep(text)
    if #text == 0 then return end
    parts_size = parts_size + #text
    if parts_size > M.LINE_MAX then
      error(string.format("%s: the line before byte %d is longer than %d bytes",
        split.path, position, M.LINE_MAX), 0)
    end
    parts[#parts + 1] = text
  end

  local function take(text)
    if #parts == 0 then return text end
    parts[#parts + 1] = text
    text = table.concat(parts)
    parts, parts_size = {}, 0
    return text
  end

  return function()
    if done then return nil end
    local text, err = file:read(block_size)
    if not text then
      if err then error(string.format("%s: %s", split.path, err), 0) end
      done = true
      local rest = take("")
      return rest ~= "" and rest or nil
    end
    local start = position -- of text in the file
    position = position + #text
    if skipping then
      local newline = text:find("\n", 1, true)
      if not newline then
        -- Lines that begin behind `to` are not ours.
        done = position >= to
        return not done and "" or nil
      end
      skipping = false
      start = start + newline
      text = text:sub(newline + 1)
      if start >= to then
        done = true
        return nil
      end
    end
    if position >= to then
      -- The last line that is ours begins before `to`; it ends at the first
      -- newline at or behind byte to - 1.
      local newline = text:find("\n", math.max(1, to - start), true)
      if newline then
        done = true
        return take(text:sub(1, newline))
      end
      keep(text)
      return ""
    end
    local newline = last_newline(text)
    if not newline then
      keep(text)
      return ""
    end
    local whole = take(text:sub(1, newline))
    keep(text:sub(newline + 1))
    return whole
  end
end

--- Calls emit with each line of a block, without its newline.
function M.lines(block, emit)
  local from, find, sub = 1, string.find, string.sub
  local size = #block
  while from <= size do
    local newline = find(block, "\n", from, true)
    if not newline then
      emit(sub(block, from))
      return
    end
    emit(sub(block, from, newline - 1))
    from = newline + 1
  end
end

return M
