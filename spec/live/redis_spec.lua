local external = require("orrery.rpc.external")
local native = require("orrery.native.redis")
local processes = require("support.processes")
local redis_server = require("support.redis_server")

-- The cases of replies and ends are in spec/c/redis_live_test.c; here is what
-- Lua sees of them, and what takes several processes.
describe("a real Redis", function()
  local opened = {}

  local function open(options)
    local r, slot = native.open(options)
    if not r then return nil, slot end
    opened[#opened + 1] = r
    local ready, err = external.future(slot):await()
    if not ready then return nil, err end
    return r, ready
  end

  local function ask(r, ...)
    return external.future(r:command({ ... }, 5000)):await()
  end

  after_each(function()
    for _, r in ipairs(opened) do r:free() end
    opened = {}
    processes.clean_up()
  end)

  if not redis_server.program() then
    pending("is not installed here (Debian: redis-tools)")
    return
  end

  it("gives values and errors to Lua", function()
    local server = redis_server.start()
    local r, ready = open({ address = server.address, role = "master" })
    assert.are.same({ role = "master", replicas = 0 }, ready)
    assert.are.equal("OK", ask(r, "SET", "k", "a\0b"))
    assert.are.equal("a\0b", ask(r, "GET", "k"))
    assert.is_nil((ask(r, "GET", "nothing")))
    assert.are.same({ "a\0b", false }, ask(r, "MGET", "k", "nothing"))
    local _, err = ask(r, "INCR", "k")
    assert.are.equal("remote", err.code)
    assert.are.same({ outcome = "not_applied", error = "ERR" }, err.context)
    assert.has_error(function() r:command({ 1 }) end,
      "argument 1 of a command must be a string, not a number")
    r:close("the end")
    local info = r:info()
    assert.are.equal("closed", info.state)
    local slot, closed = r:command({ "PING" })
    assert.is_nil(slot)
    assert.are.equal("closed", closed.code)
  end)

  it("confirms a script by WAIT", function()
    local server = redis_server.start()
    local r = open({ address = server.address })
    local script = r:script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    local options = { confirm = "wait", replicas = 1, wait_ms = 10,
      timeout_ms = 5000 }
    local reply = external.future(r:evaluate(script, 1, { "n", "3" }, options))
      :await()
    assert.are.same({ 3, 0 }, reply)
  end)

  it("is not reached where nobody listens", function()
    local _, err = open({ address = "127.0.0.1:"
      .. redis_server.free_port() })
    assert.are.equal("unreachable", err.code)
    assert.matches("connection refused", err.message)
    _, err = open({ address = "nonsense" })
    assert.are.equal("invalid", err.code)
  end)

  it("moves to the replica, and the sentinels say so", function()
    local primary = redis_server.start()
    local replica = redis_server.start({
      lines = { "replicaof 127.0.0.1 " .. primary.port } })
    local sentinel = redis_server.sentinel(primary.port,
      { down_after_ms = 500 })
    local function discover()
      return external.future(native.discover({ master = "m",
        sentinels = { sentinel.address }, timeout_ms = 1000 })):await()
    end
    assert.are.equal(primary.address, discover().address)
    local hints = assert(open({ address = sentinel.address,
      channels = { "+switch-master" } }))
    local admin = open({ address = sentinel.address })
    -- It learns of the replica by asking the primary every ten seconds.
    processes.wait_until(function()
      return #ask(admin, "SENTINEL", "REPLICAS", "m") > 0
    end, 20000, function() return "the sentinel to know the replica" end)
    local hint = external.future(hints:watch())
    primary:kill()
    local got = assert(hint:await())
    assert.are.equal("+switch-master", got.messages[1][1])
    assert.matches(" " .. replica.port .. "$", got.messages[1][2])
    local found
    processes.wait_until(function()
      found = discover()
      return found and found.address == replica.address
    end, 10000, function() return "the new primary" end)
    assert.are.equal("master", found.role)
  end)
end)
