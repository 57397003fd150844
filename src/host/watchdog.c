/* The watchdog: a thread that tells of handlers that keep their executor for
 * too long, with the Lua stack where that can be had.
 *
 * It looks at each executor a few times per threshold: an executor that
 * neither slept nor did the next thing since is stuck in one piece of Lua. The
 * stack is taken by that thread itself: a signal to it sets a hook (what
 * lua_sethook does is fit for signal handlers, LuaJIT's own interpreter does
 * it so), and the hook runs at the next interpreted instruction. Compiled code
 * does not look at hooks; when none has come after TRACE_WAIT_MS the line names
 * where the handler begins instead, and a stack that comes later, while the
 * same handler runs, is told then.
 *
 * When the process was stopped (SIGSTOP, a debugger, a suspended machine) the
 * watchdog sees a gap in its own waiting and forgives that time to all.
 *
 * Owner: the process. Thread: its own; entries come and go with their hosts,
 * under the lock. The thread ends with the last entry.
 */
#define _GNU_SOURCE 1
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/host.h"

enum {
    TRACE_WAIT_MS = 20,
    TRACE_BYTES = 6000,
    INTERVAL_MIN_MS = 5,
    INTERVAL_MAX_MS = 250,
    GAP_MS = 200, /* later than this is not the scheduler any more */
    POSITIONS_MAX = 4096,
    IDLE_TICKS = 8,   /* without anything to watch, then it parks */
    SIGNAL_OFFSET = 5 /* from SIGRTMIN */
};

typedef enum trace_state { TRACE_NONE, TRACE_WANTED, TRACE_THERE } trace_state;

typedef struct watched {
    struct watched *next;
    lua_State *L;
    orr_executor *executor;
    uint32_t number;
    pthread_t thread;
    /* of the watchdog */
    uint64_t progress;
    uint64_t since_ns;    /* when that progress was first seen */
    uint64_t forgiven_ns; /* of the time since then */
    int sleeps;
    uint64_t started_ns; /* of what was reported; 0 = not known */
    int is_reported;
    int has_trace;
    char what[400];
    /* between the watchdog and the watched thread */
    _Atomic int trace;
    lua_Hook old_hook;
    int old_mask;
    int old_count;
    char sender[320];
    char text[TRACE_BYTES];
} watched;

typedef struct position {
    struct position *next;
    uint32_t method;
    char place[120];
    char gateway[];
} position;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic int is_parked;
static watched *list;
static position *positions;
static unsigned positions_len;
static uint64_t threshold_ns; /* 0 = off */
static pthread_t thread;
static int is_running, is_stopping;

/* Of this thread; a signal handler reads it. */
static __thread watched *mine __attribute__((tls_model("initial-exec")));

/* --- on the watched thread ------------------------------------------------ */

static void take_trace(lua_State *L, lua_Debug *ar)
{
    watched *w = mine;
    (void)ar;
    if (w == NULL)
        return;
    lua_sethook(L, w->old_hook, w->old_mask, w->old_count);
    if (atomic_load(&w->trace) != TRACE_WANTED)
        return;
    luaL_traceback(L, L, NULL, 0);
    const char *text = lua_tostring(L, -1);
    snprintf(w->text, sizeof w->text, "%s", text == NULL ? "" : text);
    lua_pop(L, 1);
    orr_executor_sender(w->executor, 0, w->sender, sizeof w->sender);
    atomic_store(&w->trace, TRACE_THERE);
}

