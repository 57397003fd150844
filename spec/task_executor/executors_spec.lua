local executors = require("orrery.task_executor.executors")
local simulated = require("support.simulated")

describe("the executors of slots", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local service, list

  before_each(function()
    service = s.sim:service("tm")
    list = executors.new(service)
  end)

  local function get(allocation)
    return assert(s.sim:run(list:get(allocation)))
  end

  local function is_there(name)
    for _, info in ipairs(service:endpoints()) do
      if info.name == name then return true end
    end
    return false
  end

  it("are one for each slot", function()
    local one = get("a")
    assert.equal(one, get("a"))
    assert.not_equal(one.executor, get("b").executor)
    local task = assert(s.sim:run(service:spawn("support.spawned",
      { id = "task/1", executor = one })))
    assert.equal(one.executor, task.executor)
  end)

  it("stay while a slot has no task", function()
    local one = get("a")
    local task = assert(s.sim:run(service:spawn("support.spawned",
      { executor = one })))
    s.sim:run(task:stop())
    s.sim:advance(1000)
    assert.equal(one, get("a"))
    assert.is_true(is_there("$executor/" .. one.executor))
  end)

  it("end when the slot is dropped, behind its last task", function()
    local one = get("a")
    local task = assert(s.sim:run(service:spawn("support.spawned",
      { id = "task/1", executor = one })))
    list:drop("a")
    s.sim:run(one.termination)
    assert.is_true(is_there("task/1"))
    s.sim:run(task:stop())
    s.sim:advance(10)
    assert.is_false(is_there("$executor/" .. one.executor))
    assert.not_equal(one.executor, get("a").executor)
  end)

  it("are made anew after one has ended by itself", function()
    local one = get("a")
    s.sim:run(one:stop())
    s.sim:advance(10)
    assert.not_equal(one.executor, get("a").executor)
  end)
end)
