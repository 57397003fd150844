--- `orrery certs`: an authority of one's own and a certificate for each role.
--
-- Writes ca.pem, ca.key, and <role>.pem, <role>.key for each role; keys are for
-- their owner alone. An authority that is in the folder already vouches for the
-- new certificates too. Nothing is overwritten without --force: what is in the
-- way is named before anything is written. With --force all is made anew, so
-- that certificates of the authority that was there are worth nothing.

local errors = require("orrery.util.errors")
local output = require("orrery.cli.output")
local text_table = require("orrery.util.text_table")
local tls = require("orrery.native.tls")
local uv = require("luv")

local M = {}

local ROLES = { "jobmanager", "taskmanager", "client" }
local HOSTS = { "localhost", "127.0.0.1", "::1" }
local DAYS = 365
local DAY_S = 86400
-- Clocks of other machines may be behind ours.
local BEHIND_S = -3600

local function usage(message)
  return nil, errors.new("usage", message, { context = { command = "certs" } })
end

local function exists(path)
  return uv.fs_stat(path) ~= nil
end

local function files_of(folder, name)
  return { certificate = folder .. "/" .. name .. ".pem",
    key = folder .. "/" .. name .. ".key" }
end

local function check_roles(roles)
  local seen = {}
  for _, role in ipairs(roles) do
    if not role:match("^[%w_][%w_.-]*$") or #role > 64 then
      return usage(("--role %s: a role is letters, digits, _ . -"):format(role))
    elseif role == "ca" then
      return usage("--role ca: ca.pem is the file of the authority")
    elseif seen[role] then
      return usage(("--role %s is given twice"):format(role))
    end
    seen[role] = true
  end
  return true
end

local function make_folder(path)
  local stat = uv.fs_stat(path)
  if stat and stat.type == "directory" then return true end
  local ok, why = uv.fs_mkdir(path, tonumber("700", 8))
  if ok then return true end
  return nil, errors.new("io", ("cannot make the folder %s: %s"):format(path,
    why))
end

-- Is there an authority to go on with? nil, err when half of one is there.
local function find_authority(ca, force)
  local certificate, key = exists(ca.certificate), exists(ca.key)
  if force or not certificate and not key then return false end
  if certificate and key then return true end
  return nil, errors.new("exists", ("%s is there without %s; --force makes "
    .. "both anew"):format(certificate and ca.certificate or ca.key,
    certificate and ca.key or ca.certificate))
end

local function check_free(folder, roles)
  local found = {}
  for _, role in ipairs(roles) do
    local files = files_of(folder, role)
    for _, path in ipairs({ files.certificate, files.key }) do
      if exists(path) then found[#found + 1] = path end
    end
  end
  if #found == 0 then return true end
  return nil, errors.new("exists", ("%s: there already; --force overwrites")
    :format(table.concat(found, ", ")))
end

local function make_all(plan)
  local ca, until_s = files_of(plan.folder, "ca"), plan.days * DAY_S
  if not plan.has_authority then
    local ok, err = tls.make_authority({ name = "orrery authority",
      certificate = ca.certificate, key = ca.key, from_s = BEHIND_S,
      until_s = until_s, overwrite = plan.force })
    if not ok then return nil, err end
  end
  local rows = { { "ca", ca.certificate, tls.fingerprint(ca.certificate) } }
  for _, role in ipairs(plan.roles) do
    local files = files_of(plan.folder, role)
    local ok, err = tls.make_certificate({ name = role, role = role,
      hosts = plan.hosts, certificate = files.certificate, key = files.key,
      from_s = BEHIND_S, until_s = until_s, overwrite = plan.force }, ca)
    if not ok then return nil, err end
    rows[#rows + 1] = { role, files.certificate,
      tls.fingerprint(files.certificate) }
  end
  return rows
end

--- Makes them; options as those of the command.
---@return table|nil rows, table|nil error
function M.make(options)
  if not options.out then return usage("--out DIR is missing") end
  local plan = { folder = (options.out:gsub("(.)/+$", "%1")),
    force = options.force == true, roles = options.role or ROLES,
    hosts = options.host or HOSTS, days = tonumber(options.days or DAYS) }
  local ok, err = check_roles(plan.roles)
  if ok then ok, err = make_folder(plan.folder) end
  if not ok then return nil, err end
  plan.has_authority, err = find_authority(files_of(plan.folder, "ca"),
    plan.force)
  if plan.has_authority == nil then return nil, err end
  if not plan.force then
    ok, err = check_free(plan.folder, plan.roles)
    if not ok then return nil, err end
  end
  return make_all(plan)
end

function M.run(context)
  local rows, err = M.make(context.options)
  if not rows then return output.fail(context.command, err) end
  output.write(text_table.format({ { title = "ROLE" },
    { title = "CERTIFICATE" }, { title = "SHA-256" } }, rows))
  return 0
end

return M
