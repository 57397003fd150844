--- What the core knows of methods, executors and traces, as tables.
--
-- All of it may be asked on any thread and disturbs nobody: the owners write
-- counters, this reads them.

local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

local EXECUTORS_MAX = 4096 -- what core.spawn allows
local SPANS_AT_ONCE = 256

local function count(value)
  return tonumber(value)
end

local function ms(value)
  return tonumber(value) / 1e6
end

local function latency(l)
  return {
    count = count(l.count), p50_ms = ms(l.p50_ns), p90_ms = ms(l.p90_ns),
    p99_ms = ms(l.p99_ns), max_ms = ms(l.max_ns),
  }
end

--- The methods of the endpoint in a slot, in the order of their numbers; nil,
-- err when it has gone.
function M.methods(s, slot)
  local out = {}
  local info = ffi.new("orr_method_info")
  while true do
    local code = C.orr_service_method_info(s, slot, #out, info)
    if code ~= 0 and #out == 0 then return lib.fail(code) end
    if code ~= 0 then return out end
    out[#out + 1] = {
      name = ffi.string(info.name),
      errors = count(info.errors), refused = count(info.refused),
      expired = count(info.expired), abandoned = count(info.abandoned),
      run_ms = ms(info.run_ns), run_max_ms = ms(info.run_max_ns),
      queue = latency(info.queue), handler = latency(info.handler),
    }
  end
end

--- Begins the counts of all methods of an endpoint anew.
function M.reset(s, slot)
  local method = 0
  while C.orr_service_method_reset(s, slot, method) == 0 do
    method = method + 1
  end
  if method == 0 then return lib.fail(C.ORR_ENOENT) end
  return true
end

--- The executors of this process, in the order of their numbers.
function M.executors()
  local out = {}
  local info = ffi.new("orr_executor_info[1]")
  local after = 0
  while #out < EXECUTORS_MAX and C.orr_executors(after, info, 1) == 1 do
    local e = info[0]
    after = e.number
    out[#out + 1] = {
      number = e.number, endpoints = e.endpoints, calls = e.calls,
      active = e.active, timers = e.timers, links = e.links,
      events = count(e.events), wakeups = count(e.wakeups),
      dropped = count(e.dropped), turns = count(e.turns),
      busy_ms = ms(e.busy_ns), lag = latency(e.lag),
    }
  end
  return out
end

-- Traces and spans have numbers of 64 bits, here as 16 hexadecimal digits.
local function hex(id)
  local low = id % 0x100000000ULL
  return string.format("%08x%08x", tonumber((id - low) / 0x100000000ULL),
    tonumber(low))
end

local function unhex(text)
  local high, low = text:match("^(%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x)$")
  if not high then return nil end
  return tonumber(high, 16) * 0x100000000ULL + tonumber(low, 16)
end

--- Traces until that time of the executors' clock; 0 = no more.
function M.trace(filter, until_ms)
  local code = C.orr_trace_set(filter, until_ms * 1e6)
  if code ~= 0 then return lib.fail(code) end
  return true
end

local function span(s)
  return {
    sequence = count(s.sequence), trace = hex(s.trace), span = hex(s.span),
    parent = s.parent ~= 0 and hex(s.parent) or nil,
    endpoint = ffi.string(s.endpoint), method = ffi.string(s.method),
    queue_ms = ms(s.queue_ns), run_ms = ms(s.run_ns), status = s.status,
    executor = s.executor, wall_ms = count(s.wall_ms),
  }
end

--- The spans that this process keeps, oldest first; of one trace, or of all
-- (nil). nil, message when that is no trace id.
function M.spans(trace)
  local id = 0
  if trace ~= nil then
    id = unhex(trace)
    if not id then return nil, "a trace has 16 hexadecimal digits" end
  end
  local out, after = {}, 0
  local found = ffi.new("orr_span[?]", SPANS_AT_ONCE)
  repeat
    local n = C.orr_trace_read(id, after, found, SPANS_AT_ONCE)
    for i = 0, n - 1 do
      out[#out + 1] = span(found[i])
      after = found[i].sequence
    end
  until n < SPANS_AT_ONCE
  return out
end

return M
