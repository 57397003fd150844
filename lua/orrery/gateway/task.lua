--- One attempt of one subtask, on its slot's executor. Not fenced: its name is
-- that of the attempt, which is never used twice.
return {
  name = "task",
  methods = {
    -- from its TaskExecutor
    -- start(descriptor, bundle bytes) -> true when the task is built
    start = { timeout = "60s" },
    cancel = { timeout = "10s", lane = "control" },
    -- counters() -> { state, records_in, records_out, bytes, ... }
    counters = { timeout = "5s", lane = "control" },
    -- from producers
    -- attach({ channel ... }, address of the producer) -> true: credits go
    -- there
    attach = { timeout = "30s" },
    data = { tell = true },
    -- finish(channel, sequence) -> true when everything came
    finish = { timeout = "60s" },
    -- channel_state(channel) -> { received, credits given back }
    channel_state = { timeout = "10s" },
    -- from consumers
    credit = { tell = true },
  },
}
