local certificates = require("support.certificates")
local log = require("orrery.native.log")
local native_tls = require("orrery.native.tls")
local orrery = require("orrery")
local Secret = require("support.secret")
local security = require("orrery.rpc.security")
local testing = require("orrery.testing")

describe("TLS", function()
  local certs
  local services = {}

  setup(function()
    log.set_level("off")
    certs = certificates.new("jobmanager", "taskmanager", "client")
  end)
  teardown(function()
    certs:remove()
    log.set_level("warn")
  end)
  after_each(function()
    for _, made in ipairs(services) do made:stop():await() end
    services = {}
  end)

  local function service(tls, options)
    options = options or {}
    options.tls = tls
    options.bind = options.bind or "127.0.0.1:0"
    local made = assert(orrery.service(options))
    services[#services + 1] = made
    return made
  end

  local function refused(from, to, code, part)
    local server = assert(service(to):start(Secret))
    local gateway, err = service(from):connect(server.address):await()
    assert.is_nil(gateway)
    assert.equal(code, err.code)
    assert.is_truthy(err.message:find(part, 1, true), err.message)
  end

  it("RPC-87 two sides that trust one authority talk", function()
    local server = service(certs:tls("jobmanager")):start(Secret)
    local client = service(certs:tls("client"))
    local gateway = assert(client:connect(server.address, "secret"):await())
    assert.same({ a = { 1, 2 } }, gateway:echo({ a = { 1, 2 } }):await())
    local body = ("0123456789abcdef"):rep(512 * 1024)
    assert.is_true(body == gateway:echo(body):await())
    local calls = {}
    for i = 1, 256 do calls[i] = gateway:echo(i) end
    local values = assert(orrery.Future.all(calls):await())
    for i = 1, 256 do assert.equal(i, values[i]) end
  end)

  it("RPC-87 a peer of another authority is refused, both told", function()
    local others = certificates.new("client")
    refused(others:tls("client", { authority = certs:path("ca.pem") }),
      certs:tls("jobmanager"), "unreachable",
      'it refuses us by the TLS alert "unknown CA"')
    refused(certs:tls("client"), others:tls("client"), "unreachable",
      "its certificate is refused: unable to get local issuer certificate")
    others:remove()
  end)

  it("RPC-87 an expired certificate is refused", function()
    certs:make("old", { from_s = -100, until_s = -10 })
    refused(certs:tls("client"), certs:tls("old"), "unreachable",
      "its certificate is refused: certificate has expired")
    refused(certs:tls("old"), certs:tls("jobmanager"), "unreachable",
      'it refuses us by the TLS alert "certificate expired"')
  end)

  it("RPC-87 a certificate of another host is refused", function()
    certs:make("elsewhere", { hosts = { "example.org" } })
    refused(certs:tls("client"), certs:tls("elsewhere"), "unreachable",
      "it is not for 127.0.0.1 but for example.org")
  end)

  it("RPC-87 pinned fingerprints let in and keep out", function()
    local pin = assert(native_tls.fingerprint(certs:path("jobmanager.pem")))
    local other = assert(native_tls.fingerprint(certs:path("client.pem")))
    local pinned = certs:tls("client", { authority = false,
      fingerprints = { (pin:upper():gsub("..", "%0:"):sub(1, -2)) } })
    local server = service(certs:tls("jobmanager")):start(Secret)
    local gateway = assert(service(pinned):connect(server.address):await())
    assert.equal(1, gateway:echo(1):await())
    refused(certs:tls("client", { fingerprints = { other } }),
      certs:tls("jobmanager"), "unreachable", "not among the pinned ones")
  end)

  it("RPC-87 a role at the door", function()
    refused(certs:tls("client"),
      certs:tls("jobmanager", { roles = { "taskmanager" } }), "unreachable",
      "it refuses us by the TLS alert")
    local server = service(certs:tls("jobmanager",
      { roles = { "taskmanager" } })):start(Secret)
    assert(service(certs:tls("taskmanager")):connect(server.address):await())
  end)

  it("RPC-87 a side without TLS is told at once what is needed", function()
    refused(nil, certs:tls("jobmanager"), "version_mismatch",
      "it speaks TLS only")
    refused(certs:tls("client"), nil, "unreachable",
      "it speaks without TLS, here TLS is needed")
  end)

  it("RPC-87 certificates are read again without a restart", function()
    certs:make("turning", { role = "jobmanager" })
    local listening = service(certs:tls("turning"))
    local server = listening:start(Secret)
    local old = assert(service(certs:tls("client"))
      :connect(server.address):await())
    certs:make("turning", { role = "jobmanager", from_s = -100,
      until_s = -10 })
    assert.is_true(listening:reload_tls())
    local _, err = service(certs:tls("client")):connect(server.address):await()
    assert.is_truthy(err.message:find("certificate has expired", 1, true))
    assert.equal(1, old:echo(1):await())
    local file = assert(io.open(certs:path("turning.pem"), "wb"))
    file:write("nothing")
    file:close()
    local ok
    ok, err = listening:reload_tls()
    assert.is_nil(ok)
    assert.equal("io", err.code)
    assert.is_truthy(err.message:find("turning.pem cannot be used", 1, true))
  end)

  it("a permission is asked for before the handler", function()
    local server = service(certs:tls("jobmanager")):start(Secret,
      { id = "vault" })
    local client = assert(service(certs:tls("client"))
      :connect(server.address):await())
    local value, err = client:open():await()
    assert.is_nil(value)
    assert.equal("access_denied", err.code)
    assert.is_truthy(err.message:find("open of vault needs the role "
      .. "jobmanager; the caller's certificate says client", 1, true))
    assert.equal("either", client:either():await())
    client:shout()
    assert.equal(0, client:heard():await())
    local own = assert(service(certs:tls("jobmanager"))
      :connect(server.address):await())
    assert.equal(1, own:open():await())
    assert.equal(2, server.gateway:open():await())
    value, err = assert(service(certs:tls("taskmanager"))
      :connect(server.address):await()):either():await()
    assert.is_nil(value)
    assert.is_truthy(err.message:find("needs the role jobmanager or client",
      1, true))
  end)

  it("spawned executors speak TLS and keep permissions", function()
    local far = service(certs:tls("jobmanager"))
    local handle = assert(far:spawn("support.secret",
      { id = "vault" }):await())
    assert.equal(1, handle.gateway:open():await())
    local client = assert(service(certs:tls("client"))
      :connect(handle.address):await())
    assert.equal(7, client:echo(7):await())
    local _, err = client:open():await()
    assert.equal("access_denied", err.code)
    handle:stop():await()
  end)

  it("without TLS permissions are kept when TLS is required", function()
    local lax = service(nil):start(Secret)
    local strict = service(nil, { require_tls = true }):start(Secret)
    local client = service(nil)
    assert.equal(1, client:connect(lax.address):await():open():await())
    local gateway = client:connect(strict.address):await()
    local _, err = gateway:open():await()
    assert.equal("access_denied", err.code)
    assert.is_truthy(err.message:find("the caller came without TLS", 1, true))
    assert.equal(2, gateway:echo(2):await())
    assert.equal(1, strict.gateway:open():await())
  end)

  it("in simulation permissions are as without TLS", function()
    local sim = testing.new({ seed = 1 })
    local server = sim:service("a"):start(Secret)
    local gateway = assert(sim:run(sim:service("b"):connect(server.address)))
    assert.equal(1, (sim:run(gateway:open())))
    sim:free()
  end)

  it("an address that others reach needs TLS or a word", function()
    local made, err = orrery.service({ bind = "0.0.0.0:0" })
    assert.is_nil(made)
    assert.equal("insecure_bind", err.code)
    assert.is_truthy(err.message:find("insecure = true", 1, true))
    assert.is_truthy(err.message:find("orrery certs", 1, true))
    service(nil, { bind = "0.0.0.0:0", insecure = true })
    service(certs:tls("jobmanager"), { bind = "0.0.0.0:0" })
    for _, host in ipairs({ "localhost", "127.0.0.1", "127.9.9.9", "::1" }) do
      assert.is_true(security.is_loopback(host), host)
    end
    for _, host in ipairs({ "0.0.0.0", "::", "127.example.org", "10.0.0.1",
      "localhost.example.org", "128.0.0.1", "" }) do
      assert.is_false(security.is_loopback(host), host)
    end
    assert.is_true(security.check_bind("unix:/tmp/x", {}))
    assert.is_nil((security.check_bind("[::]:80", {})))
    assert.is_nil((security.check_bind(":80", {})))
  end)

  it("options of a wrong shape are the caller's mistake", function()
    local function throws(tls, part)
      local ok, message = pcall(orrery.service, { tls = tls })
      assert.is_false(ok)
      assert.is_truthy(message:find(part, 1, true), message)
      assert.is_truthy(message:find("tls_spec.lua:", 1, true), message)
    end
    throws(true, "tls must be a table")
    throws({ cert = "x" }, "unknown option tls.cert; it knows: authority")
    throws({ key = "x" }, "tls needs certificate and key")
    throws({ certificate = "x", key = "y" }, "authority or fingerprints")
    throws({ certificate = "x", key = 5 }, "tls.key must be a path")
    throws({ certificate = "x", key = "x", roles = {} }, "list of texts")
    local made, err = orrery.service({ tls = certs:tls("nobody") })
    assert.is_nil(made)
    assert.is_truthy(err.message:find("nobody.pem cannot be read", 1, true))
    made, err = orrery.service({ tls = certs:tls("client",
      { fingerprints = { "12" } }) })
    assert.is_nil(made)
    assert.is_truthy(err.message:find('"12" is not a fingerprint', 1, true))
    assert.has_error(function()
      orrery.endpoint("x", { m = { permission = {} } })
    end)
    assert.has_error(function()
      orrery.endpoint("x", { m = { permission = "a b" } })
    end)
    assert.has_error(function() service(nil):reload_tls() end)
  end)
end)
