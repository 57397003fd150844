--- Tables for people: columns padded to their widest cell, two spaces between.
--
-- Cells are made printable (control bytes become "?"), so that a name from
-- outside cannot steer a terminal. Widths count UTF-8 characters.

local M = {}

local function width(text)
  local _, characters = text:gsub("[^\128-\191]", "")
  return characters
end

--- Text without control bytes, safe to print on a terminal.
---@param value any
---@return string
function M.printable(value)
  return (tostring(value):gsub("[%z\1-\31\127]", "?"))
end

local function pad(text, to, right)
  local space = (" "):rep(to - width(text))
  return right and space .. text or text .. space
end

--- Rows of cells under a header line, as one text that ends with a newline.
---@param columns {title: string, right: boolean|nil}[]
---@param rows any[][]
---@return string
function M.format(columns, rows)
  local widths, cells = {}, {}
  for c, column in ipairs(columns) do widths[c] = width(column.title) end
  for r, row in ipairs(rows) do
    cells[r] = {}
    for c = 1, #columns do
      local text = row[c] == nil and "-" or M.printable(row[c])
      cells[r][c] = text
      widths[c] = math.max(widths[c], width(text))
    end
  end
  local lines = {}
  local function line(texts)
    local parts = {}
    for c, column in ipairs(columns) do
      parts[c] = pad(texts[c], widths[c], column.right)
    end
    lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  local titles = {}
  for c, column in ipairs(columns) do titles[c] = column.title end
  line(titles)
  for _, row in ipairs(cells) do line(row) end
  return table.concat(lines, "\n") .. "\n"
end

--- Label and value pairs, one a line, values aligned.
---@param pairs_list {[1]: string, [2]: any}[]
---@return string
function M.fields(pairs_list)
  local widest = 0
  for _, pair in ipairs(pairs_list) do
    widest = math.max(widest, width(pair[1]))
  end
  local lines = {}
  for i, pair in ipairs(pairs_list) do
    local text = pair[2] == nil and "-" or M.printable(pair[2])
    lines[i] = pad(pair[1], widest) .. "  " .. text
  end
  return table.concat(lines, "\n") .. "\n"
end

--- A span of milliseconds for people: "850 ms", "12.3 s", "4 min 10 s".
---@param ms number
---@return string
function M.span(ms)
  if ms < 1000 then return ("%d ms"):format(ms) end
  if ms < 60000 then return ("%.1f s"):format(ms / 1000) end
  local seconds = math.floor(ms / 1000)
  if seconds < 3600 then
    return ("%d min %d s"):format(math.floor(seconds / 60), seconds % 60)
  end
  return ("%d h %d min"):format(math.floor(seconds / 3600),
    math.floor(seconds % 3600 / 60))
end

--- A whole number with thin groups: 1234567 -> "1,234,567".
---@param n number
---@return string
function M.count(n)
  local text = ("%.0f"):format(n)
  local sign, digits = text:match("^(%-?)(%d+)$")
  if not digits then return text end
  digits = digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return sign .. digits
end

return M
