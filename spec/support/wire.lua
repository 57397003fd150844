--- The wire format once more, by itself: for specs that speak to the core as
-- another implementation would. Nothing here uses the codec of the core.

local bit = require("bit")
local MessagePack = require("MessagePack")

local M = {}

M.KINDS = {
  "HELLO", "RESOLVE", "ASK", "TELL", "REPLY", "CANCEL", "PING", "PONG",
  "GOODBYE", "DATA", "CREDIT", "ABORT",
}
M.KIND = {}
for number, name in ipairs(M.KINDS) do M.KIND[name] = number end

-- Integers become numbers, strings stay strings, binaries are strings too.
MessagePack.set_string("string")
MessagePack.set_number("double")

function M.pack(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = MessagePack.pack((select(i, ...)))
  end
  return table.concat(out)
end

--- All values of a body, as an array.
function M.unpack(body)
  local out = {}
  for _, value in MessagePack.unpacker(body) do out[#out + 1] = value end
  return out
end

-- CRC-32C bit by bit: slow and plain.
local function crc32c(bytes)
  local crc = bit.bnot(0)
  for i = 1, #bytes do
    crc = bit.bxor(crc, bytes:byte(i))
    for _ = 1, 8 do
      local low = bit.band(crc, 1)
      crc = bit.rshift(crc, 1)
      if low == 1 then crc = bit.bxor(crc, 0x82f63b78) end
    end
  end
  return bit.bnot(crc) % 2 ^ 32
end
M.crc32c = crc32c

local function le(value, size)
  local out = {}
  for i = 1, size do
    out[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(out)
end
M.le = le

local function number(bytes, offset, size)
  local value = 0
  for i = size, 1, -1 do value = value * 256 + bytes:byte(offset + i) end
  return value
end
M.number = number

--- The bytes of a frame; fields as read gives them, kind by name or number.
function M.frame(fields)
  local body = fields.body or ""
  local function head(checksum)
    return table.concat({
      le(fields.length or #body, 4), le(fields.version or 1, 1),
      le(M.KIND[fields.kind] or fields.kind, 1), le(fields.flags or 0, 2),
      le(fields.call_slot or 0, 4), le(fields.call_generation or 0, 4),
      le(fields.budget_us or 0, 8), le(fields.endpoint or 0, 4),
      le(fields.incarnation or 0, 4), le((fields.method or 0) % 2 ^ 32, 4),
      le(checksum, 4), le(fields.token_epoch or 0, 8),
      fields.token_session or ("\0"):rep(16),
    })
  end
  return head(crc32c(head(0) .. body)) .. body
end

--- The first frame of bytes and what is behind it, or nil.
function M.read(bytes)
  if #bytes < 64 then return nil end
  local length = number(bytes, 0, 4)
  if #bytes < 64 + length then return nil end
  local body = bytes:sub(65, 64 + length)
  return {
    length = length, version = number(bytes, 4, 1),
    kind = M.KINDS[number(bytes, 5, 1)] or number(bytes, 5, 1),
    flags = number(bytes, 6, 2), call_slot = number(bytes, 8, 4),
    call_generation = number(bytes, 12, 4), budget_us = number(bytes, 16, 8),
    endpoint = number(bytes, 24, 4), incarnation = number(bytes, 28, 4),
    method = bit.tobit(number(bytes, 32, 4)), checksum = number(bytes, 36, 4),
    token_epoch = number(bytes, 40, 8), token_session = bytes:sub(49, 64),
    body = body, head = bytes:sub(1, 64),
  }, bytes:sub(65 + length)
end

--- All frames of bytes; the rest must be none.
function M.frames(bytes)
  local out, frame = {}
  while bytes ~= "" do
    frame, bytes = M.read(bytes)
    if not frame then error("half a frame at the end", 2) end
    out[#out + 1] = frame
  end
  return out
end

--- Is the checksum that of the head (its field 0) and the body?
function M.checksum_holds(frame)
  return frame.checksum == crc32c(frame.head:sub(1, 36) .. "\0\0\0\0"
    .. frame.head:sub(41) .. frame.body)
end

--- A HELLO; more replaces or adds fields, false takes one away.
function M.hello(more)
  local fields = {
    protocol = 1, cluster = "orrery", incarnation = 5, address = "",
    frame_max = 1048576,
  }
  for key, value in pairs(more or {}) do
    fields[key] = value
    if value == false then fields[key] = nil end
  end
  return M.frame({ kind = "HELLO", body = M.pack(fields) })
end

return M
