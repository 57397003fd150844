-- docs/rpc_rows.md against the specs that it names.

local STATES = { ["done"] = true, ["done better"] = true,
  ["not applicable"] = true }

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

describe("docs/rpc_rows.md", function()
  local rows = {}
  for line in io.lines("docs/rpc_rows.md") do
    local cells = {}
    for cell in line:gmatch("|([^|]*)") do
      cells[#cells + 1] = cell:match("^%s*(.-)%s*$")
    end
    if cells[1] and cells[1]:match("^%d+$") then
      rows[#rows + 1] = { number = tonumber(cells[1]), state = cells[3],
        why = cells[4], specs = cells[5] }
    end
  end

  it("has each row once, in order, with a known state", function()
    assert.is_true(#rows > 0)
    for i, row in ipairs(rows) do
      assert.is_true(row.number > (i == 1 and 0 or rows[i - 1].number),
        "row " .. row.number)
      assert.is_true(STATES[row.state], "row " .. row.number)
    end
  end)

  it("names for each row a spec that names the row, or a reason", function()
    for _, row in ipairs(rows) do
      if row.state == "not applicable" then
        assert.is_true(#row.why > 0, "row " .. row.number)
      else
        assert.is_true(#row.specs > 0, "row " .. row.number)
        for path in row.specs:gmatch("[^%s,]+") do
          local id = "%f[%w]RPC%-" .. row.number .. "%f[%D]"
          assert.is_truthy(read(path):find(id), path .. " lacks RPC-"
            .. row.number)
        end
      end
    end
  end)
end)
