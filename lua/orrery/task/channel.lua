--- Both ends of a channel: sequence numbers and credits.
--
-- Pure. A channel carries the buffers of one producer subtask to one consumer
-- subtask. The sender begins with `credits` credits; each buffer takes one, and
-- the consumer gives it back when it has worked the buffer off. So at most
-- `credits` buffers of a channel are under way or waiting at the consumer,
-- whatever the two speeds are.
--
--   sender:    offer(bytes)  -> waits here until pump sends it
--              pump(send)    -> sends while there are credits
--              grant(n)      credits came back
--   receiver:  accept(sequence)     a buffer came
--              consumed()           one was worked off
--              take_owed()          credits to give back now
--
-- Buffers are numbered from 1. A gap means that messages were lost with a
-- connection; the task fails then and the job restarts, because records cannot
-- be asked for again.

local errors = require("orrery.util.errors")

local M = {}

local function broken(text)
  return nil, errors.new("channel_broken", text)
end

-- Sender ---------------------------------------------------------------------

---@class orrery.task.Sender
local Sender = {}
Sender.__index = Sender

function M.sender(id, credits)
  return setmetatable({
    id = id,
    credits = credits,
    credits_max = credits,
    sequence = 0,     -- of the last buffer sent
    waiting = {},     -- buffers first .. last
    first = 1,
    last = 0,
    granted = 0,      -- credits given back so far
  }, Sender)
end

function Sender:offer(bytes)
  self.last = self.last + 1
  self.waiting[self.last] = bytes
end

--- Buffers that wait for credits.
function Sender:backlog()
  return self.last - self.first + 1
end

--- Sends what may be sent. send(id, sequence, bytes) answers true, or nil, err;
-- an error with code "overloaded" means that nothing was taken and the same may
-- be tried again. Answers true, "later" for that, or nil, err.
function Sender:pump(send)
  while self.first <= self.last and self.credits > 0 do
    local ok, err = send(self.id, self.sequence + 1, self.waiting[self.first])
    if not ok then
      if err and err.code == "overloaded" then return "later" end
      return nil, err
    end
    self.sequence = self.sequence + 1
    self.credits = self.credits - 1
    self.waiting[self.first] = nil
    self.first = self.first + 1
  end
  return true
end

--- Credits came back. nil, err when there are more than were taken.
function Sender:grant(n)
  if type(n) ~= "number" or n < 1 or n ~= math.floor(n)
    or self.credits + n > self.credits_max then
    return broken(string.format("channel %s: %s credits came back, %d are out",
      self.id, tostring(n), self.credits_max - self.credits))
  end
  self.credits = self.credits + n
  self.granted = self.granted + n
  return true
end

--- The consumer says how many buffers it has worked off in all; makes up for
-- credits that were lost with a connection.
function Sender:settle(consumed)
  if consumed > self.granted then return self:grant(consumed - self.granted) end
  return true
end

-- Receiver -------------------------------------------------------------------

---@class orrery.task.Receiver
local Receiver = {}
Receiver.__index = Receiver

function M.receiver(id, credits)
  return setmetatable({
    id = id,
    credits_max = credits,
    received = 0,
    done = 0,        -- buffers worked off
    given = 0,       -- credits given back
    finished = false,
  }, Receiver)
end

--- A buffer came; nil, err when it may not come now.
function Receiver:accept(sequence)
  if self.finished then
    return broken(string.format("channel %s: buffer %s came after the end",
      self.id, tostring(sequence)))
  end
  if sequence ~= self.received + 1 then
    return broken(string.format("channel %s: buffer %s came, %d was expected; "
      .. "messages were lost", self.id, tostring(sequence), self.received + 1))
  end
  if self.received - self.given >= self.credits_max then
    return broken(string.format("channel %s: buffer %d came without a credit",
      self.id, sequence))
  end
  self.received = sequence
  return true
end

--- The producer has ended after `sequence` buffers.
function Receiver:finish(sequence)
  if self.finished then return true end
  if sequence ~= self.received then
    return broken(string.format("channel %s: ended after %s buffers, but %d "
      .. "came; messages were lost", self.id, tostring(sequence),
      self.received))
  end
  self.finished = true
  return true
end

function Receiver:consumed()
  self.done = self.done + 1
end

--- Number of credits to give back now; they count as given.
function Receiver:take_owed()
  local n = self.done - self.given
  self.given = self.done
  return n
end

return M
