--- A peer that speaks the bytes of docs/wire_format.md by itself, for what no
-- peer of ours would say.

local bit = require("bit")
local uv = require("luv")
local core = require("orrery.core")
local orrery = require("orrery")

local M = {}

--- CRC-32C, bit by bit.
local function crc32c(text)
  local crc = -1
  for i = 1, #text do
    crc = bit.bxor(crc, text:byte(i))
    for _ = 1, 8 do
      local odd = bit.band(crc, 1) == 1
      crc = bit.rshift(crc, 1)
      if odd then crc = bit.bxor(crc, 0x82f63b78) end
    end
  end
  return bit.bnot(crc)
end

local function u32(n)
  return string.char(bit.band(n, 255), bit.band(bit.rshift(n, 8), 255),
    bit.band(bit.rshift(n, 16), 255), bit.band(bit.rshift(n, 24), 255))
end

--- One frame of version 1 with a good checksum.
function M.frame(kind, body)
  local head = u32(#body) .. "\1" .. string.char(kind) .. ("\0"):rep(30)
  local rest = ("\0"):rep(24)
  return head .. u32(crc32c(head .. "\0\0\0\0" .. rest .. body)) .. rest .. body
end

--- A HELLO of this protocol version.
function M.hello(protocol)
  return M.frame(1, "\135" .. core.encode("protocol", protocol, "cluster",
    "orrery", "incarnation", 5, "address", "", "frame_max", 1048576,
    "features", {}, "nonce") .. "\196\16" .. ("n"):rep(16))
end

--- Connects to an address and sends bytes. Answers { closed = future of all
-- that came when the other side closed, send, close }.
function M.open(address, bytes)
  local host, port = address:match("^(.*):(%d+)$")
  local got, closed = {}, orrery.Future.new()
  local socket = uv.new_tcp()
  local peer = { closed = closed }
  function peer.send(text) socket:write(text) end
  function peer.close()
    if not socket:is_closing() then socket:close() end
  end
  function peer.received() return table.concat(got) end
  socket:connect(host, tonumber(port), function(failure)
    if failure then
      closed:reject(failure)
      return
    end
    socket:read_start(function(_, data)
      if data then
        got[#got + 1] = data
      else
        closed:resolve(table.concat(got))
      end
    end)
    socket:write(bytes)
  end)
  return peer
end

return M
