local elections = require("orrery.ha.election")
local errors = require("orrery.util.errors")
local listeners = require("orrery.ha.listener")
local registration = require("orrery.ha.registration")

describe("registration loop", function()
  local function new()
    return registration.new({ initial_timeout_ms = 100,
      max_timeout_ms = 350, error_delay_ms = 7, refused_delay_ms = 9 })
  end

  it("G-06 each timeout doubles the next one up to the maximum", function()
    local loop = new()
    assert.same({ kind = "attempt", timeout_ms = 100 }, loop:begin())
    assert.equal(200, loop:outcome("timeout").timeout_ms)
    assert.equal(350, loop:outcome("timeout").timeout_ms)
    assert.equal(350, loop:outcome("timeout").timeout_ms)
  end)

  it("G-05 G-07 G-09 refusals and errors wait, then start over", function()
    local loop = new()
    loop:begin()
    loop:outcome("timeout")
    assert.same({ kind = "wait", delay_ms = 9 }, loop:outcome("failure"))
    assert.equal(100, loop:begin().timeout_ms)
    assert.same({ kind = "wait", delay_ms = 7 }, loop:outcome("error"))
  end)

  it("G-08 G-09 rejection and success end it; later outcomes are ignored",
    function()
      local loop = new()
      loop:begin()
      assert.equal("rejected", loop:outcome("rejection").kind)
      assert.is_nil(loop:outcome("success"))
      loop = new()
      loop:begin()
      loop:cancel()
      assert.is_nil(loop:outcome("success"))
    end)
end)

describe("leader listener", function()
  local told, failures, listener

  before_each(function()
    told, failures = {}, {}
    listener = listeners.new("dispatcher", {
      on_leader = function(address, token)
        told[#told + 1] = { address = address, token = token }
      end,
      on_error = function(err) failures[#failures + 1] = err end,
    })
    listener:start()
  end)

  local function token(n) return { epoch = n, session = ("s"):rep(16) } end

  it("H27 is told only of changes of address or session", function()
    assert.is_true(listener:record({ address = "a", token = token(1) }))
    assert.is_false(listener:record({ address = "a", token = token(1) }))
    assert.is_true(listener:record({ address = "a", token = token(2) }))
    assert.is_true(listener:record({ address = "b", token = token(2) }))
    assert.equal(3, #told)
  end)

  it("H28 H29 H30 a loss is told as nothing, once, and not before a leader",
    function()
      assert.is_false(listener:lost())
      listener:record({ address = "a", token = token(1) })
      assert.is_true(listener:lost())
      assert.is_false(listener:lost())
      assert.same({}, told[2])
      assert.is_true(listener:record({ address = "a", token = token(1) }))
    end)

  it("H32 starts once, and is deaf after stop", function()
    assert.error_matches(function() listener:start() end, "started twice")
    listener:stop()
    assert.is_false(listener:record({ address = "a", token = token(1) }))
    listener:error(errors.new("x", "y"))
    assert.same({}, told)
    assert.same({}, failures)
  end)

  it("H33 errors are wrapped", function()
    listener:error(errors.new("x", "y"))
    assert.equal("leader_retrieval", failures[1].code)
    assert.equal("x", failures[1].cause.code)
  end)
end)

describe("standalone election", function()
  local services, drawn

  before_each(function()
    drawn = 0
    services = elections.new({
      wall_ms = function() return 5000 end,
      random_bytes = function(n)
        drawn = drawn + 1
        return string.char(drawn):rep(n)
      end,
    })
  end)

  it("H23 grants at once, epochs grow, the address is confirmed", function()
    local first, second
    local a, b = services:election("x"), services:election("y")
    a:start({ on_grant = function(t) first = t end })
    b:start({ on_grant = function(t) second = t end })
    assert.equal(5001, first.epoch)
    assert.equal(5002, second.epoch)
    assert.are_not.equal(first.session, second.session)
    assert.is_nil(services.directory:leader("x"))
    assert.is_true(a:confirm(first, "h:1/x"))
    assert.equal("h:1/x", services.directory:leader("x").address)
    assert.is_false(a:confirm(second, "h:1/other"))
    assert.error_matches(function()
      a:start({ on_grant = function() end })
    end, "started twice")
  end)

  it("H13 H14 closing revokes and removes only its own record", function()
    local revoked = 0
    local old, new = services:election("x"), services:election("x")
    local old_token, new_token
    old:start({ on_grant = function(t) old_token = t end,
      on_revoke = function() revoked = revoked + 1 end })
    old:confirm(old_token, "old")
    new:start({ on_grant = function(t) new_token = t end })
    new:confirm(new_token, "new")
    old:close()
    old:close()
    assert.equal(1, revoked)
    assert.equal("new", services.directory:leader("x").address)
    assert.is_false(services.directory:confirm("x",
      { address = "late", token = old_token }))
    new:close()
    assert.is_nil(services.directory:leader("x"))
    assert.is_false(new:confirm(new_token, "zombie"))
  end)
end)