static void on_signal(int number)
{
    watched *w = mine;
    (void)number;
    if (w == NULL || atomic_load(&w->trace) != TRACE_WANTED)
        return;
    lua_Hook hook = lua_gethook(w->L);
    if (hook == take_trace)
        return;
    w->old_hook = hook;
    w->old_mask = lua_gethookmask(w->L);
    w->old_count = lua_gethookcount(w->L);
    lua_sethook(w->L, take_trace,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* --- the watchdog's thread ------------------------------------------------ */

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000,
                                 .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

static const char *place_of(const char *gateways, uint32_t method)
{
    for (const position *p = positions; p != NULL; p = p->next)
        if (p->method == method && strcmp(p->gateway, gateways) == 0)
            return p->place;
    return NULL;
}

static void describe(watched *w, const orr_running *r)
{
    if (r->endpoint[0] == 0)
        snprintf(w->what, sizeof w->what, "executor %u", w->number);
    else if (r->name[0] == 0)
        snprintf(w->what, sizeof w->what,
                 "a posted function of endpoint %s (executor %u)", r->endpoint,
                 w->number);
    else
        snprintf(w->what, sizeof w->what, "%s of endpoint %s (executor %u)",
                 r->name, r->endpoint, w->number);
}

static unsigned long long ran_ms(const watched *w)
{
    uint64_t since = w->since_ns - w->forgiven_ns;
    if (w->started_ns != 0 && w->started_ns < since)
        since = w->started_ns;
    uint64_t ran = orr_clock_mono_ns() - since;
    return (ran > w->forgiven_ns ? ran - w->forgiven_ns : 0) / 1000000u;
}

/* The stack on one line, as the log has it: innermost first. */
static void tidy(char *text)
{
    static const char head[] = "stack traceback:\n\t";
    char *out = text;
    const char *in = text;
    if (strncmp(in, head, sizeof head - 1) == 0)
        in += sizeof head - 1;
    while (*in != 0) {
        if (in[0] == '\n' && in[1] == '\t') {
            /* never longer than what it stands for */
            *out++ = ';';
            *out++ = ' ';
            in += 2;
        } else {
            *out++ = *in++;
        }
    }
    *out = 0;
}

/* Lock held. */
static void report(watched *w, const orr_running *r)
{
    w->is_reported = 1;
    w->started_ns = r->since_ns;
    w->has_trace = 0;
    w->sender[0] = 0;
    describe(w, r);
    atomic_store(&w->trace, TRACE_WANTED);
    if (pthread_kill(w->thread, SIGRTMIN + SIGNAL_OFFSET) == 0)
        for (int i = 0; i < TRACE_WAIT_MS; i++) {
            if (atomic_load(&w->trace) == TRACE_THERE)
                break;
            sleep_ms(1);
        }
    unsigned long long ms = ran_ms(w);
    if (atomic_load(&w->trace) == TRACE_THERE) {
        w->has_trace = 1;
        tidy(w->text);
        orr_logf(ORR_LOG_WARN, "watchdog", "%s%s%s runs for %llu ms, at %s",
                 w->what, w->sender[0] == 0 ? "" : ", called by ", w->sender,
                 ms, w->text);
        return;
    }
    const char *place = place_of(r->gateways, r->method);
    orr_logf(ORR_LOG_WARN, "watchdog",
             "%s runs for %llu ms; its code is compiled (or waits in C), so "
             "there is no stack%s%s",
             w->what, ms, place == NULL ? "" : "; the handler begins at ",
             place == NULL ? "" : place);
}

static void look(watched *w, uint64_t now_ns)
{
    orr_running r;
    orr_executor_running(w->executor, &r);
    w->sleeps = r.sleeps && r.progress == w->progress;
    if (r.sleeps || r.progress != w->progress || w->since_ns == 0) {
        if (w->is_reported)
            orr_logf(ORR_LOG_WARN, "watchdog", "%s went on after %llu ms",
                     w->what, ran_ms(w));
        atomic_store(&w->trace, TRACE_NONE);
        w->is_reported = 0;
        w->progress = r.progress;
        w->since_ns = now_ns;
        w->forgiven_ns = 0;
        w->started_ns = 0;
        return;
    }
    if (!w->is_reported) {
        if (now_ns - w->since_ns >= threshold_ns)
            report(w, &r);
    } else if (!w->has_trace && atomic_load(&w->trace) == TRACE_THERE) {
        w->has_trace = 1;
        tidy(w->text);
        orr_logf(ORR_LOG_WARN, "watchdog", "%s still runs after %llu ms, at %s",
                 w->what, ran_ms(w), w->text);
    }
}

static unsigned interval_ms(void)
{
    uint64_t ms = threshold_ns / 4000000u;
    if (threshold_ns == 0 || ms > INTERVAL_MAX_MS)
        return INTERVAL_MAX_MS;
    return ms < INTERVAL_MIN_MS ? INTERVAL_MIN_MS : (unsigned)ms;
}

static void wait_for(unsigned ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&changed, &lock, &at);
}

static void forgive(uint64_t ns)
{
    for (watched *w = list; w != NULL; w = w->next) {
        w->since_ns += ns;
        w->forgiven_ns += ns;
    }
}

/* Looks at all; answers 1 when nobody did anything since the last look. */
static int look_at_all(void)
{
    int is_idle = 1;
    for (watched *w = list; w != NULL && threshold_ns != 0; w = w->next) {
        look(w, orr_clock_mono_ns());
        is_idle = is_idle && w->sleeps;
    }
    return is_idle;
}

/* Nothing to watch: waits without a clock until an executor turns. Who turned
 * after the last look but did not see the flag is seen by this one. */
static void park(void)
{
    atomic_store(&is_parked, 1);
    if (look_at_all() && !is_stopping)
        (void)pthread_cond_wait(&changed, &lock);
    atomic_store(&is_parked, 0);
}

int orr__watchdog_is_parked(void)
{
    /* After the turn was counted: see park. */
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&is_parked, memory_order_relaxed);
}

