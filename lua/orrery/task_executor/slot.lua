--- What holds the executor of a slot while it has no task: `slot/<allocation>`.
-- It serves nothing; the executor ends when it and the last task are gone.
local orrery = require("orrery")

return orrery.endpoint("slot", {})
