-- Joins the shared declarations of the public headers, the text between
-- /* ffi:begin */ and /* ffi:end */, without comments.
--
--   luajit gen_cdef.lua c OUT.c HEADER...    writes the C file with orr_cdef()
--   luajit gen_cdef.lua canonical HEADER...  prints the text with every run of
--                                            white space as one blank, for the
--                                            hash in scripts/abi.txt
--   luajit gen_cdef.lua version HEADER...    prints ORR_ABI_VERSION

local BEGIN, END = "/* ffi:begin */", "/* ffi:end */"

local function fail(format, ...)
  io.stderr:write("gen_cdef: ", string.format(format, ...), "\n")
  os.exit(1)
end

local function read(path)
  local file, err = io.open(path, "rb")
  if not file then fail("cannot read %s", err) end
  local text = file:read("*a")
  file:close()
  return text
end

local function line_of(text, position)
  local _, count = text:sub(1, position):gsub("\n", "")
  return count + 1
end

--- The text of all marked parts of one header.
local function marked(path)
  local text = read(path)
  local parts, from = {}, 1
  while true do
    local _, open = text:find(BEGIN, from, true)
    local close = text:find(END, open or from, true)
    if not open then
      if close then
        fail("%s:%d: %s without %s", path, line_of(text, close), END, BEGIN)
      end
      break
    end
    if not close then
      fail("%s:%d: %s without %s", path, line_of(text, open), BEGIN, END)
    end
    local part = text:sub(open + 1, close - 1)
    local nested = part:find(BEGIN, 1, true)
    if nested then
      fail("%s:%d: %s inside of another", path,
        line_of(text, open + nested), BEGIN)
    end
    local directive = part:find("\n%s*#")
    if directive then
      fail("%s:%d: a preprocessor line between the ffi marks", path,
        line_of(text, open + directive + 1))
    end
    parts[#parts + 1] = part
    from = close + #END
  end
  return table.concat(parts, "\n")
end

local function joined(headers)
  if #headers == 0 then fail("no headers given") end
  local texts = {}
  for i, path in ipairs(headers) do texts[i] = marked(path) end
  local text = table.concat(texts, "\n")
  text = text:gsub("/%*.-%*/", " "):gsub("//[^\n]*", "")
  if text:find('"', 1, true) then
    fail("a string literal between the ffi marks; only declarations go there")
  end
  -- Keep one declaration a line: LuaJIT names the line in its errors.
  return (text:gsub("[ \t]+\n", "\n"):gsub("\n\n+", "\n"))
end

local function version(text)
  local found = text:match("ORR_ABI_VERSION%s*=%s*(%d+)")
  if not found then fail("ORR_ABI_VERSION is not in the declarations") end
  return found
end

local function write_c(out, text)
  -- An array of bytes: C11 promises only 4095 characters to a literal.
  local lines, row = {}, {}
  for i = 1, #text do
    row[#row + 1] = text:byte(i) .. ","
    if #row == 16 then
      lines[#lines + 1] = table.concat(row)
      row = {}
    end
  end
  row[#row + 1] = "0"
  lines[#lines + 1] = table.concat(row)
  local source = table.concat({
    "/* Made by scripts/gen_cdef.lua from the public headers. */",
    '#include "orrery/base.h"',
    "static const char text[] = {",
    table.concat(lines, "\n"),
    "};",
    "const char *orr_cdef(void)", "{", "    return text;", "}",
    "int orr_abi(void)", "{", "    return ORR_ABI_VERSION;", "}", "",
  }, "\n")
  local file, err = io.open(out, "wb")
  if not file then fail("cannot write %s", err) end
  local ok, why = file:write(source)
  if not ok then fail("cannot write %s: %s", out, why) end
  file:close()
end

local mode = arg[1]
if mode == "c" and arg[2] then
  local text = joined({ unpack(arg, 3) })
  version(text)
  write_c(arg[2], text)
elseif mode == "canonical" then
  local text = joined({ unpack(arg, 2) })
  -- The version is beside the hash, not in it.
  text = text:gsub("ORR_ABI_VERSION%s*=%s*%d+", "ORR_ABI_VERSION")
  print((text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")))
elseif mode == "version" then
  print(version(joined({ unpack(arg, 2) })))
else
  fail("usage: gen_cdef.lua c OUT.c HEADER... | canonical HEADER... | "
    .. "version HEADER...")
end
