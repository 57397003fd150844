/* Lua states: their memory, paths, luv, and orrery.core.
 *
 * Order of the end, in orr__state_free: first the loop (it closes what luv left
 * open and runs the close callbacks), then the state. The other way round the
 * finalizers of luv's handles would reach for a loop that is gone.
 */
#define _GNU_SOURCE 1
#include <luv/luv.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/host.h"

enum { JOIN_LIMIT_MS = 2000 };

static const char host_key = 'h';
static _Atomic uint32_t numbers = 1;

uint32_t orr__next_number(void)
{
    return atomic_fetch_add(&numbers, 1);
}

/* Malloc, counted; large blocks by their own way. LuaJIT's own allocator keeps
 * a segment a state; with thousands of states malloc is far smaller and no
 * slower. */
static void *count_alloc(void *ud, void *ptr, size_t old, size_t size)
{
    orr_host *h = ud;
    if (size == 0) {
        h->memory -= ptr == NULL ? 0 : old;
        if (old >= ORR_LARGE_MIN)
            orr_large_free(ptr);
        else
            free(ptr);
        return NULL;
    }
    void *p = size >= ORR_LARGE_MIN && size > old ? orr_large_realloc(ptr, size)
                                                  : realloc(ptr, size);
    if (p != NULL)
        h->memory += size - (ptr == NULL ? 0 : old);
    return p;
}

int orr__traceback(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING) {
        if (luaL_callmeta(L, 1, "__tostring"))
            lua_replace(L, 1);
        else if (lua_isnil(L, 1) || lua_istable(L, 1)) {
            lua_pushfstring(L, "(error object is a %s)", luaL_typename(L, 1));
            lua_replace(L, 1);
        }
    }
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* luv's own would print and exit the process. */
static int protected_call(lua_State *L, int nargs, int nresults, int flags)
{
    (void)flags;
    int function = lua_gettop(L) - nargs;
    lua_pushcfunction(L, orr__traceback);
    lua_insert(L, function);
    int rc = lua_pcall(L, nargs, nresults, function);
    lua_remove(L, function);
    /* It may have left work for the executor or the run list, and libuv calls
     * timers before it sleeps: end the turn so that it is looked at. */
    uv_stop(luv_loop(L));
    if (rc == 0)
        return nresults == LUA_MULTRET ? lua_gettop(L) - function + 1
                                       : nresults;
    const char *text = lua_tostring(L, -1);
    orr_logf(ORR_LOG_ERROR, "host", "error in a luv callback: %s",
             text == NULL ? "no message" : text);
    lua_pop(L, 1);
    return -rc;
}

orr_host *orr__host_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&host_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    orr_host *h = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return h;
}

static int refuse_loop(lua_State *L)
{
    return luaL_error(L,
                      "luv.%s is not available: the loop belongs to the "
                      "executor; use orrery.run or Future:await",
                      lua_tostring(L, lua_upvalueindex(1)));
}

/* What would run, stop, close or walk the executor's loop. */
static void hide_loop_functions(lua_State *L)
{
    static const char *const names[] = {"run", "stop", "loop_close", "walk"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        lua_pushstring(L, names[i]);
        lua_pushcclosure(L, refuse_loop, 1);
        lua_setfield(L, -2, names[i]);
    }
}

static int preload_luv(lua_State *L)
{
    orr_host *h = lua_touserdata(L, lua_upvalueindex(1));
    orr__host_executor(L, h);
    luv_set_loop(h->L, orr_loop_uv(h->loop));
    luv_set_callback(h->L, protected_call);
    lua_pushcfunction(L, luaopen_luv);
    lua_call(L, 0, 1);
    luv_context(L)->L = h->L;
    hide_loop_functions(L);
    return 1;
}

orr_executor *orr__host_executor(lua_State *L, orr_host *h)
{
    orr_error err;
    if (h->closed)
        luaL_error(L, "the executor of this Lua state has ended");
    if (h->executor == NULL) {
        h->number = h->number != 0 ? h->number : orr__next_number();
        h->loop = orr_loop_new(h->number, &err);
        if (h->loop == NULL)
            luaL_error(L, "an executor cannot be made: %s", err.text);
        h->executor = orr_loop_executor(h->loop);
        orr__watchdog_add(h);
    }
    return h->executor;
}

static void host_close(orr_host *h)
{
    h->closed = 1;
    if (h->executor != NULL)
        orr__watchdog_remove(h);
    orr__signals_forget(h->executor);
    h->executor = NULL;
    uint32_t open = orr_loop_free(h->loop);
    h->loop = NULL;
    if (open > 0)
        orr_logf(ORR_LOG_DEBUG, "host",
                 "executor %u ended with %u open luv handles", h->number, open);
}

