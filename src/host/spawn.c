/* Executors on threads of their own: each has a new Lua state whose module's
 * main(arg) runs there until it returns.
 *
 * States of an entry: STARTING (the thread makes its state) -> RUNNING (main
 * was called) -> ENDED or FAILED. The process-wide list keeps entries until
 * their thread is joined: by the next spawn, or by orr__spawned_join at the
 * end. A stop is a flag that main looks at (core.stopping) and a wake-up.
 */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/host.h"

enum { SPAWNED_MAX = 4096, TEXT_BYTES = 1024, NAME_BYTES = 16 };

typedef enum spawn_state { STARTING, RUNNING, ENDED, FAILED } spawn_state;

typedef struct orr_spawned {
    struct orr_spawned *next;
    pthread_t thread;
    uint32_t number;
    orr_service *service;
    char name[NAME_BYTES];
    char *module;
    char *arg;
    size_t arg_len;
    _Atomic int stopping;
    /* under lock */
    spawn_state state;
    orr_executor *executor; /* to wake it; NULL before and after */
    char text[TEXT_BYTES];
} orr_spawned;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static orr_spawned *list;
static unsigned list_len;

static void set_state(orr_spawned *s, spawn_state state, const char *text)
{
    pthread_mutex_lock(&lock);
    s->state = state;
    snprintf(s->text, sizeof s->text, "%s", text);
    pthread_mutex_unlock(&lock);
}

static void set_executor(orr_spawned *s, orr_executor *ex)
{
    pthread_mutex_lock(&lock);
    s->executor = ex;
    pthread_mutex_unlock(&lock);
}

static void free_spawned(orr_spawned *s)
{
    free(s->module);
    free(s->arg);
    free(s);
}

/* require(module).main(arg), under the traceback handler. */
static int call_main(lua_State *L)
{
    orr_spawned *s = lua_touserdata(L, 1);
    lua_settop(L, 0);
    orr_host *h = orr__host_of(L);
    h->spawned = s;
    set_executor(s, orr__host_executor(L, h));
    lua_getglobal(L, "require");
    lua_pushstring(L, s->module);
    lua_call(L, 1, 1);
    if (!lua_istable(L, -1))
        return luaL_error(L, "module %s is not a table", s->module);
    lua_getfield(L, -1, "main");
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "module %s has no function main", s->module);
    set_state(s, RUNNING, "");
    lua_pushlstring(L, s->arg, s->arg_len);
    lua_call(L, 1, 0);
    return 0;
}

static void run_state(orr_spawned *s)
{
    orr_error err;
    lua_State *L = orr__state_new(s->number, &err);
    if (L == NULL) {
        orr_logf(ORR_LOG_ERROR, "host", "executor %u (%s) has no Lua state: %s",
                 s->number, s->name, err.text);
        set_state(s, FAILED, err.text);
        return;
    }
    lua_pushcfunction(L, orr__traceback);
    lua_pushcfunction(L, call_main);
    lua_pushlightuserdata(L, s);
    int rc = lua_pcall(L, 1, 0, 1);
    set_executor(s, NULL);
    if (rc != 0) {
        const char *text = lua_tostring(L, -1);
        text = text == NULL ? "no message" : text;
        orr_logf(ORR_LOG_ERROR, "host", "executor %u (%s) failed: %s",
                 s->number, s->name, text);
        set_state(s, FAILED, text);
    }
    orr__state_free(L);
    if (rc == 0)
        set_state(s, ENDED, "");
}

static void *thread_main(void *arg)
{
    orr_spawned *s = arg;
    pthread_setname_np(pthread_self(), s->name);
    run_state(s);
    return NULL;
}

static int is_over(const orr_spawned *s)
{
    return s->state == ENDED || s->state == FAILED;
}

/* Joins threads that are over. Failed ones are kept while somebody may ask for
 * their text: until keep others are in the list. */
