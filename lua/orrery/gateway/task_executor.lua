--- Slots and tasks of one process. Not fenced: it compares the tokens of
-- ResourceManager and JobMaster itself.
return {
  name = "task_executor",
  methods = {
    -- from the ResourceManager
    -- request_slot({ token, index, job_id, allocation }); index -1 = any
    request_slot = { timeout = "10s" },
    free_inactive_slots = { timeout = "10s" },
    -- heartbeat_from_resource_manager(token) -> { instance, slots }
    heartbeat_from_resource_manager = { timeout = "10s", lane = "control" },
    disconnect_resource_manager = { timeout = "10s" },
    -- from JobMasters
    -- submit_task(token, allocation, descriptor) -> true when the task exists
    submit_task = { timeout = "60s" },
    -- cancel_task(attempt) -> true at once, or `unknown_task`
    cancel_task = { timeout = "10s", lane = "control" },
    free_slot = { timeout = "10s" },
    -- heartbeat_from_job_manager(job_id, token, { allocation ... })
    --   -> { attempts = { ... } }
    heartbeat_from_job_manager = { timeout = "10s", lane = "control" },
    disconnect_job_manager = { timeout = "10s" },
    -- request_task_metrics(job_id)
    --   -> { [attempt] = { records_in, records_out } }
    request_task_metrics = { timeout = "5s" },
    -- from anybody: held until the TaskExecutor stops; it ends at once when its
    -- process does
    watch = { lane = "control" },
    request_details = { timeout = "10s" },
    -- from its tasks: notify_task_state(attempt, state, error, result)
    notify_task_state = { timeout = "30s" },
  },
}
