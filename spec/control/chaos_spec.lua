local support = require("support.cluster")

-- Random faults at random times; every job ends with the exact result. A
-- failure names the seed: SEEDS=first-last replays.
describe("a cluster under random faults", function()
  local first, last = (os.getenv("SEEDS") or "1-25"):match("^(%d+)%-(%d+)$")

  local function fault(c, chance, names)
    local kind = chance:below(4)
    local name = names[1 + chance:below(#names)]
    if kind == 0 then
      c.sim:crash(name)
      c.sim:advance(chance:below(3000))
      c.sim:restart(name)
      c:add_taskmanager(name)
    elseif kind == 1 then
      c.sim:reset_connections("jm", name)
    elseif kind == 2 then
      c.sim:partition({ name }, { "jm" })
      c.sim:advance(chance:below(80000))
      c.sim:heal()
    else
      c.sim:partition({ "tm1" }, { "tm2" })
      c.sim:advance(chance:below(1000))
      c.sim:heal()
    end
  end

  local function run(seed)
    local c = support.new({ seed = seed, config = {
      ["taskmanager.registration.timeout"] = 3600000,
    } })
    local chance, splits = c.sim:chance(), {}
    for i = 1, 80 do splits[i] = i end
    local id = c:submit(c:plan({ splits = splits,
      restart = { type = "fixed-delay", attempts = 1000, delay = 100 },
      script = { split_ms = 100 } }))
    for _ = 1, 4 do
      c.sim:advance(chance:below(1500))
      fault(c, chance, { "tm1", "tm2" })
    end
    local outcome = c:result(id)
    assert.equal("FINISHED", outcome.status)
    table.sort(outcome.result.collected.read)
    assert.same(splits, outcome.result.collected.read)
    c.sim:advance(120000)
    local view = assert(c:ask("request_cluster_overview"))
    assert.same({ 2, 4, 4 }, { view.taskmanagers, view.slots_total,
      view.slots_available })
    assert.same({}, c.fatal)
    c:free()
  end

  it("ends every job exactly and gets every slot back", function()
    for seed = tonumber(first), tonumber(last) do
      local ok, err = pcall(run, seed)
      if not ok then
        error(("seed %d: %s"):format(seed,
          type(err) == "table" and tostring(err.message) or tostring(err)), 0)
      end
    end
  end)
end)
