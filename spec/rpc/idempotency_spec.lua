local core = require("orrery.core")
local idempotency = require("orrery.rpc.idempotency")
local log = require("orrery.native.log")
local orrery = require("orrery")
local simulated = require("support.simulated")

local Bank = orrery.endpoint("bank", {
  pay = { idempotent = "key" }, other = { idempotent = "key" },
  fail = { idempotent = "key" }, throw = { idempotent = "key" },
  promise = { idempotent = "key" }, look = {},
  fast = { idempotent = true },
})
function Bank:init() self.runs = 0 end
local function run(self)
  self.runs = self.runs + 1
  return self.runs
end
function Bank:pay(amount, ms)
  run(self)
  if ms then orrery.sleep(ms) end
  self.last = { amount = amount, run = self.runs }
  return self.last
end
function Bank:other() return run(self) end
function Bank:fail()
  return nil, orrery.errors.new("no_funds", "run " .. run(self))
end
function Bank:throw() error("run " .. run(self)) end
function Bank:promise()
  local f = orrery.Future.new()
  local n = run(self)
  self:schedule_run_async(20, function() f:resolve(n) end)
  return f
end
function Bank:look() return self.runs end
function Bank:fast() return run(self) end

-- The hidden method with a key of the wrong type.
local function raw_once(gateway, key)
  local once = gateway._by_name.look
  local id = once.id
  once.id = gateway._once.id
  local answer = gateway:with({ timeout = 77 }):look(key, "pay", 1)
  once.id = id
  return answer
end

describe("an idempotency key", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b, server, gateway
  before_each(function()
    log.set_level("off")
    a, b = s.sim:service("a"), s.sim:service("b")
    server = a:start(Bank, { id = "bank", reply_cache = { count = 8,
      age = "10 s", bytes = "64kb" } })
    gateway = assert(s.sim:run(b:connect("a:1/bank", "bank")))
  end)
  after_each(function() log.set_level("warn") end)

  local function with(key) return gateway:with({ idempotency_key = key }) end
  local function cache() return server.endpoint._cell.replies end

  it("gives the second arrival the reply of the first", function()
    local first = s.sim:run(with("k1"):pay(5))
    server.endpoint.last.amount = "changed afterwards"
    assert.are.same({ amount = 5, run = 1 }, first)
    assert.are.same(first, s.sim:run(with("k1"):pay(5)))
    assert.are.equal(2, s.sim:run(with("k2"):pay(5)).run)
    assert.are.equal(2, s.sim:run(gateway:look()))
  end)

  it("joins a call that still runs, of another caller too", function()
    local c = s.sim:service("c")
    local other = assert(s.sim:run(c:connect("a:1/bank", "bank")))
    local first = with("k"):pay(1, 500)
    s.sim:advance(100)
    local second = other:with({ idempotency_key = "k" }):pay(1, 500)
    assert.are.equal(1, s.sim:run(second).run)
    assert.are.equal(1, s.sim:run(first).run)
    local third = with("p"):promise()
    local fourth = with("p"):promise()
    assert.are.equal(s.sim:run(third), s.sim:run(fourth))
  end)

  it("outlives a caller that gave up and a broken connection", function()
    local first = gateway:with({ idempotency_key = "k", timeout = 50 })
      :pay(1, 500)
    local _, err = s.sim:run(first)
    assert.are.equal("expired_in_handler", err.code)
    assert.is_truthy(err.message:find("bank.pay", 1, true))
    local given_up = with("k"):pay(1, 500)
    s.sim:advance(20)
    given_up:cancel()
    s.sim:reset_connections("a", "b")
    s.sim:advance(20)
    assert.are.equal(1, s.sim:run(with("k"):pay(1, 500)).run)
    assert.are.equal(1, s.sim:run(gateway:look()))
  end)

  it("keeps failures too, with their code", function()
    for _ = 1, 2 do
      local _, err = s.sim:run(with("k"):fail())
      assert.are.equal("remote", err.code)
      assert.are.equal("no_funds", err.cause.code)
      assert.are.equal("run 1", err.cause.message)
      _, err = s.sim:run(with("t"):throw())
      assert.is_truthy(err.message:find("bank.throw failed", 1, true))
      assert.is_truthy(err.cause.message:find("run %d$"))
    end
    assert.are.equal(2, s.sim:run(gateway:look()))
  end)

  it("belongs to one method", function()
    s.sim:run(with("k"):pay(1))
    local _, err = s.sim:run(with("k"):other())
    assert.are.equal("bad_argument", err.cause.code)
    assert.is_truthy(err.cause.message:find("used for pay before", 1, true))
  end)

  it("is forgotten by age and by count, the oldest first", function()
    s.sim:run(with("old"):other())
    s.sim:advance(9000)
    assert.are.equal(1, s.sim:run(with("old"):other()))
    s.sim:advance(1500)
    assert.are.equal(2, s.sim:run(with("old"):other()))
    for i = 1, 20 do s.sim:run(with("k" .. i):other()) end
    assert.are.equal(8, cache().count)
    assert.are.equal(22, s.sim:run(with("k20"):other()))
    assert.are.equal(23, s.sim:run(with("k1"):other()))
  end)

  it("is refused when all that may be kept still run", function()
    local calls = {}
    for i = 1, 8 do calls[i] = with("k" .. i):pay(1, 1000) end
    s.sim:advance(50)
    local _, err = s.sim:run(with("k9"):pay(1))
    assert.are.equal("overloaded", err.cause.code)
    for i = 1, 8 do assert.is_truthy(s.sim:run(calls[i])) end
    assert.is_truthy(s.sim:run(with("k9"):pay(1)))
  end)

  it("bounds the bytes that are kept", function()
    local now = 0
    local bounds = { count = 100, age = 1000, bytes = 1000 }
    local kept = idempotency.new(bounds, function() return now end)
    for i = 1, 50 do
      kept:settle(kept:open("k" .. i, "m"), ("x"):rep(100))
      assert.is_true(kept.bytes <= 1000)
    end
    assert.are.equal(9, kept.count)
    local entry = kept:find("k50")
    assert.are.equal(("x"):rep(100), (core.decode(entry.reply)))
    now = 1000
    assert.is_nil(kept:find("k50"))
    assert.are.same({ 0, 0 }, { kept.count, kept.bytes })
    -- One that is larger than everything is answered and not kept.
    kept:settle(kept:open("big", "m"), ("x"):rep(5000))
    assert.are.equal(0, kept.count)
  end)

  it("is refused where it means nothing", function()
    for _, case in ipairs({
      { function() with("k"):look() end, "method look of bank takes no" },
      { function() with("k"):fast() end, "method fast of bank takes no" },
      { function() with("") end, "1 to 128 bytes" },
      { function() with(5) end, "1 to 128 bytes" },
      { function() gateway:with({ key = 1 }) end, "unknown option key" },
      { function() orrery.endpoint("x", { a = { idempotent = "yes" } }) end,
        "idempotent is true" },
      { function() orrery.endpoint("x", { a = { idempotent = true,
        tell = true } }) end, "not for a tell" },
      { function() a:start(Bank, { reply_cache = { size = 1 } }) end,
        "reply_cache.size: is unknown" },
    }) do
      assert.error_matches(case[1], case[2])
    end
    local Plain = orrery.endpoint("plain", { x = {} })
    function Plain:x() end
    local plain = a:start(Plain).gateway
    assert.error_matches(function() plain:with({ idempotency_key = "k" }) end,
      "plain keeps no replies")
    -- A peer that does not ask nicely.
    local _, err = s.sim:run(raw_once(gateway, 7))
    assert.are.equal("bad_argument", err.cause.code)
  end)
end)

