local task = require("orrery.util.task")

local function context() return { gone = false, name = "spec" } end

describe("a task", function()
  it("runs its function and tells the result once", function()
    local seen = {}
    task.start(context(), function(t, value, err)
      seen[#seen + 1] = { t.call, t.method, value, err }
    end, 5, 6, function(a, b) return a + b, "second" end, 1, 2)
    assert.are.same({ { 5, 6, 3, "second" } }, seen)
  end)

  it("waits and goes on with what resume gives", function()
    local waiting, got
    task.start(context(), function(_, value) got = value end, 0, 0, function()
      waiting = task.current()
      local v, e = task.wait()
      return v .. tostring(e)
    end)
    assert.is_nil(got)
    task.resume(waiting, "a", "b")
    assert.are.equal("ab", got)
  end)

  it("that throws tells an error with a traceback", function()
    local failure
    task.start(context(), function(_, _, err) failure = err end, 0, 0,
      function() error("bang") end)
    assert.is_truthy(failure.message:find("bang", 1, true))
    assert.is_truthy(failure.traceback:find("task_spec", 1, true))
  end)

  it("of a context that is gone is not resumed", function()
    local c, waiting, went_on = context(), nil, false
    task.start(c, function() went_on = true end, 0, 0, function()
      waiting = task.current()
      task.wait()
    end)
    c.gone = true
    task.resume(waiting)
    assert.is_false(went_on)
  end)

  it("uses the coroutine of one that ended", function()
    local first, second
    local function note() return coroutine.running() end
    task.start(context(), function(_, co) first = co end, 0, 0, note)
    task.start(context(), function(_, co) second = co end, 0, 0, note)
    assert.are.equal(first, second)
  end)

  it("restores what ran before it, also when it throws", function()
    local outer = context()
    task.start(outer, function() end, 0, 0, function()
      task.start(context(), function() end, 0, 0, error, "x")
      assert.are.equal(outer, task.context())
    end)
    assert.is_nil(task.current())
  end)
end)

describe("the run list", function()
  it("keeps its order and never nests", function()
    local seen = {}
    local c = context()
    task.later(c, function()
      seen[#seen + 1] = "one"
      task.later(c, function() seen[#seen + 1] = "three" end)
      seen[#seen + 1] = "one's end"
    end)
    task.later(c, function() seen[#seen + 1] = "two" end)
    while task.drain() do end
    assert.are.same({ "one", "one's end", "two", "three" }, seen)
    assert.is_false(task.pending())
  end)

  it("is worked off in bounded steps", function()
    local c, n = context(), 0
    local function again()
      n = n + 1
      if n < 10000 then task.later(c, again) end
    end
    task.later(c, again)
    assert.is_true(task.drain())
    assert.is_true(n < 10000)
    while task.drain() do end
    assert.are.equal(10000, n)
  end)
end)
