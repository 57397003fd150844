-- The sink of the mailbox group, for an executor of its own.
local orrery = require("orrery")
local Sink = orrery.endpoint("sink", { put = { tell = true }, count = {} })
function Sink:init() self.n = 0 end
function Sink:put() self.n = self.n + 1 end
function Sink:count() return self.n end
return Sink
