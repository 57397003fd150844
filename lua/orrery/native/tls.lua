--- Mutual TLS of a net, and the making of certificates: orrery/net.h.

local lib = require("orrery.native.lib")

local ffi, C = lib.ffi, lib.C
local M = {}

local function words(list)
  return list and table.concat(list, " ") or nil
end

-- code, orr_error -> true or nil, err
local function answer(code, err)
  if code ~= 0 then return lib.fail(code, err) end
  return true
end

--- Encrypts every connection of a net. tls: certificate, key, authority (paths
-- of PEM files), fingerprints, roles (lists).
function M.secure(net, tls)
  local o, err = ffi.new("orr_tls_options"), ffi.new("orr_error")
  -- Strings made here live until the call is over, because they are returned.
  local fingerprints, roles = words(tls.fingerprints), words(tls.roles)
  o.certificate, o.key, o.authority = tls.certificate, tls.key, tls.authority
  o.fingerprints, o.roles = fingerprints, roles
  local ok, failure = answer(C.orr_net_secure(net, o, err), err)
  return ok, failure, fingerprints, roles
end

--- Reads the files of a net again; connections that run stay.
function M.reload(net)
  local err = ffi.new("orr_error")
  return answer(C.orr_net_tls_reload(net, err), err)
end

-- fields: name, role, hosts (list), from_s, until_s
local function with_request(fields, fn)
  local r, err = ffi.new("orr_tls_request"), ffi.new("orr_error")
  local hosts = words(fields.hosts)
  r.name, r.role, r.hosts = fields.name, fields.role, hosts
  r.from_s, r.until_s = fields.from_s or 0, fields.until_s
  local ok, failure = answer(fn(r, err), err)
  return ok, failure, hosts
end

--- Makes an authority: fields.certificate and .key are paths; fields.overwrite.
---@return true|nil, table|nil error
function M.make_authority(fields)
  local ok, err = with_request(fields, function(request, failure)
    return C.orr_tls_make_authority(request, fields.certificate, fields.key,
      fields.overwrite and 1 or 0, failure)
  end)
  return ok, err
end

--- Makes a certificate of an authority { certificate = path, key = path }.
---@return true|nil, table|nil error
function M.make_certificate(fields, authority)
  local ok, err = with_request(fields, function(request, failure)
    return C.orr_tls_make_certificate(request, authority.certificate,
      authority.key, fields.certificate, fields.key,
      fields.overwrite and 1 or 0, failure)
  end)
  return ok, err
end

--- SHA-256 of the first certificate of a PEM file, 64 hex digits.
---@return string|nil, table|nil error
function M.fingerprint(path)
  local out, err = ffi.new("char[65]"), ffi.new("orr_error")
  local code = C.orr_tls_fingerprint(path, out, err)
  if code ~= 0 then return lib.fail(code, err) end
  return ffi.string(out)
end

return M
