-- Processes of a cluster and commands over TLS, and `orrery certs`.

local certificates = require("support.certificates")
local core = require("orrery.core")
local uv = require("luv")

local program = core.library():gsub("/lib/[^/]*$", "/bin/orrery")

-- Runs a command line to its end: its output and its exit code.
local function run(line)
  local pipe = assert(io.popen("timeout 30 '" .. program .. "' " .. line
    .. ' 2>&1; echo "code $?"'))
  local output = pipe:read("*a")
  pipe:close()
  local text, code = output:match("^(.*)code (%d+)%s*$")
  return text, tonumber(code)
end

local function wait_for(path)
  for _ = 1, 500 do
    local file = io.open(path, "rb")
    if file then
      local address, pid = file:read("*l"), file:read("*l")
      file:close()
      return address, pid
    end
    uv.sleep(20)
  end
end

describe("a cluster over TLS", function()
  local certs

  setup(function() certs = certificates.new() end)
  teardown(function() certs:remove() end)

  local function flags(role)
    return ("-D rpc.ssl.enabled=true -D rpc.ssl.certificate=%s "
      .. "-D rpc.ssl.key=%s -D rpc.ssl.authority=%s"):format(
      certs:path(role .. ".pem"), certs:path(role .. ".key"),
      certs:path("ca.pem"))
  end

  it("RPC-87 serves commands with a certificate, no others", function()
    local ready = certs:path("ready")
    local pipe = assert(io.popen(("timeout 60 '%s' up --port 0 --slots 1 "
      .. "--ready-file %s %s 2>&1"):format(program, ready,
      flags("jobmanager"))))
    local address, pid = wait_for(ready)
    assert.is_truthy(address)
    local text, code = run(("run --address %s %s examples/word_count.lua "
      .. "-- README.md"):format(address, flags("client")))
    assert.equal(0, code, text)
    text, code = run(("list --address %s"):format(address))
    assert.equal(3, code, text)
    assert.is_truthy(text:find("it speaks TLS only", 1, true), text)
    os.execute("kill -TERM " .. pid)
    pipe:close()
    os.remove(ready)
  end)

  it("does not listen to others in the clear", function()
    local text, code = run("jobmanager --bind 0.0.0.0 --port 0")
    assert.equal(2, code, text)
    assert.is_truthy(text:find("set rpc.ssl.enabled", 1, true), text)
    text, code = run("jobmanager --port 0 -D rpc.ssl.enabled=true")
    assert.equal(2, code, text)
    assert.is_truthy(text:find("certificate and key", 1, true), text)
  end)
end)

describe("orrery certs", function()
  it("makes files once, and again only when forced", function()
    local folder = assert(uv.fs_mkdtemp("/tmp/orrery-spec-XXXXXX")) .. "/new"
    local text, code = run("certs --out " .. folder
      .. " --role one --host a.example.org --days 2")
    assert.equal(0, code, text)
    assert.is_truthy(text:find("one.pem", 1, true))
    for _, name in ipairs({ "ca.key", "one.key" }) do
      local stat = assert(uv.fs_stat(folder .. "/" .. name))
      assert.equal(tonumber("600", 8), stat.mode % 512)
    end
    local before = io.open(folder .. "/ca.pem"):read("*a")
    text, code = run("certs --out " .. folder .. " --role one")
    assert.equal(1, code, text)
    assert.is_truthy(text:find("there already; --force overwrites", 1, true))
    text, code = run("certs --out " .. folder .. " --role two")
    assert.equal(0, code, text)
    assert.equal(before, io.open(folder .. "/ca.pem"):read("*a"))
    text, code = run("certs --force --out " .. folder .. " --role one")
    assert.equal(0, code, text)
    assert.are_not.equal(before, io.open(folder .. "/ca.pem"):read("*a"))
    text, code = run("certs --role one")
    assert.equal(2, code, text)
    assert.is_truthy(text:find("--out DIR is missing", 1, true))
    text, code = run("certs --out " .. folder .. " --role ca")
    assert.equal(2, code, text)
    os.execute("rm -r " .. folder .. " && rmdir " .. folder:sub(1, -5))
  end)
end)
