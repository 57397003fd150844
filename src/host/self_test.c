/* Facts and faults of the LuaJIT that runs here, looked at on demand. */
#include <luajit.h>
#include <string.h>
#include <uv.h>

#include "host/host.h"

/* LuaJIT#1125: buf:set(substring) does not keep the string alive. 1 = faulty.
 * The string is dropped, collected and its memory used again. */
static const char *const buffer_set_test =
    "local ok, buffer = pcall(require, 'string.buffer')\n"
    "if not ok then return 'absent' end\n"
    "local b = buffer.new()\n"
    "local text = ('x'):rep(4000) .. tostring({})\n"
    "b:set(text:sub(2, 3000))\n"
    "text = nil\n"
    "collectgarbage() collectgarbage()\n"
    "local fill = {}\n"
    "for i = 1, 64 do fill[i] = ('y'):rep(2990 + i) end\n"
    "return b:tostring():find('[^x]') and 'faulty' or 'fine'\n";

static void add(lua_State *L, const char *name, int ok, const char *detail)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    lua_pushboolean(L, ok);
    lua_setfield(L, -2, "ok");
    lua_pushstring(L, detail);
    lua_setfield(L, -2, "detail");
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
}

static void interrupt(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

/* Does a hook that is set before a loop of bounded length end it once it is
 * compiled? Debian's build does not look at hooks in machine code. */
static int loop_stops(lua_State *L)
{
    static const char *const loop =
        "local n = 0 for i = 1, 2e6 do n = n + i % 3 end return n";
    if (luaL_loadstring(L, loop) != 0)
        return 0;
    lua_sethook(L, interrupt, LUA_MASKCOUNT, 1000000);
    int rc = lua_pcall(L, 0, 1, 0);
    lua_sethook(L, NULL, 0, 0);
    lua_pop(L, 1);
    return rc != 0;
}

static const char *string_result(lua_State *L, const char *chunk)
{
    if (luaL_loadstring(L, chunk) != 0 || lua_pcall(L, 0, 1, 0) != 0 ||
        !lua_isstring(L, -1))
        return "the test itself failed";
    return lua_tostring(L, -1);
}

/* self_test() -> array of {name, ok, detail} */
int orr__core_self_test(lua_State *L)
{
    lua_newtable(L);
    int result = lua_gettop(L);
    add(L, "luajit", 1, LUAJIT_VERSION);
    int gc64 = strcmp(string_result(L, "return require('ffi').abi('gc64') "
                                       "and 'yes' or 'no'"),
                      "yes") == 0;
    lua_settop(L, result);
    add(L, "gc64", gc64,
        gc64 ? "states use plain malloc"
             : "states cannot use malloc; memory is limited "
               "to 2 GiB");
    const char *buffer = string_result(L, buffer_set_test);
    int is_fine = strcmp(buffer, "fine") == 0;
    int is_there = strcmp(buffer, "absent") != 0;
    lua_settop(L, result);
    add(L, "string.buffer", is_there, is_there ? "present" : "absent");
    add(L, "LuaJIT#1125", is_fine,
        is_fine ? "buf:set keeps its string alive"
                : "buf:set(substring) reads freed memory; Orrery does not use "
                  "it, do not use it in jobs");
    int stops = loop_stops(L);
    lua_settop(L, result);
    add(L, "interrupt", stops,
        stops ? "a hook ends a compiled loop"
              : "compiled loops ignore hooks; only jit.off code can be "
                "interrupted");
    add(L, "libuv", 1, uv_version_string());
    return 1;
}

/* version() -> {orrery, abi, luajit, libuv} */
int orr__core_version(lua_State *L)
{
    lua_createtable(L, 0, 4);
    lua_pushstring(L, ORR_VERSION);
    lua_setfield(L, -2, "orrery");
    lua_pushnumber(L, orr_abi());
    lua_setfield(L, -2, "abi");
    lua_pushstring(L, LUAJIT_VERSION);
    lua_setfield(L, -2, "luajit");
    lua_pushstring(L, uv_version_string());
    lua_setfield(L, -2, "libuv");
    return 1;
}
