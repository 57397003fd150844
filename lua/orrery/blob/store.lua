--- A content-addressed store over the storage seam: the key of a blob is the
-- SHA-256 of its bytes in hex, checked when it is put and when it is got.
--
-- Owners (jobs) retain blobs; what nobody retains is removed by `sweep` after
-- KEEP_MS, and earlier when room is needed. The sum of sizes is bounded.
--
-- Failures: bytes that do not fit their key -> `blob_corrupt`; a file that was
-- damaged -> `blob_corrupt`, the file is removed, so that it can be put again;
-- no such key -> `blob_not_found`; no room -> `blob_store_full`.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")
local task = require("orrery.util.task")

local M = {}

M.BLOB_MAX = 15 * 1024 * 1024 -- fits one frame
M.TOTAL_MAX = 1024 * 1024 * 1024
M.KEEP_MS = 3600000
M.RETAINED_MAX = 10000 -- keys of one owner

local Store = {}
Store.__index = Store

--- @param options { storage: table, sha256_hex: fun(bytes: string): string,
---   now: fun(): number, total_max: integer? }
function M.new(options)
  return setmetatable({
    _storage = options.storage, _sha256_hex = options.sha256_hex,
    _now = options.now, _total_max = options.total_max or M.TOTAL_MAX,
    _blobs = {}, _total = 0, _owners = {},
  }, Store)
end

local function check_key(key)
  if type(key) == "string" and #key == 64 and key:find("^[0-9a-f]+$") then
    return true
  end
  return nil, errors.new("bad_argument",
    ("%s is not a blob key: 64 lower-case hex digits are expected")
      :format(tostring(key)))
end

function Store:_note(key, size)
  local blob = self._blobs[key]
  if not blob then
    blob = { size = size, owners = 0 }
    self._blobs[key] = blob
    self._total = self._total + size
  end
  blob.touched = self._now()
  return blob
end

function Store:_forget(key)
  local blob = self._blobs[key]
  if not blob then return end
  self._blobs[key] = nil
  self._total = self._total - blob.size
end

-- Unretained blobs, least recently touched first.
function Store:_unretained()
  local list = {}
  for key, blob in sorted.pairs(self._blobs) do
    if blob.owners == 0 then
      list[#list + 1] = { key = key, touched = blob.touched }
    end
  end
  table.sort(list, function(a, b)
    if a.touched ~= b.touched then return a.touched < b.touched end
    return a.key < b.key
  end)
  return list
end

function Store:_remove(key)
  self:_forget(key)
  return self._storage:remove(key)
end

-- Makes room for size bytes; false when that cannot be done.
function Store:_make_room(size)
  if self._total + size <= self._total_max then return true end
  for _, entry in ipairs(self:_unretained()) do
    self:_remove(entry.key):on_done(function(_, err)
      if err then task.report(err) end
    end)
    if self._total + size <= self._total_max then return true end
  end
  return false
end

--- Future of the key, when the bytes are stored.
function Store:put(key, bytes)
  local ok, err = check_key(key)
  if not ok then return Future.rejected(err) end
  if type(bytes) ~= "string" or #bytes > M.BLOB_MAX then
    return Future.rejected(errors.new("too_large",
      ("a blob is a string of at most %d bytes"):format(M.BLOB_MAX)))
  end
  local actual = self._sha256_hex(bytes)
  if actual ~= key then
    return Future.rejected(errors.new("blob_corrupt",
      ("the content has the key %s, not %s"):format(actual, key)))
  end
  if self._blobs[key] then
    self:_note(key, #bytes)
    return Future.resolved(key)
  end
  if not self:_make_room(#bytes) then
    return Future.rejected(errors.new("blob_store_full",
      ("the blob store holds %d of %d bytes; wait for jobs to end")
        :format(self._total, self._total_max)))
  end
  return self._storage:write(key, bytes):and_then(function()
    self:_note(key, #bytes)
    return key
  end)
end

--- Future of the bytes of a key.
function Store:get(key)
  local ok, err = check_key(key)
  if not ok then return Future.rejected(err) end
  return self._storage:read(key):and_then(function(bytes)
    if self._sha256_hex(bytes) == key then
      self:_note(key, #bytes)
      return bytes
    end
    local corrupt = errors.new("blob_corrupt",
      ("the stored content of %s is damaged; put it again"):format(key))
    return self:_remove(key):and_then(function() return nil, corrupt end)
  end):or_else(function(cause)
    if cause.code ~= "not_found" then return nil, cause end
    self:_forget(key)
    return nil, errors.new("blob_not_found",
      ("there is no blob %s"):format(key))
  end)
end

function Store:has(key)
  local blob = self._blobs[key]
  if blob then blob.touched = self._now() end
  return blob ~= nil
end

--- The owner needs the blob until it is released: true, or nil and
-- `blob_not_found`.
function Store:retain(owner, key)
  local blob = self._blobs[key]
  if not blob then
    return nil, errors.new("blob_not_found",
      ("there is no blob %s; put it first"):format(tostring(key)))
  end
  local keys = self._owners[owner] or {}
  if keys[key] then return true end
  if sorted.count(keys) >= M.RETAINED_MAX then
    return nil, errors.new("overloaded",
      ("%s retains %d blobs already"):format(owner, M.RETAINED_MAX))
  end
  self._owners[owner] = keys
  keys[key] = true
  blob.owners = blob.owners + 1
  return true
end

--- The owner needs nothing any more.
function Store:release(owner)
  for key in pairs(self._owners[owner] or {}) do
    local blob = self._blobs[key]
    if blob then
      blob.owners = blob.owners - 1
      blob.touched = self._now()
    end
  end
  self._owners[owner] = nil
  return true
end

--- Removes what nobody retained for KEEP_MS; future of how many.
function Store:sweep()
  local removals, limit = {}, self._now() - M.KEEP_MS
  for _, entry in ipairs(self:_unretained()) do
    if entry.touched <= limit then
      removals[#removals + 1] = self:_remove(entry.key)
    end
  end
  return Future.all(removals):and_then(function() return #removals end)
end

--- Learns what the storage holds from before, one blob after the other; future
-- of how many there are. What is damaged is removed.
function Store:load()
  return self._storage:list(""):and_then(function(names)
    local function next_from(i)
      local name = names[i]
      if not name then return Future.resolved(sorted.count(self._blobs)) end
      if not check_key(name) then return next_from(i + 1) end
      return self:get(name):or_else(function(err)
        if err.code == "blob_corrupt" then return false end
        return nil, err
      end):and_then(function() return next_from(i + 1) end)
    end
    return next_from(1)
  end)
end

function Store:stats()
  return { blobs = sorted.count(self._blobs), bytes = self._total }
end

return M
