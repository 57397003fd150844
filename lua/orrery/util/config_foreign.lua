--- Configuration keys of Flink's RPC layer that have no counterpart, and why.
-- They are refused with the reason: a setting that does nothing is a trap.

local POOL = "endpoints live on executors, one thread each; there is no pool "
  .. "of threads to size"
local SENDS = "every call is encoded, also inside of a process"
local FATAL = "a failure of a connection never ends the process; an error of "
  .. "the event loop itself always does"

local rows = {}

local function row(key, why)
  for _, family in ipairs({ "pekko.", "akka." }) do
    rows[#rows + 1] = { family .. key, why }
  end
end

for _, pool in ipairs({ "fork-join-executor", "remote-fork-join-executor" }) do
  for _, key in ipairs({ "parallelism-factor", "parallelism-min",
    "parallelism-max" }) do
    row(pool .. "." .. key, POOL)
  end
end
for _, side in ipairs({ "client", "server" }) do
  for _, key in ipairs({ "pool-size-factor", "pool-size-min",
    "pool-size-max" }) do
    row(side .. "-socket-worker-pool." .. key, POOL)
  end
end
row("throughput", "an endpoint handles 16 messages before the next has its "
  .. "turn, and that is fixed")
row("startup-timeout", "a service is up when it is made; there is nothing to "
  .. "wait for")
row("rpc.force-invocation-serialization", SENDS)
row("jvm-exit-on-fatal-error", FATAL)
rows[#rows + 1] = { "cluster.io-pool.size", POOL }

return rows
