local partition = require("orrery.task.partition")

describe("the partition of a key", function()
  it("is the same in every process and version", function()
    -- Frozen: a running job would lose records if these moved.
    local keys = {
      "", "a", "the", "Orrery", 0, 1, -1, 1.5, 2 ^ 53, true, false,
    }
    local groups = {}
    for i, key in ipairs(keys) do groups[i] = partition.group(key) end
    assert.same({ 7200, 14315, 26184, 25366, 2098, 14045,
      15529, 1757, 22895, 7770, 26252 }, groups)
  end)

  it("tells a number from its text, and not 0 from -0", function()
    assert.are_not.equal(partition.group(1), partition.group("1"))
    assert.equal(partition.group(0), partition.group(-0))
  end)

  it("refuses what cannot be a key", function()
    assert.has_error(function() partition.group(nil) end,
      "the key of a record must be a string, a number or a boolean, not nil")
    assert.has_error(function() partition.group({}) end, "the key of a record "
      .. "must be a string, a number or a boolean, not a table")
    assert.has_error(function() partition.group(0 / 0) end,
      "the key of a record is not a number (NaN)")
  end)

  it("stays inside 1 to n, with every n", function()
    for _, n in ipairs({ 1, 2, 3, 7, 128, 32768 }) do
      local pick = partition.partitioner(n)
      for i = 1, 500 do
        local channel = pick("key" .. i)
        assert(channel >= 1 and channel <= n)
        assert.equal(channel, pick("key" .. i))
      end
    end
  end)

  it("is balanced", function()
    for _, make in ipairs({
      function(i) return "word" .. i end,
      function(i) return i end,
      function(i) return string.char(97 + i % 26, 97 + math.floor(i / 26) % 26,
        97 + math.floor(i / 676)) end,
    }) do
      for _, n in ipairs({ 2, 3, 8 }) do
        local pick, counts = partition.partitioner(n), {}
        for i = 1, 10000 do
          local channel = pick(make(i))
          counts[channel] = (counts[channel] or 0) + 1
        end
        for channel = 1, n do
          local share = (counts[channel] or 0) * n / 10000
          assert(share > 0.85 and share < 1.15,
            string.format("channel %d of %d has %.2f", channel, n, share))
        end
      end
    end
  end)

  it("moves groups in ranges when the parallelism changes", function()
    for group = 0, partition.GROUPS - 2 do
      assert(partition.owner(group, 5) <= partition.owner(group + 1, 5))
    end
    assert.equal(4, partition.owner(partition.GROUPS - 1, 5))
  end)
end)
