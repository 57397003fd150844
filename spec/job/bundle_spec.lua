local bundle = require("orrery.job.bundle")
local cluster = require("job.cluster")

local folder

local function write(name, text)
  local path = folder .. "/" .. name
  os.execute("mkdir -p '" .. path:match("^(.*)/") .. "'")
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local JOB = [[
local orrery = require("orrery")
local words = require("lib.words")
local job = orrery.job("j " .. (args[1] or "none"))
job:source(orrery.sources.list({ "a b", "c" })):flat_map("split", words.split)
  :sink(orrery.sinks.collect("out"))
return job
]]
local WORDS = [[
local M = {}
function M.split(line, emit)
  local late = require("late")
  for w in line:gmatch("%a+") do emit(late.up(w)) end
end
return M
]]

local function key(bytes) return bytes end

describe("a bundle", function()
  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
    write("job.lua", JOB)
    write("lib/words.lua", WORDS)
    write("late/init.lua", "return { up = string.upper }")
    write("unused.lua", "return 1")
  end)
  after_each(function() os.execute("rm -rf '" .. folder .. "'") end)

  it("holds the job file and its local modules, also those required late",
    function()
      local loaded = assert(bundle.load(folder .. "/job.lua", { "x" }))
      assert.equal("j x", loaded.job.name)
      assert.equal("job.lua", loaded.entry)
      assert.same({
        { "job.lua", JOB },
        { "late/init.lua", "return { up = string.upper }" },
        { "lib/words.lua", WORDS },
      }, loaded.files)
    end)

  it("builds and runs the same job somewhere else", function()
    local loaded = assert(bundle.load(folder .. "/job.lua"))
    os.execute("rm -rf '" .. folder .. "'")
    assert.same({ "A", "B", "C" },
      cluster.new(loaded):run().collected.out)
  end)

  it("has the same bytes each time, and others when a text changes", function()
    local codec = cluster.codec
    local function bytes()
      return bundle.pack(assert(bundle.load(folder .. "/job.lua")), codec, key)
    end
    local first = bytes()
    assert.equal(first, bytes())
    write("lib/words.lua", WORDS .. "\n")
    assert.are_not.equal(first, bytes())
  end)

  it("keeps the globals of a job file to itself", function()
    write("job.lua", "leaked_by_job = 1\n" .. JOB)
    assert(bundle.load(folder .. "/job.lua"))
    assert.is_nil(rawget(_G, "leaked_by_job"))
  end)

  local function refused(text, expected)
    write("job.lua", text)
    local loaded, err = bundle.load(folder .. "/job.lua")
    assert.is_nil(loaded)
    assert.equal("job_invalid", err.code)
    assert.equal(expected, err.message:sub(1, #expected))
  end

  it("tells file and line of a syntax error", function()
    refused("local x = 1\nlocal = 2\n", "job.lua:2: '<name>' expected near '='")
  end)

  it("tells file and line of a run-time error", function()
    refused("local x\n\nx.y = 1\n", "job.lua:3: attempt to index local 'x'")
  end)

  it("tells file and line of an error in a local module", function()
    write("lib/words.lua", "return {\n  a = = 1\n}")
    refused(JOB, "lib/words.lua:2: unexpected symbol near '='")
  end)

  it("tells file, line and operator of a call that cannot be right", function()
    refused("local orrery = require('orrery')\nlocal job = orrery.job('j')\n"
      .. "job:source(orrery.sources.list({ 1 })):mapp(print)\n",
      'job.lua:3: unknown operator "mapp"; did you mean "map"?')
  end)

  it("needs a job to be returned", function()
    refused("return 5", "job.lua: a job file must end with `return job`, but "
      .. "it returned a number")
    refused("", "job.lua: a job file must end with `return job`, but it "
      .. "returned nothing")
  end)

  it("names the line of a mistake in the last call of a returned chain",
    function()
    local head = "local orrery = require('orrery')\n"
    refused(head .. "return orrery.job('j', { parallelism = 0 })",
      "job.lua:2: job option parallelism")
    refused(head .. "local job = orrery.job('j')\n"
      .. "return job\n  :sorce()\n-- return nothing else\n",
      "job.lua:4: ")
  end)

  it("refuses bytecode", function()
    refused(string.dump(function() end),
      "attempt to load chunk with wrong mode")
  end)

  it("says so when the file is not there or a folder", function()
    local _, err = bundle.load(folder .. "/none.lua")
    assert.truthy(err.message:find("none.lua: No such file", 1, true))
    _, err = bundle.load(folder)
    assert.truthy(err.message:find("Is a directory", 1, true))
  end)

  it("refuses bytes that are no bundle", function()
    for _, value in ipairs({ 5, { "a" }, { "a", {} }, { "a", { { "b", "c" } } },
      { "a", { { "a", 1 } } } }) do
      local bytes = cluster.codec.encode(value)
      local job, err = bundle.rebuild(bytes, {}, cluster.codec)
      assert.is_nil(job)
      assert.equal("the bytes given are no job bundle", err.message)
    end
  end)

  it("cannot reach outside of its folder by module names", function()
    write("../orrery_outside.lua", "return 1")
    refused("require('..orrery_outside')\n",
      "job.lua:1: module '..orrery_outside' not found")
    os.remove(folder .. "/../orrery_outside.lua")
  end)
end)
