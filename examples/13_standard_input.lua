-- A filter: lines of standard input that contain a text, with their length.
--
--     ls -l / | orrery run --quiet examples/13_standard_input.lua -- TEXT
--
-- Standard input is read to its end and travels with the job, so a job that has
-- to start again sees the same lines.

local orrery = require("orrery")

local wanted = args[1] or ""

local job = orrery.job("filter")
job:source(orrery.sources.stdin(), { name = "stdin" })
  :filter("wanted", function(line) return line:find(wanted, 1, true) ~= nil end)
  :map("length", function(line) return { #line, line } end)
  :sink(orrery.sinks.stdout())
return job