describe("kept replies", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  before_each(function() log.set_level("off") end)
  after_each(function() log.set_level("warn") end)

  it("are of one life of the endpoint, and work again in the next", function()
    local a = s.sim:service("a")
    local server = a:start(Bank, { id = "bank", restart = {
      policy = "on_failure", backoff = 10 } })
    local gateway = assert(s.sim:run(a:connect("bank")))
    local key = { idempotency_key = "k" }
    assert.are.equal(1, s.sim:run(gateway:with(key):other()))
    local running = gateway:with({ idempotency_key = "r" }):pay(1, 1000)
    s.sim:advance(5)
    server.endpoint:crash("on purpose")
    assert.are.equal("callee_died", select(2, s.sim:run(running)).code)
    s.sim:advance(100)
    assert.are.equal(1, s.sim:run(gateway:with(key):other()))
    assert.are.equal(2,
      s.sim:run(gateway:with({ idempotency_key = "r" }):pay(1)).run)
  end)

  it("are of classes that extend others too", function()
    local Child = orrery.endpoint("child", { pay = { idempotent = "key" } },
      { extends = Bank })
    local a = s.sim:service("a")
    a:start(Child, { id = "child" })
    for _, name in ipairs({ "child", "bank" }) do
      local gateway = assert(s.sim:run(a:connect("child", name)))
      local kept = gateway:with({ idempotency_key = name })
      assert.are.equal(s.sim:run(kept:pay(1)).run, s.sim:run(kept:pay(1)).run)
    end
  end)
end)
