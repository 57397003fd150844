--- The storage seam on files of one directory, through libuv's thread pool.
--
-- A write goes to a temporary file, is fsynced, renamed over the name, and the
-- directory is fsynced: a reader sees the old or the new content, never a part,
-- and what was answered as written survives a crash.
-- Names are made of [A-Za-z0-9._-] and never begin with a dot; temporary files
-- begin with one, and those that a crash left are removed by `open`.
--
-- Failures: `not_found` for a missing name; everything else is `storage` with
-- what was tried on which path and the reason of the system.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")

local M = {}

local Storage = {}
Storage.__index = Storage

local READ_ALL = 438 -- 0666, cut down by the umask
local SIZE_MAX = 64 * 1024 * 1024 -- of one file; more is refused when reading

local function failure(action, path, reason)
  local code = reason:match("^ENOENT") and "not_found" or "storage"
  return errors.new(code, ("cannot %s %s: %s"):format(action, path, reason))
end

-- A future of fs_<operation>(...): value, or the typed error.
function Storage:_fs(operation, action, path, ...)
  local future = Future.new()
  local arguments, count = { ... }, select("#", ...)
  arguments[count + 1] = function(err, value)
    if err then
      future:reject(failure(action, path, err))
    else
      future:resolve(value == nil and true or value)
    end
  end
  local ok, reason = pcall(self._uv["fs_" .. operation],
    unpack(arguments, 1, count + 1))
  if not ok then future:reject(failure(action, path, tostring(reason))) end
  return future
end

local function check_name(name)
  if type(name) ~= "string" or #name > 200
    or not name:find("^[%w_-][%w._-]*$") then
    return nil, errors.new("bad_argument",
      ("%s is not a name: letters, digits, '.', '_' and '-' are allowed")
        :format(tostring(name)))
  end
  return true
end

function Storage:_path(name)
  return self.directory .. "/" .. name
end

-- Runs fn(fd) and closes fd whatever happens; answers what fn answers.
function Storage:_with_file(path, action, flags, fn)
  return self:_fs("open", action, path, path, flags, READ_ALL)
    :and_then(function(fd)
      return fn(fd):and_then(function(value)
        return self:_fs("close", action, path, fd)
          :and_then(function() return value end)
      end):or_else(function(err)
        return self:_fs("close", action, path, fd)
          :or_else(function() return true end)
          :and_then(function() return nil, err end)
      end)
    end)
end

-- Reads from offset until the size is there or the file ends.
function Storage:_read_rest(fd, path, size, parts, got)
  if got >= size then return Future.resolved(table.concat(parts)) end
  return self:_fs("read", "read", path, fd, size - got, got)
    :and_then(function(chunk)
      if chunk == "" or chunk == true then return table.concat(parts) end
      parts[#parts + 1] = chunk
      return self:_read_rest(fd, path, size, parts, got + #chunk)
    end)
end

--- Future of the content of a name.
function Storage:read(name)
  local ok, err = check_name(name)
  if not ok then return Future.rejected(err) end
  local path = self:_path(name)
  return self:_with_file(path, "read", "r", function(fd)
    return self:_fs("fstat", "read", path, fd):and_then(function(stat)
      if stat.size > SIZE_MAX then
        return nil, failure("read", path, ("it has %d bytes, at most %d are "
          .. "allowed"):format(stat.size, SIZE_MAX))
      end
      return self:_read_rest(fd, path, stat.size, {}, 0)
    end)
  end)
end

function Storage:_write_rest(fd, path, bytes, done)
  if done >= #bytes then return Future.resolved(true) end
  return self:_fs("write", "write", path, fd, bytes:sub(done + 1), done)
    :and_then(function(count)
      return self:_write_rest(fd, path, bytes, done + count)
    end)
end

function Storage:_sync_directory()
  return self:_with_file(self.directory, "sync", "r", function(fd)
    return self:_fs("fsync", "sync", self.directory, fd)
  end)
end

--- Future of true when the content is on disk under its name.
function Storage:write(name, bytes)
  local ok, err = check_name(name)
  if not ok then return Future.rejected(err) end
  self._temporary = self._temporary + 1
  local path = self:_path(name)
  local temporary = ("%s/.%s.%d.%d"):format(self.directory, name,
    self._uv.os_getpid(), self._temporary)
  return self:_with_file(temporary, "write", "w", function(fd)
    return self:_write_rest(fd, temporary, bytes, 0):and_then(function()
      return self:_fs("fsync", "sync", temporary, fd)
    end)
  end):and_then(function()
    return self:_fs("rename", "rename", temporary, temporary, path)
  end):and_then(function()
    return self:_sync_directory()
  end):or_else(function(cause)
    return self:_fs("unlink", "remove", temporary, temporary)
      :or_else(function() return true end)
      :and_then(function() return nil, cause end)
  end)
end

function Storage:_scan()
  return self:_fs("scandir", "list", self.directory, self.directory)
    :and_then(function(request)
      local names = {}
      while true do
        local name, kind = self._uv.fs_scandir_next(request)
        if not name then break end
        if type(name) == "table" then name, kind = name.name, name.type end
        if kind == "file" or kind == "unknown" then
          names[#names + 1] = name
        end
      end
      table.sort(names)
      return names
    end)
end

--- Future of the names that begin with prefix, sorted.
function Storage:list(prefix)
  return self:_scan():and_then(function(all)
    local names = {}
    for _, name in ipairs(all) do
      if name:sub(1, 1) ~= "." and name:sub(1, #prefix) == prefix then
        names[#names + 1] = name
      end
    end
    return names
  end)
end

--- Future of true when the name is gone, also when it never was there.
function Storage:remove(name)
  local ok, err = check_name(name)
  if not ok then return Future.rejected(err) end
  local path = self:_path(name)
  return self:_fs("unlink", "remove", path, path):or_else(function(cause)
    if cause.code == "not_found" then return true end
    return nil, cause
  end)
end

local function make_directory(uv, path)
  local stat = uv.fs_stat(path)
  if stat then
    if stat.type == "directory" then return true end
    return nil, failure("use", path, "it is not a directory")
  end
  local parent = path:match("^(.+)/[^/]+$")
  if parent then
    local ok, err = make_directory(uv, parent)
    if not ok then return nil, err end
  end
  local ok, reason = uv.fs_mkdir(path, 448) -- 0700
  if not ok and not tostring(reason):match("^EEXIST") then
    return nil, failure("create", path, tostring(reason))
  end
  return true
end

--- Opens a directory, making it when it is missing; removes what interrupted
-- writes left. Blocks: call it at start. Answers nil and `storage` otherwise.
---@param directory string
function M.open(directory)
  local uv = require("luv")
  local path = directory:gsub("(.)/+$", "%1")
  local ok, err = make_directory(uv, path)
  if not ok then return nil, err end
  if not uv.fs_access(path, "W") then
    return nil, failure("use", path, "no permission to write there")
  end
  local request = uv.fs_scandir(path)
  while request do
    local name = uv.fs_scandir_next(request)
    if not name then break end
    if name:find("^%.[%w_-][%w._-]*%.%d+%.%d+$") then
      uv.fs_unlink(path .. "/" .. name)
    end
  end
  return setmetatable({ directory = path, _uv = uv, _temporary = 0 }, Storage)
end

return M
