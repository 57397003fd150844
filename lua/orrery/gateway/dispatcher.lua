--- Takes jobs and answers for them. Unknown jobs are `job_not_found`.
return {
  name = "dispatcher",
  fenced = true,
  methods = {
    -- submit_job(plan) -> job id, as soon as its JobMaster is being started
    submit_job = { timeout = "60s" },
    -- list_jobs() -> { job id ... } of jobs that have not ended
    list_jobs = { timeout = "10s" },
    -- request_multiple_job_details() -> { jobs = { summary ... },
    --   omitted = { job id ... } }; start time descending, then id
    request_multiple_job_details = { timeout = "20s" },
    -- request_job_status(id) -> { job_id, status, reason }
    request_job_status = { timeout = "10s" },
    -- request_job(id) -> details
    request_job = { timeout = "20s" },
    -- request_job_result(id) -> { job_id, status, result, failure }, when the
    -- job has ended
    request_job_result = {},
    -- cancel_job(id) -> true at once; `job_terminated` when it ended otherwise
    cancel_job = { timeout = "10s", lane = "control" },
    request_cluster_overview = { timeout = "10s" },
    request_task_managers = { timeout = "10s" },
    -- report_job_client_heartbeat(id, expires_ms): the job is cancelled when
    -- its client is silent for longer than this
    report_job_client_heartbeat = { timeout = "10s" },
  },
}
