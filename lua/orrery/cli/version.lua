--- `orrery version`: versions, and the facts that were found at start.

local core = require("orrery.core")
local lib = require("orrery.native.lib")
local output = require("orrery.cli.output")
local text_table = require("orrery.util.text_table")
local uv = require("luv")

local M = {}

M.VERSION = require("orrery.util.version")

local function openssl_version()
  return lib.ffi.string(lib.C.orr_crypto_version()):match("%d+%.%d+%.%d+%w*")
    or "unknown"
end

local function versions()
  return {
    { "orrery", M.VERSION },
    { "luajit", jit.version:match("%S+$") },
    { "libuv", uv.version_string() },
    { "openssl", openssl_version() },
    { "abi", tostring(lib.C.orr_abi()) },
    { "system", jit.os .. " " .. jit.arch },
  }
end

function M.run(context)
  local rows, facts = versions(), core.self_test()
  if context.options.json then
    local document = { facts = {} }
    for _, row in ipairs(rows) do document[row[1]] = row[2] end
    for i, fact in ipairs(facts) do
      document.facts[i] = { name = fact.name, ok = fact.ok,
        detail = fact.detail }
    end
    local ok, err = output.json(document)
    return ok and 0 or output.fail("version", err)
  end
  output.write(text_table.fields(rows))
  local lines = {}
  for i, fact in ipairs(facts) do
    lines[i] = { fact.name, fact.ok and "ok" or "fault", fact.detail }
  end
  output.write("\n" .. text_table.format({ { title = "SELF-TEST" },
    { title = "" }, { title = "DETAIL" } }, lines))
  return 0
end

return M
