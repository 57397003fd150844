--- The outputs of a task: records into buffers, buffers into channels.
--
-- One output for each edge that leaves the vertex. Its partitioner picks the
-- channel of a record, the record is encoded into that channel's batch, and a
-- batch becomes a buffer when it is full (bytes or records) or at a flush.
--
-- `outputs.blocked` counts the channels that have buffers without credit. While
-- it is above 0 the task runs no operator: what one call of an operator emits
-- may still overflow a channel, the next call waits.

local channel = require("orrery.task.channel")
local errors = require("orrery.util.errors")
local partition = require("orrery.task.partition")

local M = {}

local RECORDS_MAX = 4000 -- of one buffer; bounds the array that it decodes to

---@class orrery.task.Outputs
local Outputs = {}
Outputs.__index = Outputs

-- A channel of an edge with its open batch.
local function new_lane(outputs, id)
  return {
    sender = channel.sender(id, outputs.credits),
    batch = outputs.codec.batch(),
    records = 0,
  }
end

local function close_batch(outputs, lane)
  local bytes = lane.batch:take()
  outputs.records_out = outputs.records_out + lane.records
  outputs.bytes_out = outputs.bytes_out + #bytes
  lane.records = 0
  local sender = lane.sender
  if sender.first > sender.last then outputs.blocked = outputs.blocked + 1 end
  sender:offer(bytes)
  return outputs:_pump_lane(lane)
end

--- Sends what a lane may send now, and keeps `blocked` right.
function Outputs:_pump_lane(lane)
  local sender = lane.sender
  if sender.first > sender.last then return end
  local ok, err = sender:pump(self.send)
  if not ok then error(err, 0) end
  if ok == "later" then self.retry = true end
  if sender.first > sender.last then self.blocked = self.blocked - 1 end
end

local function append(outputs, lane, record)
  local size, err = lane.batch:append(record)
  if not size then
    if not errors.is(err) then
      err = errors.new("bad_argument", tostring(err))
    end
    error(err, 0)
  end
  local n = lane.records + 1
  lane.records = n
  if size >= outputs.buffer_size or n >= RECORDS_MAX then
    close_batch(outputs, lane)
  end
end

-- Emit functions, by edge kind -----------------------------------------------

local make_emit = {}

function make_emit.forward(outputs, lanes)
  local lane = lanes[1]
  return function(record) append(outputs, lane, record) end
end

function make_emit.hash(outputs, lanes, key)
  local pick = partition.partitioner(#lanes)
  return function(record)
    append(outputs, lanes[pick(key(record))], record)
  end
end

function make_emit.rebalance(outputs, lanes, _, subtask)
  local n = #lanes
  local at = subtask % n -- producers begin at different consumers
  return function(record)
    at = at % n + 1
    append(outputs, lanes[at], record)
  end
end

function make_emit.broadcast(outputs, lanes)
  return function(record)
    for i = 1, #lanes do append(outputs, lanes[i], record) end
  end
end

--- options: codec (batch), send(channel, sequence, bytes), finish(channel,
-- sequence), credits, buffer_size, subtask.
function M.new(options)
  return setmetatable({
    codec = options.codec,
    send = options.send,
    send_finish = options.finish,
    credits = options.credits,
    buffer_size = options.buffer_size,
    subtask = options.subtask,
    lanes = {},       -- all, in order
    by_id = {},       -- channel id -> lane
    blocked = 0,
    unconfirmed = 0,  -- ends told, not yet confirmed by the consumer
    retry = false,    -- the transport was full: pump again a little later
    records_out = 0,
    bytes_out = 0,
  }, Outputs)
end

--- Adds an edge; gives its emit function. channels: ids, in order of the
-- consumers. key: key function of a hash edge.
function Outputs:add_edge(kind, channels, key)
  local lanes = {}
  for i, id in ipairs(channels) do
    local lane = new_lane(self, id)
    lanes[i] = lane
    self.lanes[#self.lanes + 1] = lane
    self.by_id[id] = lane
  end
  if #lanes == 0 then
    error(errors.new("bad_argument", "an output edge has no channel"), 0)
  end
  return make_emit[kind](self, lanes, key, self.subtask)
end

--- Closes every batch that holds records, where a credit is at hand: without
-- one they wait in the batch, which costs no memory of its own.
function Outputs:flush()
  for _, lane in ipairs(self.lanes) do
    local sender = lane.sender
    if lane.records > 0 and sender.credits > 0 and sender.first > sender.last
    then
      close_batch(self, lane)
    end
  end
end

--- Tries every channel again.
function Outputs:pump()
  self.retry = false
  for _, lane in ipairs(self.lanes) do self:_pump_lane(lane) end
end

--- Credits of a channel came back; true, or nil, err.
function Outputs:grant(id, n)
  local lane = self.by_id[id]
  if not lane then
    return nil, errors.new("bad_argument", "no output channel " .. tostring(id))
  end
  local ok, err = lane.sender:grant(n)
  if not ok then return nil, err end
  self:_pump_lane(lane)
  return true
end

--- Ends every channel: closes the batches, sends what credits allow. True when
-- all ends are told and confirmed; to be called again until then. The
-- confirmation matters: a producer that is gone cannot say that its last
-- buffers were lost.
function Outputs:finish()
  local all = true
  for _, lane in ipairs(self.lanes) do
    if lane.records > 0 then close_batch(self, lane) end
    if not lane.ended then
      self:_pump_lane(lane)
      local sender = lane.sender
      if sender.first > sender.last then
        local ok, err = self.send_finish(sender.id, sender.sequence)
        if ok then
          lane.ended = true
          self.unconfirmed = self.unconfirmed + 1
        elseif err and err.code == "overloaded" then
          self.retry = true
          all = false
        else
          error(err, 0)
        end
      else
        all = false
      end
    end
  end
  return all and self.unconfirmed == 0
end

--- The consumer of a channel has everything up to its end.
function Outputs:confirm(id)
  local lane = self.by_id[id]
  if not lane or not lane.ended or lane.confirmed then
    return nil, errors.new("channel_broken", string.format(
      "channel %s: an end was confirmed that was not told", tostring(id)))
  end
  lane.confirmed = true
  self.unconfirmed = self.unconfirmed - 1
  return true
end

--- What a consumer says of a channel when asked: lost buffers are an error,
-- lost credits are made up for.
function Outputs:settle(id, received, given)
  local lane = self.by_id[id]
  if not lane then return true end
  local sender = lane.sender
  if received < sender.sequence then
    return nil, errors.new("channel_broken", string.format("channel %s: %d "
      .. "buffers were sent, %d came; messages were lost", id, sender.sequence,
      received))
  end
  local ok, err = sender:settle(given)
  if not ok then return nil, err end
  self:_pump_lane(lane)
  return true
end

--- Channels that wait for credits, in order.
function Outputs:stuck()
  local ids = {}
  for _, lane in ipairs(self.lanes) do
    local sender = lane.sender
    if sender.first <= sender.last then ids[#ids + 1] = sender.id end
  end
  return ids
end

--- Buffers that wait for credits, over all channels.
function Outputs:backlog()
  local n = 0
  for _, lane in ipairs(self.lanes) do n = n + lane.sender:backlog() end
  return n
end

return M
