--- The configuration options: one row a key. docs/configuration.md is written
-- from this table (`orrery config --markdown`), so it cannot lag behind.
--
-- default may be a function, called once per configuration; default_text then
-- says in words what it answers.

local function processors()
  local info = require("luv").cpu_info()
  return math.max(1, info and #info or 1)
end

local SECOND, MINUTE = 1000, 60000

local function option(key, kind, default, help, more)
  local row = { key = key, type = kind, default = default, help = help }
  for name, value in pairs(more or {}) do row[name] = value end
  return row
end

local PORT = { min = 0, max = 65535 }

-- The two spellings of Flink's actor system.
local function both(key)
  return { "pekko." .. key, "akka." .. key }
end

return {
  option("cluster.id", "string", "orrery",
    "Name of the cluster; processes of different clusters refuse each other."),
  option("insecure", "bool", false,
    "Allows to listen on an address that other machines can reach, without "
    .. "encryption or authentication (rpc.ssl.enabled)."),

  option("jobmanager.rpc.address", "string", "127.0.0.1",
    "Host where the jobmanager listens and where others find it."),
  option("jobmanager.rpc.port", "int", 6123,
    "Port of the jobmanager; 0 takes a free one.", PORT),
  option("taskmanager.rpc.address", "string", "127.0.0.1",
    "Host where a taskmanager listens and where others find it."),
  option("taskmanager.rpc.port", "int", 0,
    "Port of a taskmanager; 0 takes a free one.", PORT),
  option("taskmanager.id", "string", "",
    "Name of a taskmanager; empty makes one of host, port and chance."),
  option("taskmanager.slots", "int", processors,
    "Tasks that a taskmanager runs at a time, each on its own thread.",
    { min = 1, max = 1024, default_text = "processors",
      aliases = { "taskmanager.numberOfTaskSlots" } }),
  option("taskmanager.slot.timeout", "duration", 10 * SECOND,
    "How long a slot waits for the job that asked for it.", { min = 1 }),
  option("taskmanager.registration.timeout", "duration", 5 * MINUTE,
    "How long a taskmanager tries to register before it reports a failure.",
    { min = 1 }),

  option("rpc.bind-address", "string", "",
    "Host that a service made from the configuration listens on; empty is the "
    .. "host that it is reached at."),
  option("rpc.port", "ports", "0",
    "Port of such a service: one, a range \"50100-50200\" or a list of both; "
    .. "the first free one is taken, 0 is any free one."),
  option("rpc.ask-timeout", "duration", 10 * SECOND,
    "Time limit of a call that names none.", { min = 1,
      aliases = both("ask.timeout") }),
  option("rpc.ask-callstack", "bool", true,
    "Whether a call that expires tells the stack of who waited for it.",
    { aliases = both("ask.callstack") }),
  option("rpc.ssl.enabled", "bool", false,
    "Encrypts all connections by TLS 1.3; both sides show a certificate.",
    { aliases = { "security.ssl.internal.enabled", "pekko.ssl.enabled",
      "akka.ssl.enabled" } }),
  option("rpc.ssl.certificate", "string", "",
    "PEM file with the certificate of this process and its chain.",
    { aliases = { "security.ssl.internal.keystore" } }),
  option("rpc.ssl.key", "string", "",
    "PEM file with the key of the certificate, without a password."),
  option("rpc.ssl.authority", "string", "",
    "PEM file with the authorities that vouch for peers.",
    { aliases = { "security.ssl.internal.truststore" } }),
  option("rpc.ssl.fingerprints", "list", {},
    "SHA-256 fingerprints of the certificates of peers; others are refused.",
    { aliases = { "security.ssl.internal.cert.fingerprint" } }),
  option("rpc.watchdog.threshold", "duration", SECOND,
    "A handler that runs for longer at a stretch is named in the log, with its "
    .. "stack if that can be had; 0 switches that off.", { min = 0 }),
  option("rpc.lookup-timeout", "duration", 10 * SECOND,
    "Time limit for finding an endpoint.", { min = 1,
      aliases = both("lookup.timeout") }),
  option("rpc.connect.retries", "int", 5,
    "How often a connect that reaches nobody is tried again.",
    { min = 0, max = 1000000 }),
  option("rpc.connect.retry-delay", "duration", 1 * SECOND,
    "Pause before such a try."),
  option("rpc.tcp.timeout", "duration", 20 * SECOND,
    "Time limit for a connection to stand.", { min = 1,
      aliases = both("tcp.timeout") }),
  option("rpc.retry-gate-closed-for", "duration", 50,
    "How long nobody dials a peer after the connection to it broke.",
    { aliases = both("retry-gate-closed-for") }),
  option("rpc.framesize", "size", 10485760,
    "Largest body of one frame.", { min = 4096, max = 268435456,
      aliases = both("framesize") }),
  option("rpc.log-lifecycle-events", "bool", false,
    "Whether starts and ends of endpoints are logged.",
    { aliases = both("log.lifecycle.events") }),
  option("cluster.services.shutdown-timeout", "duration", 30 * SECOND,
    "How long the end of a service may take before it is given up.",
    { min = 1 }),
  option("heartbeat.interval", "duration", 10 * SECOND,
    "Time between two heartbeats.", { min = 1 }),
  option("heartbeat.timeout", "duration", 50 * SECOND,
    "Silence after which the other side counts as lost.", { min = 1 }),
  option("heartbeat.rpc-failure-threshold", "int", 2,
    "Failed heartbeat calls in a row after which the other side counts as "
    .. "lost; -1 switches it off.", { min = -1, max = 1000 }),
  option("cluster.registration.initial-timeout", "duration", 100,
    "Time limit of the first registration attempt; each one doubles it.",
    { min = 1 }),
  option("cluster.registration.max-timeout", "duration", 30 * SECOND,
    "Longest time limit of a registration attempt.", { min = 1 }),
  option("cluster.registration.error-delay", "duration", 10 * SECOND,
    "Pause after a registration attempt that failed.", { min = 1 }),
  option("cluster.registration.refused-registration-delay", "duration",
    30 * SECOND, "Pause after a registration that was refused.", { min = 1 }),

  option("slot.request.timeout", "duration", 5 * MINUTE,
    "How long a job waits for slots before it fails.", { min = 1 }),
  option("slot.idle.timeout", "duration", 50 * SECOND,
    "How long a job keeps a slot that it does not use.", { min = 1 }),
  option("slotmanager.requirement-check.delay", "duration", 50,
    "Requirement changes within this time are looked at together."),
  option("resourcemanager.taskmanager-timeout", "duration", 30 * SECOND,
    "Idle time after which a taskmanager is let go.", { min = 1 }),
  option("resourcemanager.job.timeout", "duration", 5 * MINUTE,
    "How long the slots of a job without leader are kept.", { min = 1 }),
  option("jobstore.expiration-time", "duration", 60 * MINUTE,
    "How long the result of a finished job is kept.", { min = 1 }),
  option("jobstore.max-capacity", "int", 1000,
    "Finished jobs that are kept at most.", { min = 1, max = 1000000 }),

  option("parallelism.default", "int", 1,
    "Parallelism of operators that name none.", { min = 1, max = 32768 }),
  option("restart-strategy.type", "choice", "fixed-delay",
    "What happens to a job with a failed task.",
    { choices = { "none", "fixed-delay", "failure-rate",
      "exponential-delay" }, aliases = { "restart-strategy" } }),
  option("restart-strategy.fixed-delay.attempts", "int", 3,
    "fixed-delay: number of restarts.", { min = 0, max = 2147483647 }),
  option("restart-strategy.fixed-delay.delay", "duration", 1 * SECOND,
    "fixed-delay: pause before a restart."),
  option("restart-strategy.failure-rate.max-failures-per-interval", "int", 1,
    "failure-rate: failures within the interval that are restarted.",
    { min = 1, max = 2147483647 }),
  option("restart-strategy.failure-rate.failure-rate-interval", "duration",
    1 * MINUTE, "failure-rate: length of the interval.", { min = 1 }),
  option("restart-strategy.failure-rate.delay", "duration", 1 * SECOND,
    "failure-rate: pause before a restart."),
  option("restart-strategy.exponential-delay.initial-backoff", "duration",
    1 * SECOND, "exponential-delay: first pause.", { min = 1 }),
  option("restart-strategy.exponential-delay.max-backoff", "duration",
    1 * MINUTE, "exponential-delay: longest pause.", { min = 1 }),
  option("restart-strategy.exponential-delay.backoff-multiplier", "number", 1.5,
    "exponential-delay: each pause is longer by this factor.",
    { min = 1, max = 100 }),
  option("restart-strategy.exponential-delay.reset-backoff-threshold",
    "duration", 60 * MINUTE,
    "exponential-delay: quiet time after which the pause is the first again.",
    { min = 1 }),
  option("restart-strategy.exponential-delay.jitter-factor", "number", 0.1,
    "exponential-delay: part of the pause that is left to chance.",
    { min = 0, max = 1 }),
  option("restart-strategy.exponential-delay.attempts-before-reset-backoff",
    "int", 2147483647, "exponential-delay: restarts before the job fails.",
    { min = 0, max = 2147483647 }),

  option("client.timeout", "duration", 60 * SECOND,
    "How long a command waits for the cluster.", { min = 1 }),
  option("data.directory", "string", "",
    "Folder for everything that a process stores; empty is a private folder "
    .. "in the temporary directory, removed at the end."),
  option("blob.storage.directory", "string", "",
    "Folder of the blob store; empty is blobs in data.directory."),
  option("log.level", "choice", "warn",
    "Least important level that is written.",
    { choices = { "debug", "info", "warn", "error", "off" } }),
  option("log.file", "string", "",
    "File that the log is appended to; empty is standard error."),
}
