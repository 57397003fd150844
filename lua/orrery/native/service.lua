--- orr_service and orr_net: one RPC address, its endpoints, its connections.
--
-- Codes become nil, err; memory has an owner; nothing is decided here.

local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

M.CREATED, M.STARTED, M.STOPPING = 0, 1, 2
M.FEATURE_SPILL = tonumber(C.ORR_FEATURE_SPILL)

local executor_type = ffi.typeof("orr_executor *")

local function executor_of(pointer)
  return ffi.cast(executor_type, pointer)
end

--- Gives a service; free it after every executor that used it has ended.
function M.new(name, cluster_id, incarnation)
  local s = C.orr_service_new(name, cluster_id, incarnation)
  if s == nil then return lib.fail(C.ORR_ENOMEM) end
  return s
end

function M.free(s)
  C.orr_service_free(s)
end

--- A service that another thread of this process owns.
function M.adopt(pointer)
  return ffi.cast("orr_service *", pointer)
end

function M.address(s)
  return ffi.string(C.orr_service_address(s))
end

function M.set_address(s, address)
  local code = C.orr_service_set_address(s, address)
  if code ~= 0 then return lib.fail(code) end
  return true
end

--- 24 bytes of a token table for the core; nil for nil; nil, message.
function M.token_bytes(token)
  if token == nil then return nil end
  if type(token) ~= "table" or type(token.epoch) ~= "number"
    or token.epoch < 0 or token.epoch >= 2 ^ 53
    or token.epoch ~= math.floor(token.epoch)
    or type(token.session) ~= "string" or #token.session ~= 16 then
    return nil, "a token is { epoch = whole number, session = 16 bytes }"
  end
  local t = ffi.new("orr_token")
  t.epoch = token.epoch
  ffi.copy(t.session, token.session, 16)
  return ffi.string(t, ffi.sizeof(t))
end

function M.require_tls(s, required)
  C.orr_service_require_tls(s, required and 1 or 0)
end

local NAME_MAX = 128 -- with its NUL
local name_bytes = ffi.new("char[?]", NAME_MAX)

--- What the endpoints of a class have in common. options: methods
-- (MessagePack), gateways, control (bytes), permissions (texts, or nil).
function M.template(options)
  local o = ffi.new("orr_endpoint_options")
  o.methods = ffi.cast("const uint8_t *", options.methods)
  o.methods_len = #options.methods
  o.gateways = options.gateways
  o.name = name_bytes
  o.control = ffi.cast("const uint8_t *", options.control)
  local permissions, texts = options.permissions, nil
  if permissions then
    texts = ffi.new("const char *[?]", #permissions, permissions)
    o.permissions = texts
  end
  -- The struct only points to these; this keeps them.
  return { struct = o, strings = options, texts = texts }
end

local slot_out = ffi.new("uint32_t[1]")
local token_size = ffi.sizeof("orr_token")

--- Opens an endpoint of a template; answers its slot. capacity is that of the
-- bulk lane, 0 the default. token_bytes nil: not fenced.
function M.open(executor, s, template, name, ref, token_bytes, capacity)
  local o = template.struct
  -- A copy compiles where an assignment of a Lua string does not.
  if #name >= NAME_MAX then return lib.fail(C.ORR_EINVAL) end
  ffi.copy(name_bytes, name)
  o.ref, o.capacity_bulk = ref, capacity
  if token_bytes then
    o.fenced = 1
    ffi.copy(o.token, token_bytes, token_size)
  else
    o.fenced = 0
  end
  local code = C.orr_endpoint_open(executor_of(executor), s, o, slot_out)
  if code ~= 0 then return lib.fail(code) end
  return tonumber(slot_out[0])
end

--- Begins a new life of an endpoint: see orr_endpoint_reset.
function M.reset(executor, s, slot)
  local code = C.orr_endpoint_reset(executor_of(executor), s, slot)
  if code ~= 0 then return lib.fail(code) end
  return true
end

function M.set_state(executor, s, slot, state)
  local code = C.orr_endpoint_set_state(executor_of(executor), s, slot, state)
  if code ~= 0 then return lib.fail(code) end
  return true
end

function M.close(executor, s, slot)
  local code = C.orr_endpoint_close(executor_of(executor), s, slot)
  if code ~= 0 then return lib.fail(code) end
  return true
end

local STATES = { [0] = "created", "started", "stopping", "gone" }

--- What anybody may know of the endpoints of a service, ordered by slot.
function M.endpoints(s, now_ms)
  local out = {}
  local info = ffi.new("orr_endpoint_info")
  for slot = 0, C.orr_service_endpoint_count(s) - 1 do
    if C.orr_service_endpoint_info(s, slot, now_ms * 1e6, info) == 0 then
      out[#out + 1] = {
        name = ffi.string(info.name),
        slot = slot,
        state = STATES[info.state],
        waiting = info.depth[0] + info.depth[1] + info.posted,
        handled = tonumber(info.handled),
        refused = tonumber(info.refused),
        expired = tonumber(info.expired),
        oldest_ms = tonumber(info.oldest_ns) / 1e6,
        running_ms = tonumber(info.running_ns) / 1e6,
        running = info.running_ns ~= 0 and ffi.string(info.running_name) or nil,
        executor = info.executor,
      }
    end
  end
  return out
end

local function net_options(options)
  local o = ffi.new("orr_net_options")
  for key, value in pairs(options or {}) do o[key] = value end
  return o
end

local function made(net, err)
  if net == nil then return lib.fail(err.code, err) end
  return net
end

--- The net of a service on the real loop (light userdata).
function M.net(loop, s, options)
  local err = ffi.new("orr_error")
  return made(C.orr_net_new(ffi.cast("orr_loop *", loop), s,
    net_options(options), err), err)
end

--- Listens; answers the address with the real port.
function M.listen(net, address)
  local err = ffi.new("orr_error")
  local bound = ffi.new("char[256]")
  local code = C.orr_net_listen(net, address, bound, 256, err)
  if code ~= 0 then return lib.fail(code, err) end
  return ffi.string(bound)
end

function M.net_close(net, reason)
  C.orr_net_close(net, reason)
end

function M.net_free(net)
  C.orr_net_free(net)
end

local NET_FIELDS = {
  "connections", "accepted", "refused", "handshake_failures",
  "protocol_errors", "frames_in", "frames_out", "bytes_in", "bytes_out",
  "body_in_max", "body_out_max", "too_large", "chunked_in", "chunked_out",
  "chunked_dropped", "assembling", "sending",
}

function M.net_info(net)
  local info, out = ffi.new("orr_net_info"), {}
  C.orr_net_info_get(net, info)
  for _, field in ipairs(NET_FIELDS) do out[field] = tonumber(info[field]) end
  return out
end

return M
