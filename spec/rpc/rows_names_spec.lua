-- Names of docs/rpc_names.md that no row of docs/rpc_rows.md needs.

local orrery = require("orrery")
local simulated = require("support.simulated")

local Leader = orrery.fenced_endpoint("leader", { whoami = {} })
function Leader:whoami() return self.id end

describe("names:", function()
  local s = simulated.each({ before_each = before_each,
    after_each = after_each })
  local a

  local Plain = orrery.endpoint("plain", { reach = {} })
  function Plain:reach(address, token)
    local gateway, err = self:connect_to(address, "leader",
      { token = token }):await()
    if not gateway then return nil, err end
    return gateway:whoami()
  end

  before_each(function() a = s.sim:service("a") end)

  it("connect_to, with a token and without", function()
    local token = { epoch = 1, session = ("s"):rep(16) }
    a:start(Leader, { id = "leader", token = token })
    local gateway = a:start(Plain).gateway
    assert.are.equal("leader", s.sim:run(gateway:reach("a:1/leader", token)))
    local _, err = s.sim:run(gateway:reach("a:1/leader"))
    assert.are.equal("fenced", err.cause.code)
  end)

  it("call_async answers the value or the error; its limit is of the wait",
    function()
      local endpoint = a:start(Plain).endpoint
      assert.are.equal(1, s.sim:run(endpoint:call_async(function()
        return 1
      end)))
      local _, err = s.sim:run(endpoint:call_async(function()
        error("bang")
      end))
      assert.is_truthy(err.message:find("bang", 1, true))
      local done
      _, err = s.sim:run(endpoint:call_async(function()
        orrery.sleep(100)
        done = true
      end, 10))
      assert.are.equal("timeout", err.code)
      s.sim:advance(200)
      assert.is_true(done)
    end)

  it("schedule_run_async takes a duration, or a number and its unit", function()
    local endpoint = a:start(Plain).endpoint
    for _, case in ipairs({ { 250, nil, 250 }, { "1s", nil, 1000 },
      { 2, "s", 2000 }, { 0.5, "min", 30000 }, { 1500000, "ns", 1.5 } }) do
      local before, ran = s.sim:now_ms(), nil
      endpoint:schedule_run_async(case[1], function()
        ran = s.sim:now_ms() - before
      end, case[2])
      s.sim:advance(case[3] + 2)
      assert.is_true(ran >= case[3] and ran < case[3] + 1, tostring(ran))
    end
    local ran
    local handle = endpoint:schedule_run_async(5, function() ran = true end)
    assert.is_true(handle:cancel())
    assert.is_false(handle:cancel())
    s.sim:advance(50)
    assert.is_nil(ran)
    for _, bad in ipairs({ { -1 }, { -1, "s" }, { 1, "fortnight" },
      { "1s", "s" } }) do
      assert.error_matches(function()
        endpoint:schedule_run_async(bad[1], function() end, bad[2])
      end, "schedule_run_async")
    end
  end)

  it("close waits for the end, and throws in an own handler", function()
    local Closing = orrery.endpoint("closing", { go = {} })
    function Closing:go() self:close() end
    local server = a:start(Closing)
    local _, err = s.sim:run(server.gateway:go())
    assert.is_truthy(err.cause.message:find("would wait for its own end", 1,
      true))
    assert.is_true(server:close())
    assert.is_true(server.termination:is_done())
    local other = a:start(Closing)
    assert.is_true(other.endpoint:close())
    assert.is_false(other:is_running())
  end)
end)

describe("names, real:", function()
  it("a server knows the port of its service, -1 without network", function()
    local there = assert(orrery.service({ bind = "127.0.0.1:0" }))
    local alone = assert(orrery.service({}))
    local C = orrery.endpoint("c", {})
    local server, other = there:start(C), alone:start(C)
    assert.are.equal(tonumber(there.address:match(":(%d+)$")),
      server:get_port())
    assert.are.equal("127.0.0.1", server:get_hostname())
    assert.are.equal(-1, other:get_port())
    assert.are.equal("", other:get_hostname())
    assert.are.equal(other.id, other:get_address())
    assert.is_true(server:close())
    there:stop():await()
    alone:stop():await()
  end)
end)
