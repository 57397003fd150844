-- Rows 1 to 8 and 11 of docs/rpc_rows.md: how endpoints run.

local orrery = require("orrery")
local simulated = require("support.simulated")

local Future = orrery.Future

describe("execution:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each }, { seed = 3, latency_ms = { 1, 9 } })

  it("RPC-1 handlers, posted and scheduled work, on_start and on_stop of one "
    .. "endpoint never overlap", function()
    local inside, entered, overlaps = false, 0, 0
    local function probe()
      if inside then overlaps = overlaps + 1 end
      inside, entered = true, entered + 1
      -- Whatever could come between would come here: a call to itself, a
      -- future that is done, a timer that is due.
      local self = orrery.current()
      if self then
        Future.resolved(1):on_done(function()
          if inside then overlaps = overlaps + 1 end
        end)
      end
      inside = false
    end
    local C = orrery.endpoint("probe", { hit = {} })
    C.on_start, C.on_stop, C.hit = probe, probe, probe
    local a, b = s.sim:service("a"), s.sim:service("b")
    local server = a:start(C, { id = "p" })
    local gateway = assert(s.sim:run(b:connect("a:1/p", "probe")))
    local calls = {}
    for i = 1, 500 do
      server.endpoint:run_async(probe)
      server.endpoint:schedule_run_async(i % 20, probe)
      calls[i] = gateway:hit()
    end
    s.sim:run(Future.all(calls))
    s.sim:advance(50)
    s.sim:run(server:stop())
    assert.are.equal(1502, entered)
    assert.are.equal(0, overlaps)
  end)

  it("RPC-2 messages of one sender are handled in the order they were sent",
    function()
      local seen = { b = {}, c = {} }
      local C = orrery.endpoint("log", { note = { tell = true }, sync = {} })
      function C:note(from, i) table.insert(seen[from], i) end
      function C:sync() end
      s.sim:service("a"):start(C, { id = "log" })
      local gateways = {}
      for _, name in ipairs({ "b", "c" }) do
        gateways[name] = assert(s.sim:run(
          s.sim:service(name):connect("a:1/log", "log")))
      end
      for i = 1, 200 do
        gateways.b:note("b", i)
        gateways.c:note("c", i)
      end
      s.sim:run(gateways.b:sync())
      s.sim:run(gateways.c:sync())
      for i = 1, 200 do
        assert.are.equal(i, seen.b[i])
        assert.are.equal(i, seen.c[i])
      end
    end)

  it("RPC-3 an endpoint with much to do lets others have their turn after 16 "
    .. "messages", function()
    local order = {}
    local C = orrery.endpoint("busy", { note = { tell = true } })
    function C:note() order[#order + 1] = self.id end
    local a = s.sim:service("a")
    local x, y = a:start(C, { id = "x" }), a:start(C, { id = "y" })
    for _ = 1, 64 do x.gateway:note() end
    for _ = 1, 64 do y.gateway:note() end
    s.sim:advance(1)
    assert.are.equal(128, #order)
    local longest, run = 0, 0
    for i, id in ipairs(order) do
      run = order[i - 1] == id and run + 1 or 1
      longest = math.max(longest, run)
    end
    assert.are.equal(16, longest)
  end)

  it("RPC-4 what runs is marked while it runs, also behind an await", function()
    local seen = {}
    local C = orrery.endpoint("marked", { look = {} })
    function C:look()
      seen[#seen + 1] = orrery.current() == self
      orrery.sleep(5)
      seen[#seen + 1] = orrery.current() == self
      return true
    end
    local a = s.sim:service("a")
    local x, y = a:start(C), a:start(C)
    s.sim:run(Future.all({ x.gateway:look(), y.gateway:look() }))
    assert.are.same({ true, true, true, true }, seen)
    assert.is_nil(orrery.current())
    assert.is_false(x:is_current_thread_main_thread())
  end)

  it("RPC-5 validate_runs_in_main_thread throws outside, always", function()
    local C = orrery.endpoint("own", { check = {}, other = {} })
    function C:check()
      self:validate_runs_in_main_thread()
      return true
    end
    function C:other()
      self.neighbour:validate_runs_in_main_thread()
    end
    local a = s.sim:service("a")
    local x, y = a:start(C, { id = "x" }), a:start(C, { id = "y" })
    y.endpoint.neighbour = x.endpoint
    assert.is_true(s.sim:run(x.gateway:check()))
    local _, err = s.sim:run(y.gateway:other())
    assert.is_truthy(err.cause.message:find("not a handler of x but of y", 1,
      true))
    assert.error_matches(function()
      x.endpoint:validate_runs_in_main_thread()
    end, "not a handler of x")
  end)

  it("RPC-6 a handler that answers a future leaves the mailbox free", function()
    local C = orrery.endpoint("later", { slow = {}, quick = {} })
    function C:slow()
      local future = Future.new()
      self:schedule_run_async(100, function() future:resolve("slow") end)
      return future
    end
    function C:quick() return "quick" end
    local gateway = s.sim:service("a"):start(C).gateway
    local slow, quick = gateway:slow(), gateway:quick()
    assert.are.equal("quick", s.sim:run(quick))
    assert.is_false(slow:is_done())
    assert.are.equal("slow", s.sim:run(slow))
  end)

  it("RPC-8 a continuation goes through the queue, never inline", function()
    local log = {}
    local C = orrery.endpoint("chain", { go = {} })
    function C:go()
      Future.resolved(1):on_done(function()
        log[#log + 1] = orrery.current() == self and "continued" or "elsewhere"
      end)
      self:run_async(function() log[#log + 1] = "posted" end)
      log[#log + 1] = "handler ends"
    end
    s.sim:run(s.sim:service("a"):start(C).gateway:go())
    s.sim:advance(1)
    assert.are.equal("handler ends", log[1])
    table.sort(log)
    assert.are.same({ "continued", "handler ends", "posted" }, log)
  end)
end)

describe("execution, real:", function()
  it("RPC-7 a big result is encoded on the executor of its endpoint, the "
    .. "others go on", function()
    local service = assert(orrery.service({}))
    local Quick = orrery.endpoint("quick", { ping = {} })
    function Quick:ping() return "pong" end
    local quick = service:start(Quick)
    local text = ("x"):rep(1024 * 1024)
    local handle = assert(service:spawn("support.spawned",
      { args = { text } }):await())
    local big = handle.gateway:arguments()
    assert.are.equal("pong", quick.gateway:ping():await())
    assert.are.equal(#text, #big:await()[1])
    service:stop():await()
  end)
end)

describe("the logging context:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local path

  before_each(function()
    path = os.tmpname()
    assert(orrery.log.set_file(path))
  end)

  after_each(function()
    assert(orrery.log.set_file(nil))
    os.remove(path)
  end)

  local function lines()
    local out = {}
    for line in io.lines(path) do
      out[#out + 1] = line:match("ERROR%s+test%s+(.*)")
        or line:match("ERROR%s+rpc%s+(.*)")
    end
    return out
  end

  local C = orrery.endpoint("worker", { work = {}, fail = { tell = true },
    scope = {} })
  function C:work(word)
    orrery.log.error("test", "before %s", word)
    orrery.sleep(1)
    orrery.log.error("test", "after %s", word)
  end
  function C:fail() error("broken", 0) end
  function C:scope()
    return self:scoped({ attempt = 2 }):call_async(function()
      self:validate_runs_in_main_thread()
      orrery.sleep(1)
      orrery.log.error("test", "scoped")
      return true
    end)
  end

  it("RPC-11 is in front of every line of the endpoint's handlers", function()
    local a = s.sim:service("a")
    local x = a:start(C, { id = "x", log_context = { job = 7, kind = "map" } })
    local y = a:start(C, { id = "y" })
    s.sim:run(Future.all({ x.gateway:work("x"), y.gateway:work("y") }))
    orrery.log.error("test", "outside")
    assert.are.same({ "[job=7 kind=map] before x", "before y",
      "[job=7 kind=map] after x", "after y", "outside" }, lines())
  end)

  it("RPC-11 is in front of the lines about the endpoint", function()
    local x = s.sim:service("a"):start(C, { id = "x" })
    x.endpoint:set_log_context({ job = 8 })
    x.gateway:fail()
    s.sim:advance(5)
    assert.is_truthy(lines()[1]:find("[job=8] x: tell worker.fail failed", 1,
      true))
  end)

  it("RPC-11 can be scoped to one piece of work", function()
    local x = s.sim:service("a"):start(C, { log_context = { job = 7 } })
    assert.is_true(s.sim:run(x.gateway:scope()))
    assert.are.same({ "[attempt=2 job=7] scoped" }, lines())
  end)

  it("RPC-11 refuses what is not a plain value", function()
    local a = s.sim:service("a")
    for _, bad in ipairs({ { ["a b"] = 1 }, { a = {} }, "job" }) do
      assert.error_matches(function()
        a:start(C, { log_context = bad })
      end, "log context")
    end
  end)
end)
