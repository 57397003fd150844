-- Words from a TCP connection, counted while they come.
--
--     nc -lk 9000                                     (type some lines there)
--     orrery run examples/11_socket.lua -- [host [port]]
--
-- The source does not end, so count gives an update for each change; the print
-- sink shows them on the terminal of the process that runs the task. The job
-- ends when the other side closes the connection, or by `orrery cancel`.

local orrery = require("orrery")

local host, port = args[1] or "127.0.0.1", tonumber(args[2] or 9000)

local job = orrery.job("socket words")

job:source(orrery.sources.socket({ host = host, port = port }))
  :flat_map("words", function(line, emit)
    for word in line:lower():gmatch("%a+") do emit(word) end
  end)
  :key_by()
  :count()
  :sink(orrery.sinks.print())

return job
