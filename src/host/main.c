/* The program `orrery`: a Lua state that runs orrery.cli.main with the
 * arguments, and the end of the process.
 *
 * Failures: no state, or a broken installation -> a sentence, exit 1. main()
 * of the module answers the exit code; what it throws is printed with its
 * traceback, exit 1.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/host.h"

enum { JOIN_LIMIT_MS = 2000, EXIT_FAILED = 1 };

typedef struct start {
    int argc;
    char **argv;
    int code;
} start;

/* os.exit ends the process from the middle of Lua, after the spawned threads.
 * Nothing is torn down under the running state: _exit, not exit. (A leak
 * checker at exit would also report LuaJIT's buffers, whose pointers are
 * biased; programs that return from main are checked.) */
static int os_exit(lua_State *L)
{
    int code = EXIT_FAILED;
    if (lua_isnoneornil(L, 1))
        code = 0;
    else if (lua_isboolean(L, 1))
        code = lua_toboolean(L, 1) ? 0 : EXIT_FAILED;
    else
        code = (int)luaL_checknumber(L, 1);
    fflush(NULL);
    (void)orr__spawned_join(JOIN_LIMIT_MS);
    _exit(code);
}

static void replace_os_exit(lua_State *L)
{
    lua_getglobal(L, "os");
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}

/* `orrery exec FILE ...` needs none of the command line's modules. */
static int is_exec(const start *s)
{
    return s->argc > 2 && strcmp(s->argv[1], "exec") == 0 &&
           (s->argv[2][0] != '-' || s->argv[2][1] == 0);
}

static int run(lua_State *L)
{
    start *s = lua_touserdata(L, 1);
    lua_settop(L, 0);
    replace_os_exit(L);
    lua_getglobal(L, "require");
    int skip = is_exec(s) ? 1 : 0;
    if (skip)
        lua_pushliteral(L, "orrery.host_exec");
    else
        lua_pushliteral(L, "orrery.cli.main");
    lua_call(L, 1, 1);
    if (lua_istable(L, -1))
        lua_getfield(L, -1, "main");
    lua_createtable(L, s->argc, 1);
    for (int i = skip; i < s->argc; i++) {
        lua_pushstring(L, s->argv[i]);
        lua_rawseti(L, -2, i - skip);
    }
    lua_call(L, 1, 1);
    s->code = lua_isnil(L, -1) ? 0 : (int)lua_tonumber(L, -1);
    return 0;
}

int main(int argc, char **argv)
{
    start s = {argc, argv, 0};
    orr_error err;
    signal(SIGPIPE, SIG_IGN);
    lua_State *L = orr__state_new(0, &err);
    if (L == NULL) {
        fprintf(stderr, "orrery: %s\n", err.text);
        return EXIT_FAILED;
    }
    lua_pushcfunction(L, orr__traceback);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, &s);
    if (lua_pcall(L, 1, 0, 1) != 0) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "orrery: %s\n", text == NULL ? "no message" : text);
        s.code = EXIT_FAILED;
    }
    fflush(NULL);
    if (orr__spawned_join(JOIN_LIMIT_MS) > 0)
        _exit(s.code); /* a thread does not end; its state must stay */
    orr__state_free(L);
    return s.code;
}