/* Thread: any. */
void orr__watchdog_unpark(void)
{
    pthread_mutex_lock(&lock);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void *watch(void *arg)
{
    int idle = 0;
    (void)arg;
    pthread_mutex_lock(&lock);
    while (!is_stopping) {
        if (idle >= IDLE_TICKS) {
            park();
            idle = 0;
            continue;
        }
        uint64_t before = orr_clock_mono_ns();
        uint64_t meant = (uint64_t)interval_ms() * 1000000u;
        wait_for(interval_ms());
        uint64_t now = orr_clock_mono_ns();
        if (now - before > meant + (uint64_t)GAP_MS * 1000000u)
            forgive(now - before - meant);
        idle = look_at_all() ? idle + 1 : 0;
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* --- from outside --------------------------------------------------------- */

static void set_up(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attr);
    pthread_condattr_destroy(&attr);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGRTMIN + SIGNAL_OFFSET, &action, NULL);
}

/* Lock held. Signals of the process are for its other threads. */
static int start_thread(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    is_running = rc == 0;
    is_stopping = 0;
    return rc;
}

void orr__watchdog_add(orr_host *h)
{
    watched *w = calloc(1, sizeof *w);
    pthread_once(&once, set_up);
    if (w == NULL) {
        orr_logf(ORR_LOG_WARN, "watchdog", "no memory to watch executor %u",
                 h->number);
        return;
    }
    w->L = h->L;
    w->executor = h->executor;
    w->number = h->number;
    w->thread = pthread_self();
    mine = w;
    pthread_mutex_lock(&lock);
    w->next = list;
    list = w;
    pthread_mutex_unlock(&lock);
}

static void free_positions(void)
{
    while (positions != NULL) {
        position *p = positions;
        positions = p->next;
        free(p);
    }
    positions_len = 0;
}

void orr__watchdog_remove(const orr_host *h)
{
    int ends = 0;
    pthread_mutex_lock(&lock);
    watched **at = &list;
    while (*at != NULL && (*at)->executor != h->executor)
        at = &(*at)->next;
    watched *w = *at;
    if (w != NULL)
        *at = w->next;
    if (list == NULL) {
        ends = is_running;
        is_stopping = 1;
        is_running = 0;
        threshold_ns = 0;
        free_positions();
        if (ends)
            pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (ends)
        pthread_join(thread, NULL);
    if (w == NULL)
        return;
    /* A hook that has not come yet must not find what is freed. */
    if (mine == w)
        mine = NULL;
    if (lua_gethook(w->L) == take_trace)
        lua_sethook(w->L, w->old_hook, w->old_mask, w->old_count);
    free(w);
}

/* watchdog(threshold_ms): 0 = off. true | nil, code, text */
int orr__core_watchdog(lua_State *L)
{
    orr_host *h = lua_touserdata(L, lua_upvalueindex(1));
    double ms = luaL_checknumber(L, 1);
    luaL_argcheck(L, ms >= 0 && ms <= 1e9, 1, "0 .. 1e9 milliseconds");
    orr__host_executor(L, h); /* so that there is an entry */
    pthread_mutex_lock(&lock);
    threshold_ns = (uint64_t)(ms * 1e6);
    int rc = threshold_ns == 0 || is_running ? 0 : start_thread();
    if (is_running)
        pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (rc != 0)
        return orr__push_failure(L, ORR_EIO, strerror(rc));
    lua_pushboolean(L, 1);
    return 1;
}

/* watchdog_place(gateway, method, place): where a handler begins */
int orr__core_watchdog_place(lua_State *L)
{
    size_t len;
    const char *gateway = luaL_checklstring(L, 1, &len);
    uint32_t method = (uint32_t)luaL_checknumber(L, 2);
    const char *place = luaL_checkstring(L, 3);
    position *p = malloc(sizeof *p + len + 1);
    if (p == NULL)
        return luaL_error(L, "out of memory");
    p->method = method;
    snprintf(p->place, sizeof p->place, "%s", place);
    memcpy(p->gateway, gateway, len + 1);
    pthread_mutex_lock(&lock);
    int is_known = place_of(gateway, method) != NULL;
    if (!is_known && positions_len < POSITIONS_MAX) {
        p->next = positions;
        positions = p;
        positions_len++;
        p = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(p);
    return 0;
}
