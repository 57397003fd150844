--- What lives in a process. The numbers come from the core, so a busy endpoint
-- answers for nothing here. A latency is { count, p50_ms, p90_ms, p99_ms,
-- max_ms }; quantiles are known to 12.5 %.
return {
  name = "introspection",
  methods = {
    -- endpoints() -> { { name, slot, state, executor, waiting, handled,
    --   refused, expired, oldest_ms, running_ms, running } ... } in the order
    --   of names; running: the method, or nil
    endpoints = { timeout = "10s", lane = "control" },
    -- methods(endpoint) -> { { name, errors, refused, expired, abandoned,
    --   run_ms, run_max_ms, queue = latency, handler = latency } ... }
    methods = { timeout = "10s", lane = "control" },
    -- reset(endpoint): the counts of its methods begin anew
    reset = { timeout = "10s", lane = "control" },
    -- executors() -> { { number, endpoints, calls, active, timers, links,
    --   events, wakeups, dropped, turns, busy_ms, lag = latency } ... }
    executors = { timeout = "10s", lane = "control" },
    -- connections() -> { connections, accepted, refused, frames_in, ... }
    connections = { timeout = "10s", lane = "control" },
    -- trace(filter, duration): see orrery.rpc.trace; no duration: stops
    trace = { timeout = "10s", lane = "control" },
    -- traces([id]) -> { { trace, span, parent, endpoint, method, queue_ms,
    --   run_ms, status, executor, wall_ms, sequence } ... }
    traces = { timeout = "10s", lane = "control" },
  },
}
