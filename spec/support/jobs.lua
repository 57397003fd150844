--- Job files and expected results for live specs.

local processes = require("support.processes")

local M = {}

local WORDS = { "the", "Quick", "brown", "fox", "jumps", "over", "lazy", "dog",
  "and", "THE", "moon", "don't", "x-ray" }

--- A file of text that is the same each time, with about this many words.
function M.text_file(folder, words)
  local out, state = {}, 12345
  for i = 1, words do
    state = (state * 1103515245 + 12345) % 2147483648
    local word = WORDS[math.floor(state / 65536) % #WORDS + 1]
    out[i] = word .. (i % 11 == 0 and "\n" or " ")
  end
  return processes.write_file(folder .. "/text.txt", table.concat(out) .. "\n")
end

--- What tr, sort and uniq say: word -> count.
function M.expected(paths)
  local command = "cat '" .. table.concat(paths, "' '")
    .. "' | tr -cs 'A-Za-z' '\\n' | tr A-Z a-z | LC_ALL=C sort | uniq -c"
  local pipe, counts = assert(io.popen(command)), {}
  for line in pipe:lines() do
    local count, word = line:match("^%s*(%d+)%s(%a+)$")
    if word then counts[word] = tonumber(count) end
  end
  pipe:close()
  return counts
end

--- The counts that `--top 0` of examples/word_count.lua prints.
function M.counts_of(text)
  local counts = {}
  for line in text:gmatch("[^\n]+") do
    local count, word = line:match("^(%d+) (%a+)$")
    assert(word, "not a count: " .. line)
    assert(counts[word] == nil, "twice: " .. word)
    counts[word] = tonumber(count)
  end
  return counts
end

return M
