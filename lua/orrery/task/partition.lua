--- Which subtask a key belongs to.
--
-- Pure, and equal in every process and on every machine: FNV-1a over the bytes
-- of the key, a final mix, and key groups. A key's group never changes; subtask
-- n of p owns the groups from n * GROUPS / p on. So a job with another
-- parallelism moves whole ranges of groups, not single keys.

local bit = require("bit")

local M = {}

local band, bxor, lshift, rshift = bit.band, bit.bxor, bit.lshift, bit.rshift
local tobit = bit.tobit
local byte, floor, format = string.byte, math.floor, string.format

--- Also the largest parallelism.
M.GROUPS = 32768
-- Keys whose channel a partitioner remembers before it starts anew.
local CACHE_MAX = 65536

local OFFSET = tobit(0x811c9dc5)

-- The FNV prime is 2^24 + 0x193; the product is taken apart so that no step
-- leaves the 53 bits of a double.
local function fnv1a(text)
  local h = OFFSET
  for i = 1, #text do
    h = bxor(h, byte(text, i))
    h = tobit(lshift(h, 24) + h * 0x193)
  end
  return h
end

-- h * m modulo 2^32 for 32-bit h and m, by halves.
local function multiply(h, m)
  local low = band(h, 0xffff) * m
  local high = band(rshift(h, 16) * band(m, 0xffff), 0xffff)
  return tobit(low % 4294967296 + lshift(high, 16))
end

-- FNV leaves the high bits of short keys poorly mixed.
local function mix(h)
  h = bxor(h, rshift(h, 16))
  h = multiply(h, 0x7feb352d)
  h = bxor(h, rshift(h, 15))
  h = multiply(h, 0x846ca68b)
  return bxor(h, rshift(h, 16))
end

--- Why a value cannot be a key, or nil when it can.
---@return string|nil
function M.key_problem(key)
  local kind = type(key)
  if kind == "string" or kind == "boolean" then return nil end
  if kind == "number" then
    if key ~= key then return "the key of a record is not a number (NaN)" end
    return nil
  end
  return "the key of a record must be a string, a number or a boolean, not "
    .. (key == nil and "nil" or "a " .. kind)
end

local function text_of(key)
  if type(key) == "string" then return key end
  if type(key) == "number" then
    if key == 0 then key = 0 end -- -0
    return format("\1%.17g", key)
  end
  return key and "\2t" or "\2f"
end

--- Key group of a key, 0 to GROUPS - 1. Throws what key_problem says.
function M.group(key)
  local problem = M.key_problem(key)
  if problem then error(problem, 0) end
  return band(mix(fnv1a(text_of(key))), M.GROUPS - 1)
end

--- Subtask, from 0, that owns a group.
function M.owner(group, parallelism)
  return floor(group * parallelism / M.GROUPS)
end

--- A function key -> 1 .. n with a bounded memory of its answers.
function M.partitioner(n)
  local cache, size = {}, 0
  local group, owner = M.group, M.owner
  return function(key)
    local channel = cache[key]
    if channel then return channel end
    channel = owner(group(key), n) + 1
    if size >= CACHE_MAX then cache, size = {}, 0 end
    cache[key] = channel
    size = size + 1
    return channel
  end
end

return M
