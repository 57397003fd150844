-- What one would write by hand: a single thread, one loop over the lines.
local counts = {}
for line in io.lines(arg[1]) do
  for word in line:lower():gmatch("%a+") do
    counts[word] = (counts[word] or 0) + 1
  end
end
local words = {}
for word in pairs(counts) do words[#words + 1] = word end
table.sort(words, function(a, b)
  if counts[a] ~= counts[b] then return counts[a] > counts[b] end
  return a < b
end)
for i = 1, 20 do print(words[i], counts[words[i]]) end
