/* orrery.core: what Lua gets as classic C functions. They run interpreted most
 * of the time, where an FFI call costs six times as much.
 *
 * Every function that needs the host has it as its first upvalue.
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <stdlib.h>

#include "host/host.h"

static orr_host *upvalue_host(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

int orr__push_failure(lua_State *L, int code, const char *text)
{
    lua_pushnil(L);
    lua_pushnumber(L, code);
    lua_pushstring(L, text);
    return 3;
}

static int core_executor(lua_State *L)
{
    lua_pushlightuserdata(L, orr__host_executor(L, upvalue_host(L)));
    return 1;
}

/* The orr_loop of this state, for FFI. */
static int core_loop(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    orr__host_executor(L, h);
    lua_pushlightuserdata(L, h->loop);
    return 1;
}

static int core_number(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    orr__host_executor(L, h);
    lua_pushnumber(L, h->number);
    return 1;
}

static int core_poll(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    if (h->loop == NULL)
        orr__host_executor(L, h);
    lua_pushboolean(L, orr_loop_turn(h->loop, lua_toboolean(L, 1)));
    return 1;
}

/* spin(us): see orr_loop_set_spin. */
static int core_spin(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    double us = luaL_checknumber(L, 1);
    luaL_argcheck(L, us >= 0 && us <= 1e6, 1, "0 .. 1000000 microseconds");
    orr__host_executor(L, h);
    orr_loop_set_spin(h->loop, (uint64_t)(us * 1000));
    return 0;
}

static int core_interrupted(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    lua_pushnumber(L,
                   orr__signals_count(h->spawned == NULL ? h->executor : NULL));
    return 1;
}

static int core_memory(lua_State *L)
{
    lua_pushnumber(L, (double)upvalue_host(L)->memory);
    return 1;
}

/* Path of liborrery.so as this process has it. */
static int core_library(lua_State *L)
{
    Dl_info info;
    if (dladdr((void *)(size_t)&orr_abi, &info) == 0 || info.dli_fname == NULL)
        return luaL_error(L, "the path of liborrery.so is not known");
    char *real = realpath(info.dli_fname, NULL);
    lua_pushstring(L, real != NULL ? real : info.dli_fname);
    free(real);
    return 1;
}

/* own(service [, net]): freed with this host, after its loop. */
static int core_own(lua_State *L)
{
    orr_host *h = upvalue_host(L);
    orr_owned owned = {h->owned, NULL, NULL};
    owned.service = orr__check_pointer(L, 1, "a service");
    if (!lua_isnoneornil(L, 2))
        owned.net = orr__check_pointer(L, 2, "a net");
    orr_owned *o = malloc(sizeof *o);
    if (o == NULL)
        return luaL_error(L, "out of memory");
    *o = owned;
    h->owned = o;
    return 0;
}

static int core_code_name(lua_State *L)
{
    lua_pushstring(L, orr_code_name((int)luaL_checknumber(L, 1)));
    return 1;
}

static int core_log(lua_State *L)
{
    int level = (int)luaL_checknumber(L, 1);
    const char *component = luaL_checkstring(L, 2);
    const char *text = luaL_checkstring(L, 3);
    orr_log_write(level, component, text);
    return 0;
}

static const luaL_Reg functions[] = {
    {"executor", core_executor},
    {"loop", core_loop},
    {"number", core_number},
    {"bind", orr__core_bind},
    {"poll", core_poll},
    {"spin", core_spin},
    {"interrupted", core_interrupted},
    {"memory", core_memory},
    {"library", core_library},
    {"own", core_own},
    {"code_name", core_code_name},
    {"log", core_log},
    {"watchdog", orr__core_watchdog},
    {"watchdog_place", orr__core_watchdog_place},
    {"spawn", orr__core_spawn},
    {"spawned", orr__core_spawned},
    {"stopping", orr__core_stopping},
    {"stop_spawned", orr__core_stop_spawned},
    {"self_test", orr__core_self_test},
    {"version", orr__core_version},
    {NULL, NULL},
};

int orr__core_open(lua_State *L, orr_host *h)
{
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushlightuserdata(L, h);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    orr__core_open_codec(L);
    return 1;
}
