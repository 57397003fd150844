/* What is counted of each method: how long its messages waited, how long its
 * handlers took, how they ended.
 *
 * The owner of the endpoint writes, with relaxed loads and stores; any thread
 * reads. A table is made when a method is first used, at most TABLES_MAX a
 * service: beyond that, methods are served and not counted. Tables are found
 * and freed under the service's lock, except that the owner uses its own
 * without: they go only by its own doing (close), or are laid aside (reset)
 * until it makes the next one.
 *
 * A slice is the time between two orr_executor_next. One reading of the clock
 * ends a slice and begins the next; a call answered in its slice is counted
 * when the slice ends, so the usual call costs no reading of its own.
 */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

enum {
    TABLES_MAX = 8192,     /* 2.1 KiB each */
    CALIBRATE_NS = 5000000 /* ticks are compared with the clock for so long */
};

struct orr__method_stats {
    orr__method_stats *next; /* lock; of those laid aside */
    _Atomic uint64_t errors;
    _Atomic uint64_t refused;
    _Atomic uint64_t expired;
    _Atomic uint64_t abandoned;
    _Atomic uint64_t run_ns;
    _Atomic uint64_t run_max_ns;
    orr__histogram queue;
    orr__histogram handler;
};

struct orr__stats {
    uint32_t count;
    _Atomic(orr__method_stats *) methods[];
};

static void add(_Atomic uint64_t *to, uint64_t n)
{
    uint64_t before = atomic_load_explicit(to, memory_order_relaxed);
    atomic_store_explicit(to, before + n, memory_order_relaxed);
}

static void keep_max(_Atomic uint64_t *to, uint64_t n)
{
    if (n > atomic_load_explicit(to, memory_order_relaxed))
        atomic_store_explicit(to, n, memory_order_relaxed);
}

/* --- histograms ----------------------------------------------------------- */

static uint32_t bucket_of(uint64_t ns)
{
    if (ns < 64)
        return 0;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(ns);
    uint32_t at = 1 + (octave - 6) * 4 + (uint32_t)(ns >> (octave - 2) & 3);
    return at < ORR__HISTOGRAM ? at : ORR__HISTOGRAM - 1;
}

static uint64_t middle_of(uint32_t bucket)
{
    if (bucket == 0)
        return 32;
    uint64_t quarter = UINT64_C(1) << ((bucket - 1) / 4 + 4);
    return quarter * (4 + (bucket - 1) % 4) + quarter / 2;
}

void orr__histogram_add(orr__histogram *h, uint64_t ns)
{
    add(&h->counts[bucket_of(ns)], 1);
    keep_max(&h->max_ns, ns);
}

static uint64_t quantile(const uint64_t *counts, uint64_t total,
                         uint64_t percent, uint64_t max)
{
    uint64_t rank = (total * percent + 99) / 100;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < ORR__HISTOGRAM; i++) {
        seen += counts[i];
        if (seen >= rank)
            return middle_of(i) < max ? middle_of(i) : max;
    }
    return max;
}

void orr__histogram_read(const orr__histogram *h, orr_latency *out)
{
    uint64_t counts[ORR__HISTOGRAM];
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < ORR__HISTOGRAM; i++) {
        counts[i] = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        out->count += counts[i];
    }
    if (out->count == 0)
        return;
    out->max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    out->p50_ns = quantile(counts, out->count, 50, out->max_ns);
    out->p90_ns = quantile(counts, out->count, 90, out->max_ns);
    out->p99_ns = quantile(counts, out->count, 99, out->max_ns);
}

/* --- the clock ------------------------------------------------------------ */

#if defined(__x86_64__)
static pthread_mutex_t scale_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t scale_ns, scale_tick; /* first reading; lock */
static _Atomic uint64_t scale;        /* 0 = not known yet */

static bool ticks_are_even(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
}

/* 2^32 ns a tick, too small by 1/4096, so that ticks run behind the clock. */
static uint64_t find_scale(uint64_t now_ns, uint64_t tick)
{
    uint64_t known = atomic_load_explicit(&scale, memory_order_relaxed);
    if (known != 0)
        return known;
    pthread_mutex_lock(&scale_lock);
    if (scale_ns == 0 && ticks_are_even()) {
        scale_ns = now_ns;
        scale_tick = tick;
    } else if (scale_ns != 0 && now_ns > scale_ns + CALIBRATE_NS &&
               tick > scale_tick) {
        double ratio = (double)(now_ns - scale_ns) /
                       (double)(tick - scale_tick) * 4294967296.0;
        if (ratio < 4294967295.0)
            known = (uint64_t)(ratio * (1.0 - 1.0 / 4096));
        atomic_store(&scale, known);
        scale_ns = known == 0 ? now_ns : scale_ns;
    }
    pthread_mutex_unlock(&scale_lock);
    return known;
}
#endif

