describe("the version", function()
  it("is that of the build", function()
    local file = assert(io.open("CMakeLists.txt", "rb"))
    local text = file:read("*a")
    file:close()
    assert.equal(text:match("project%(orrery VERSION ([%d.]+)"),
      require("orrery.util.version"))
  end)
end)
