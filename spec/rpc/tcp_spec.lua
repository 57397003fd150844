local orrery = require("orrery")
local host = require("support.host")

local Echo = orrery.endpoint("echo", { echo = {}, slow = { timeout = 30 } })
function Echo:echo(x) return x end
function Echo:slow() orrery.sleep(150) return 1 end

describe("over TCP", function()
  local services = {}

  local function service(options)
    options = options or {}
    options.bind = options.bind or "127.0.0.1:0"
    local made, err = orrery.service(options)
    if made then services[#services + 1] = made end
    return made, err
  end

  after_each(function()
    for _, made in ipairs(services) do made:stop():await() end
    services = {}
  end)

  it("spin reaches the loop: it looks for that long before it sleeps",
    function()
      local core = require("orrery.core")
      local a = assert(service({ spin = "200ms" }))
      -- Nothing comes for 250 ms, so a step spins for 200 of them. On a busy
      -- machine it gets a part of the processor; without spin it uses none.
      local before = os.clock()
      local done = orrery.Future.new()
      a:schedule(250, function() done:resolve(true) end)
      assert.is_true(done:await())
      core.spin(0)
      assert.is_true(os.clock() - before >= 0.01)
      assert.has_error(function() orrery.service({ spin = "2 s" }) end,
        "orrery.service: spin is at most 1 s, got 2 s")
    end)

  it("two services of one process talk", function()
    local a, b = service(), service()
    local server = a:start(Echo)
    local gateway = assert(b:connect(server.address, "echo"):await())
    assert.are.same({ x = { 1, 2 } }, gateway:echo({ x = { 1, 2 } }):await())
    local big = ("b"):rep(1000000)
    assert.are.equal(big, gateway:echo(big):await())
    local _, err = gateway:slow():await()
    assert.are.equal("expired_in_handler", err.code)
    assert.is_true(a:net_info().accepted >= 1)
  end)

  it("256 calls are under way at once", function()
    local a, b = service(), service()
    local gateway = b:connect(a:start(Echo).address, "echo"):await()
    local calls = {}
    for i = 1, 256 do calls[i] = gateway:echo(i) end
    local values = orrery.Future.all(calls):await()
    for i = 1, 256 do assert.are.equal(i, values[i]) end
  end)

  it("a port in use is one sentence", function()
    local a = service()
    local b, err = service({ bind = a.address })
    assert.is_nil(b)
    assert.is_truthy(err.message:find("cannot listen on " .. a.address, 1,
      true))
  end)

  it("nobody there is unreachable, at once", function()
    local a, b = service(), service()
    local address = a.address
    a:stop():await()
    local gateway, err = b:connect(address .. "/echo"):await()
    assert.is_nil(gateway)
    assert.are.equal("unreachable", err.code)
  end)

  it("another process is called, interrupted and lost", function()
    local a = service()
    local pipe = io.popen("echo $$; exec env "
      .. host.command("spec/support/counter_process.lua")
        :gsub("timeout 60 ", ""))
    local pid, address = pipe:read("*l"), pipe:read("*l")
    local gateway = assert(a:connect(address, "counter"):await())
    assert.are.equal(5, gateway:add(5):await())
    assert.are.equal(6, gateway:add(1):await())
    os.execute("kill -TERM " .. pid)
    assert.are.equal("ended: interrupted", pipe:read("*l"))
    pipe:close()
    local _, err = gateway:add(1):await()
    assert.are.equal("unreachable", err.code)
  end)

  it("a process that dies in a call is unreachable", function()
    local a = service()
    local pipe = io.popen(host.command("spec/support/counter_process.lua"))
    local gateway = assert(a:connect(pipe:read("*l"), "counter"):await())
    gateway:die()
    local _, err = gateway:add(1):await()
    assert.are.equal("unreachable", err.code)
    pipe:close()
  end)

  it("a service without bind serves its own process", function()
    local a = assert(orrery.service())
    services[#services + 1] = a
    local server = a:start(Echo, { id = "echo" })
    assert.are.equal("echo", server.address)
    assert.are.equal(3, server.gateway:echo(3):await())
    assert.are.equal(4, a:connect("echo"):await():echo(4):await())
  end)
end)
