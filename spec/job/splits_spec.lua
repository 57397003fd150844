local splits = require("orrery.job.splits")
local cluster = require("job.cluster")

-- A file in memory with the functions that the reader uses.
local function file_of(text)
  local at = 0
  return {
    seek = function(_, _, offset) at = offset return at end,
    read = function(_, n)
      if at >= #text then return nil end
      local part = text:sub(at + 1, at + n)
      at = at + #part
      return part
    end,
  }
end

local function lines_of(text)
  local list = {}
  splits.lines(text, function(line) list[#list + 1] = line end)
  return list
end

local function read_all(text, split_size, block_size)
  local list = {}
  for _, split in ipairs(splits.cut({}, "f", #text, split_size)) do
    local read = splits.blocks(file_of(text), split, block_size)
    while true do
      local block = read()
      if not block then break end
      if block ~= "" then
        splits.lines(block, function(line) list[#list + 1] = line end)
      end
    end
  end
  return list
end

local function random_text(chance)
  local parts = {}
  for i = 1, chance(30) do
    parts[i] = string.rep(string.char(96 + chance(26)), chance(12) - 1)
  end
  local text = table.concat(parts, "\n")
  return chance(2) == 1 and text .. "\n" or text
end

describe("cutting a file", function()
  it("gives ranges that touch and end with the file", function()
    assert.same({
      { path = "f", from = 0, to = 4 }, { path = "f", from = 4, to = 8 },
      { path = "f", from = 8, to = 9 },
    }, splits.cut({}, "f", 9, 4))
    assert.same({}, splits.cut({}, "f", 0, 4))
  end)

  it("makes ranges larger so that they stay few", function()
    assert.equal(1024, splits.size_for(4096, 1, 100, 1024))
    assert.equal(50, splits.size_for(4500, 10, 100, 1))
  end)
end)

describe("reading ranges", function()
  it("covers every line once, in order, for all sizes", function()
    for seed = 1, 150 do
      local chance = cluster.chance(seed)
      local text = random_text(chance)
      local expected = lines_of(text)
      for split_size = 1, #text + 2 do
        local block_size = chance(9)
        local got = read_all(text, split_size, block_size)
        local ok = #got == #expected
        for i = 1, #expected do ok = ok and got[i] == expected[i] end
        assert(ok, string.format("seed %d, split size %d, block size %d, "
          .. "text %q", seed, split_size, block_size, text))
      end
    end
  end)

  it("gives a line on the border to the range of its first byte", function()
    local text = "aa\nbb\ncc\n"
    local function read(from, to)
      local blocks = {}
      local next_block = splits.blocks(file_of(text),
        { path = "f", from = from, to = to })
      for block in next_block do blocks[#blocks + 1] = block end
      return table.concat(blocks)
    end
    assert.equal("aa\n", read(0, 3))
    assert.equal("bb\n", read(3, 6))
    assert.equal("aa\nbb\n", read(0, 4))
    assert.equal("cc\n", read(4, 9))
    assert.equal("", read(4, 5))
  end)

  it("refuses a line without end", function()
    local text = string.rep("x", splits.LINE_MAX + 10)
    local read = splits.blocks(file_of(text),
      { path = "f", from = 0, to = #text })
    local ok, err
    repeat
      ok, err = pcall(read)
    until not ok or err == nil
    assert.is_false(ok)
    assert.truthy(err:find("^f: the line before byte %d+ is longer than "
      .. "8388608"))
  end)
end)
