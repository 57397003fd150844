-- Encoding and decoding of one message of six fields, and of sixteen shapes in
-- turn, against the encoder that LuaJIT has built in.

local core = require("orrery.core")
local buffer = require("string.buffer")
local harness = require("harness")

local message = { id = 1, op = "add", args = { 1, 2, 3.5, "abc" }, ok = true,
  key = "k1", n = 7 }

local shapes = {}
for i = 1, 16 do
  local shape = { kind = "shape" .. i, list = {} }
  for j = 1, i % 5 do shape.list[j] = j * i end
  for j = 1, i % 4 do shape["field" .. i .. "_" .. j] = "value" .. j end
  if i % 2 == 0 then shape.nested = { a = i, b = { c = true } } end
  shapes[i] = shape
end

local function per_message(encode, decode, values, count)
  local n = #values
  local start = harness.now_ns()
  for i = 1, count do
    decode(encode(values[i % n + 1]))
  end
  return (harness.now_ns() - start) / count
end

local function ours(values)
  return function()
    return per_message(core.encode, core.decode, values, 200000)
  end
end

local function built_in(values)
  return function()
    return per_message(buffer.encode, buffer.decode, values, 200000)
  end
end

harness.compare { name = "codec.six_fields.encode_decode", unit = "ns",
  ours = ours({ message }), raw = built_in({ message }),
  raw_name = "string.buffer" }
harness.compare { name = "codec.sixteen_shapes.encode_decode", unit = "ns",
  ours = ours(shapes), raw = built_in(shapes), raw_name = "string.buffer" }
harness.print("codec.six_fields.size", #core.encode(message), "bytes")
