local directories = require("orrery.ha.directory")
local leader_source = require("orrery.ha.leader_source")
local Leaders = require("orrery.ha.leaders")
local log = require("orrery.native.log")
local orrery = require("orrery")
local simulated = require("support.simulated")

local description = {
  name = "store", fenced = true, methods = {
    put = { timeout = "2s" }, once = { idempotent = "key", timeout = "5s" },
    who = {}, slow = {}, note = { tell = true },
  },
}
local Store = orrery.endpoint(description)
function Store:init() self.n = 0 end
function Store:put(k) self.n = self.n + k return self.n end
function Store:once(k, ms)
  self.n = self.n + k
  orrery.sleep(ms or 0)
  return self.n
end
function Store:who() return self.id end
function Store:slow(ms) orrery.sleep(ms) return self.id end
function Store:note(k) self.n = self.n + k end

local function token(epoch)
  return { epoch = epoch, session = ("%016d"):format(epoch) }
end

-- Leaders that a spec names itself.
local function hand()
  local source = { listeners = {}, stops = 0 }
  function source:follow(_, fn)
    table.insert(self.listeners, fn)
    if self.address then fn(self.address, self.token) end
    return { stop = function() self.stops = self.stops + 1 end }
  end
  function source:tell(address, t)
    self.address, self.token = address, t
    for _, fn in ipairs(self.listeners) do fn(address, t) end
  end
  return source
end

describe("a gateway of a role", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a, b, c, leaders, role

  local function lead(service, id, epoch)
    local server = service:start(Store, { id = id, token = token(epoch) })
    return server, function()
      leaders:tell(server.address, token(epoch))
    end
  end

  before_each(function()
    log.set_level("off")
    a, b, c = s.sim:service("a"), s.sim:service("b"), s.sim:service("c")
    leaders = hand()
    role = c:role_gateway("store", leaders, { gateway = description })
  end)
  after_each(function() log.set_level("warn") end)

  it("calls wait for a leader, in their order", function()
    local first, second = role:put(1), role:put(2)
    local _, tell = lead(a, "s1", 1)
    s.sim:advance(500)
    assert.is_false(first:is_done())
    tell()
    assert.are.equal(1, s.sim:run(first))
    assert.are.equal(3, s.sim:run(second))
    assert.are.equal("a:1/s1", role.address)
  end)

  it("up to their deadline, which says what it waited for", function()
    local before = s.sim:now_ms()
    local _, err = s.sim:run(role:put(1))
    assert.are.equal("expired_unsent", err.code)
    assert.are.equal(2000, math.floor(s.sim:now_ms() - before + 0.5))
    assert.are.equal("before there was a leader", err.context.phase)
    assert.is_truthy(err.message:find("store.put was not answered within 2 s: "
      .. "no leader is known", 1, true))
    before = s.sim:now_ms()
    leaders:tell("a:1/nobody", token(1))
    _, err = s.sim:run(role:with({ timeout = 300 }):put(1))
    assert.are.equal(300, math.floor(s.sim:now_ms() - before + 0.5))
    assert.are.equal("expired_unsent", err.code)
    assert.are.equal("unreachable", err.cause.code)
    assert.is_truthy(err.message:find("a:1/nobody", 1, true))
  end)

  it("follows a change of leader", function()
    local old, tell_old = lead(a, "s1", 1)
    local _, tell_new = lead(b, "s2", 2)
    tell_old()
    assert.are.equal("s1", s.sim:run(role:who()))
    tell_new()
    assert.are.equal("s2", s.sim:run(role:who()))
    s.sim:run(old:stop())
    assert.are.equal("s2", s.sim:run(role:who()))
  end)

  it("a call that was fenced is made again at the new leader", function()
    lead(a, "s1", 2)
    leaders:tell("a:1/s1", token(1)) -- a leader that was: its token is old
    local call = role:put(7)
    s.sim:advance(200)
    assert.is_false(call:is_done())
    leaders:tell("a:1/s1", token(2))
    assert.are.equal(7, s.sim:run(call))
  end)

  it("a call that may have run is made again only with a key", function()
    local first, tell = lead(a, "s1", 1)
    tell()
    s.sim:run(role:who())
    local slow, once = role:slow(1000), role:once(5, 1000)
    s.sim:advance(100)
    s.sim:reset_connections("a", "c")
    local _, err = s.sim:run(slow)
    assert.are.equal("unreachable", err.code)
    assert.are.equal(5, s.sim:run(once))
    assert.are.equal(5, first.endpoint.n)
  end)

  it("survives the crash of a leader", function()
    local _, tell = lead(a, "s1", 1)
    tell()
    assert.are.equal("s1", s.sim:run(role:who()))
    s.sim:crash("a")
    local call = role:once(3)
    s.sim:advance(300)
    assert.is_false(call:is_done())
    local _, tell_new = lead(b, "s2", 2)
    tell_new()
    assert.are.equal(3, s.sim:run(call))
  end)

  it("knows the methods before a leader is there", function()
    assert.error_matches(function() role:putt(1) end,
      'no method "putt" %(did you mean put%?%)')
    assert.error_matches(function() role.put(1) end, "with a colon")
    local untyped = c:role_gateway("store", leaders)
    local _, tell = lead(a, "s1", 1)
    tell()
    assert.are.equal("s1", s.sim:run(untyped:who()))
    local _, err = s.sim:run(untyped:whoo())
    assert.are.equal("no_method", err.code)
    assert.is_truthy(err.message:find("did you mean who?", 1, true))
    assert.is_true(s.sim:run(untyped:note(1)))
  end)

  it("stop fails what waits; so does the end of its service", function()
    local call = role:put(1)
    role:stop()
    assert.are.equal("closed", select(2, s.sim:run(call)).code)
    assert.are.equal("closed", select(2, s.sim:run(role:put(1))).code)
    assert.are.equal(1, leaders.stops)
    local other = c:role_gateway("store", leaders)
    call = other:put(1)
    s.sim:run(c:stop())
    assert.are.equal("closed", select(2, s.sim:run(call)).code)
    assert.are.equal(2, leaders.stops)
  end)

  it("cancel ends a call that waits", function()
    local call = role:put(1)
    assert.is_true(call:cancel())
    local first, tell = lead(a, "s1", 1)
    tell()
    assert.are.equal("s1", s.sim:run(role:who()))
    assert.are.equal(0, first.endpoint.n)
  end)

  it("follows a directory of leaders over the network", function()
    local directory = directories.new()
    a:start(Leaders, { id = "leaders", args = { { directory = directory } } })
    local source = assert(leader_source.new(c, "a:1"))
    local store = c:role_gateway("store", source, { gateway = description })
    local first = lead(a, "s1", 1)
    directory:confirm("store",
      { address = first.address, token = token(1) })
    assert.are.equal("s1", s.sim:run(store:who()))
    local second = lead(b, "s2", 2)
    directory:confirm("store",
      { address = second.address, token = token(2) })
    s.sim:run(first:stop())
    assert.are.equal("s2", s.sim:run(store:who()))
    s.sim:run(source:stop())
  end)

  it("refuses what is no source of leaders", function()
    assert.error_matches(function() c:role_gateway("store", {}) end,
      "leaders must have follow")
    assert.error_matches(function()
      c:role_gateway("store", leaders, { token = 1 })
    end, "unknown option token")
  end)
end)
