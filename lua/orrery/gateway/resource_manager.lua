--- Knows TaskExecutors and their slots, and gives slots to jobs.
-- Registrations answer { type = "success" | "failure" | "rejection", ... }.
return {
  name = "resource_manager",
  fenced = true,
  methods = {
    -- register_task_executor({ id, address, session, slots })
    --   -> { type, instance, cluster = { blob } }; send_slot_report must follow
    register_task_executor = { timeout = "10s" },
    -- send_slot_report(id, instance, { { allocation, job, index } ... })
    send_slot_report = { timeout = "10s" },
    -- notify_slot_available(id, instance, allocation)
    notify_slot_available = { timeout = "10s" },
    disconnect_task_manager = { timeout = "10s" },
    -- register_job_master(job_id, token, address) -> { type, ... }
    register_job_master = { timeout = "10s" },
    -- declare_required_resources(job_id, token, slot count)
    declare_required_resources = { timeout = "10s" },
    -- disconnect_job_manager(job_id, token, status)
    disconnect_job_manager = { timeout = "10s" },
    request_resource_overview = { timeout = "10s" },
    request_task_managers = { timeout = "10s" },
    -- request_task_manager_details(id), or `unknown_task_executor`
    request_task_manager_details = { timeout = "10s" },
  },
}