void orr__clock_base(orr_executor *ex)
{
#if defined(__x86_64__)
    if (!ex->driver.is_real)
        return;
    ex->base_tick = __rdtsc();
    ex->base_ns = ex->now_ns;
    ex->tick_scale = find_scale(ex->now_ns, ex->base_tick);
#else
    (void)ex;
#endif
}

/* --- tables --------------------------------------------------------------- */

/* The table of a method, made or taken from those laid aside. Thread: owner. */
static orr__method_stats *make_table(orr__endpoint *ep, uint32_t method)
{
    orr_service *s = ep->service;
    orr__method_stats *t = NULL;
    pthread_mutex_lock(&s->lock);
    orr__stats *all = atomic_load(&ep->stats);
    uint32_t count = ep->description->method_count;
    if (all == NULL) {
        all = orr_calloc(1, sizeof *all + count * sizeof all->methods[0]);
        if (all != NULL)
            all->count = count;
        atomic_store_explicit(&ep->stats, all, memory_order_release);
    }
    if (all != NULL && ep->retired != NULL) {
        t = ep->retired;
        ep->retired = t->next;
        memset(t, 0, sizeof *t);
    } else if (all != NULL && s->stats_tables < TABLES_MAX) {
        t = orr_calloc(1, sizeof *t);
        s->stats_tables += t != NULL;
    }
    if (t != NULL)
        atomic_store_explicit(&all->methods[method], t, memory_order_release);
    pthread_mutex_unlock(&s->lock);
    return t;
}

/* NULL: it is not counted. Thread: owner. */
static inline orr__method_stats *table_of(orr__endpoint *ep, uint32_t method)
{
    orr__stats *all = atomic_load_explicit(&ep->stats, memory_order_relaxed);
    if (all != NULL) {
        orr__method_stats *t =
            atomic_load_explicit(&all->methods[method], memory_order_relaxed);
        if (t != NULL)
            return t;
    }
    if (atomic_load_explicit(&ep->service->stats_full, memory_order_relaxed))
        return NULL;
    orr__method_stats *made = make_table(ep, method);
    if (made == NULL)
        atomic_store(&ep->service->stats_full, 1);
    return made;
}

static void free_table(orr_service *s, orr__method_stats *t)
{
    if (t == NULL)
        return;
    s->stats_tables--;
    atomic_store(&s->stats_full, 0);
    orr_free(t);
}

void orr__stats_clear(orr_executor *ex, orr__endpoint *ep)
{
    orr__stats *all = atomic_exchange(&ep->stats, NULL);
    for (uint32_t i = 0; all != NULL && i < all->count; i++) {
        orr__method_stats *t = atomic_load(&all->methods[i]);
        if (ex != NULL && t == ex->slice.stats)
            ex->slice.stats = NULL;
        free_table(ep->service, t);
    }
    orr_free(all);
    while (ep->retired != NULL) {
        orr__method_stats *t = ep->retired;
        ep->retired = t->next;
        if (ex != NULL && t == ex->slice.stats)
            ex->slice.stats = NULL;
        free_table(ep->service, t);
    }
}

/* --- slices --------------------------------------------------------------- */

void orr__stats_taken(orr_executor *ex, orr__endpoint *ep, const orr_msg *m,
                      uint64_t now_ns)
{
    orr__method_stats *t = table_of(ep, m->method);
    ex->slice.stats = t;
    ex->slice.started_ns = now_ns;
    ex->slice.taken_ns = now_ns;
    ex->slice.is_done = m->kind == ORR_FRAME_TELL;
    if (t == NULL)
        return;
    orr__histogram_add(&t->queue, orr__since(now_ns, m->enqueued_ns));
}

void orr__stats_resumed(orr_executor *ex, const orr__active *a, uint64_t now_ns)
{
    ex->slice.stats = table_of(a->endpoint, a->msg->method);
    ex->slice.started_ns = now_ns;
    ex->slice.taken_ns = a->taken_ns;
    ex->slice.is_done = false;
}

uint64_t orr__stats_slice_end(orr_executor *ex)
{
    orr__method_stats *t = ex->slice.stats;
    if (t == NULL)
        return 0;
    uint64_t now = orr__clock(ex);
    uint64_t run = orr__since(now, ex->slice.started_ns);
    add(&t->run_ns, run);
    keep_max(&t->run_max_ns, run);
    if (ex->slice.is_done)
        orr__histogram_add(&t->handler, orr__since(now, ex->slice.taken_ns));
    ex->slice.stats = NULL;
    return now;
}

