--- The content-addressed store. A key is the SHA-256 of the content in hex.
return {
  name = "blob",
  methods = {
    -- put(key, bytes) -> key; refused when the content has another key
    put = { timeout = "60s" },
    -- get(key) -> bytes, verified
    get = { timeout = "60s" },
    has = { timeout = "10s" },
    -- retain(owner, key): the blob is kept while the owner is not released
    retain = { timeout = "10s" },
    release = { timeout = "10s" },
    stats = { timeout = "10s" },
  },
}
