local orrery = require("orrery")
local simulated = require("support.simulated")

local Echo = orrery.endpoint("echo", {
  echo = {}, nothing = {}, boom = {}, refuse = {}, promise = {}, broken = {},
  bad_result = {}, note = { tell = true }, bad_note = { tell = true },
  slow = { timeout = "1s" }, current = {}, notes = {},
  urgent = { lane = "control" }, order = {},
})

function Echo:init() self.log = {} end
function Echo:echo(...) return { n = select("#", ...), ... } end
function Echo:nothing() end
function Echo:boom() error("bang") end
function Echo:refuse()
  return nil, orrery.errors.new("job_not_found", "no job 7",
    { context = { job = 7 } })
end
function Echo:promise(ms)
  local f = orrery.Future.new()
  self:schedule_run_async(ms, function() f:resolve("kept") end)
  return f
end
function Echo:broken() return orrery.Future.rejected("lost") end
function Echo:bad_result() return { f = print } end
function Echo:note(x) self.log[#self.log + 1] = x end
function Echo:bad_note() error("nobody hears") end
function Echo:slow(ms) orrery.sleep(ms) return "done" end
function Echo:current() return orrery.current() == self end
function Echo:notes() return self.log end
function Echo:urgent() self.log[#self.log + 1] = "urgent" end
function Echo:order(x) self.log[#self.log + 1] = x end

for _, where in ipairs({ "local", "remote" }) do
  describe("a " .. where .. " call", function()
    local s = simulated.each({ before_each = before_each,
      after_each = after_each })
    local server, gateway

    before_each(function()
      local a = s.sim:service("a")
      local from = where == "local" and a or s.sim:service("b")
      server = a:start(Echo, { id = "echo" })
      gateway = assert(s.sim:run(from:connect("a:1/echo", "echo")))
    end)

    it("carries values, nil included", function()
      assert.are.same({ n = 4, 1, nil, "x" },
        s.sim:run(gateway:echo(1, nil, "x", nil)))
      assert.is_nil(s.sim:run(gateway:nothing()))
    end)

    it("copies: what the caller changes later is not seen", function()
      local t = { 1 }
      local future = gateway:echo(t)
      t[1] = 2
      assert.are.equal(1, s.sim:run(future)[1][1])
    end)

    it("fails with remote and the thrown error as cause", function()
      local v, err = s.sim:run(gateway:boom())
      assert.is_nil(v)
      assert.are.equal("remote", err.code)
      assert.is_truthy(err.cause.message:find("bang", 1, true))
      assert.is_truthy(err.cause.traceback:find("call_spec", 1, true))
      assert.are.equal("boom", err.context.method)
    end)

    it("keeps the code of an error that the handler answers", function()
      local _, err = s.sim:run(gateway:refuse())
      assert.are.equal("remote", err.code)
      assert.are.equal("job_not_found", err.cause.code)
      assert.are.equal(7, err.cause.context.job)
    end)

    it("is answered when the handler's future is done", function()
      local promise, echo = gateway:promise(100), gateway:echo(1)
      s.sim:run(echo)
      assert.is_false(promise:is_done())
      assert.are.equal("kept", s.sim:run(promise))
      assert.are.equal("lost",
        select(2, s.sim:run(gateway:broken())).cause.message)
    end)

    it("fails when the result cannot be sent", function()
      local _, err = s.sim:run(gateway:bad_result())
      assert.are.equal("bad_argument", err.code)
      assert.is_truthy(err.message:find("result of echo.bad_result", 1, true))
      assert.is_truthy(err.message:find("a function cannot be sent", 1, true))
    end)

    it("fails at once when an argument cannot be sent", function()
      local future = gateway:echo(1, { x = print })
      assert.is_true(future:is_done())
      local _, err = future:peek()
      assert.are.equal("bad_argument", err.code)
      assert.is_truthy(err.message:find("argument 2.x", 1, true))
    end)

    it("without an answer is a tell; its failure is the server's", function()
      assert.is_true(gateway:note("x"))
      assert.is_true(gateway:bad_note())
      assert.are.same({ "x" }, s.sim:run(gateway:notes()))
    end)

    it("keeps the order of one sender", function()
      for i = 1, 200 do gateway:order(i) end
      local log = s.sim:run(gateway:notes())
      for i = 1, 200 do assert.are.equal(i, log[i]) end
    end)

    -- Over a network the first of the bulk may be handled before it comes.
    if where == "local" then it("on the control lane passes bulk", function()
      for i = 1, 50 do gateway:note(i) end
      gateway:urgent()
      local log = s.sim:run(gateway:notes())
      assert.are.equal("urgent", log[1])
    end) end

    it("that expires names method, endpoint, limit and phase", function()
      local _, err = s.sim:run(gateway:slow("5 s"))
      assert.are.equal("expired_in_handler", err.code)
      assert.are.equal("in the handler", err.context.phase)
      assert.are.equal(1000, err.context.limit_ms)
      for _, word in ipairs({ "echo.slow", "a:1", "1 s", "in the handler" }) do
        assert.is_truthy(err.message:find(word, 1, true), word)
      end
      assert.are.equal("expired_in_handler", select(2,
        s.sim:run(gateway:with({ timeout = 20 }):slow(500))).code)
      assert.are.equal("done",
        s.sim:run(gateway:with({ timeout = "9 s" }):slow("5 s")))
    end)

    it("that expires keeps the stack of the waiting caller", function()
      local _, err = s.sim:run(orrery.async(function()
        local value, failure = gateway:slow("5 s"):await()
        return value, failure
      end))
      assert.is_truthy(err.traceback:find("call_spec", 1, true))
    end)

    it("can be cancelled", function()
      local future = gateway:slow(500)
      s.sim:advance(20)
      assert.is_true(future:cancel())
      local _, err = s.sim:run(future)
      assert.are.equal("cancelled", err.code)
      assert.are.equal(1, s.sim:run(gateway:echo()).n + 1)
    end)

    it("knows which endpoint runs", function()
      assert.is_true(s.sim:run(gateway:current()))
      assert.is_nil(orrery.current())
    end)

    it("of an unknown method names the nearest one", function()
      local ok, message = pcall(function() return gateway:eco() end)
      assert.is_false(ok)
      assert.is_truthy(message:find("did you mean echo?", 1, true))
      assert.error_matches(function() gateway.echo(1) end, "with a colon")
    end)

    it("to an endpoint that ended fails at once", function()
      s.sim:run(server:stop())
      local before = s.sim:now_ms()
      local _, err = s.sim:run(gateway:echo(1))
      assert.are.equal("unreachable", err.code)
      assert.is_true(s.sim:now_ms() - before < 100)
    end)
  end)
end

describe("connect", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })

  it("fails typed, naming the address", function()
    local a, b = s.sim:service("a"), s.sim:service("b")
    a:start(Echo, { id = "echo" })
    for _, case in ipairs({
      { "a:1/nobody", "echo", "unreachable" },
      { "nobody", "echo", "unreachable" },
      { "a:9/echo", "echo", "unreachable" },
      { "a:1/echo", "counter", "version_mismatch" },
    }) do
      local gateway, err = s.sim:run(b:connect(case[1], case[2]))
      assert.is_nil(gateway)
      assert.are.equal(case[3], err.code)
      assert.is_truthy(err.message:find(case[1], 1, true))
    end
  end)

  it("takes a description, and no gateway name at all", function()
    local a = s.sim:service("a")
    a:start(Echo, { id = "echo" })
    assert.is_truthy(s.sim:run(a:connect("echo", { name = "echo" })))
    assert.is_truthy(s.sim:run(a:connect("echo")))
  end)
end)
