--- orr_service and orr_net: one RPC address, its endpoints, its connections.
--
-- Codes become nil, err; memory has an owner; nothing is decided here.

local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

M.CREATED, M.STARTED, M.STOPPING = 0, 1, 2

local function executor_of(pointer)
  return ffi.cast("orr_executor *", pointer)
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
    or token.epoch < 0 or token.epoch ~= math.floor(token.epoch)
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

--- Opens an endpoint. options: name, methods (MessagePack), gateways, control
-- (bytes), permissions (texts), ref, token_bytes, capacity_control,
-- capacity_bulk.
function M.open(executor, s, options)
  local o = ffi.new("orr_endpoint_options")
  o.name = options.name
  o.methods = ffi.cast("const uint8_t *", options.methods)
  o.methods_len = #options.methods
  o.gateways = options.gateways
  o.control = ffi.cast("const uint8_t *", options.control)
  local permissions = options.permissions
  local texts -- lives until the call is over, because it is returned
  if permissions then
    texts = ffi.new("const char *[?]", #permissions, permissions)
    o.permissions = texts
  end
  o.capacity_control = options.capacity_control or 0
  o.capacity_bulk = options.capacity_bulk or 0
  o.ref = options.ref
  if options.token_bytes then
    o.fenced = 1
    ffi.copy(o.token, options.token_bytes, ffi.sizeof("orr_token"))
  end
  local slot = ffi.new("uint32_t[1]")
  local code = C.orr_endpoint_open(executor_of(executor), s, o, slot)
  if code ~= 0 then return lib.fail(code) end
  return tonumber(slot[0]), nil, texts
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
        waiting = info.depth[0] + info.depth[1],
        handled = tonumber(info.handled),
        refused = tonumber(info.refused),
        expired = tonumber(info.expired),
        oldest_ms = tonumber(info.oldest_ns) / 1e6,
        running_ms = tonumber(info.running_ns) / 1e6,
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
}

function M.net_info(net)
  local info, out = ffi.new("orr_net_info"), {}
  C.orr_net_info_get(net, info)
  for _, field in ipairs(NET_FIELDS) do out[field] = tonumber(info[field]) end
  return out
end

return M