static void reap(unsigned keep)
{
    pthread_mutex_lock(&lock);
    orr_spawned **at = &list;
    while (*at != NULL && list_len > keep) {
        orr_spawned *s = *at;
        if (!is_over(s)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        list_len--;
        pthread_mutex_unlock(&lock);
        pthread_join(s->thread, NULL);
        free_spawned(s);
        pthread_mutex_lock(&lock);
        at = &list;
    }
    pthread_mutex_unlock(&lock);
}

static orr_spawned *make(lua_State *L)
{
    size_t arg_len, module_len;
    orr_service *service = NULL;
    if (lua_type(L, 1) == LUA_TLIGHTUSERDATA)
        service = lua_touserdata(L, 1);
    else if (!lua_isnil(L, 1))
        service = *(orr_service *const *)lua_topointer(L, 1);
    const char *name = luaL_checkstring(L, 2);
    const char *module = luaL_checklstring(L, 3, &module_len);
    const char *arg = luaL_optlstring(L, 4, "", &arg_len);
    orr_spawned *s = calloc(1, sizeof *s);
    char *module_copy = malloc(module_len + 1);
    char *arg_copy = malloc(arg_len + 1);
    if (s == NULL || module_copy == NULL || arg_copy == NULL) {
        free(s);
        free(module_copy);
        free(arg_copy);
        return NULL;
    }
    s->service = service;
    s->number = orr__next_number();
    snprintf(s->name, sizeof s->name, "%s", name);
    s->module = memcpy(module_copy, module, module_len + 1);
    s->arg = memcpy(arg_copy, arg, arg_len + 1);
    s->arg_len = arg_len;
    return s;
}

/* spawn(service, name, module, arg) -> number | nil, code, text */
int orr__core_spawn(lua_State *L)
{
    reap(64);
    orr_spawned *s = make(L);
    if (s == NULL)
        return orr__push_failure(L, ORR_ENOMEM, "out of memory");
    uint32_t number = s->number;
    pthread_mutex_lock(&lock);
    int rc = list_len >= SPAWNED_MAX
                 ? -1
                 : pthread_create(&s->thread, NULL, thread_main, s);
    if (rc == 0) {
        s->next = list;
        list = s;
        list_len++;
    }
    pthread_mutex_unlock(&lock);
    if (rc == 0) {
        lua_pushnumber(L, number);
        return 1;
    }
    free_spawned(s);
    if (rc < 0)
        return orr__push_failure(L, ORR_OVERLOADED,
                                 "too many executors in this process");
    return orr__push_failure(L, ORR_EIO, strerror(rc));
}

/* spawned(number) -> state, text | nil
 * spawned() in a spawned state -> service, name; nil in the main one */
int orr__core_spawned(lua_State *L)
{
    static const char *const names[] = {"starting", "running", "ended",
                                        "failed"};
    if (lua_isnoneornil(L, 1)) {
        orr_host *h = lua_touserdata(L, lua_upvalueindex(1));
        if (h->spawned == NULL)
            return 0;
        lua_pushlightuserdata(L, h->spawned->service);
        lua_pushstring(L, h->spawned->name);
        return 2;
    }
    uint32_t number = (uint32_t)luaL_checknumber(L, 1);
    char text[TEXT_BYTES];
    const char *state = NULL;
    pthread_mutex_lock(&lock);
    for (orr_spawned *s = list; s != NULL; s = s->next) {
        if (s->number != number)
            continue;
        state = names[s->state];
        memcpy(text, s->text, sizeof text);
    }
    pthread_mutex_unlock(&lock);
    if (state == NULL)
        return 0;
    lua_pushstring(L, state);
    lua_pushstring(L, text);
    return 2;
}

/* stopping() -> has this spawned executor been asked to stop? */
int orr__core_stopping(lua_State *L)
{
    orr_host *h = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushboolean(L,
                    h->spawned != NULL && atomic_load(&h->spawned->stopping));
    return 1;
}

/* Under lock. */
static void ask_to_stop(orr_spawned *s)
{
    atomic_store(&s->stopping, 1);
    if (s->executor != NULL)
        orr_executor_wake(s->executor);
}

/* stop_spawned(number) */
int orr__core_stop_spawned(lua_State *L)
{
    uint32_t number = (uint32_t)luaL_checknumber(L, 1);
    pthread_mutex_lock(&lock);
    for (orr_spawned *s = list; s != NULL; s = s->next)
        if (s->number == number)
            ask_to_stop(s);
    pthread_mutex_unlock(&lock);
    return 0;
}

static unsigned stop_all(void)
{
    unsigned alive = 0;
    pthread_mutex_lock(&lock);
    for (orr_spawned *s = list; s != NULL; s = s->next) {
        if (is_over(s))
            continue;
        alive++;
        ask_to_stop(s);
    }
    pthread_mutex_unlock(&lock);
    return alive;
}

unsigned orr__spawned_join(unsigned limit_ms)
{
    unsigned alive = stop_all();
    for (unsigned waited = 0; alive > 0 && waited < limit_ms; waited++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        alive = stop_all();
    }
    reap(0);
    return alive;
}
