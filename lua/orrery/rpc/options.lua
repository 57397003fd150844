--- RpcOptions: the options of the RPC framework, their values in a
-- configuration, and what a service is made with.
--
--   local values, err = options.read({ ["rpc.ask-timeout"] = "5 s",
--                                      ["akka.lookup.timeout"] = "20 s" })
--   values.ask_timeout_ms, values.connect_retries, ...
--
-- A configuration is a table of keys (any spelling that orrery.util.config
-- knows), an object of orrery.util.config, or a function key -> value of values
-- that were checked already. The types, defaults, and errors are the
-- configuration's; the keys are rows of orrery.util.config_options.

local config = require("orrery.util.config")
local errors = require("orrery.util.errors")
local security = require("orrery.rpc.security")
local sorted = require("orrery.util.sorted")

local M = {}

-- The name in the framework, our key, and the field of values.
local ROWS = {
  { "RPC_BIND_ADDRESS", "rpc.bind-address", "bind_address" },
  { "RPC_PORT", "rpc.port", "port" },
  { "RPC_ASK_TIMEOUT", "rpc.ask-timeout", "ask_timeout_ms" },
  { "RPC_ASK_CALLSTACK", "rpc.ask-callstack", "ask_callstack" },
  { "RPC_LOOKUP_TIMEOUT", "rpc.lookup-timeout", "lookup_timeout_ms" },
  { "RPC_CONNECT_RETRIES", "rpc.connect.retries", "connect_retries" },
  { "RPC_CONNECT_RETRY_DELAY", "rpc.connect.retry-delay",
    "connect_retry_delay_ms" },
  { "RPC_TCP_TIMEOUT", "rpc.tcp.timeout", "tcp_timeout_ms" },
  { "RPC_RETRY_GATE_CLOSED_FOR", "rpc.retry-gate-closed-for",
    "retry_gate_ms" },
  { "RPC_FRAMESIZE", "rpc.framesize", "framesize" },
  { "RPC_SSL_ENABLED", "rpc.ssl.enabled", "ssl_enabled" },
  { "RPC_LOG_LIFECYCLE_EVENTS", "rpc.log-lifecycle-events",
    "log_lifecycle_events" },
  { "CLUSTER_ID", "cluster.id", "cluster_id" },
  { "INSECURE", "insecure", "insecure" },
  { "SERVICES_SHUTDOWN_TIMEOUT", "cluster.services.shutdown-timeout",
    "shutdown_timeout_ms" },
}

local by_key = {}
for _, option in ipairs(config.options) do by_key[option.key] = option end

--- Each option by its name in the framework: key, type, default, aliases,
-- help.
for _, row in ipairs(ROWS) do
  local option = by_key[row[2]]
  M[row[1]] = {
    key = option.key, type = option.type, default = option.default,
    aliases = option.aliases or {}, help = option.help, field = row[3],
  }
end

--- All of them in their order.
function M.list()
  local out = {}
  for i, row in ipairs(ROWS) do out[i] = M[row[1]] end
  return out
end

-- A function key -> typed value.
local function reader_of(configuration)
  if type(configuration) == "function" then return configuration end
  if configuration == nil then configuration = {} end
  if type(configuration) ~= "table" then
    return nil, errors.new("bad_argument", "a configuration is a table of "
      .. "keys, a configuration object or a function, got a "
      .. type(configuration))
  end
  if type(configuration.reader) == "function" then
    return configuration:reader()
  end
  local flags = {}
  for key, value in sorted.pairs(configuration) do
    if type(key) ~= "string" then
      return nil, errors.new("bad_configuration",
        tostring(key) .. " is no configuration key")
    end
    flags[#flags + 1] = { key, value, "the configuration" }
  end
  local loaded, err = config.load({ file = false, flags = flags })
  if not loaded then return nil, err end
  return loaded:reader()
end

--- The values of a configuration by field; nil, err for a key or a value that
-- cannot be.
function M.read(configuration)
  local get, err = reader_of(configuration)
  if not get then return nil, err end
  local values = {}
  for _, row in ipairs(ROWS) do values[row[3]] = get(row[2]) end
  values.tls, err = security.of_config({ get = function(_, key)
    return get(key)
  end })
  if values.tls == false then return nil, err end
  return values
end

--- The options of orrery.service for such values.
function M.service_options(values)
  local ns = 1e6
  return {
    cluster_id = values.cluster_id, timeout = values.ask_timeout_ms,
    connect_retries = values.connect_retries,
    connect_retry_delay = values.connect_retry_delay_ms,
    ask_callstack = values.ask_callstack,
    log_lifecycle_events = values.log_lifecycle_events,
    tls = values.tls, insecure = values.insecure,
    net = {
      frame_max = values.framesize,
      connect_timeout_ns = values.tcp_timeout_ms * ns,
      retry_gate_ns = math.max(1, values.retry_gate_ms * ns),
    },
  }
end

return M
