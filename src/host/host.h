/* The host: Lua states, and the functions that they get from C. The only
 * folder that includes lua.h.
 *
 * A host is what one Lua state has beside it: at most one real executor with
 * its libuv loop, made on first use. It is owned by the state's thread.
 */
#ifndef ORRERY_HOST_HOST_H
#define ORRERY_HOST_HOST_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "orrery/exec.h"
#include "orrery/loop.h"
#include "orrery/net.h"

/* What ends with the host, after its loop: nets, then services. */
typedef struct orr_owned {
    struct orr_owned *next;
    orr_net *net; /* or NULL */
    orr_service *service;
} orr_owned;

typedef struct orr_host {
    lua_State *L;   /* main coroutine of the state */
    orr_loop *loop; /* NULL until needed, and after the end */
    orr_executor *executor;
    uint32_t number; /* of the executor, unique in the process */
    int closed;      /* the loop is gone for good */
    size_t memory;   /* bytes of a state made by orr__state_new */
    orr_owned *owned;
    struct orr_spawned *spawned; /* NULL for the main thread */
} orr_host;

/* state.c */

/* Gives a Lua state with the standard libraries, our paths, luv on the loop of
 * its executor and orrery.core. NULL with err. Thread: the owner from now. */
lua_State *orr__state_new(uint32_t number, orr_error *err);
/* Closes the loop, then the state. NULL is fine. Thread: owner. */
void orr__state_free(lua_State *L);
/* The host of a state; every core function has it as its first upvalue. */
orr_host *orr__host_of(lua_State *L);
/* Makes the executor when there is none. Throws a Lua error. */
orr_executor *orr__host_executor(lua_State *L, orr_host *h);
/* Traceback handler for lua_pcall. */
int orr__traceback(lua_State *L);
/* Next free executor number. Thread: any. */
uint32_t orr__next_number(void);

/* core.c: opens orrery.core in a state, with its host. Pushes the table. */
int orr__core_open(lua_State *L, orr_host *h);
/* bind.c */
/* A pointer given by FFI (cdata) or as light userdata; throws when NULL. */
void *orr__check_pointer(lua_State *L, int index, const char *what);
int orr__core_bind(lua_State *L);
/* batch.c: encode, decode, batch, decode_batch into the table at the top. */
void orr__core_open_codec(lua_State *L);
/* iterate.c: gives the state pairs and next that are never compiled, if its
 * LuaJIT compiles them wrongly. */
void orr__mend_iteration(lua_State *L);
/* self_test.c */
int orr__core_self_test(lua_State *L);
/* Pushes the table of facts about this build. */
int orr__core_version(lua_State *L);

/* Pushes nil, code, text. */
int orr__push_failure(lua_State *L, int code, const char *text);

/* signals.c: counts SIGINT and SIGTERM from the first question on. */
int orr__signals_count(orr_executor *wake);
/* The executor goes away: it is not woken any more. */
void orr__signals_forget(orr_executor *ex);

/* watchdog.c */
/* An executor begins, or ends, to be watched. Thread: its owner. */
void orr__watchdog_add(orr_host *h);
void orr__watchdog_remove(const orr_host *h);
/* For an executor that begins a turn: wakes the watchdog if it parked. */
int orr__watchdog_is_parked(void);
void orr__watchdog_unpark(void);
int orr__core_watchdog(lua_State *L);
int orr__core_watchdog_place(lua_State *L);

/* spawn.c */
int orr__core_spawn(lua_State *L);
int orr__core_spawned(lua_State *L);
int orr__core_stopping(lua_State *L);
int orr__core_stop_spawned(lua_State *L);
/* Asks every spawned executor to stop and joins it, for limit_ms at most.
 * Answers how many did not end. Thread: main. */
unsigned orr__spawned_join(unsigned limit_ms);

#endif
