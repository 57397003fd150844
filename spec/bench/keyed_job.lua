-- Numbers through a keyed exchange, every record crossing it: no combiner.
local orrery = require("orrery")
local count, parallelism = tonumber(args[1]), tonumber(args[2])
local job = orrery.job("keyed exchange", { parallelism = parallelism })
job:source(orrery.sources.numbers { from = 1, to = count })
  :key_by(function(n) return n % 1009 end)
  :process("count", {
    open = function(self) self.seen = 0 end,
    each = function(self) self.seen = self.seen + 1 end,
    close = function(self, emit) emit(self.seen) end,
  })
  :sink(orrery.sinks.collect("seen"))
return job
