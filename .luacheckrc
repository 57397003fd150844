-- LuaJIT only; everything else is a mistake.
std = "luajit"
max_line_length = 80
codes = true
self = false -- a method may ignore its receiver
cache = false

files["spec/**/*_spec.lua"] = { std = "+busted" }
-- A job file and a script get their arguments like a program does.
files["examples"] = { globals = {}, read_globals = { "arg", "args" } }
files["spec/bench/keyed_job.lua"] = { read_globals = { "args" } }
