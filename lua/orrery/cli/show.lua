--- Jobs as text for people and as JSON documents. Pure: plain data in.

local errors = require("orrery.util.errors")
local json = require("orrery.util.json")
local text_table = require("orrery.util.text_table")

local M = {}

local ID_SHOWN = 8

--- Tasks that run and tasks in all: "2/4".
local function task_counts(job)
  local tasks = job.tasks or {}
  return ("%d/%d"):format(tasks.RUNNING or 0, job.tasks_total or 0)
end

local function time_text(ms)
  return ms and os.date("%Y-%m-%d %H:%M:%S", math.floor(ms / 1000)) or nil
end

--- The shortest beginnings of ids, at least 8 characters, that tell them apart.
function M.short_ids(jobs)
  local length, again = ID_SHOWN, true
  while again and length < 64 do
    local seen = {}
    again = false
    for _, job in ipairs(jobs) do
      local short = job.job_id:sub(1, length)
      if seen[short] then again = true end
      seen[short] = true
    end
    if again then length = length + 4 end
  end
  local short = {}
  for _, job in ipairs(jobs) do
    short[job.job_id] = job.job_id:sub(1, length)
  end
  return short
end

--- The table of `orrery list`.
function M.job_table(jobs)
  local short, rows = M.short_ids(jobs), {}
  for i, job in ipairs(jobs) do
    rows[i] = { short[job.job_id], job.name, job.status, task_counts(job),
      time_text(job.start_time), text_table.span(job.duration or 0) }
  end
  return text_table.format({ { title = "JOB" }, { title = "NAME" },
    { title = "STATE" }, { title = "RUNNING", right = true },
    { title = "STARTED" }, { title = "DURATION", right = true } }, rows)
end

local function failure_text(failure)
  if not failure then return nil end
  local parts, at, depth = {}, errors.from_table(failure), 0
  while errors.is(at) and depth < 8 do
    local last = parts[#parts]
    if not (last and last:find(at.message, 1, true)) then
      parts[#parts + 1] = at.message
    end
    at, depth = at.cause, depth + 1
  end
  return table.concat(parts, ": ")
end
M.failure_text = failure_text

local function vertex_rows(vertices)
  local rows = {}
  for i, vertex in ipairs(vertices) do
    local counts = vertex.counts or {}
    rows[i] = { vertex.name, vertex.status,
      ("%d/%d"):format(counts.RUNNING or 0, vertex.parallelism),
      text_table.count(vertex.records_in or 0),
      text_table.count(vertex.records_out or 0) }
  end
  return rows
end

--- The page of `orrery status`.
function M.job_page(job)
  local fields = {
    { "job", job.job_id },
    { "name", job.name },
    { "state", job.status .. (job.reason and " (" .. job.reason .. ")" or "") },
    { "started", time_text(job.start_time) },
    { "duration", text_table.span(job.duration or 0) },
    { "restarts", job.restarts or 0 },
  }
  if job.slots then
    fields[#fields + 1] = { "slots", ("%d held, %d needed"):format(
      job.slots.held or 0, job.slots.required or 0) }
  end
  local failure = failure_text(job.failure)
  if failure then fields[#fields + 1] = { "failure", failure } end
  local exceptions = job.exceptions or {}
  local latest = exceptions[#exceptions]
  if latest and not failure then
    fields[#fields + 1] = { "last failure", failure_text(latest.error) }
  end
  local text = text_table.fields(fields)
  if job.vertices and #job.vertices > 0 then
    text = text .. "\n" .. text_table.format({ { title = "OPERATORS" },
      { title = "STATE" }, { title = "RUNNING", right = true },
      { title = "RECORDS IN", right = true },
      { title = "RECORDS OUT", right = true } }, vertex_rows(job.vertices))
  end
  return text
end

-- Records that the sources have taken in: those that every job has, and each
-- counted once.
local function records_of(job)
  local fed, records = {}, 0
  for _, edge in ipairs(job.edges or {}) do fed[edge.to] = true end
  for _, vertex in ipairs(job.vertices or {}) do
    if not fed[vertex.id] then records = records + (vertex.records_in or 0) end
  end
  return records
end

-- The cluster looks at its tasks once a second; a rate over less is noise.
local RATE_MS = 1000

--- One line of progress. before is nil at first, then what was answered besides
-- the line the last time.
function M.progress_line(job, now_ms, before)
  local records = records_of(job)
  local line = ("%s  tasks %s  records %s"):format(job.status,
    task_counts(job), text_table.count(records))
  if not before or records < before.records then
    before = { records = records, time_ms = now_ms }
  elseif now_ms - before.time_ms >= RATE_MS and records > before.records then
    before = { records = records, time_ms = now_ms,
      rate = (records - before.records) * 1000 / (now_ms - before.time_ms) }
  end
  if before.rate then
    line = line .. ("  %s/s"):format(text_table.count(before.rate))
  end
  if (job.restarts or 0) > 0 then
    line = line .. ("  restarts %d"):format(job.restarts)
  end
  if job.reason then line = line .. "  (" .. job.reason .. ")" end
  return text_table.printable(line), before
end

local EMPTY_OBJECTS = { "tasks", "timestamps", "accumulators", "collected",
  "counts" }

--- The same data with empty maps marked, for the JSON encoder.
function M.document(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = M.document(inner) end
  for _, name in ipairs(EMPTY_OBJECTS) do
    if type(copy[name]) == "table" and next(copy[name]) == nil then
      copy[name] = json.object()
    end
  end
  return copy
end

return M
