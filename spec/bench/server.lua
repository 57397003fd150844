-- The other process of the rpc group: an endpoint that echoes and adds.
-- Prints its address, ends when its standard input does. Arguments, in pairs:
-- spin DURATION, connections N, certificates FOLDER.

local uv = require("luv")
local orrery = require("orrery")

local Echo = orrery.endpoint("echo", { echo = {}, add = {}, table = {},
  size = {} })
function Echo:init() self.sum = 0 end
function Echo:echo(bytes) return bytes end
function Echo:add(k) self.sum = self.sum + k; return self.sum end
function Echo:size(s) return #s end
function Echo:table(t) return { id = t.id, ok = true } end

local options = {}
for i = 1, #arg, 2 do options[arg[i]] = arg[i + 1] end
local folder = options.certificates
local service = assert(orrery.service { bind = "127.0.0.1:0",
  spin = options.spin,
  net = { connections_max = tonumber(options.connections or 64) },
  tls = folder and { certificate = folder .. "/server.pem",
    key = folder .. "/server.key", authority = folder .. "/ca.pem" } })
local server = assert(service:start(Echo, { id = "echo" }))
assert(service:start(Echo, { id = "other" })) -- beside a large body
print(server.address)
io.stdout:flush()

local input = uv.new_pipe(false)
input:open(0)
input:read_start(function(_, data)
  if data == nil then os.exit(0) end
end)
orrery.run(service)
