local errors = require("orrery.util.errors")
local Future = require("orrery.util.future")
local memory_storage = require("orrery.blob.memory_storage")
local sha256 = require("orrery.native.sha256")
local stores = require("orrery.blob.store")
local task = require("orrery.util.task")

-- Everything here settles without a loop: the run list is all there is.
local function settle(future)
  while task.drain() do end
  assert.is_true(Future.is(future) and future:is_done())
  return future:peek()
end

describe("blob store", function()
  local storage, store, now

  local function open(total_max)
    store = stores.new({
      storage = storage, sha256_hex = sha256.hex, total_max = total_max,
      now = function() return now end,
    })
    return settle(store:load())
  end

  before_each(function()
    now, storage = 0, memory_storage.new()
    open()
  end)

  local function put(bytes)
    return settle(store:put(sha256.hex(bytes), bytes))
  end

  it("gives back what was put, under the hash of its content", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f200"
      .. "15ad", put("abc"))
    assert.equal("abc", settle(store:get(sha256.hex("abc"))))
    assert.equal(sha256.hex("abc"), put("abc"))
    assert.same({ blobs = 1, bytes = 3 }, store:stats())
  end)

  it("refuses content that does not fit its key, and bad keys", function()
    local _, err = settle(store:put(sha256.hex("abc"), "abd"))
    assert.equal("blob_corrupt", err.code)
    _, err = settle(store:put("../../etc/passwd", "x"))
    assert.equal("bad_argument", err.code)
    _, err = settle(store:get(("0"):rep(64)))
    assert.equal("blob_not_found", err.code)
    _, err = settle(store:put(("0"):rep(64), ("x"):rep(stores.BLOB_MAX + 1)))
    assert.equal("too_large", err.code)
  end)

  it("finds damage when it reads, and heals when it is put again", function()
    storage.tear = true
    local key = put("abcdef")
    local _, err = settle(store:get(key))
    assert.equal("blob_corrupt", err.code)
    assert.is_false(store:has(key))
    put("abcdef")
    assert.equal("abcdef", settle(store:get(key)))
  end)

  it("passes errors of the storage on and keeps nothing", function()
    storage.faults.write = errors.new("storage", "the disk is full")
    local _, err = put("abc")
    assert.equal("storage", err.code)
    assert.is_false(store:has(sha256.hex("abc")))
  end)

  it("knows after a restart what the storage holds", function()
    put("abc")
    storage.tear = true
    put("damaged")
    assert.equal(1, open())
    assert.is_true(store:has(sha256.hex("abc")))
  end)

  it("sweeps what nobody retains for an hour", function()
    local kept, dropped = put("kept"), put("dropped")
    assert.is_true(store:retain("job", kept))
    now = stores.KEEP_MS
    assert.equal(1, settle(store:sweep()))
    assert.is_true(store:has(kept))
    assert.is_false(store:has(dropped))
    store:release("job")
    assert.equal(0, settle(store:sweep()))
    now = now * 2
    assert.equal(1, settle(store:sweep()))
    local _, err = store:retain("job", kept)
    assert.equal("blob_not_found", err.code)
  end)

  it("makes room by dropping what nobody retains, else it is full", function()
    open(10)
    local first = put("12345")
    now = 1
    put("abcde")
    store:retain("job", first)
    assert.truthy(put("ABCDE"))
    assert.is_false(store:has(sha256.hex("abcde")))
    store:retain("job", sha256.hex("ABCDE"))
    local _, err = put("xyz")
    assert.equal("blob_store_full", err.code)
  end)
end)
