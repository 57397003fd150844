--- `orrery config`: the values in effect, each with its source.

local config_module = require("orrery.util.config")
local json = require("orrery.util.json")
local output = require("orrery.cli.output")
local text_table = require("orrery.util.text_table")

local M = {}

local function default_text(option)
  if option.default_text then return option.default_text end
  return config_module.format_value(option, option.default)
end

--- docs/configuration.md.
function M.markdown()
  local out = { [[
# Configuration

Written by `orrery config --markdown` from the options registry.

Sources, later ones win: the defaults below; the configuration file; variables
`ORRERY_*`; `-D key=value`; command-line flags. `orrery config` prints the
values in effect and where each comes from.

The file is `--config FILE`, else `$ORRERY_CONF`, else `./orrery.conf.lua`, else
`/etc/orrery/orrery.conf.lua`. It is Lua without any function:

```lua
jobmanager.rpc.port = 7000
heartbeat = { interval = "2 s", timeout = "10 s" }
rpc.ask_timeout = "5 s"        -- an underscore stands for a dash
```

The variable of a key is its name in capitals with underscores: `rest.port` is
`ORRERY_REST_PORT`. Durations are milliseconds or have a unit (`"250ms"`,
`"10 s"`, `"5min"`, `"1h"`); sizes are bytes or have one (`"64kb"`, `"10 mb"`).

| key | type | default | meaning |
|---|---|---|---|]] }
  for _, option in ipairs(config_module.options) do
    local kind = option.type
    if kind == "choice" then kind = table.concat(option.choices, ", ") end
    out[#out + 1] = ("| `%s` | %s | %s | %s |"):format(option.key, kind,
      default_text(option), option.help)
  end
  return table.concat(out, "\n") .. "\n"
end

function M.run(context)
  if context.options.markdown then
    output.write(M.markdown())
    return 0
  end
  local config = context.config
  if context.options.json then
    local document = json.object()
    for _, option in ipairs(config_module.options) do
      document[option.key] = { value = config:get(option.key),
        source = config:source(option.key) }
    end
    local ok, err = output.json(document)
    return ok and 0 or output.fail("config", err)
  end
  local rows = {}
  for i, option in ipairs(config_module.options) do
    rows[i] = { option.key,
      config_module.format_value(option, config:get(option.key)),
      config:source(option.key) }
  end
  output.write(text_table.format({ { title = "KEY" }, { title = "VALUE" },
    { title = "SOURCE" } }, rows))
  return 0
end

return M
