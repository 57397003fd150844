local file_storage = require("orrery.blob.file_storage")
local orrery = require("orrery")

describe("file storage", function()
  local folder, service

  setup(function() service = assert(orrery.service({})) end)
  teardown(function() service:stop():await() end)

  before_each(function()
    folder = os.tmpname()
    os.remove(folder)
  end)

  after_each(function() os.execute("rm -rf " .. folder) end)

  it("writes, reads, lists and removes", function()
    local storage = assert(file_storage.open(folder .. "/deep/er"))
    local bytes = ("\0binary\n"):rep(50000)
    assert.is_true(storage:write("b", bytes):await())
    assert.is_true(storage:write("a", ""):await())
    assert.is_true(storage:write("a", "2"):await())
    assert.equal(bytes, storage:read("b"):await())
    assert.equal("2", storage:read("a"):await())
    assert.same({ "a", "b" }, storage:list(""):await())
    assert.same({ "b" }, storage:list("b"):await())
    assert.is_true(storage:remove("b"):await())
    assert.is_true(storage:remove("b"):await())
    local _, err = storage:read("b"):await()
    assert.equal("not_found", err.code)
  end)

  it("refuses names that leave its folder", function()
    local storage = assert(file_storage.open(folder))
    for _, name in ipairs({ "../x", ".x", "a/b", "", 7 }) do
      local _, err = storage:write(name, "x"):await()
      assert.equal("bad_argument", err.code)
    end
  end)

  it("removes what an interrupted write left", function()
    local storage = assert(file_storage.open(folder))
    storage:write("a", "1"):await()
    io.open(folder .. "/.a.123.4", "wb"):close()
    storage = assert(file_storage.open(folder))
    assert.is_nil(io.open(folder .. "/.a.123.4", "rb"))
    assert.same({ "a" }, storage:list(""):await())
  end)

  it("says why a folder cannot be used", function()
    io.open(folder, "wb"):close()
    local _, err = file_storage.open(folder)
    assert.equal("storage", err.code)
    assert.matches("not a directory", err.message)
    _, err = file_storage.open(folder .. "/below")
    assert.equal("storage", err.code)
    assert.truthy(err.message:find(folder, 1, true))
  end)
end)
