local errors = require("orrery.util.errors")
local details = require("orrery.job_master.details")
local restart = require("orrery.job_master.restart")
local schedulers = require("orrery.job_master.scheduler")

local JOB = ("ab"):rep(16)

local function plan(options)
  options = options or {}
  local p = options.parallelism or 2
  return {
    name = "count", job_id = JOB, bundle = "k", entry = "j.lua",
    vertices = {
      { id = 1, name = "read", parallelism = p, operators = {},
        splits = options.splits },
      { id = 2, name = "count", parallelism = p, operators = {} },
    },
    edges = { { id = 1, from = 1, to = 2, kind = options.kind or "hash" } },
  }
end

-- A scheduler with a hand-moved clock; `world.acts(kind)` takes actions.
local function world(options)
  options = options or {}
  local w = { now = 0, seen = {} }
  w.s = assert(schedulers.new({
    plan = options.plan or plan(options),
    strategy = assert(restart.new(options.restart)),
    clock = {
      now = function() return w.now end,
      wall = function() return 1000 + w.now end,
    },
    slot_request_timeout_ms = 300000, slot_idle_ms = 50000,
    fail_fast = options.fail_fast,
  }))
  function w.pull()
    for _, a in ipairs(w.s:take()) do w.seen[#w.seen + 1] = a end
  end
  function w.acts(kind)
    w.pull()
    local found, rest = {}, {}
    for _, a in ipairs(w.seen) do
      table.insert(a.kind == kind and found or rest, a)
    end
    w.seen = rest
    return found
  end
  function w.submits()
    local names = {}
    for _, a in ipairs(w.acts("submit")) do
      names[#names + 1] = a.attempt:sub(34) .. "@" .. a.slot.owner
    end
    return names
  end
  function w.id(short) return JOB .. "_" .. short end
  function w.state(short)
    local e = w.s.graph:execution(w.id(short))
    return e and e.machine.state
  end
  function w.report(short, ...)
    for _, state in ipairs({ ... }) do
      assert(w.s:task_state(w.id(short), state))
    end
  end
  function w.offer(owner, ...)
    local offers = {}
    for i, a in ipairs({ ... }) do
      offers[i] = { allocation = a, index = i - 1 }
    end
    return w.s:offer_slots(owner, offers)
  end
  -- Acknowledges submits until none is left.
  function w.ack()
    repeat
      local submits = w.acts("submit")
      for _, a in ipairs(submits) do w.s:submit_done(a.attempt) end
    until #submits == 0
  end
  function w.run()
    w.s:start()
    w.offer("tm1", "a1")
    w.offer("tm2", "a2")
    w.ack()
    for _, t in ipairs({ "1_0", "1_1", "2_0", "2_1" }) do
      w.report(t .. "_0", "INITIALIZING", "RUNNING")
    end
    w.pull()
    w.seen = {}
  end
  return w
end

local boom = errors.new("user_error", "boom")

describe("scheduler", function()
  it("X-09 nothing is deployed until every slot is there, and it says so",
    function()
      local w = world()
      w.s:start()
      assert.equal(2, w.acts("require")[1].slots)
      assert.equal("CREATED", w.s.job.state)
      assert.equal("waiting for 2 slots, 0 available", w.s:reason())
      assert.same({ "a1" }, w.offer("tm1", "a1"))
      assert.same({}, w.submits())
      assert.equal("waiting for 2 slots, 1 available", w.s:reason())
      assert.same({ "a2" }, w.offer("tm2", "a2"))
      assert.equal("RUNNING", w.s.job.state)
      assert.is_nil(w.s:reason())
      assert.equal("slots", w.acts("cancel_timer")[1].key)
    end)

  it("consumers are submitted before their producers", function()
    local w = world()
    w.s:start()
    w.offer("tm1", "a1", "a2")
    assert.same({ "2_0_0@tm1", "2_1_0@tm1" }, w.submits())
    w.s:submit_done(w.id("2_0_0"))
    assert.same({}, w.submits())
    w.s:submit_done(w.id("2_1_0"))
    assert.same({ "1_0_0@tm1", "1_1_0@tm1" }, w.submits())
  end)

  it("a job runs to its end with a merged result, and gives its slots back",
    function()
      local w = world()
      w.run()
      for i, t in ipairs({ "2_1_0", "1_0_0", "1_1_0", "2_0_0" }) do
        assert(w.s:task_state(w.id(t), "FINISHED", nil, {
          accumulators = { n = { "counter", i } },
          collected = { out = { t } },
        }))
      end
      assert.equal("FINISHED", w.s.job.state)
      assert.equal(10, w.s.result.accumulators.n[2])
      assert.same({ "1_0_0", "1_1_0", "2_0_0", "2_1_0" },
        w.s.result.collected.out)
      assert.equal(2, #w.acts("free_slot"))
      assert.equal(0, w.acts("require")[1].slots)
      assert.equal("FINISHED", w.acts("terminal")[1].status)
    end)

  it("X-10 a result that cannot be merged is a global failure", function()
    local w = world()
    w.run()
    for _, t in ipairs({ "1_0_0", "1_1_0", "2_0_0" }) do
      w.report(t, "FINISHED")
    end
    assert(w.s:task_state(w.id("2_1_0"), "FINISHED", nil,
      { accumulators = { n = { "nonsense", 1 } } }))
    assert.equal("RESTARTING", w.s.job.state)
    assert.matches('unknown kind "nonsense"', w.s.exceptions[1].error.message)
  end)

  it("B-06 B-12 a failed task restarts its region after delay and cancellation",
    function()
      local w = world()
      w.run()
      assert(w.s:task_state(w.id("2_0_0"), "FAILED", boom))
      assert.equal("RESTARTING", w.s.job.state)
      assert.matches("restarts in 1.0 s after: boom", w.s:reason())
      assert.equal(3, #w.acts("cancel"))
      w.now = 1000
      w.s:timer("restart:1")
      assert.equal("CANCELING", w.state("1_0_0"))
      for _, t in ipairs({ "1_0_0", "1_1_0", "2_1_0" }) do
        assert.same({}, w.submits())
        w.report(t, "CANCELED")
      end
      assert.equal("RUNNING", w.s.job.state)
      assert.same({ "2_0_1@tm1", "2_1_1@tm2" }, w.submits())
      assert.is_nil(w.state("2_0_0"))
    end)

  it("B-06 forward-only jobs restart only the failed pipeline", function()
    local w = world({ kind = "forward" })
    w.run()
    assert(w.s:task_state(w.id("1_0_0"), "FAILED", boom))
    local cancels = w.acts("cancel")
    assert.equal(1, #cancels)
    assert.equal(w.id("2_0_0"), cancels[1].attempt)
    assert.equal("RUNNING", w.state("2_1_0"))
    w.report("2_0_0", "CANCELED")
    w.s:timer("restart:1")
    assert.equal("RUNNING", w.s.job.state)
    assert.same({ "2_0_1@tm1" }, w.submits())
  end)

  it("B-07 a global failure restarts all and absorbs local ones", function()
    local w = world({ kind = "forward" })
    w.run()
    assert(w.s:task_state(w.id("1_0_0"), "FAILED", boom))
    w.s:fail_global(errors.new("oops", "all"))
    w.report("2_0_0", "CANCELED")
    assert(w.s:task_state(w.id("2_1_0"), "FAILED", boom))
    w.report("1_1_0", "CANCELED")
    w.s:timer("restart:1") -- outdated: does nothing
    assert.same({}, w.submits())
    w.s:timer("restart:2")
    assert.same({ "2_0_1@tm1", "2_1_1@tm2" }, w.submits())
    assert.equal(2, w.s.restarts)
  end)

  it("B-10 exhausted restarts end in FAILED with the root cause", function()
    local w = world({ restart = { type = "none" } })
    w.run()
    local failure = errors.new("user_error", "no field x",
      { context = { operator = "count", file = "j.lua", line = 3 } })
    assert(w.s:task_state(w.id("2_0_0"), "FAILED", failure))
    assert.equal("FAILING", w.s.job.state)
    for _, t in ipairs({ "1_0_0", "1_1_0", "2_1_0" }) do
      w.report(t, "CANCELED")
    end
    assert.equal("FAILED", w.s.job.state)
    local outcome = details.outcome(w.s)
    assert.equal("restarts_used_up", outcome.failure.code)
    assert.equal("user_error", outcome.failure.cause.code)
    assert.equal(3, outcome.failure.cause.context.line)
  end)

  it("B-01 an unrecoverable error fails the job, also as a cause", function()
    local w = world()
    w.run()
    local cause = errors.new("x", "y", { context = { recoverable = false } })
    assert(w.s:task_state(w.id("2_0_0"), "FAILED",
      errors.new("outer", "z", { cause = cause })))
    assert.equal("FAILING", w.s.job.state)
  end)

  it("B-11 the exception history keeps 16 roots with concurrent ones",
    function()
      local w = world({ restart = { attempts = 100 } })
      w.run()
      for n = 0, 19 do
        local a = "2_0_" .. n
        assert(w.s:task_state(w.id(a), "FAILED", boom))
        for _, t in ipairs({ "1_0_", "1_1_", "2_1_" }) do
          w.report(t .. n, "CANCELED")
        end
        w.s:timer("restart:" .. (n + 1))
        w.ack()
      end
      assert.equal(16, #w.s.exceptions)
      assert.equal(w.id("2_0_19"), w.s.exceptions[16].attempt)
    end)

  it("J-07 F-01 a lost TaskExecutor is one failure; the job waits for slots",
    function()
      local w = world({ kind = "forward", parallelism = 4,
        restart = { attempts = 1 } })
      w.s:start()
      w.offer("tm1", "a1", "a2")
      w.offer("tm2", "b1", "b2")
      w.ack()
      w.s:owner_lost("tm2", errors.new("unreachable", "tm2 is gone"))
      assert.equal("RESTARTING", w.s.job.state)
      assert.equal(1, w.s.restarts)
      assert.equal(0, #w.acts("cancel"))
      w.now = 1000
      w.s:timer("restart:1")
      assert.equal("RESTARTING", w.s.job.state)
      assert.equal("waiting for 4 slots, 2 available", w.s:reason())
      w.offer("tm3", "c1", "c2")
      assert.equal("RUNNING", w.s.job.state)
      assert.equal(2, #w.submits())
    end)

  it("P-08 slots that do not come in time count as a failure", function()
    local w = world({ restart = { attempts = 1 } })
    w.s:start()
    assert.equal(300000, w.acts("timer")[1].delay_ms)
    w.s:timer("slots")
    assert.equal("CREATED", w.s.job.state)
    w.s:timer("restart:1")
    w.s:timer("slots")
    assert.equal("FAILED", w.s.job.state)
    assert.equal("slot_request_timeout", w.s.failure.cause.code)
  end)

  it("J-23 not enough resources fails waiting tasks only when told to",
    function()
      local w = world()
      w.s:start()
      w.s:not_enough(0)
      assert.equal(0, w.s.restarts)
      w = world({ fail_fast = true, restart = { type = "none" } })
      w.s:start()
      w.s:not_enough(0)
      assert.equal("FAILED", w.s.job.state)
    end)

  it("X-01 cancel needs no call before deployment, one after, none twice",
    function()
      local w = world()
      w.s:start()
      w.s:cancel()
      assert.equal(0, #w.acts("cancel"))
      assert.equal("CANCELED", w.s.job.state)
      w = world()
      w.run()
      w.s:cancel()
      w.s:cancel()
      assert.equal(4, #w.acts("cancel"))
      assert.equal("CANCELLING", w.s.job.state)
    end)

  it("X-02 a cancel that cannot be delivered does not get stuck", function()
    local w = world()
    w.run()
    w.s:cancel()
    for _, a in ipairs(w.acts("cancel")) do w.s:cancel_done(a.attempt, boom) end
    assert.equal("CANCELED", w.s.job.state)
  end)

  it("X-03 a refused deployment fails the attempt; started ones are cancelled",
    function()
      local w = world()
      w.s:start()
      w.offer("tm1", "a1", "a2")
      assert.same({ "2_0_0@tm1", "2_1_0@tm1" }, w.submits())
      w.s:submit_done(w.id("2_0_0"), boom)
      assert.equal("FAILED", w.state("2_0_0"))
      assert.equal("CANCELING", w.state("2_1_0"))
      assert.equal("CANCELED", w.state("1_0_0"))
      w.s:submit_done(w.id("2_1_0")) -- the answer that comes too late
      assert.same({}, w.submits())
    end)

  it("X-05 cancel while RESTARTING waits for running tasks, voids the timer",
    function()
      local w = world()
      w.run()
      assert(w.s:task_state(w.id("2_0_0"), "FAILED", boom))
      w.s:cancel()
      w.s:timer("restart:1")
      assert.equal("CANCELLING", w.s.job.state)
      for _, t in ipairs({ "1_0_0", "1_1_0", "2_1_0" }) do
        w.report(t, "CANCELED")
      end
      assert.equal("CANCELED", w.s.job.state)
      assert.same({}, w.submits())
    end)

  it("X-06 cancel while FAILING ends CANCELED; failing while CANCELLING too",
    function()
      local w = world({ restart = { type = "none" } })
      w.run()
      assert(w.s:task_state(w.id("2_0_0"), "FAILED", boom))
      w.s:cancel()
      assert(w.s:task_state(w.id("2_1_0"), "FAILED", boom))
      for _, t in ipairs({ "1_0_0", "1_1_0" }) do
        w.report(t, "CANCELED")
      end
      assert.equal("CANCELED", w.s.job.state)
    end)

  it("X-07 suspend works from every state and not after the end", function()
    for _, prepare in ipairs({
      function(w) w.s:start() end,
      function(w) w.run() end,
      function(w)
        w.run()
        w.s:task_state(w.id("2_0_0"), "FAILED", boom)
      end,
      function(w)
        w.run()
        w.s:cancel()
      end,
    }) do
      local w = world()
      prepare(w)
      w.s:suspend(errors.new("stopped", "bye"))
      assert.equal("SUSPENDED", w.s.job.state)
      assert.equal(1, #w.acts("terminal"))
    end
    local w = world()
    w.s:start()
    w.s:cancel()
    w.s:suspend(boom)
    assert.equal("CANCELED", w.s.job.state)
  end)

  it("J-14 reports of unknown and outdated attempts are refused", function()
    local w = world()
    w.run()
    local ok, err = w.s:task_state(w.id("9_0_0"), "RUNNING")
    assert.is_nil(ok)
    assert.equal("unknown_attempt", err.code)
    w.report("2_0_0", "FINISHED", "FINISHED")
    ok, err = w.s:task_state(w.id("2_0_0"), "FAILED", boom)
    assert.is_nil(ok)
    assert.equal("illegal_state", err.code)
  end)

  it("a report that skips INITIALIZING is refused and fails the attempt",
    function()
      local w = world()
      w.s:start()
      w.offer("tm1", "a1", "a2")
      local ok, err = w.s:task_state(w.id("2_0_0"), "RUNNING")
      assert.is_nil(ok)
      assert.equal("illegal_state", err.code)
      assert.equal("FAILED", w.state("2_0_0"))
      assert.equal(w.id("2_0_0"), w.acts("cancel")[1].attempt)
    end)

  it("J-12 reconciliation fails missing tasks and cancels unknown ones",
    function()
      local w = world()
      w.run()
      w.s:reconcile("tm1", { w.id("1_0_0"), w.id("2_0_0"), "stranger" })
      local cancels = w.acts("cancel")
      assert.equal(1, #cancels)
      assert.equal("stranger", cancels[1].attempt)
      w.s:reconcile("tm1", { w.id("2_0_0") })
      assert.equal("FAILED", w.state("1_0_0"))
      w = world()
      w.s:start()
      w.offer("tm1", "a1", "a2") -- submitted, not answered
      w.s:reconcile("tm1", {})
      assert.equal("DEPLOYING", w.state("2_0_0"))
    end)

  it("J-18 splits of a failed attempt are handed out again", function()
    local w = world({ splits = { "s1", "s2", "s3" } })
    w.run()
    assert.equal("s1", w.s:next_split(1, w.id("1_0_0")))
    assert.equal("s2", w.s:next_split(1, w.id("1_1_0")))
    assert(w.s:task_state(w.id("1_0_0"), "FAILED", boom))
    for _, t in ipairs({ "1_1_0", "2_0_0", "2_1_0" }) do
      w.report(t, "CANCELED")
    end
    w.s:timer("restart:1")
    local seen = {}
    for _ = 1, 3 do seen[#seen + 1] = w.s:next_split(1, w.id("1_0_1")) end
    assert.same({ "s1", "s2", "s3" }, seen)
    assert.is_nil((w.s:next_split(1, w.id("1_0_1"))))
    local _, err = w.s:next_split(1, w.id("1_0_0"))
    assert.equal("unknown_attempt", err.code)
    assert.equal("s2", w.s:next_split(1, w.id("1_0_1"), 1)) -- lost answer
    _, err = w.s:next_split(2, w.id("1_0_1"))
    assert.equal("bad_argument", err.code)
  end)

  it("P-09 messages with a stale allocation id are ignored", function()
    local w = world()
    w.run()
    assert.is_false(w.s:slot_failed("tm1", "zz", boom))
    assert.is_false(w.s:slot_failed("tm2", "a1", boom))
    assert.equal("RUNNING", w.s.job.state)
    assert.is_true(w.s:slot_failed("tm1", "a1", boom))
    assert.equal("RESTARTING", w.s.job.state)
  end)

  it("P-03 P-06 surplus offers are kept while restarting, then given back",
    function()
      local w = world()
      w.run()
      assert.same({}, w.offer("tm3", "c1"))
      assert(w.s:task_state(w.id("2_0_0"), "FAILED", boom))
      assert.same({ "c1" }, w.offer("tm3", "c1"))
      for _, t in ipairs({ "1_0_0", "1_1_0", "2_1_0" }) do
        w.report(t, "CANCELED")
      end
      w.s:timer("restart:1")
      w.now = 60000
      w.s:timer("idle")
      local freed = w.acts("free_slot")
      assert.equal(1, #freed)
      assert.equal("c1", freed[1].slot.allocation)
    end)

  it("details name the vertices, their counts and the exceptions", function()
    local w = world()
    w.run()
    assert(w.s:task_state(w.id("2_0_0"), "FAILED", boom))
    w.s.graph:execution(w.id("1_0_0")).counters =
      { records_in = 0, records_out = 7 }
    local view = details.details(w.s, 5000)
    assert.equal("RESTARTING", view.status)
    assert.equal("FAILED", view.vertices[2].status)
    assert.equal(7, view.vertices[1].records_out)
    assert.equal(2, view.vertices[1].counts.CANCELING)
    assert.equal("count (1/2)", view.exceptions[1].task)
    assert.equal("boom", view.exceptions[1].error.message)
    assert.equal(1000, view.start_time)
  end)
end)

describe("plans", function()
  local function refused(change, text)
    local p = plan()
    change(p)
    local s, err = schedulers.new({ plan = p, clock = {
      now = function() return 0 end, wall = function() return 0 end } })
    assert.is_nil(s)
    assert.truthy(err.message:find(text, 1, true), err.message)
  end

  it("are refused with what is wrong", function()
    refused(function(p) p.vertices[1].parallelism = 0 end, "parallelism 0")
    refused(function(p) p.vertices[1].parallelism = 1.5 end, "parallelism 1.5")
    refused(function(p) p.vertices = {} end, "has no operators")
    refused(function(p) p.vertices[2].id = 1 end, "vertex id 1 is twice")
    refused(function(p) p.edges[1].to = 9 end, "vertex 9 does not exist")
    refused(function(p) p.edges[1].kind = "psychic" end, "unknown kind psychic")
    refused(function(p) p.job_id = "x" end, "plan.job_id")
    refused(function(p)
      p.edges[2] = { id = 2, from = 2, to = 1, kind = "hash" }
    end, "form a cycle")
    refused(function(p)
      p.vertices[2].parallelism = 3
      p.edges[1].kind = "forward"
    end, "forward needs equal parallelism")
    refused(function(p)
      p.vertices[1].parallelism, p.vertices[2].parallelism = 4096, 4096
    end, "channels")
  end)

  it("become descriptors with the channels of both sides", function()
    local s = assert(schedulers.new({ plan = plan(), clock = {
      now = function() return 0 end, wall = function() return 0 end } }))
    local tasks = s.graph.tasks
    local function address_of(task) return "at/" .. task.execution.attempt end
    local from = s.graph:descriptor(tasks[2], address_of)
    local to = s.graph:descriptor(tasks[3], address_of)
    assert.same({ { edge = 1, kind = "hash",
      channels = { "1:0:0", "1:1:0" } } }, to.inputs)
    assert.same({
      { address = "at/" .. JOB .. "_2_0_0", channel = "1:1:0" },
      { address = "at/" .. JOB .. "_2_1_0", channel = "1:1:1" },
    }, from.outputs[1].targets)
    assert.equal(1, from.subtask)
    assert.equal(JOB .. "_1_1_0", from.attempt)
  end)
end)
