--- The folder of one process: made, proven writable, and removed at the end
-- when it was a temporary one. Called before the event loop serves anybody, so
-- plain blocking calls are fine here.

local uv = require("luv")
local errors = require("orrery.util.errors")

local M = {}

local PROBE_BYTES = 4096

local WHY = {
  EACCES = "no write permission",
  EPERM = "no write permission",
  EROFS = "the file system is read-only",
  ENOSPC = "the disk is full",
  EDQUOT = "the disk quota is used up",
  ENOTDIR = "a part of the path is a file",
  ENOENT = "a part of the path is missing",
}

local function refused(path, why, name)
  return nil, errors.new("bad_data_directory", ("cannot store in %s: %s")
    :format(path, WHY[name] or why), { context = { path = path } })
end

local function make(path)
  local stat = uv.fs_stat(path)
  if stat then
    if stat.type == "directory" then return true end
    return refused(path, "it is a " .. stat.type, nil)
  end
  local parent = path:match("^(.+)/[^/]+/*$")
  if parent then
    local ok, err = make(parent)
    if not ok then return nil, err end
  end
  local ok, why, name = uv.fs_mkdir(path, 448) -- rwx for the owner alone
  if not ok and name ~= "EEXIST" then return refused(path, why, name) end
  return true
end

-- A permission bit is no promise; a written and synced block is.
local function prove_writable(path)
  local probe = ("%s/.probe-%d"):format(path, uv.os_getpid())
  local file, why, name = uv.fs_open(probe, "w", 384)
  if not file then return refused(path, why, name) end
  local written
  written, why, name = uv.fs_write(file, ("\0"):rep(PROBE_BYTES), 0)
  local ok = written == PROBE_BYTES
  if ok then ok, why, name = uv.fs_fsync(file) end
  uv.fs_close(file)
  uv.fs_unlink(probe)
  if not ok then return refused(path, why or "a short write", name) end
  return true
end

local function remove(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    local inner = path .. "/" .. name
    if kind == "directory" then remove(inner) else uv.fs_unlink(inner) end
  end
  uv.fs_rmdir(path)
end

local Directory = {}
Directory.__index = Directory

--- Removes a temporary folder; keeps any other.
function Directory:close()
  if self.temporary then remove(self.path) end
end

--- A folder below, made when missing.
function Directory:folder(name)
  local path = self.path .. "/" .. name
  local ok, err = make(path)
  if not ok then return nil, err end
  return path
end

--- Opens the folder of configuration value data.directory ("" = temporary).
---@param configured string
---@return table|nil directory, table|nil error
function M.open(configured)
  if configured ~= "" then
    local ok, err = make(configured)
    if ok then ok, err = prove_writable(configured) end
    if not ok then return nil, err end
    return setmetatable({ path = assert(uv.fs_realpath(configured)),
      temporary = false }, Directory)
  end
  local parent = uv.os_tmpdir()
  local path, why, name = uv.fs_mkdtemp(parent .. "/orrery-XXXXXX")
  if not path then return refused(parent, why, name) end
  local ok, err = prove_writable(path)
  if not ok then
    remove(path)
    return nil, err
  end
  return setmetatable({ path = path, temporary = true }, Directory)
end

--- Proves that one more folder (blob.storage.directory) can be written.
function M.check(path)
  local ok, err = make(path)
  if ok then ok, err = prove_writable(path) end
  return ok, err
end

return M
