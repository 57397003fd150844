--- The commands, one row each. Parsing, usage, help, nearest matches and
-- docs/cli.md come from these rows and from nothing else.
--
-- parameters: { name, optional }. options: name without dashes, short, value
-- (the name of its value; none = a switch), type (of orrery.util.option_types,
-- default string), keys (configuration keys that it sets), help. changes = the
-- command changes a cluster. module = the module whose run(context) does it;
-- is_configured = false: it works without, and despite of, a configuration.

local ADDRESS = {
  name = "address", value = "HOST:PORT", type = "address",
  keys = { "jobmanager.rpc.address", "jobmanager.rpc.port" },
  help = "The jobmanager to talk to.",
}
local JSON = {
  name = "json", help = "Print one JSON document on standard output.",
}
local READY_FILE = {
  name = "ready-file", value = "FILE",
  help = "Write address and process id, a line each, to FILE when ready.",
}
local DATA = {
  name = "data", value = "DIR", keys = { "data.directory" },
  help = "Folder for what is stored; without it a private temporary one.",
}
local SLOTS = {
  name = "slots", value = "N", type = "int", min = 1, max = 1024,
  keys = { "taskmanager.slots" },
  help = "Tasks at a time; without it as many as processors.",
}
local PORT = {
  name = "port", value = "N", type = "int", min = 0, max = 65535,
  keys = { "jobmanager.rpc.port" },
  help = "Port to listen on; 0 takes a free one.",
}
local INSECURE = {
  name = "insecure", keys = { "insecure" },
  help = "Allow an address that other machines can reach.",
}
local JOB_PARAMETER = {
  name = "JOB", help = "The id of a job, or the beginning of one.",
}

return {
  {
    name = "up",
    summary = "Run a whole cluster in one process",
    module = "orrery.cli.up",
    options = { PORT, SLOTS, DATA, READY_FILE },
    examples = { "orrery up", "orrery up --port 7000 --slots 4" },
  },
  {
    name = "jobmanager",
    summary = "Run the jobmanager process of a cluster",
    module = "orrery.cli.jobmanager",
    options = {
      PORT,
      { name = "bind", value = "HOST", keys = { "jobmanager.rpc.address" },
        help = "Host to listen on; others must find it by the same name." },
      INSECURE, DATA, READY_FILE,
    },
    examples = { "orrery jobmanager --port 6123" },
  },
  {
    name = "taskmanager",
    summary = "Run a taskmanager process of a cluster",
    module = "orrery.cli.taskmanager",
    options = {
      { name = "jobmanager", value = "HOST:PORT", type = "address",
        keys = { "jobmanager.rpc.address", "jobmanager.rpc.port" },
        help = "The jobmanager to register at." },
      SLOTS,
      { name = "id", value = "ID", keys = { "taskmanager.id" },
        help = "Name of this taskmanager." },
      { name = "port", value = "N", type = "int", min = 0, max = 65535,
        keys = { "taskmanager.rpc.port" },
        help = "Port to listen on; 0 takes a free one." },
      { name = "bind", value = "HOST", keys = { "taskmanager.rpc.address" },
        help = "Host to listen on; others must find it by the same name." },
      INSECURE, DATA, READY_FILE,
    },
    examples = { "orrery taskmanager --jobmanager 127.0.0.1:6123 --slots 2" },
  },
  {
    name = "run",
    summary = "Run a job on the cluster and print its result",
    module = "orrery.cli.run", changes = true,
    parameters = { { name = "JOB.lua", help = "The job file." } },
    rest = "Arguments of the job file.",
    options = {
      ADDRESS,
      { name = "detach", short = "d",
        help = "Print the id of the job and leave; it runs on." },
      { name = "parallelism", short = "p", value = "N", type = "int",
        min = 1, max = 32768, keys = { "parallelism.default" },
        help = "Parallelism of operators that name none." },
      { name = "quiet", short = "q", help = "No progress." },
      JSON,
    },
    examples = { "orrery run examples/word_count.lua -- README.md",
      "orrery run --detach job.lua" },
    notes = "Ctrl-C asks on a terminal whether to detach, cancel or wait, and "
      .. "cancels the job otherwise; a second Ctrl-C leaves at once.",
  },
  {
    name = "list",
    summary = "List the jobs of the cluster",
    module = "orrery.cli.list",
    options = { ADDRESS, JSON },
    examples = { "orrery list", "orrery list --json" },
  },
  {
    name = "status",
    summary = "Show one job: state, tasks, last failure",
    module = "orrery.cli.status",
    parameters = { JOB_PARAMETER },
    options = { ADDRESS, JSON },
    examples = { "orrery status 3f2a" },
  },
  {
    name = "cancel",
    summary = "Cancel a job and wait until it has ended",
    module = "orrery.cli.cancel", changes = true,
    parameters = { JOB_PARAMETER },
    options = { ADDRESS, JSON },
    examples = { "orrery cancel 3f2a" },
  },
  {
    name = "repl",
    summary = "Steer a cluster from an interactive Lua prompt",
    module = "orrery.cli.repl",
    options = {
      ADDRESS,
      { name = "eval", short = "e", value = "LUA",
        help = "Evaluate LUA, print what it gives, and leave." },
    },
    examples = { "orrery repl", "echo 'jobs()' | orrery repl" },
  },
  {
    name = "exec",
    summary = "Run a Lua script with Orrery's modules, as lua does",
    parameters = { { name = "FILE",
      help = "The script; - is standard input." } },
    rest = "Arguments of the script, in arg and ...",
    options = {},
    examples = { "orrery exec examples/01_counter_server.lua" },
  },
  {
    name = "config",
    summary = "Print the configuration in effect and where it comes from",
    module = "orrery.cli.config",
    options = {
      JSON,
      { name = "markdown", help = "Print the reference of all keys." },
    },
    examples = { "orrery config", "orrery -D heartbeat.interval=1s config" },
  },
  {
    name = "certs",
    summary = "Make an authority and certificates for TLS",
    module = "orrery.cli.certs", is_configured = false,
    options = {
      { name = "out", value = "DIR", help = "Folder for the files." },
      { name = "role", value = "NAME", many = true,
        help = "Role to make a certificate for; jobmanager, taskmanager and "
          .. "client without it." },
      { name = "host", value = "NAME", many = true,
        help = "Name or address that the certificates are for; those of the "
          .. "loopback without it." },
      { name = "days", value = "N", type = "int", min = 1, max = 36500,
        help = "How long they are valid; 365 without it." },
      { name = "force", help = "Overwrite, the authority too." },
    },
    examples = { "orrery certs --out certs",
      "orrery certs --out certs --role jobmanager --host jm.example.org" },
    notes = "Writes ca.pem, ca.key, NAME.pem and NAME.key. An authority that "
      .. "is in DIR already vouches for what is made.",
  },
  {
    name = "version",
    summary = "Print the versions and the facts found at start",
    module = "orrery.cli.version", is_configured = false,
    options = { JSON },
    examples = { "orrery version --json" },
  },
  {
    name = "help",
    summary = "Explain a command",
    module = "orrery.cli.help", is_configured = false,
    parameters = { { name = "COMMAND", optional = true,
      help = "The command to explain." } },
    options = {
      { name = "markdown", help = "Print the reference of all commands." },
    },
    examples = { "orrery help run" },
  },
}
