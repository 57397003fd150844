--- Job bundles on a TaskExecutor: fetched once, verified, kept while they are
-- used lately. Bounded in number; tasks that start at the same time share one
-- fetch.
local errors = require("orrery.util.errors")

local COUNT_MAX = 16 -- of at most 15 MiB each

local Bundles = {}
Bundles.__index = Bundles

local M = {}

--- @param options { fetch: fun(address: string, key: string): table,
---   sha256_hex: fun(bytes: string): string }
function M.new(options)
  return setmetatable({
    _fetch = options.fetch, _sha256_hex = options.sha256_hex,
    _entries = {}, _use = 0,
  }, Bundles)
end

function Bundles:_evict()
  local count, oldest, oldest_key = 0, nil, nil
  for key, entry in pairs(self._entries) do
    count = count + 1
    if not oldest or entry.used < oldest then
      oldest, oldest_key = entry.used, key
    end
  end
  if count > COUNT_MAX then self._entries[oldest_key] = nil end
end

--- Future of the bytes of a bundle; `blob_corrupt` when they do not fit.
function Bundles:get(address, key)
  self._use = self._use + 1
  local entry = self._entries[key]
  if not entry then
    entry = { used = self._use }
    self._entries[key] = entry
    entry.future = self._fetch(address, key):and_then(function(bytes)
      if type(bytes) == "string" and self._sha256_hex(bytes) == key then
        return bytes
      end
      return nil, errors.new("blob_corrupt",
        ("what came for bundle %s has another content"):format(key))
    end)
    entry.future:on_done(function(_, err)
      if err and self._entries[key] == entry then self._entries[key] = nil end
    end)
    self:_evict()
  end
  entry.used = self._use
  return entry.future
end

return M
