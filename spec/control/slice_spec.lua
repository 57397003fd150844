local support = require("support.cluster")

-- Jobs on a whole cluster: simulated network and time, real roles.
describe("a cluster", function()
  local cluster

  local function start(options)
    cluster = support.new(options)
    return cluster
  end

  after_each(function()
    local fatal = cluster and cluster.fatal
    if cluster then cluster:free() end
    cluster = nil
    assert.same({}, fatal or {})
  end)

  local function numbers(n)
    local list = {}
    for i = 1, n do list[i] = i end
    return list
  end

  local function assert_exact(outcome, n)
    assert.equal("FINISHED", outcome.status)
    table.sort(outcome.result.collected.read)
    assert.same(numbers(n), outcome.result.collected.read)
    assert.equal(n, outcome.result.accumulators.splits[2])
  end

  it("runs a job to its end with the exact result, on both taskmanagers",
    function()
      local c = start()
      local id = c:submit(c:plan({ splits = numbers(20) }))
      c:await_status(id, "RUNNING")
      local used = {}
      for _, vertex in ipairs(assert(c:ask("request_job", id)).vertices) do
        for _, s in ipairs(vertex.subtasks) do used[s.taskmanager] = true end
      end
      assert.same({ tm1 = true, tm2 = true }, used)
      assert_exact(c:result(id), 20)
      assert.equal("FINISHED", c:status(id).status)
      local details = assert(c:ask("request_job", id))
      assert.equal(2, details.vertices[2].counts.FINISHED)
      assert.truthy(details.timestamps.RUNNING > 0)
    end)

  it("gives slots back when the job has ended", function()
    local c = start()
    local id = c:submit(c:plan({}))
    c:result(id)
    c.sim:advance(1000)
    local view = assert(c:ask("request_cluster_overview"))
    assert.same({ 2, 4, 4, 0, 1 }, { view.taskmanagers, view.slots_total,
      view.slots_available, view.jobs_running, view.jobs_finished })
    for _, tm in pairs(c.tms) do
      local details = assert(c.sim:run(c.client:connect(tm.address,
        "task_executor"):and_then(function(g)
          return g:request_details()
        end)))
      assert.same({}, details.slots)
      assert.same({}, details.tasks)
    end
  end)

  it("F-01 J-07 R-11 a crashed taskmanager restarts the job; the result is "
    .. "exact, the loss is noticed at once", function()
    local c = start()
    local id = c:submit(c:plan({ splits = numbers(40),
      script = { split_ms = 50 } }))
    c:await_status(id, "RUNNING")
    c.sim:advance(300)
    local before = c.sim:now_ms()
    c.sim:crash("tm2")
    local now = c:await_status(id, "RESTARTING")
    assert.truthy(c.sim:now_ms() - before < 1000)
    assert.matches("restarts in", now.reason)
    assert_exact(c:result(id), 40)
    local details = assert(c:ask("request_job", id))
    assert.equal(1, details.restarts)
    assert.equal("tm1", details.vertices[1].subtasks[2].taskmanager)
    assert.equal(1, details.vertices[1].subtasks[2].attempt_number)
    assert.equal(1, assert(c:ask("request_cluster_overview")).taskmanagers)
  end)

  it("G-10 a partitioned taskmanager is noticed by heartbeats", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 200000 } }))
    c:await_status(id, "RUNNING")
    c.sim:partition({ "tm2" }, { "jm" })
    local before = c.sim:now_ms()
    c:await_status(id, "RESTARTING", 120000)
    assert.truthy(c.sim:now_ms() - before <= 60000)
    c:await_status(id, "RUNNING")
    assert.equal("FINISHED", c:result(id).status)
  end)

  it("a job waits for slots, says so, and runs when they come", function()
    local c = start({ taskmanagers = 1, slots = 1 })
    local id = c:submit(c:plan({ splits = numbers(4) }))
    c.sim:advance(5000)
    local now = c:status(id)
    assert.equal("CREATED", now.status)
    assert.equal("waiting for 2 slots, 1 available", now.reason)
    c:add_taskmanager("tm2")
    c:await_status(id, "RUNNING", 5000)
    assert_exact(c:result(id), 4)
  end)

  it("a restarted job waits for slots and says so", function()
    local c = start({ slots = 1 })
    local id = c:submit(c:plan({ splits = numbers(10),
      script = { run_ms = 5000 } }))
    c:await_status(id, "RUNNING")
    c.sim:crash("tm1")
    c.sim:advance(3000)
    local now = c:status(id)
    assert.equal("RESTARTING", now.status)
    assert.equal("waiting for 2 slots, 1 available", now.reason)
    c:add_taskmanager("tm3")
    assert_exact(c:result(id), 10)
  end)

  it("B-10 an error of user code is retried, then fails the job with its cause",
    function()
      local c = start()
      local fail = {}
      for attempt = 0, 3 do fail["2_1_" .. attempt] = "no field 'x'" end
      local id = c:submit(c:plan({ script = { fail = fail } }))
      local outcome = c:result(id)
      assert.equal("FAILED", outcome.status)
      local root = support.root(outcome.failure)
      assert.equal("user_error", root.code)
      assert.equal("no field 'x'", root.message)
      assert.same({ operator = "count", subtask = 1, file = "job.lua",
        line = 7 }, root.context)
      assert.matches("in function 'map'", root.traceback)
      local details = assert(c:ask("request_job", id))
      assert.equal(3, details.restarts)
      assert.equal(4, #details.exceptions)
      assert.equal("count (2/2)", details.exceptions[1].task)
    end)

  it("a job that fails once runs again from the start", function()
    local c = start()
    local id = c:submit(c:plan({ splits = numbers(10),
      script = { fail = { ["2_0_0"] = "flaky" } } }))
    assert_exact(c:result(id), 10)
  end)

  it("a task that ends without a word is noticed and the job runs again",
    function()
      local c = start()
      local id = c:submit(c:plan({ splits = numbers(10),
        script = { vanish = { ["2_0_0"] = true } } }))
      assert_exact(c:result(id), 10)
      local details = assert(c:ask("request_job", id))
      assert.equal("executor_died",
        details.exceptions[1].error.code)
    end)

  it("J-15 D-09 cancel is idempotent and works on running jobs", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 100000 } }))
    c:await_status(id, "RUNNING")
    assert.is_true(c:ask("cancel_job", id))
    assert.is_true(c:ask("cancel_job", id))
    assert.equal("CANCELED", c:result(id).status)
    assert.is_true(c:ask("cancel_job", id))
    local _, err = c:ask("cancel_job", ("0"):rep(32))
    assert.equal("job_not_found", support.root(err).code)
    local done = c:submit(c:plan({}))
    c:result(done)
    _, err = c:ask("cancel_job", done)
    assert.equal("job_terminated", support.root(err).code)
  end)

  it("D-08 cancel right after the submission, while waiting and restarting",
    function()
      local c = start({ taskmanagers = 1, slots = 1 })
      local id = c:submit(c:plan({}))
      assert.is_true(c:ask("cancel_job", id))
      assert.equal("CANCELED", c:result(id).status)
      id = c:submit(c:plan({}))
      c:await_status(id, "CREATED")
      c:ask("cancel_job", id)
      assert.equal("CANCELED", c:result(id).status)
      id = c:submit(c:plan({ parallelism = 1,
        script = { fail = { ["2_0_0"] = "x" } } }))
      c:await_status(id, "RESTARTING")
      c:ask("cancel_job", id)
      assert.equal("CANCELED", c:result(id).status)
    end)

  it("T-13 a task that ignores its cancellation is stopped", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 600000,
      hang = { ["2_0_0"] = true } } }))
    c:await_status(id, "RUNNING")
    local before = c.sim:now_ms()
    c:ask("cancel_job", id)
    assert.equal("CANCELED", c:result(id).status)
    assert.truthy(c.sim:now_ms() - before >= 180000)
  end)

  it("D-01 D-02 duplicate submissions are refused and do no harm", function()
    local c = start()
    local plan = c:plan({ splits = numbers(5) })
    local id = c:submit(plan)
    local _, err = c:ask("submit_job", plan)
    assert.equal("duplicate_job", support.root(err).code)
    assert.is_false(support.root(err).context.globally_terminated)
    assert_exact(c:result(id), 5)
    _, err = c:ask("submit_job", plan)
    assert.is_true(support.root(err).context.globally_terminated)
  end)

  it("D-05 a plan without its bundle is not taken and can be sent again",
    function()
      local c = start()
      local plan = c:plan({})
      local key = plan.bundle
      plan.bundle = ("0"):rep(64)
      local _, err = c:ask("submit_job", plan)
      assert.equal("blob_not_found", support.root(err).code)
      plan.bundle = key
      assert.equal("FINISHED", c:result(c:submit(plan)).status)
    end)

  it("L-07 a plan that makes no graph ends FAILED with the reason", function()
    local c = start()
    local plan = c:plan({})
    plan.edges[2] = { id = 2, from = 2, to = 1, kind = "hash" }
    local outcome = c:result(c:submit(plan))
    assert.equal("FAILED", outcome.status)
    assert.matches("form a cycle", support.root(outcome.failure).message)
  end)

  it("G-01 calls with another token are refused and do not run", function()
    local c = start()
    local _, leader = c:gateway("dispatcher")
    local other = { epoch = leader.token.epoch, session = ("x"):rep(16) }
    local gateway, err = c.sim:run(c.client:connect(leader.address,
      "dispatcher", { token = other }))
    if gateway then _, err = c.sim:run(gateway:list_jobs()) end
    assert.equal("fenced", err.code)
  end)

  it("D-10 D-11 D-12 lists are newest first; unknown jobs are not found",
    function()
      local c = start()
      local first = c:submit(c:plan({}))
      c:result(first)
      c.sim:advance(1000)
      local second = c:submit(c:plan({ script = { run_ms = 5000 } }))
      c:await_status(second, "RUNNING")
      local list = assert(c:ask("request_multiple_job_details"))
      assert.equal(2, #list.jobs)
      assert.equal(second, list.jobs[1].job_id)
      assert.equal("FINISHED", list.jobs[2].status)
      assert.same({}, list.omitted)
      assert.same({ second }, c:ask("list_jobs"))
      for _, method in ipairs({ "request_job", "request_job_status",
        "request_job_result" }) do
        local _, err = c:ask(method, ("0"):rep(32))
        assert.equal("job_not_found", support.root(err).code)
      end
    end)

  it("D-20 a job is cancelled when its client falls silent", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 100000 },
      client_heartbeat_timeout = 3000 }))
    c.sim:advance(2000)
    assert.is_true(c:ask("report_job_client_heartbeat", id, 6000))
    c.sim:advance(4000)
    assert.equal("RUNNING", c:status(id).status)
    assert.equal("CANCELED", c:result(id).status)
  end)

  it("details show records of running tasks", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 10000 } }))
    c:await_status(id, "RUNNING")
    c.sim:advance(1000)
    local vertex = assert(c:ask("request_job", id)).vertices[1]
    assert.equal(6, vertex.records_in)
    assert.equal(8, vertex.records_out)
  end)

  it("T-25 a stopped taskmanager tells everybody and the job moves", function()
    local c = start()
    local id = c:submit(c:plan({ splits = numbers(30),
      script = { split_ms = 50 } }))
    c:await_status(id, "RUNNING")
    c.sim:advance(200)
    assert.is_true(c.sim:run(c.tms.tm1:stop()))
    c:await_status(id, "RESTARTING", 100)
    assert.equal(1, assert(c:ask("request_cluster_overview")).taskmanagers)
    assert_exact(c:result(id), 30)
  end)

  it("T-04 J-18 broken connections do no harm, no split is lost", function()
    local c = start()
    local id = c:submit(c:plan({ splits = numbers(40),
      script = { split_ms = 100 } }))
    c:await_status(id, "RUNNING")
    c.sim:advance(500)
    for _ = 1, 20 do
      c.sim:reset_connections("jm", "tm1")
      c.sim:advance(77)
    end
    assert_exact(c:result(id), 40)
    assert.equal(2, assert(c:ask("request_cluster_overview")).taskmanagers)
    assert.equal(0, assert(c:ask("request_job", id)).restarts)
  end)

  it("D-28 the Dispatcher suspends its jobs when it stops", function()
    local c = start()
    local id = c:submit(c:plan({ script = { run_ms = 100000 } }))
    c:await_status(id, "RUNNING")
    local gateway = c:dispatcher():with({ timeout = 0 })
    local result = gateway:request_job_result(id)
    c.sim:advance(50)
    assert.is_true(c.sim:run(c.jm:stop()))
    assert.equal("SUSPENDED", c.sim:run(result).status)
  end)

  it("one seed replays one history", function()
    local function history()
      local c = support.new({ seed = 7 })
      local id = c:submit(c:plan({ splits = numbers(10) }))
      c.sim:advance(100)
      c.sim:crash("tm2")
      c:result(id)
      local hash = c.sim:trace_hash()
      c:free()
      return hash
    end
    assert.equal(history(), history())
  end)
end)
