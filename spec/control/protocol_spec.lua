local support = require("support.cluster")

-- What roles answer to calls that do not fit: made by hand, by a stranger.
describe("role protocols", function()
  local c

  before_each(function() c = support.new({ taskmanagers = 1 }) end)
  after_each(function()
    c:free()
    c = nil
  end)

  local function call(gateway, method, ...)
    local value, err = c.sim:run(gateway[method](gateway, ...))
    return value, err and support.root(err)
  end

  local function task_executor()
    return assert(c.sim:run(c.client:connect("tm1:1/task_executor",
      "task_executor")))
  end

  local function running_job()
    local id = c:submit(c:plan({ parallelism = 1,
      script = { run_ms = 100000 } }))
    c:await_status(id, "RUNNING")
    c.sim:advance(500)
    local gateway, leader = c:gateway("job_master/" .. id, "job_master")
    return id, gateway, leader.token
  end

  it("T-05 slots are refused to another ResourceManager", function()
    c.sim:advance(1000)
    local _, err = call(task_executor(), "request_slot", {
      token = { epoch = 1, session = ("x"):rep(16) }, index = -1,
      job_id = c:job_id(), allocation = "a" })
    assert.equal("not_registered", err.code)
  end)

  it("T-06 T-15 a slot is given once, and freed when nobody takes it",
    function()
      c.sim:advance(1000)
      local _, leader = c:gateway("resource_manager")
      local te, job = task_executor(), c:job_id()
      local function request(index, allocation)
        return call(te, "request_slot", { token = leader.token,
          index = index, job_id = job, allocation = allocation })
      end
      assert.equal(0, request(0, "a").index)
      assert.equal(0, request(0, "a").index)
      local _, err = request(0, "b")
      assert.equal("slot_occupied", err.code)
      assert.equal("a", err.context.allocation)
      c.sim:advance(10500)
      assert.same({}, call(te, "request_details").slots)
    end)

  it("T-11 T-12 tasks of strangers are refused", function()
    local id, _, token = running_job()
    local te = task_executor()
    local attempt = id .. "_9_0_0"
    local d = { job_id = id, attempt = attempt, bundle = ("0"):rep(64),
      blob = { address = "jm:1/blob" } }
    local _, err = call(te, "submit_task", token, "nope", d)
    assert.equal("unknown_allocation", err.code)
    _, err = call(te, "submit_task",
      { epoch = 1, session = ("x"):rep(16) }, "nope", d)
    assert.equal("not_connected", err.code)
    _, err = call(te, "submit_task", token, "nope", { attempt = "?" })
    assert.equal("bad_argument", err.code)
    _, err = call(te, "cancel_task", attempt)
    assert.equal("unknown_task", err.code)
    local allocation = call(te, "request_details").slots[1].allocation
    d.attempt = id .. "_1_0_0"
    _, err = call(te, "submit_task", token, allocation, d)
    assert.equal("duplicate_attempt", err.code)
    assert.equal("RUNNING", c:status(id).status)
  end)

  it("a bundle that is missing fails the task with the reason", function()
    local plan = c:plan({ parallelism = 1, restart = { type = "none" } })
    plan.bundle = nil
    local outcome = c:result(c:submit(plan))
    assert.equal("FAILED", outcome.status)
    assert.equal("bad_argument", support.root(outcome.failure).code)
  end)

  it("J-01 J-02 J-05 registrations at a JobMaster", function()
    local _, gateway = running_job()
    local info = { id = "tm9", address = "tm1:1/task_executor",
      session = "s1" }
    assert.equal("rejection",
      call(gateway, "register_task_manager", c:job_id(), info).type)
    local _, err = call(gateway, "offer_slots", "tm9", "s1", {})
    assert.equal("unknown_task_executor", err.code)
    info.address = "nowhere:1/task_executor"
    local id = c:ask("list_jobs")[1]
    assert.equal("failure",
      call(gateway, "register_task_manager", id, info).type)
    info.address = "tm1:1/task_executor"
    assert.equal("success",
      call(gateway, "register_task_manager", id, info).type)
    assert.equal("success",
      call(gateway, "register_task_manager", id, info).type)
  end)

  it("J-14 reports of unknown attempts are refused", function()
    local id, gateway = running_job()
    local _, err = call(gateway, "update_task_execution_state",
      { attempt = id .. "_7_0_0", state = "RUNNING" })
    assert.equal("unknown_attempt", err.code)
    assert.equal("RUNNING", c:status(id).status)
  end)

  it("J-09 a ResourceManager of before cannot disconnect", function()
    local id, gateway = running_job()
    assert.is_true(call(gateway, "disconnect_resource_manager",
      { epoch = 1, session = ("x"):rep(16) }, {}))
    c.sim:advance(2000)
    assert.equal("RUNNING", c:status(id).status)
  end)

  it("R-01 R-04 JobMasters are checked against the directory", function()
    local rm = c:gateway("resource_manager")
    local token = { epoch = 1, session = ("x"):rep(16) }
    local job = c:job_id()
    local answer = call(rm, "register_job_master", job, token,
      "client:1/job_master")
    assert.equal("failure", answer.type)
    assert.equal("not_leader", answer.error.code)
    local _, err = call(rm, "declare_required_resources", job, token, 1)
    assert.equal("unknown_job_master", err.code)
  end)

  it("R-06 R-09 a new registration makes the old instance void", function()
    c.sim:advance(1000)
    local rm = c:gateway("resource_manager")
    local info = { id = "tm9", address = "tm1:1/task_executor",
      session = "s", slots = 1 }
    local first = call(rm, "register_task_executor", info)
    local second = call(rm, "register_task_executor", info)
    assert.equal("success", second.type)
    assert.are_not.equal(first.instance, second.instance)
    local _, err = call(rm, "send_slot_report", "tm9", first.instance, {})
    assert.equal("outdated", err.code)
    assert.is_true(call(rm, "send_slot_report", "tm9", second.instance, {}))
  end)

  it("R-11 R-16 a TaskExecutor that leaves is unknown", function()
    c.sim:advance(1000)
    local rm = c:gateway("resource_manager")
    assert.equal(2, call(rm, "request_task_manager_details", "tm1")
      .slots_total)
    c.sim:crash("tm1")
    c.sim:advance(1000)
    local _, err = call(rm, "request_task_manager_details", "tm1")
    assert.equal("unknown_task_executor", err.code)
  end)

  it("G-03 missing endpoints are unreachable", function()
    local _, err = c.sim:run(c.client:connect("jm:1/nobody", "dispatcher"))
    assert.equal("unreachable", err.code)
  end)

  it("T-03 a TaskExecutor that finds no ResourceManager gives up", function()
    c.sim:crash("jm")
    c.sim:advance("10min")
    assert.equal("registration_timeout", c.fatal[1].code)
  end)

  it("F-02 a taskmanager that comes back with its name starts empty",
    function()
      local id = c:submit(c:plan({ splits = { 1, 2, 3 },
        script = { run_ms = 5000 } }))
      c:await_status(id, "RUNNING")
      c.sim:crash("tm1")
      c.sim:restart("tm1")
      c:add_taskmanager("tm1")
      local outcome = c:result(id)
      assert.equal("FINISHED", outcome.status)
      assert.equal(3, #outcome.result.collected.read)
    end)
end)