void orr__stats_answered(orr_executor *ex, uint32_t handle,
                         const orr__active *a, int32_t status)
{
    orr__method_stats *t = ex->slice.stats;
    bool is_current = t != NULL && handle == ex->current_call;
    if (!is_current)
        t = table_of(a->endpoint, a->msg->method);
    if (t == NULL)
        return;
    if (status != ORR_OK)
        add(&t->errors, 1);
    if (a->is_abandoned)
        add(&t->abandoned, 1);
    if (is_current)
        ex->slice.is_done = true;
    else
        orr__histogram_add(&t->handler,
                           orr__since(orr__clock(ex), a->taken_ns));
}

void orr__stats_refused(orr__endpoint *ep, uint32_t method)
{
    orr__method_stats *t = table_of(ep, method);
    if (t != NULL)
        add(&t->refused, 1);
}

void orr__stats_expired(orr__endpoint *ep, uint32_t method)
{
    orr__method_stats *t = table_of(ep, method);
    if (t != NULL)
        add(&t->expired, 1);
}

/* --- for the executor's view ---------------------------------------------- */

bool orr__post_to(orr_executor *from, orr__endpoint *ep, orr_executor *to,
                  orr_msg *m)
{
    uint64_t turn = atomic_load_explicit(&to->turns, memory_order_relaxed);
    m->enqueued_ns = orr__now(from);
    if (atomic_load_explicit(&ep->posted_turn, memory_order_relaxed) !=
        turn + 1) {
        atomic_store_explicit(&ep->posted_turn, turn + 1, memory_order_relaxed);
        atomic_store_explicit(&ep->posted_ns, m->enqueued_ns,
                              memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&ep->posted, 1, memory_order_relaxed);
    if (orr__post(to, m))
        return true;
    atomic_fetch_sub_explicit(&ep->posted, 1, memory_order_relaxed);
    return false;
}

/* The methods' wire form: an array of names, or of arrays that begin with one.
 * What has another form has no names. */
void orr__method_name(const orr__description *d, uint32_t method, char *out,
                      size_t size)
{
    orr_unpacker u;
    orr_pack_token token;
    out[0] = 0;
    if (d == NULL || method >= d->method_count)
        return;
    orr_unpack_init(&u, d->methods, d->methods_len);
    if (orr_unpack_next(&u, &token) != ORR_OK)
        return;
    for (uint32_t i = 0; i < method; i++)
        if (orr_unpack_skip(&u, ORR_PACK_DEPTH_DEFAULT) != ORR_OK)
            return;
    if (orr_unpack_next(&u, &token) != ORR_OK)
        return;
    if (token.type == ORR_PACK_ARRAY && token.size > 0 &&
        orr_unpack_next(&u, &token) != ORR_OK)
        return;
    if (token.type == ORR_PACK_STR)
        snprintf(out, size, "%.*s", (int)token.size, (const char *)token.data);
}

static uint64_t get(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

static void read_table(const orr__method_stats *t, orr_method_info *out)
{
    out->errors = get(&t->errors);
    out->refused = get(&t->refused);
    out->expired = get(&t->expired);
    out->abandoned = get(&t->abandoned);
    out->run_ns = get(&t->run_ns);
    out->run_max_ns = get(&t->run_max_ns);
    orr__histogram_read(&t->queue, &out->queue);
    orr__histogram_read(&t->handler, &out->handler);
}

/* NULL when there is no such endpoint or method; lock held. */
static orr__endpoint *find(orr_service *s, uint32_t slot, uint32_t method)
{
    orr__endpoint *ep = orr__endpoint_at(s, slot);
    if (ep == NULL || atomic_load(&ep->state) == ORR_ENDPOINT_GONE ||
        ep->description == NULL || method >= ep->description->method_count)
        return NULL;
    return ep;
}

int orr_service_method_info(orr_service *s, uint32_t slot, uint32_t method,
                            orr_method_info *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&s->lock);
    orr__endpoint *ep = find(s, slot, method);
    if (ep != NULL) {
        orr__stats *all =
            atomic_load_explicit(&ep->stats, memory_order_acquire);
        orr__method_stats *t = all == NULL
                                   ? NULL
                                   : atomic_load_explicit(&all->methods[method],
                                                          memory_order_acquire);
        orr__method_name(ep->description, method, out->name, sizeof out->name);
        if (t != NULL)
            read_table(t, out);
    }
    pthread_mutex_unlock(&s->lock);
    return ep == NULL ? ORR_ENOENT : ORR_OK;
}

int orr_service_method_reset(orr_service *s, uint32_t slot, uint32_t method)
{
    pthread_mutex_lock(&s->lock);
    orr__endpoint *ep = find(s, slot, method);
    if (ep != NULL) {
        orr__stats *all = atomic_load(&ep->stats);
        orr__method_stats *t =
            all == NULL ? NULL : atomic_exchange(&all->methods[method], NULL);
        if (t != NULL) {
            t->next = ep->retired;
            ep->retired = t;
            atomic_store(&s->stats_full, 0);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return ep == NULL ? ORR_ENOENT : ORR_OK;
}
