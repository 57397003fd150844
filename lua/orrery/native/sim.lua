--- orr_sim: virtual time, nodes and a simulated network.

local lib = require("orrery.native.lib")
local native_chance = require("orrery.native.chance")

local ffi, C = lib.ffi, lib.C

local Sim = {}
Sim.__index = Sim

local function check(code, err)
  if code == 0 then return true end
  return lib.fail(code, err)
end

local M = {}

function M.new(seed)
  local sim = C.orr_sim_new(seed)
  if sim == nil then return lib.fail(C.ORR_ENOMEM) end
  return setmetatable({
    _c = sim, _event = ffi.new("orr_sim_event"), _u32 = ffi.new("uint32_t[1]"),
  }, Sim)
end

--- Frees it with its executors; nets are freed after it by their owner.
function Sim:free()
  if self._c then C.orr_sim_free(self._c) end
  self._c = nil
end

function Sim:node(name)
  local code = C.orr_sim_node(self._c, name, self._u32)
  if code ~= 0 then return lib.fail(code) end
  return tonumber(self._u32[0])
end

function Sim:executor(node, number)
  local err = ffi.new("orr_error")
  local ex = C.orr_sim_executor(self._c, node, number, err)
  if ex == nil then return lib.fail(err.code, err) end
  return ex
end

function Sim:net(executor, service)
  local err = ffi.new("orr_error")
  local net = C.orr_sim_net(self._c, executor, service, nil, err)
  if net == nil then return lib.fail(err.code, err) end
  return net
end

--- Index of the executor that must turn, or nil when time is up (until_ms).
function Sim:step(until_ms)
  local until_ns = until_ms and ffi.cast("uint64_t", until_ms * 1e6)
    or ffi.cast("uint64_t", -1)
  local code = C.orr_sim_step(self._c, until_ns, self._event)
  if code == 1 then return self._event.index end
  if code < 0 then error("simulation: out of memory", 2) end
  return nil
end

function Sim:now_ms() return tonumber(C.orr_sim_now_ns(self._c)) / 1e6 end
function Sim:wall_ms() return tonumber(C.orr_sim_wall_ms(self._c)) end

--- Time of the next event, or nil.
function Sim:next_ms()
  local at = C.orr_sim_next_ns(self._c)
  if at == ffi.cast("uint64_t", -1) then return nil end
  return tonumber(at) / 1e6
end

function Sim:chance() return native_chance.adopt(C.orr_sim_chance(self._c)) end

function Sim:set_latency(min_ms, max_ms)
  return check(C.orr_sim_set_latency(self._c, min_ms * 1e6, max_ms * 1e6))
end

function Sim:partition(a, b, cut)
  return check(C.orr_sim_partition(self._c, a, b, cut and 1 or 0))
end

function Sim:heal() C.orr_sim_heal(self._c) end

function Sim:reset_connections(a, b)
  local n = C.orr_sim_reset_connections(self._c, a, b)
  if n < 0 then return lib.fail(n) end
  return n
end

function Sim:crash(node) return check(C.orr_sim_crash(self._c, node)) end
function Sim:restart(node) return check(C.orr_sim_restart(self._c, node)) end

function Sim:trace_hash()
  return (tostring(C.orr_sim_trace_hash(self._c)):gsub("ULL$", ""))
end

function Sim:trace_note(text)
  C.orr_sim_trace_note(self._c, text, #text)
end

function Sim:events() return tonumber(C.orr_sim_events(self._c)) end

return M
