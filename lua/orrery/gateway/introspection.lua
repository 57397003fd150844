--- What lives in a process. The numbers come from the core, so a busy endpoint
-- answers for nothing here.
return {
  name = "introspection",
  methods = {
    -- endpoints() -> { { name, slot, state, executor, waiting, handled,
    --   refused, expired, oldest_ms, running_ms } ... } in the order of names
    endpoints = { timeout = "10s", lane = "control" },
  },
}
