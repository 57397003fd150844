--- Certificates in a folder of a spec's own.

local certs = require("orrery.cli.certs")
local tls = require("orrery.native.tls")
local uv = require("luv")

local Certificates = {}
Certificates.__index = Certificates

local M = {}

--- Roles: those of the `certs` command, or the ones given.
function M.new(...)
  local folder = assert(uv.fs_mkdtemp("/tmp/orrery-spec-XXXXXX"))
  local self = setmetatable({ folder = folder }, Certificates)
  self.rows = assert(certs.make({ out = folder,
    role = select("#", ...) > 0 and { ... } or nil }))
  return self
end

function Certificates:path(file)
  return self.folder .. "/" .. file
end

--- The tls option of a role.
function Certificates:tls(role, more)
  local out = { certificate = self:path(role .. ".pem"),
    key = self:path(role .. ".key"), authority = self:path("ca.pem") }
  for key, value in pairs(more or {}) do out[key] = value or nil end
  return out
end

--- One more certificate; fields as those of orrery.native.tls.
function Certificates:make(name, fields)
  fields = fields or {}
  fields.name = name
  fields.hosts = fields.hosts or { "127.0.0.1" }
  fields.until_s = fields.until_s or 3600
  fields.certificate = self:path(name .. ".pem")
  fields.key = self:path(name .. ".key")
  fields.overwrite = true
  assert(tls.make_certificate(fields, { certificate = self:path("ca.pem"),
    key = self:path("ca.key") }))
end

function Certificates:remove()
  local scan = uv.fs_scandir(self.folder)
  local names = {}
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    names[#names + 1] = name
  end
  for _, name in ipairs(names) do os.remove(self:path(name)) end
  uv.fs_rmdir(self.folder)
end

return M
