local uv = require("luv")
local data_directory = require("orrery.cluster.data_directory")
local processes = require("support.processes")

describe("data directory", function()
  after_each(processes.clean_up)

  it("is temporary and private without a name, and goes at the end", function()
    local directory = assert(data_directory.open(""))
    local stat = assert(uv.fs_stat(directory.path))
    assert.equal(448, stat.mode % 512)
    local blobs = assert(directory:folder("blobs"))
    processes.write_file(blobs .. "/x", "x")
    directory:close()
    assert.is_nil((uv.fs_stat(directory.path)))
  end)

  it("is made with its parents and stays", function()
    local path = processes.folder() .. "/a/b"
    local directory = assert(data_directory.open(path))
    assert.equal(path, directory.path)
    directory:close()
    assert.is_table(uv.fs_stat(path))
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(path)))
  end)

  it("says in one sentence what is wrong", function()
    local folder = processes.folder()
    local file = processes.write_file(folder .. "/file", "")
    local _, err = data_directory.open(file)
    assert.equal("cannot store in " .. file .. ": it is a file", err.message)
    _, err = data_directory.open(file .. "/below")
    assert.equal("cannot store in " .. file .. ": it is a file", err.message)
    _, err = data_directory.open("/proc/orrery")
    assert.truthy(err.message:find("^cannot store in /proc"))
    assert.equal("bad_data_directory", err.code)
  end)

  it("notices a full disk", function()
    if not uv.fs_stat("/dev/full") then return pending("no /dev/full") end
    local open = uv.fs_open
    uv.fs_open = function() return open("/dev/full", "w", 384) end
    local path = processes.folder()
    local _, err = data_directory.open(path)
    uv.fs_open = open
    assert.equal("cannot store in " .. path .. ": the disk is full",
      err.message)
  end)
end)
