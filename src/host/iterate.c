/* pairs and next for a LuaJIT whose compiler gets them wrong.
 *
 * The snapshots of 2.1.0-beta3 compile next() and loops over pairs(), with two
 * faults that were mended only later: the machine code of next() may drop half
 * of a pointer and crash (LuaJIT#829), and a loop over pairs() inside of
 * another may end early, without an error (LuaJIT#827). Nothing turns off that
 * part of the compiler alone, but it knows the functions by their identity: as
 * plain C functions they are called, never compiled, as in every LuaJIT before.
 */
#include <string.h>

#include "host/host.h"

static int plain_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

/* Its upvalue is next. */
static int plain_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int is_faulty(lua_State *L)
{
    static const char faulty[] = "LuaJIT 2.1.0-beta";
    lua_getglobal(L, "jit");
    if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        return 0;
    }
    lua_getfield(L, -1, "version");
    const char *version = lua_tostring(L, -1);
    int answer =
        version != NULL && strncmp(version, faulty, sizeof faulty - 1) == 0;
    lua_pop(L, 2);
    return answer;
}

void orr__mend_iteration(lua_State *L)
{
    if (!is_faulty(L))
        return;
    lua_pushcfunction(L, plain_next);
    lua_pushvalue(L, -1);
    lua_setglobal(L, "next");
    lua_pushcclosure(L, plain_pairs, 1);
    lua_setglobal(L, "pairs");
}
