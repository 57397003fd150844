-- The example against the tools of the system.
local bundle = require("orrery.job.bundle")
local cluster = require("job.cluster")

local TEXTS = "/usr/share/common-licenses"
local COMMAND = "cat %s/* | tr -cs 'A-Za-z' '\\n' | tr A-Z a-z | "
  .. "grep . | LC_ALL=C sort | uniq -c"

local function expected()
  local pipe = assert(io.popen(COMMAND:format(TEXTS)))
  local list = {}
  for line in pipe:lines() do
    local count, word = line:match("^%s*(%d+) (%a+)$")
    list[#list + 1] = count .. " " .. word
  end
  pipe:close()
  table.sort(list)
  return list
end

local function count(arguments, seed)
  local loaded = assert(bundle.load("examples/word_count.lua", arguments))
  local result, err = cluster.new(loaded, { seed = seed }):run()
  if not result then error(err:describe()) end
  local lines = {}
  assert(loaded.job:run_on_result(result, function(line)
    lines[#lines + 1] = line
  end))
  return lines
end

describe("the word count example", function()
  for _, parallelism in ipairs({ "1", "3" }) do
    it("equals tr, sort and uniq with parallelism " .. parallelism, function()
      local lines = count({
        "--top", "0", "--parallelism", parallelism, TEXTS,
      }, 7)
      assert(#lines > 1000)
      -- Most frequent first, then by the alphabet.
      local last_count, last_word = math.huge, ""
      for _, line in ipairs(lines) do
        local n, word = line:match("^(%d+) (%l+)$")
        n = tonumber(n)
        assert(n < last_count or n == last_count and word > last_word, line)
        last_count, last_word = n, word
      end
      table.sort(lines)
      assert.same(expected(), lines)
    end)
  end

  it("prints aligned columns", function()
    local lines = count({ "--top", "3" })
    assert.equal(4, #lines)
    assert.equal("word       count", lines[1])
    assert.truthy(lines[2]:find("^the%s+%d+$"))
    for _, line in ipairs(lines) do assert.equal(#lines[1], #line) end
  end)

  it("refuses options that it does not know", function()
    local _, err = bundle.load("examples/word_count.lua", { "--topp" })
    assert.equal('unknown option "--topp"; usage: word_count.lua [--top N] '
      .. "[--parallelism P] [path...]", err.message)
    _, err = bundle.load("examples/word_count.lua", { "--parallelism", "0" })
    assert.truthy(err.message:find("^word_count.lua:%d+: job option "
      .. "parallelism: parallelism must be a whole number from 1 to 32768, "
      .. "not 0"))
  end)
end)
