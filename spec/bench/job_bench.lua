-- Jobs on a cluster in another process, on one processor and on two: records a
-- second through a keyed exchange, and the time of a word count against the
-- loop that one would write by hand.

local uv = require("luv")
local client = require("orrery.client")
local harness = require("harness")

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local root = here .. "/../.."
local exe = assert(uv.exepath())

local folder = assert(uv.fs_mkdtemp("/tmp/orrery-bench-XXXXXX"))
local text = folder .. "/text.txt"
local TEXT_BYTES = 64 * 1024 * 1024
local RECORDS = 4000000

local function write_text()
  local pieces = {}
  local pipe = assert(io.popen("cat /usr/share/common-licenses/*"))
  local piece = pipe:read("*a")
  pipe:close()
  for i = 1, math.ceil(TEXT_BYTES / #piece) do pieces[i] = piece end
  local file = assert(io.open(text, "wb"))
  assert(file:write(table.concat(pieces)))
  file:close()
end

local function wait_for_file(path)
  local deadline = uv.now() + 10000
  while uv.now() < deadline do
    local file = io.open(path)
    local address = file and file:read("*l")
    if file then file:close() end
    if address then return address end
    os.execute("sleep 0.05")
    uv.update_time()
  end
  error("orrery up wrote no " .. path)
end

--- A cluster on the given processors; answers its client and its end.
local function start_cluster(processors)
  local ready = folder .. "/ready-" .. processors
  local process = assert(uv.spawn("taskset", {
    args = { "-c", processors, exe, "up", "--port", "0", "--slots", "2",
      "--ready-file", ready, "-D", "blob.storage.directory=" .. folder
        .. "/blobs-" .. processors },
    stdio = { nil, nil, 2 },
  }, function() end))
  local cluster = assert(client.connect(wait_for_file(ready)))
  return cluster, function()
    cluster:close()
    process:kill("sigint")
  end
end

local function run(cluster, file, arguments)
  local start = harness.now_ns()
  local prepared = assert(client.prepare(file, arguments))
  local id = assert(cluster:submit(prepared))
  assert(cluster:result(id))
  return (harness.now_ns() - start) / 1e6
end

local function baseline()
  local start = harness.now_ns()
  local pipe = assert(io.popen(("taskset -c 0 '%s' exec '%s' -- '%s'"):format(
    exe, here .. "/word_count_baseline.lua", text)))
  pipe:read("*a")
  pipe:close()
  return (harness.now_ns() - start) / 1e6
end

write_text()
for _, case in ipairs({
  { "0", 1, "one core", 2 }, -- half the speed: at most twice the time
  { "0,1", 2, "two cores", 1 },
}) do
  local processors, parallelism, name, goal = unpack(case)
  local cluster, stop = start_cluster(processors)
  local label = name:gsub(" ", "_")
  harness.compare { name = "job.word_count_64MB." .. label, unit = "ms",
    goal = goal, rounds = 3, ours = function()
      return run(cluster, root .. "/examples/word_count.lua",
        { "--top", "20", "--parallelism", tostring(parallelism), text })
    end, raw = baseline, raw_name = "one thread by hand" }
  harness.compare { name = "job.keyed_exchange." .. label .. ".p2",
    unit = "records/s", rounds = 3, ours = function()
      return RECORDS / run(cluster, here .. "/keyed_job.lua",
        { tostring(RECORDS), "2" }) * 1000
    end }
  stop()
end
os.execute(("rm -rf '%s'"):format(folder))
