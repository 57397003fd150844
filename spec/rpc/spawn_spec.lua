local orrery = require("orrery")
local simulated = require("support.simulated")

for _, where in ipairs({ "simulated", "real" }) do
  describe("a " .. where .. " spawned endpoint", function()
    local s = simulated.each({ before_each = before_each,
      after_each = after_each })
    local service, run

    before_each(function()
      if where == "simulated" then
        service = s.sim:service("a")
        run = function(future) return s.sim:run(future) end
      else
        s.sim:free()
        service = assert(orrery.service({ bind = "127.0.0.1:0" }))
        run = function(future) return future:await() end
      end
    end)

    after_each(function()
      if where == "real" then service:stop():await() end
    end)

    it("is reached by its handle and by its address", function()
      local handle = assert(run(service:spawn("support.spawned",
        { id = "kid", args = { "x", 2 } })))
      assert.are.equal(service.address .. "/kid", handle.address)
      assert.are.same({ "x", 2 }, run(handle.gateway:arguments()))
      local again = run(service:connect("kid", "spawned"))
      assert.are.same({ "x", 2 }, run(again:arguments()))
    end)

    it("calls endpoints of other executors", function()
      local Echo = orrery.endpoint("echo", { echo = {} })
      function Echo:echo(x) return x end
      service:start(Echo, { id = "echo" })
      local handle = assert(run(service:spawn("support.spawned")))
      assert.are.equal("there and back",
        run(handle.gateway:call("echo", "there and back")))
    end)

    it("ends with its executor", function()
      local handle = assert(run(service:spawn("support.spawned",
        { id = "kid" })))
      assert.are.equal(handle:stop(), handle:stop())
      assert.is_true(run(handle:stop()))
      local _, err = run(handle.gateway:arguments())
      assert.are.equal("unreachable", err.code)
      assert.is_truthy(run(service:spawn("support.spawned", { id = "kid" })))
    end)

    it("ends with its service", function()
      local handle = assert(run(service:spawn("support.spawned")))
      run(service:stop())
      assert.is_true(handle:stop():is_done())
    end)

    it("that cannot be loaded or started is told", function()
      local handle, err = run(service:spawn("support.no_such_module"))
      assert.is_nil(handle)
      assert.are.equal("bad_argument", err.code)
      handle, err = run(service:spawn("support.host"))
      assert.is_nil(handle)
      assert.is_truthy(err.message:find("does not answer a class", 1, true))
      handle, err = run(service:spawn("support.spawned",
        { args = { "fail in init" } }))
      assert.is_nil(handle)
      assert.is_truthy(tostring(err):find("init refused", 1, true))
      handle, err = run(service:spawn("support.spawned",
        { args = { "fail in on_start" } }))
      assert.is_nil(handle)
      assert.is_truthy(tostring(err):find("on_start refused", 1, true))
    end)

    it("that calls a name already taken is told", function()
      assert(run(service:spawn("support.spawned", { id = "kid" })))
      local handle, err = run(service:spawn("support.spawned",
        { id = "kid" }))
      assert.is_nil(handle)
      assert.are.equal("exists", err.code)
    end)

    it("shares the executor of an earlier one", function()
      local first = assert(run(service:spawn("support.spawned",
        { id = "first" })))
      local second = assert(run(service:spawn("support.spawned",
        { id = "second", args = { 7 }, executor = first })))
      assert.are.equal(first.executor, second.executor)
      assert.are.equal(run(first.gateway:executor()),
        run(second.gateway:executor()))
      assert.are.same({ 7 }, run(second.gateway:arguments()))
      local other = assert(run(service:spawn("support.spawned")))
      assert.are_not.equal(run(first.gateway:executor()),
        run(other.gateway:executor()))
    end)

    it("leaves its executor to the others when it is stopped", function()
      local first = assert(run(service:spawn("support.spawned",
        { id = "first" })))
      local second = assert(run(service:spawn("support.spawned",
        { id = "second", executor = first })))
      assert.is_true(run(first:stop()))
      assert.is_true(run(first.termination))
      assert.are.same({}, run(second.gateway:arguments()))
      local third = assert(run(service:spawn("support.spawned",
        { id = "third", executor = first })))
      assert.are.equal(run(second.gateway:executor()),
        run(third.gateway:executor()))
      assert.is_true(run(third:stop()))
      assert.is_true(run(second:stop()))
      local handle, err = run(service:spawn("support.spawned",
        { id = "fourth", executor = second }))
      assert.is_nil(handle)
      assert.are.equal("unreachable", err.code)
    end)

    it("tells its end by its termination", function()
      local handle = assert(run(service:spawn("support.spawned")))
      assert.is_false(handle.termination:is_done())
      run(handle.gateway:finish())
      assert.is_true(run(handle.termination))
      assert.is_true(run(handle:stop()))
    end)

    it("tells an error of its end by its termination and its stop", function()
      local handle = assert(run(service:spawn("support.spawned",
        { args = { "fail in on_stop" } })))
      local _, err = run(handle:stop())
      assert.is_truthy(tostring(err):find("on_stop refused", 1, true))
      _, err = run(handle.termination)
      assert.is_truthy(tostring(err):find("on_stop refused", 1, true))
    end)

    it("that fails does not take a shared executor with it", function()
      local first = assert(run(service:spawn("support.spawned")))
      local handle, err = run(service:spawn("support.spawned",
        { executor = first, args = { "fail in on_start" } }))
      assert.is_nil(handle)
      assert.is_truthy(tostring(err):find("on_start refused", 1, true))
      assert.are.same({}, run(first.gateway:arguments()))
    end)

    it("needs a handle of its own service as executor", function()
      assert.has_error(function()
        service:spawn("support.spawned", { executor = 3 })
      end, "service:spawn: executor must be a handle that service:spawn of "
        .. "this service gave")
    end)

    if where == "real" then
      it("tells when its executor died", function()
        local first = assert(run(service:spawn("support.spawned")))
        local second = assert(run(service:spawn("support.spawned",
          { executor = first })))
        local waiting = second.gateway:call("nobody", 1)
        first.gateway:die()
        for _, handle in ipairs({ first, second }) do
          local _, err = run(handle.termination)
          assert.are.equal("executor_died", err.code)
        end
        assert.is_true(waiting:is_done() or run(waiting) == nil)
        assert.is_true(run(first:stop()))
      end)
    end

    it("takes work that an endpoint offloads", function()
      local Boss = orrery.endpoint("boss", { work = {}, bad = {} })
      function Boss:work(text) return self:offload("string", "rep", text, 3) end
      function Boss:bad() return self:offload("string", "no_such") end
      local boss = service:start(Boss)
      assert.are.equal("ababab", run(boss.gateway:work("ab")))
      local _, err = run(boss.gateway:bad())
      assert.is_truthy(tostring(err):find("has no function no_such", 1, true))
    end)
  end)
end
