local channel = require("orrery.task.channel")
local cluster = require("job.cluster")

describe("a channel", function()
  it("sends no more than its credits and keeps order", function()
    local sent, sender = {}, channel.sender("1:0:0", 2)
    local function send(_, sequence, bytes)
      sent[#sent + 1] = sequence .. bytes
      return true
    end
    for _, b in ipairs({ "a", "b", "c" }) do sender:offer(b) end
    assert.is_true(sender:pump(send))
    assert.same({ "1a", "2b" }, sent)
    assert.equal(1, sender:backlog())
    assert(sender:grant(1))
    sender:pump(send)
    assert.same({ "1a", "2b", "3c" }, sent)
  end)

  it("keeps a buffer that a full link refused", function()
    local sender, full, sent = channel.sender("c", 2), true, 0
    local function send()
      if full then return nil, { code = "overloaded" } end
      sent = sent + 1
      return true
    end
    sender:offer("a")
    assert.equal("later", sender:pump(send))
    assert.equal(2, sender.credits)
    full = false
    assert.is_true(sender:pump(send))
    assert.equal(1, sent)
  end)

  it("passes on any other failure to send", function()
    local sender = channel.sender("c", 2)
    sender:offer("a")
    local ok, err = sender:pump(function()
      return nil, { code = "unreachable" }
    end)
    assert.is_nil(ok)
    assert.equal("unreachable", err.code)
  end)

  it("refuses credits that were never taken", function()
    local sender = channel.sender("1:0:0", 2)
    local ok, err = sender:grant(1)
    assert.is_nil(ok)
    assert.equal("channel_broken: channel 1:0:0: 1 credits came back, "
      .. "0 are out", tostring(err))
  end)

  it("notices a gap, a repeat, a buffer without credit, one after the end",
    function()
      local r = channel.receiver("c", 2)
      assert(r:accept(1))
      for _, sequence in ipairs({ 1, 3, "x" }) do
        local ok, err = r:accept(sequence)
        assert.is_nil(ok)
        assert.equal("channel_broken", err.code)
      end
      assert(r:accept(2))
      local _, err = r:accept(3)
      assert.truthy(err.message:find("came without a credit", 1, true))
      _, err = r:finish(1)
      assert.truthy(err.message:find("ended after 1 buffers, but 2 came", 1,
        true))
      assert(r:finish(2))
      assert(r:finish(2)) -- told again after a lost answer
      _, err = r:accept(3)
      assert.truthy(err.message:find("came after the end", 1, true))
    end)

  it("makes up for lost credits", function()
    local sender = channel.sender("c", 2)
    for _, b in ipairs({ "a", "b", "c" }) do sender:offer(b) end
    sender:pump(function() return true end)
    assert.equal(0, sender.credits)
    assert(sender:settle(2))
    assert.equal(2, sender.credits)
    assert(sender:settle(2))
    assert.equal(2, sender.credits)
  end)

  it("never has more under way than its bound, whatever happens", function()
    for seed = 1, 40 do
      local chance = cluster.chance(seed)
      local bound = chance(8)
      local sender = channel.sender("c", bound)
      local receiver = channel.receiver("c", bound)
      local wire, queue, credits, offered, done = {}, 0, {}, 0, 0
      local function send(_, sequence)
        if chance(5) == 1 then return nil, { code = "overloaded" } end
        wire[#wire + 1] = sequence
        return true
      end
      for _ = 1, 2000 do
        local what = chance(4)
        if what == 1 then
          offered = offered + 1
          sender:offer("x")
          sender:pump(send)
        elseif what == 2 and #wire > 0 then
          assert(receiver:accept(table.remove(wire, 1)))
          queue = queue + 1
        elseif what == 3 and queue > 0 then
          queue = queue - 1
          done = done + 1
          receiver:consumed()
          if chance(2) == 1 then
            credits[#credits + 1] = receiver:take_owed()
          end
        elseif #credits > 0 then
          assert(sender:grant(table.remove(credits, 1)))
          sender:pump(send)
        end
        assert(#wire + queue <= bound, "seed " .. seed)
      end
      assert.equal(offered, sender:backlog() + #wire + queue + done)
    end
  end)
end)