/* Threads that were spawned for a service may use it still: then it stays. */
static void free_owned(orr_host *h)
{
    for (orr_owned *o = h->owned; o != NULL; o = o->next)
        orr_net_free(o->net);
    while (h->owned != NULL) {
        orr_owned *o = h->owned;
        h->owned = o->next;
        orr_service_free(o->service);
        free(o);
    }
}

static int host_gc(lua_State *L)
{
    orr_host *h = lua_touserdata(L, 1);
    unsigned alive = orr__spawned_join(JOIN_LIMIT_MS);
    host_close(h);
    if (alive == 0)
        free_owned(h);
    return 0;
}

static int open_core(lua_State *L)
{
    return orr__core_open(L, lua_touserdata(L, lua_upvalueindex(1)));
}

static void preload(lua_State *L, const char *name, lua_CFunction f,
                    orr_host *h)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushlightuserdata(L, h);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static void host_register(lua_State *L, orr_host *h)
{
    lua_pushlightuserdata(L, (void *)&host_key);
    lua_pushlightuserdata(L, h);
    lua_rawset(L, LUA_REGISTRYINDEX);
    preload(L, "luv", preload_luv, h);
}

/* Puts our folders before what package.path and cpath have. */
static void add_paths(lua_State *L, const char *lua, const char *c)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", lua, lua,
                    lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 1);
    lua_getfield(L, -1, "cpath");
    lua_pushfstring(L, "%s/?.so;%s", c, lua_tostring(L, -1));
    lua_setfield(L, -3, "cpath");
    lua_pop(L, 2);
}

static void set_paths(lua_State *L)
{
    char exe[4000];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n < 0 ? 0 : n] = 0;
    char *slash = strrchr(exe, '/');
    if (slash != NULL)
        *slash = 0;
    char lua[4200], c[4200], probe[4300];
    snprintf(lua, sizeof lua, "%s/%s", exe, ORR_INSTALL_LUADIR);
    snprintf(c, sizeof c, "%s/%s", exe, ORR_INSTALL_CLUADIR);
    snprintf(probe, sizeof probe, "%s/orrery/init.lua", lua);
    if (access(probe, R_OK) == 0)
        add_paths(L, lua, c);
    else
        add_paths(L, ORR_SOURCE_LUADIR, ORR_BUILD_CLUADIR);
}

static int setup(lua_State *L)
{
    orr_host *h = lua_touserdata(L, 1);
    luaL_openlibs(L);
    orr__mend_iteration(L);
    host_register(L, h);
    preload(L, "orrery.core", open_core, h);
    set_paths(L);
    return 0;
}

lua_State *orr__state_new(uint32_t number, orr_error *err)
{
    orr_host *h = calloc(1, sizeof *h);
    if (h == NULL) {
        orr_error_set(err, ORR_ENOMEM, "out of memory");
        return NULL;
    }
    h->number = number;
    lua_State *L = lua_newstate(count_alloc, h);
    if (L == NULL) {
        free(h);
        orr_error_set(err, ORR_ENOMEM,
                      "a Lua state cannot be made: no memory, "
                      "or this LuaJIT lacks GC64");
        return NULL;
    }
    h->L = L;
    int rc = lua_cpcall(L, setup, h);
    if (rc != 0) {
        orr_error_set(err, ORR_ENOMEM, "a Lua state cannot be set up: %s",
                      lua_tostring(L, -1));
        lua_close(L);
        free(h);
        return NULL;
    }
    return L;
}

void orr__state_free(lua_State *L)
{
    if (L == NULL)
        return;
    orr_host *h = orr__host_of(L);
    host_close(h);
    free_owned(h);
    lua_close(L);
    free(h);
}

/* The Lua module for a luajit that is there already. The host lives in the
 * registry and ends with the state. */
int luaopen_orrery_core(lua_State *L);
int luaopen_orrery_core(lua_State *L)
{
    orr_host *h = orr__host_of(L);
    if (h == NULL) {
        h = lua_newuserdata(L, sizeof *h);
        int top = lua_gettop(L);
        memset(h, 0, sizeof *h);
        /* Callbacks need a state that nobody resumes: the main one, or, when
         * the first require ran in a coroutine, a thread of our own. */
        if (lua_pushthread(L) == 1)
            h->L = L;
        else
            h->L = lua_newthread(L);
        luaL_ref(L, LUA_REGISTRYINDEX);
        lua_settop(L, top);
        lua_newtable(L);
        lua_pushcfunction(L, host_gc);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        luaL_ref(L, LUA_REGISTRYINDEX);
        host_register(L, h);
        orr__mend_iteration(L);
    }
    return orr__core_open(L, h);
}
