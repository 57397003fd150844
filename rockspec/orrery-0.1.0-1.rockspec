-- luarocks make rockspec/orrery-0.1.0-1.rockspec, in the folder of the project.
rockspec_format = "3.0"
package = "orrery"
version = "0.1.0-1"
source = {
  -- A release archive beside this file; `luarocks make` takes the checkout.
  url = "file://orrery-0.1.0.tar.gz",
  dir = "orrery-0.1.0",
}
description = {
  summary = "A Lua-scriptable coordination runtime",
  detailed = [[
    Endpoints, jobs and clusters in Lua on a C core: executors with bounded
    mailboxes, remote calls with deadlines and fencing, a deterministic
    simulator. Needs LuaJIT 2.1, libuv, luv and OpenSSL of the system, and the
    Lua modules cjson and argparse, of the system or as rocks.
  ]],
  license = "Apache-2.0",
}
supported_platforms = { "linux" }
-- cjson and argparse are not named: most systems have them as packages, which
-- LuaRocks does not see.
dependencies = { "lua == 5.1" }
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    ORR_ROCK = "ON",
    ORR_LUADIR = "$(LUADIR)",
    ORR_CLUADIR = "$(LIBDIR)",
    ORR_BINDIR = "$(BINDIR)",
    ORR_TESTS = "OFF",
    ORR_BENCH = "OFF",
    ORR_WERROR = "OFF",
    ORR_HARDEN = "ON",
  },
}
