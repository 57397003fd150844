--- The endpoint `blob`: the blob store of a cluster, served to clients and
-- TaskExecutors.
--
--   service:start(Blob, { id = "blob", args = { { storage = storage } } })
--
-- storage is blob.file_storage or blob.memory_storage.
local orrery = require("orrery")
local seams = require("orrery.ha.seams")
local sha256 = require("orrery.native.sha256")
local stores = require("orrery.blob.store")
local task = require("orrery.util.task")

local SWEEP_MS = 600000

local Blob = orrery.endpoint(require("orrery.gateway.blob"))

function Blob:init(args)
  self._args = args
end

function Blob:on_start()
  local clock = seams.of(self.service)
  self._store = stores.new({
    storage = self._args.storage, sha256_hex = sha256.hex,
    now = function() return clock:now_ms() end,
    total_max = self._args.total_max,
  })
  local _, err = self._store:load():await()
  if err then return nil, err end
  self:_sweep_later()
end

function Blob:_sweep_later()
  self._timer = self:schedule_run_async(SWEEP_MS, function()
    self._store:sweep():on_done(function(_, err)
      if err then task.report(err) end
      self:_sweep_later()
    end)
  end)
end

function Blob:put(key, bytes) return self._store:put(key, bytes) end
function Blob:get(key) return self._store:get(key) end
function Blob:has(key) return self._store:has(key) end
function Blob:retain(owner, key) return self._store:retain(owner, key) end
function Blob:release(owner) return self._store:release(owner) end
function Blob:stats() return self._store:stats() end

function Blob:on_stop()
  if self._timer then self._timer:cancel() end
end

return Blob
