--- The directory of leaders: who leads a role, and where. Not fenced: it is how
-- tokens are found.
return {
  name = "leaders",
  methods = {
    -- leader(role) -> { address, token } or nil
    leader = { timeout = "10s" },
    -- watch(role, known_token) -> the same; held back while the leader is the
    -- known one, for at most 30 s
    watch = { timeout = "60s" },
    -- roles() -> { { role, address } ... }
    roles = { timeout = "10s" },
  },
}
