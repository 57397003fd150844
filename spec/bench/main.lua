-- scripts/bench [group...]: the figures of this project beside their raw
-- baselines. Groups: codec, mailbox, rpc, net, job.

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path

local groups = { "codec", "mailbox", "rpc", "net", "job" }
local known = {}
for _, name in ipairs(groups) do known[name] = true end

local wanted = {}
for _, name in ipairs(arg) do
  if not known[name] then
    io.stderr:write(("bench: no group %s; there are %s\n"):format(name,
      table.concat(groups, ", ")))
    os.exit(2)
  end
  wanted[#wanted + 1] = name
end
if #wanted == 0 then wanted = groups end

for _, name in ipairs(wanted) do
  print(("# %s"):format(name))
  require(name .. "_bench")
end
