local errors = require("orrery.util.errors")
local slot_managers = require("orrery.resource_manager.slot_manager")

local lost = errors.new("unreachable", "gone")

describe("slot manager", function()
  local m, next_id

  before_each(function()
    next_id = 0
    m = slot_managers.new(function()
      next_id = next_id + 1
      return "a" .. next_id
    end)
  end)

  local function acts(kind)
    local found = {}
    for _, a in ipairs(m:take()) do
      if a.kind == kind then found[#found + 1] = a end
    end
    return found
  end

  local function requests()
    m:check()
    local list = {}
    for i, a in ipairs(acts("request_slot")) do
      list[i] = a.executor .. ":" .. a.allocation .. ":" .. a.job
    end
    return list
  end

  it("S-01 many declarations cause one check", function()
    for i = 1, 5 do m:declare("j" .. i, i) end
    assert.equal(1, #acts("check"))
    m:check()
    m:declare("j1", 9)
    assert.equal(1, #acts("check"))
  end)

  it("S-02 a requirement becomes requests with new allocations, spread",
    function()
      m:add_executor("tm1", "i1", 2, {})
      m:add_executor("tm2", "i2", 2, {})
      m:declare("j", 3)
      assert.same({ "tm1:a1:j", "tm2:a2:j", "tm1:a3:j" }, requests())
      assert.same({}, requests())
      assert.equal(1, m:overview().slots_available)
    end)

  it("S-03 a failed request frees the slot and checks again", function()
    m:add_executor("tm1", "i1", 1, {})
    m:declare("j", 1)
    requests()
    m:requested("tm1", "i1", "a1", lost)
    assert.equal(1, #acts("check"))
    assert.same({ "tm1:a2:j" }, requests())
  end)

  it("S-04 late answers for freed or removed slots are ignored", function()
    m:add_executor("tm1", "i1", 1, {})
    m:declare("j", 1)
    requests()
    m:slot_free("tm1", "i1", "a1")
    m:requested("tm1", "i1", "a1")
    assert.equal(1, m:executor("tm1").free)
    requests()
    m:add_executor("tm1", "i2", 1, {})
    m:requested("tm1", "i1", "a2")
    assert.equal(1, m:executor("tm1").free)
    m:remove_executor("tm1")
    m:requested("tm1", "i2", "a2", lost)
    local _, err = m:executor("tm1")
    assert.equal("unknown_task_executor", err.code)
  end)

  it("S-05 the report is the truth: missing freed, pending kept, unknown added",
    function()
      m:add_executor("tm1", "i1", 4, {
        { allocation = "old", job = "j", index = 0 },
      })
      m:declare("j", 2)
      assert.same({ "tm1:a1:j" }, requests())
      assert.is_true(m:report("tm1", "i1",
        { { allocation = "new", job = "k", index = 1 } }))
      local states = {}
      for _, s in ipairs(m:executor("tm1").slots) do
        states[s.allocation] = s.state
      end
      assert.same({ a1 = "PENDING", new = "ALLOCATED" }, states)
      assert.same({ "tm1:a2:j" }, requests())
    end)

  it("S-06 R-09 reports of unknown or outdated instances are ignored",
    function()
      assert.is_false(m:report("tm1", "i1", {}))
      m:add_executor("tm1", "i1", 1, {})
      assert.is_false(m:report("tm1", "i0",
        { { allocation = "x", job = "j" } }))
      assert.equal(1, m:executor("tm1").free)
      assert.is_false(m:slot_free("tm1", "i0", "x"))
    end)

  it("S-07 a cleared requirement frees inactive slots of that job", function()
    m:add_executor("tm1", "i1", 1, {})
    m:add_executor("tm2", "i2", 1, {})
    m:declare("j", 1)
    requests()
    m:declare("j", 0)
    local frees = acts("free_inactive")
    assert.equal(1, #frees)
    assert.equal("tm1", frees[1].executor)
    m:declare("j", 0)
    assert.same({}, acts("free_inactive"))
  end)

  it("S-08 what cannot be met is told, with what was acquired", function()
    m:add_executor("tm1", "i1", 1, {})
    m:declare("j", 3)
    m:check()
    local told = acts("not_enough")
    assert.equal(1, #told)
    assert.equal(1, told[1].acquired)
  end)

  it("R-06 registering again forgets the slots of before", function()
    m:add_executor("tm1", "i1", 1, {})
    m:declare("j", 1)
    requests()
    m:add_executor("tm1", "i2", 1, {})
    assert.same({ "tm1:a2:j" }, requests())
  end)

  it("older jobs are served first", function()
    m:declare("zz", 1)
    m:declare("aa", 1)
    m:add_executor("tm1", "i1", 1, {})
    assert.same({ "tm1:a1:zz" }, requests())
  end)
end)
