-- Calls that are tried again, with longer and longer pauses, and done once.
--
--   orrery exec examples/24_retries.lua

local orrery = require("orrery")
local retry = require("orrery.rpc.retry")

local Ledger = orrery.endpoint("ledger", {
  -- The endpoint keeps the reply of each key: the second arrival of a call gets
  -- the first one's.
  book = { idempotent = "key", timeout = "200 ms" },
  flaky = {},
  once = { timeout = "50 ms" },
})

function Ledger:init() self.total, self.tries = 0, 0 end

function Ledger:book(amount)
  self.total = self.total + amount
  if self.total == amount then orrery.sleep("600 ms") end -- slow the first time
  return self.total
end

function Ledger:flaky()
  self.tries = self.tries + 1
  if self.tries < 3 then
    return nil, orrery.errors.new("busy", "not now")
  end
  return "done at try " .. self.tries
end

function Ledger:once() orrery.sleep("100 ms") end

local service = assert(orrery.service { bind = "127.0.0.1:0" })
local client = assert(orrery.service { name = "client" })
local address = service.address .. "/ledger"

-- 1. Connect and call, both again after a failure: the endpoint comes late.
service:schedule("150 ms", function()
  assert(service:start(Ledger, { id = "ledger" }))
end)
local answer = retry.connect_and_call(client, address, "ledger",
  function(ledger) return ledger:flaky() end, {
    attempts = 8, retry_on = { "busy", "unreachable" },
    backoff = { initial = "50 ms", max = "1 s", multiplier = 2, jitter = 0.2 },
    on_retry = function(err, at)
      print(("attempt %d failed (%s), again soon"):format(at.attempt, err.code))
    end,
  }):await()
print(assert(answer))

-- 2. The first attempts expire while the handler still works. They all carry
-- one key, so the amount is booked once.
local ledger = assert(client:connect(address, "ledger"):await())
local total = assert(orrery.call_with_retry(ledger, "book", { 100 }, {
  attempts = 10, backoff = { initial = "50 ms" },
}):await())
print("booked once: " .. total)

-- 3. What may have run and is not idempotent is not tried again.
local _, err = orrery.call_with_retry(ledger, "once"):await()
print("not tried again: " .. err.code)

assert(client:stop():await())
assert(service:stop():await())
