local introspection = require("orrery.cluster.introspection")
local orrery = require("orrery")

local function find(list, name)
  for _, entry in ipairs(list) do
    if entry.name == name then return entry end
  end
  return nil
end

-- The answer of the last call comes before its handler has quite returned.
local function settled(check)
  for _ = 1, 200 do
    local value = check()
    if value then return value end
    orrery.sleep(5)
  end
  return error("it did not settle")
end

describe("introspection of a busy executor", function()
  local service, handle, remote

  before_each(function()
    service = assert(orrery.service({ bind = "127.0.0.1:0" }))
    assert(introspection.start(service))
    handle = assert(service:spawn("support.slow", { id = "slow" }):await())
    local other = assert(orrery.service({ bind = "127.0.0.1:0" }))
    remote = { service = other, gateway = assert(other:connect(
      service.address .. "/introspection", "introspection"):await()) }
  end)
  after_each(function()
    assert(remote.service:stop():await())
    assert(service:stop():await())
  end)

  it("RPC+5 answers while the handler runs: what, how long, who waits",
  function()
    local futures = { handle.gateway:interpret(500) }
    orrery.sleep(100)
    for i = 2, 4 do futures[i] = handle.gateway:interpret(0) end
    orrery.sleep(100)
    local slow = find(assert(remote.gateway:endpoints():await()), "slow")
    assert.are.equal("interpret", slow.running)
    assert.is_true(slow.running_ms > 100 and slow.running_ms < 490,
      tostring(slow.running_ms))
    assert.are.equal(3, slow.waiting)
    assert.is_true(slow.oldest_ms >= 90 and slow.oldest_ms < 490,
      tostring(slow.oldest_ms))
    assert.are.equal(handle.executor, slow.executor)
    local busy
    for _, executor in ipairs(assert(remote.gateway:executors():await())) do
      if executor.number == handle.executor then busy = executor.busy_ms end
    end
    assert.is_true(busy > 100, tostring(busy))
    for i = 1, 4 do assert(futures[i]:await()) end
    slow = settled(function()
      local now = find(assert(remote.gateway:endpoints():await()), "slow")
      return not now.running and now
    end)
    assert.are.equal(0, slow.waiting)
    assert.are.equal(0, slow.oldest_ms)
  end)

  it("RPC+15 knows how long calls of another thread waited and ran", function()
    local futures = {}
    for i = 1, 4 do futures[i] = handle.gateway:interpret(20) end
    for i = 1, 4 do assert(futures[i]:await()) end
    local interpret = settled(function()
      local methods = assert(remote.gateway:methods("slow"):await())
      local now = find(methods, "interpret")
      return now.handler.count == 4 and now
    end)
    assert.is_true(interpret.handler.p50_ms >= 17
      and interpret.handler.p50_ms < 60, tostring(interpret.handler.p50_ms))
    assert.is_true(interpret.queue.max_ms >= 55,
      tostring(interpret.queue.max_ms))
    assert.is_true(interpret.run_ms >= 79, tostring(interpret.run_ms))
  end)
end)
