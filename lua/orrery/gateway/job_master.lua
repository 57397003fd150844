--- Runs one job.
return {
  name = "job_master",
  fenced = true,
  methods = {
    -- from the Dispatcher
    cancel = { timeout = "10s", lane = "control" },
    request_job_status = { timeout = "10s", lane = "control" },
    request_job_summary = { timeout = "10s" },
    request_job = { timeout = "10s" },
    -- request_result() -> { outcome, summary, details }, when it has ended
    request_result = {},
    -- from TaskExecutors
    -- register_task_manager(job_id, { id, address, session }) -> { type }
    register_task_manager = { timeout = "10s" },
    -- offer_slots(id, session, { { allocation, index } ... }) -> accepted
    offer_slots = { timeout = "10s" },
    fail_slot = { timeout = "10s" },
    disconnect_task_manager = { timeout = "10s" },
    -- update_task_execution_state({ attempt, state, error, result,
    --   counters })
    update_task_execution_state = { timeout = "10s" },
    -- request_next_input_split(vertex id, attempt, received) -> split or nil;
    -- received: how many splits the attempt has got, so that asking again
    -- after a lost answer gives the same split
    request_next_input_split = { timeout = "10s" },
    -- from the ResourceManager
    heartbeat_from_resource_manager = { timeout = "10s", lane = "control" },
    disconnect_resource_manager = { timeout = "10s" },
    notify_not_enough_resources = { timeout = "10s" },
  },
}
