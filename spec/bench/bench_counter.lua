-- The counter of the rpc group, for an executor of its own.
local orrery = require("orrery")
local Counter = orrery.endpoint("counter", { add = {} })
function Counter:init() self.n = 0 end
function Counter:add(k) self.n = self.n + k; return self.n end
return Counter
