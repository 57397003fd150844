--- The storage seam in memory, for simulation: what `file_storage` does with
-- files, with faults on demand. `faults[name] = err` makes the next operation
-- of that name ("read", "write", "list", "remove") fail with err; `tear` makes
-- the next write keep only a part, as a disk does that loses power.
local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local sorted = require("orrery.util.sorted")

local Storage = {}
Storage.__index = Storage

local M = {}

function M.new()
  return setmetatable({ _files = {}, faults = {} }, Storage)
end

function Storage:_fault(operation)
  local err = self.faults[operation]
  self.faults[operation] = nil
  return err and Future.rejected(err)
end

function Storage:read(name)
  local bytes = self._files[name]
  return self:_fault("read") or (bytes and Future.resolved(bytes)
    or Future.rejected(errors.new("not_found", name .. " does not exist")))
end

function Storage:write(name, bytes)
  local failed = self:_fault("write")
  if failed then return failed end
  if self.tear then
    self.tear = nil
    bytes = bytes:sub(1, math.floor(#bytes / 2))
  end
  self._files[name] = bytes
  return Future.resolved(true)
end

function Storage:list(prefix)
  local names = {}
  for name in sorted.pairs(self._files) do
    if name:sub(1, #prefix) == prefix then names[#names + 1] = name end
  end
  return self:_fault("list") or Future.resolved(names)
end

function Storage:remove(name)
  local failed = self:_fault("remove")
  if failed then return failed end
  self._files[name] = nil
  return Future.resolved(true)
end

return M
