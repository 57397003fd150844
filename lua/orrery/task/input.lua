--- The inputs of a task: buffers that came, in the order of their coming.
--
-- Bounded by the credits: every channel holds at most its credits' worth of
-- buffers here. Buffers of one channel stay in order; between channels the
-- order is that of arrival. Input ends when every channel has told its end and
-- the last buffer is worked off.

local channel = require("orrery.task.channel")
local errors = require("orrery.util.errors")

local M = {}

---@class orrery.task.Inputs
local Inputs = {}
Inputs.__index = Inputs

--- options: codec (decode_batch), give(channel id, credits), credits.
function M.new(options)
  return setmetatable({
    codec = options.codec,
    give = options.give,
    credits = options.credits,
    receivers = {},   -- all, in order
    by_id = {},
    queue = {},       -- { receiver, bytes } first .. last
    first = 1,
    last = 0,
    open = 0,         -- channels that have not told their end
    current = nil,    -- decoded records of the buffer at work
    count = 0,
    at = 0,           -- records of it done
    records_in = 0,   -- of buffers before it
    bytes_in = 0,
  }, Inputs)
end

function Inputs:add_channel(id)
  local receiver = channel.receiver(id, self.credits)
  self.receivers[#self.receivers + 1] = receiver
  self.by_id[id] = receiver
  self.open = self.open + 1
end

local function find(inputs, id)
  local receiver = inputs.by_id[id]
  if receiver then return receiver end
  return nil, errors.new("bad_argument", "no input channel " .. tostring(id))
end

--- A buffer came: true, or nil, err.
function Inputs:accept(id, sequence, bytes)
  local receiver, err = find(self, id)
  if not receiver then return nil, err end
  local ok
  ok, err = receiver:accept(sequence)
  if not ok then return nil, err end
  self.last = self.last + 1
  self.queue[self.last] = { receiver, bytes }
  self.bytes_in = self.bytes_in + #bytes
  return true
end

--- A channel ended: true, or nil, err.
function Inputs:finish(id, sequence)
  local receiver, err = find(self, id)
  if not receiver then return nil, err end
  if receiver.finished then return true end
  local ok
  ok, err = receiver:finish(sequence)
  if not ok then return nil, err end
  self.open = self.open - 1
  return true
end

--- Nothing is left and nothing will come.
function Inputs:is_ended()
  return self.open == 0 and not self.current and self.first > self.last
end

--- Is there a record to work on?
function Inputs:is_ready()
  return self.current ~= nil or self.first <= self.last
end

local function begin_buffer(inputs)
  local item = inputs.queue[inputs.first]
  inputs.queue[inputs.first] = nil
  inputs.first = inputs.first + 1
  inputs.receiver = item[1]
  local records, count = inputs.codec.decode_batch(item[2])
  if not records then
    error(errors.new("channel_broken", string.format(
      "channel %s: a buffer cannot be decoded: %s", item[1].id,
      tostring(count))), 0)
  end
  inputs.current, inputs.count, inputs.at = records, count, 0
end

local function end_buffer(inputs)
  inputs.current = nil
  inputs.records_in = inputs.records_in + inputs.count
  inputs.at, inputs.count = 0, 0
  local receiver = inputs.receiver
  receiver:consumed()
  inputs.give(receiver.id, receiver:take_owed())
end

--- Pushes the records of one buffer, or of what is left of it. Stops between
-- two records when outputs are blocked; the credit goes back at the buffer's
-- end only, so a blocked task holds its producers back.
function Inputs:work(push, outputs)
  if not self.current then begin_buffer(self) end
  local records, count = self.current, self.count
  local i = self.at
  while i < count do
    i = i + 1
    self.at = i -- before the call: errors name the record
    push(records[i])
    if outputs.blocked > 0 then break end
  end
  if i >= count then end_buffer(self) end
end

--- Number of the record at work, from 1.
function Inputs:position()
  return self.records_in + self.at
end

--- Buffers that wait here.
function Inputs:backlog()
  return self.last - self.first + 1 + (self.current and 1 or 0)
end

return M
