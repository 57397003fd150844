/* The executor itself: its life, its turns, what it gives out, what it sends.
 *
 * Memory of an executor is reused, not freed, while others live: another thread
 * may still hold a pointer to post to. The inbox of one that has ended refuses
 * such a late post, so that a call of it ends.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static orr_executor *pool;
static uint32_t alive;
static orr_executor *alive_list; /* pool_lock */

static void free_list(orr_executor *ex, orr_msg *m)
{
    while (m != NULL) {
        orr_msg *next = m->next;
        orr__msg_free(ex, m);
        m = next;
    }
}

static orr_executor *from_pool(void)
{
    pthread_mutex_lock(&pool_lock);
    orr_executor *ex = pool;
    if (ex != NULL)
        pool = ex->pool_next;
    alive++;
    pthread_mutex_unlock(&pool_lock);
    if (ex != NULL)
        return ex;
    ex = orr_calloc(1, sizeof *ex);
    if (ex != NULL) {
        pthread_mutex_init(&ex->wake_lock, NULL);
        return ex;
    }
    pthread_mutex_lock(&pool_lock);
    alive--;
    pthread_mutex_unlock(&pool_lock);
    return NULL;
}

orr_executor *orr_executor_new(const orr_driver *d, uint32_t number,
                               uint64_t seed)
{
    orr_executor *ex = from_pool();
    if (ex == NULL)
        return NULL;
    pthread_mutex_lock(&ex->wake_lock);
    ex->driver = *d;
    ex->number = number;
    ex->is_closed = false;
    pthread_mutex_unlock(&ex->wake_lock);
    atomic_store(&ex->inbox, NULL);
    orr_chance_seed(&ex->chance, seed);
    ex->armed_ns = UINT64_MAX;
    ex->now_is_fresh = false;
    ex->now_ns = 0;
    ex->tick_scale = 0;
    ex->slice = (orr__slice){0};
    ex->current = NULL;
    ex->current_call = 0;
    memset(&ex->lag, 0, sizeof ex->lag);
    memset(&ex->seen, 0, sizeof ex->seen);
    atomic_store(&ex->events, 0);
    atomic_store(&ex->wakeups, 0);
    ex->dropped = 0;
    orr_executor_turn(ex);
    pthread_mutex_lock(&pool_lock);
    ex->alive_next = alive_list;
    alive_list = ex;
    pthread_mutex_unlock(&pool_lock);
    return ex;
}

static void leave_alive_list(orr_executor *ex)
{
    pthread_mutex_lock(&pool_lock);
    orr_executor **at = &alive_list;
    while (*at != ex)
        at = &(*at)->alive_next;
    *at = ex->alive_next;
    pthread_mutex_unlock(&pool_lock);
}

/* Frees what a table's items own; the tables keep their generations. */
static void end_calls(orr_executor *ex)
{
    for (uint32_t i = 1; i < ex->calls.count; i++)
        if (orr__call_at(ex, i) != NULL)
            orr__call_free(ex, i);
    orr__target *targets = ex->targets.items;
    for (uint32_t i = 1; i < ex->targets.count; i++)
        if (targets[i].is_used)
            orr_executor_disconnect(ex, orr__handle(i, targets[i].generation));
    orr__timer *timers = ex->timers.items;
    for (uint32_t i = 1; i < ex->timers.count; i++) {
        if (!timers[i].is_used)
            continue;
        timers[i].is_used = false;
        orr__table_give(&ex->timers, sizeof(orr__timer), i);
    }
    orr__active *actives = ex->actives.items;
    for (uint32_t i = 1; i < ex->actives.count; i++) {
        bool abandoned;
        if (actives[i].msg == NULL)
            continue;
        orr_msg *m = orr__active_take(ex, orr__handle(i, actives[i].generation),
                                      &abandoned);
        orr__fail(ex, m, ORR_CALLEE_DIED, "the executor ended");
    }
}

/* Calls that it would have taken next are answered, the rest has no reader. */
static void close_inbox(orr_executor *ex)
{
    orr_msg *m = atomic_exchange(&ex->inbox, ORR__INBOX_CLOSED);
    while (m != NULL) {
        orr_msg *next = m->next;
        if (m->kind == ORR_FRAME_ASK)
            orr__fail(ex, m, ORR_UNREACHABLE,
                      "the endpoint's executor has ended");
        else
            orr__msg_free(ex, m);
        m = next;
    }
}

static void destroy(orr_executor *ex)
{
    orr__msgs_release(ex);
    orr_free(ex->calls.items);
    orr_free(ex->actives.items);
    orr_free(ex->timers.items);
    orr_free(ex->targets.items);
    orr_free(ex->links.items);
    orr_free(ex->heap);
    orr_free(ex->fired);
    pthread_mutex_destroy(&ex->wake_lock);
    orr_free(ex);
}

void orr_executor_free(orr_executor *ex)
{
    if (ex == NULL)
        return;
    leave_alive_list(ex);
    orr__msg_free(ex, ex->lent);
    ex->lent = NULL;
    ex->slice = (orr__slice){0};
    ex->current = NULL;
    ex->current_call = 0;
    end_calls(ex);
    free_list(ex, ex->done.head);
    free_list(ex, ex->cancels.head);
    ex->failed = 0;
    ex->done = (orr__queue){0};
    ex->cancels = (orr__queue){0};
    ex->heap_len = 0;
    ex->fired_len = ex->fired_pos = 0;
    ex->dirty = NULL;
    atomic_store(&ex->running, NULL);
    pthread_mutex_lock(&ex->wake_lock);
    ex->is_closed = true;
    pthread_mutex_unlock(&ex->wake_lock);
    atomic_store(&ex->sleeping, 0);
    close_inbox(ex);
    orr__msgs_release(ex);
    pthread_mutex_lock(&pool_lock);
    ex->pool_next = pool;
    pool = ex;
    orr_executor *last = --alive == 0 ? pool : NULL;
    if (last != NULL)
        pool = NULL;
    pthread_mutex_unlock(&pool_lock);
    while (last != NULL) {
        orr_executor *next = last->pool_next;
        destroy(last);
        last = next;
        if (last == NULL)
            orr__depot_clear();
    }
}

uint32_t orr_executor_number(const orr_executor *ex)
{
    return ex->number;
}

uint64_t orr_executor_now_ns(orr_executor *ex)
{
    ex->now_is_fresh = false;
    return orr__now(ex);
}

uint64_t orr_executor_wall_ms(orr_executor *ex)
{
    return ex->driver.wall_ms(ex->driver.ctx);
}

orr_chance *orr_executor_chance(orr_executor *ex)
{
    return &ex->chance;
}

void *orr_executor_driver_ctx(orr_executor *ex)
{
    return ex->driver.ctx;
}

static void read_seen(orr_executor *ex, orr_executor_info *out)
{
    memset(out, 0, sizeof *out);
    out->number = ex->number;
    out->endpoints = atomic_load(&ex->seen.endpoints);
    out->calls = atomic_load(&ex->seen.calls);
    out->active = atomic_load(&ex->seen.active);
    out->timers = atomic_load(&ex->seen.timers);
    out->links = atomic_load(&ex->seen.links);
    out->dropped = atomic_load(&ex->seen.dropped);
    out->events = atomic_load(&ex->events);
    out->wakeups = atomic_load(&ex->wakeups);
    out->turns = atomic_load(&ex->turns);
    if (!atomic_load(&ex->sleeping))
        out->busy_ns = orr__since(ex->driver.now_ns(ex->driver.ctx),
                                  atomic_load(&ex->turn_ns));
    orr__histogram_read(&ex->lag, &out->lag);
}

void orr__executor_see(orr_executor *ex)
{
    orr__seen *seen = &ex->seen;
    atomic_store_explicit(&seen->endpoints, ex->endpoints,
                          memory_order_relaxed);
    atomic_store_explicit(&seen->calls, ex->calls.used, memory_order_relaxed);
    atomic_store_explicit(&seen->active, ex->actives.used,
                          memory_order_relaxed);
    atomic_store_explicit(&seen->timers, ex->timers.used, memory_order_relaxed);
    atomic_store_explicit(&seen->links, ex->links.used, memory_order_relaxed);
    atomic_store_explicit(&seen->dropped, ex->dropped, memory_order_relaxed);
}

void orr_executor_info_get(orr_executor *ex, orr_executor_info *out)
{
    orr__executor_see(ex);
    read_seen(ex, out);
}

uint32_t orr_executors(uint32_t after, orr_executor_info *out, uint32_t max)
{
    uint32_t n = 0;
    pthread_mutex_lock(&pool_lock);
    while (n < max) {
        orr_executor *next = NULL;
        for (orr_executor *ex = alive_list; ex != NULL; ex = ex->alive_next)
            if (ex->number > after &&
                (next == NULL || ex->number < next->number))
                next = ex;
        if (next == NULL)
            break;
        after = next->number;
        read_seen(next, &out[n++]);
    }
    pthread_mutex_unlock(&pool_lock);
    return n;
}

void orr_executor_running(orr_executor *ex, orr_running *out)
{
    memset(out, 0, sizeof *out);
    out->progress = atomic_load(&ex->events) + atomic_load(&ex->turns);
    out->sleeps = atomic_load(&ex->sleeping);
    out->method = ORR__NONE;
    orr__endpoint *ep = atomic_load(&ex->running);
    if (ep == NULL)
        return;
    pthread_mutex_lock(&ep->service->lock);
    if (ep->name != NULL && ep->description != NULL) {
        snprintf(out->endpoint, sizeof out->endpoint, "%s", ep->name);
        snprintf(out->gateways, sizeof out->gateways, "%s",
                 ep->description->gateways);
        out->method = atomic_load(&ep->running_method);
        out->since_ns = atomic_load(&ep->running_since_ns);
        orr__method_name(ep->description, out->method, out->name,
                         sizeof out->name);
    }
    pthread_mutex_unlock(&ep->service->lock);
}

/* Thread: any. The flag is cleared by who wakes, so that of many posts to a
 * sleeping executor one pays for the wake-up. */
void orr_executor_wake(orr_executor *ex)
{
    if (!atomic_exchange(&ex->sleeping, 0))
        return;
    pthread_mutex_lock(&ex->wake_lock);
    if (!ex->is_closed) {
        atomic_fetch_add(&ex->wakeups, 1);
        ex->driver.wake(ex->driver.ctx);
    }
    pthread_mutex_unlock(&ex->wake_lock);
}

int orr_executor_try_sleep(orr_executor *ex)
{
    if (orr_executor_ready(ex))
        return 0;
    atomic_store_explicit(&ex->sleeping, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&ex->inbox, memory_order_seq_cst) == NULL)
        return 1;
    atomic_store(&ex->sleeping, 0);
    return 0;
}

void orr_executor_awake(orr_executor *ex)
{
    atomic_store_explicit(&ex->sleeping, 0, memory_order_relaxed);
    ex->now_is_fresh = false;
}

int orr_executor_ready(orr_executor *ex)
{
    return ex->done.head != NULL || ex->ready_head != NULL || ex->failed != 0 ||
           ex->cancels.head != NULL || ex->fired_pos < ex->fired_len ||
           atomic_load_explicit(&ex->inbox, memory_order_relaxed) != NULL;
}

/* --- turns ---------------------------------------------------------------- */

static void count_received(const orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(m->service, m->endpoint);
    uint64_t n = atomic_load_explicit(&ep->received, memory_order_relaxed);
    atomic_store_explicit(&ep->received, n + 1, memory_order_relaxed);
}

static void receive(orr_executor *ex, orr_msg *m)
{
    switch (m->kind) {
    case ORR_FRAME_ASK:
    case ORR_FRAME_TELL:
        count_received(m);
        orr__deliver(ex, m);
        break;
    case ORR__MSG_RUN: orr__deliver(ex, m); break;
    case ORR_FRAME_REPLY: orr__on_reply(ex, m); break;
    case ORR__MSG_REPLY_OUT: orr__route_reply(ex, m); break;
    case ORR_FRAME_CANCEL: orr__cancel_here(ex, m); break;
    default: orr__msg_free(ex, m); break;
    }
}

/* Answers since when a turn was wanted for it; now when nobody did. */
static uint64_t take_inbox(orr_executor *ex)
{
    uint64_t wanted_ns = ex->now_ns;
    if (atomic_load_explicit(&ex->inbox, memory_order_relaxed) == NULL)
        return wanted_ns;
    orr_msg *stack =
        atomic_exchange_explicit(&ex->inbox, NULL, memory_order_acquire);
    orr_msg *list = NULL;
    while (stack != NULL) { /* last in first: turn it round */
        orr_msg *next = stack->next;
        stack->next = list;
        list = stack;
        stack = next;
    }
    if (list->enqueued_ns != 0 && list->enqueued_ns < wanted_ns)
        wanted_ns = list->enqueued_ns;
    while (list != NULL) {
        orr_msg *next = list->next;
        receive(ex, list);
        list = next;
    }
    return wanted_ns;
}

static void fire(orr_executor *ex, uint32_t index)
{
    orr__timer *t = (orr__timer *)ex->timers.items + index;
    t->heap_pos = ORR__NONE;
    if (ex->fired_pos == ex->fired_len)
        ex->fired_pos = ex->fired_len = 0;
    if (ex->fired_len == ex->fired_cap) {
        uint32_t cap = ex->fired_cap == 0 ? 64 : ex->fired_cap * 2;
        uint32_t *fired = orr_realloc(ex->fired, cap * sizeof *fired);
        if (fired == NULL) { /* try again in the next turn */
            (void)orr__heap_push(ex, ex->now_ns, index, true);
            return;
        }
        ex->fired = fired;
        ex->fired_cap = cap;
    }
    t->is_fired = true;
    ex->fired[ex->fired_len++] = index;
}

static void expire(orr_executor *ex)
{
    while (ex->heap_len > 0 && ex->heap[0].at_ns <= ex->now_ns) {
        orr__heap_entry e = ex->heap[0];
        orr__heap_remove(ex, 0);
        /* What the driver had armed is used up, also when a new deadline
         * equals it: without this that one would never be armed. */
        ex->armed_ns = 0;
        if (e.is_timer)
            fire(ex, e.index);
        else
            orr__call_expired(ex, e.index);
    }
}

void orr_executor_turn(orr_executor *ex)
{
    ex->now_is_fresh = false;
    uint64_t now = orr__now(ex);
    uint64_t turns = atomic_load_explicit(&ex->turns, memory_order_relaxed);
    orr__clock_base(ex);
    atomic_store_explicit(&ex->turn_ns, now, memory_order_relaxed);
    atomic_store_explicit(&ex->turns, turns + 1, memory_order_relaxed);
    ex->batch_end_ns = now + ORR_BATCH_NS;
    ex->batch_left = ORR_BATCH_MAX;
    uint64_t wanted = take_inbox(ex);
    if (ex->heap_len > 0 && ex->heap[0].at_ns < wanted)
        wanted = ex->heap[0].at_ns;
    if (wanted < now)
        orr__histogram_add(&ex->lag, now - wanted);
    expire(ex);
}

static void stop_running(orr_executor *ex)
{
    orr__endpoint *ep =
        atomic_load_explicit(&ex->running, memory_order_relaxed);
    if (ep == NULL)
        return;
    atomic_store_explicit(&ep->running_since_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&ex->running, NULL, memory_order_relaxed);
}

static void set_running(orr_executor *ex, orr__endpoint *ep, uint32_t method,
                        uint64_t now_ns)
{
    atomic_store_explicit(&ep->running_method, method, memory_order_relaxed);
    atomic_store_explicit(&ep->running_since_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&ex->running, ep, memory_order_relaxed);
}

/* What ran is over. Answers the time when it was read for that, else 0. */
static uint64_t leave(orr_executor *ex)
{
    orr__endpoint *ep =
        atomic_load_explicit(&ex->running, memory_order_relaxed);
    const orr_msg *m = ex->current;
    if (m != NULL && m->trace != 0 && m->kind == ORR_FRAME_TELL && ep != NULL)
        orr__trace_ended(ex, ep, m, ex->slice.taken_ns, ORR_OK);
    uint64_t now = orr__stats_slice_end(ex);
    ex->current = NULL;
    ex->current_call = 0;
    stop_running(ex);
    return now;
}

int orr_executor_enter(orr_executor *ex, uint32_t call)
{
    leave(ex);
    if (call == 0)
        return ORR_OK;
    orr__active *a = orr__active_at(ex, call);
    if (a == NULL)
        return ORR_ENOENT;
    uint64_t now = orr__clock(ex);
    orr__stats_resumed(ex, a, now);
    ex->current = a->msg;
    ex->current_call = call;
    set_running(ex, a->endpoint, a->msg->method, now);
    return ORR_OK;
}

int orr_executor_remaining(orr_executor *ex, uint64_t *remaining_ns)
{
    if (ex->current == NULL || ex->current->deadline_ns == 0)
        return ORR_ENOENT;
    ex->now_is_fresh = false;
    *remaining_ns = orr__since(ex->current->deadline_ns, orr__now(ex));
    return ORR_OK;
}

/* Of a call that inherited its time limit, in whole ms, at least 1; else 0. */
static uint32_t limit_ms(const orr__call *c)
{
    uint64_t ms = (c->inherited_ns + 500000u) / 1000000u;
    return c->inherited_ns != 0 && ms == 0 ? 1 : (uint32_t)ms;
}

static bool next_failed(orr_executor *ex, orr_event *e)
{
    uint32_t slot = ex->failed;
    if (slot == 0)
        return false;
    orr__call *c = (orr__call *)ex->calls.items + slot;
    ex->failed = c->next;
    c->next = 0;
    e->kind = ORR_EVENT_REPLY;
    e->call = slot;
    e->status = c->status;
    e->limit_ms = limit_ms(c);
    orr__call_free(ex, slot);
    return true;
}

static bool next_reply(orr_executor *ex, orr_event *e)
{
    orr_msg *m = orr__queue_pop(&ex->done);
    if (m == NULL)
        return false;
    e->limit_ms = limit_ms((orr__call *)ex->calls.items + m->call_slot);
    orr__call_free(ex, m->call_slot);
    e->kind = ORR_EVENT_REPLY;
    e->call = m->call_slot;
    e->status = m->status;
    e->flags = m->flags;
    e->body = m->body.data;
    e->body_len = m->body.len;
    ex->lent = m;
    return true;
}

static bool next_timer(orr_executor *ex, orr_event *e)
{
    while (ex->fired_pos < ex->fired_len) {
        uint32_t index = ex->fired[ex->fired_pos++];
        orr__timer *t = (orr__timer *)ex->timers.items + index;
        uint32_t handle = orr__handle(index, t->generation);
        bool is_cancelled = !t->is_used;
        t->is_fired = false;
        t->is_used = false;
        orr__table_give(&ex->timers, sizeof(orr__timer), index);
        if (is_cancelled)
            continue;
        e->kind = ORR_EVENT_TIMER;
        e->call = handle;
        return true;
    }
    return false;
}

static bool next_cancel(orr_executor *ex, orr_event *e)
{
    orr_msg *m;
    while ((m = orr__queue_pop(&ex->cancels)) != NULL) {
        uint32_t call = m->method;
        orr__msg_free(ex, m);
        if (orr__active_at(ex, call) == NULL)
            continue; /* answered meanwhile */
        orr__active_cancel_children(ex, call);
        e->kind = ORR_EVENT_CANCEL;
        e->call = call;
        return true;
    }
    return false;
}

/* now_ns: 0 = not read yet. */
static bool next_message(orr_executor *ex, orr_event *e, uint64_t now_ns)
{
    orr__endpoint *ep;
    orr_msg *m;
    while ((m = orr__mailbox_next(ex, &ep)) != NULL) {
        e->ref = ep->ref;
        e->endpoint = ep->slot;
        if (m->kind == ORR__MSG_RUN) {
            e->kind = ORR_EVENT_RUN;
            e->call = m->method;
            orr__msg_free(ex, m);
            now_ns = ex->now_ns;
        } else {
            if (now_ns == 0)
                now_ns = orr__clock(ex);
            orr__stats_taken(ex, ep, m, now_ns);
            if (m->trace != 0 ||
                atomic_load_explicit(&orr__tracing, memory_order_relaxed))
                orr__trace_taken(ex, ep, m);
            ex->current = m;
            e->kind = ORR_EVENT_CALL;
            e->method = m->method;
            e->flags = m->flags;
            e->body = m->body.data;
            e->body_len = m->body.len;
            if (m->kind == ORR_FRAME_ASK) {
                e->call = orr__active_new(ex, ep, m);
                if (e->call == 0) {
                    e->kind = ORR_EVENT_NONE;
                    ex->slice.stats = NULL;
                    ex->current = NULL;
                    orr__fail(ex, m, ORR_OVERLOADED,
                              "too many calls wait for an answer of %s",
                              ep->name);
                    continue;
                }
                ex->current_call = e->call;
            } else {
                ex->lent = m;
            }
        }
        uint64_t handled =
            atomic_load_explicit(&ep->handled, memory_order_relaxed);
        atomic_store_explicit(&ep->handled, handled + 1, memory_order_relaxed);
        set_running(ex, ep, e->kind == ORR_EVENT_RUN ? ORR__NONE : e->method,
                    now_ns);
        return true;
    }
    return false;
}

static bool is_batch_over(orr_executor *ex)
{
    if (ex->batch_left == 0)
        return true;
    ex->batch_left--;
    if (ex->batch_left % 16 != 0)
        return false;
    ex->now_is_fresh = false;
    return orr__now(ex) >= ex->batch_end_ns;
}

void orr_executor_next(orr_executor *ex, orr_event *e)
{
    uint64_t now = leave(ex);
    if (ex->lent != NULL) {
        orr__msg_free(ex, ex->lent);
        ex->lent = NULL;
    }
    memset(e, 0, sizeof *e);
    if (is_batch_over(ex))
        return;
    /* What runs now may take long: the next who needs the time reads it. */
    ex->now_is_fresh = false;
    if (next_failed(ex, e) || next_reply(ex, e) || next_timer(ex, e) ||
        next_cancel(ex, e) || next_message(ex, e, now)) {
        uint64_t events =
            atomic_load_explicit(&ex->events, memory_order_relaxed);
        atomic_store_explicit(&ex->events, events + 1, memory_order_relaxed);
    }
}

/* --- timers --------------------------------------------------------------- */

int orr_executor_timer(orr_executor *ex, uint64_t delay_ns, uint32_t *timer)
{
    uint32_t index =
        orr__table_take(&ex->timers, sizeof(orr__timer), ORR__CALLS_MAX);
    if (index == 0)
        return ORR_ENOMEM;
    orr__timer *t = (orr__timer *)ex->timers.items + index;
    t->generation = (t->generation + 1) & 0xfffu;
    t->is_used = true;
    t->is_fired = false;
    ex->now_is_fresh = false; /* a long handler must not make it early */
    uint64_t now = orr__now(ex);
    uint64_t at =
        delay_ns > UINT64_MAX - 1 - now ? UINT64_MAX - 1 : now + delay_ns;
    if (orr__heap_push(ex, at, index, true) != ORR_OK) {
        t->is_used = false;
        orr__table_give(&ex->timers, sizeof(orr__timer), index);
        return ORR_ENOMEM;
    }
    *timer = orr__handle(index, t->generation);
    return ORR_OK;
}

int orr_executor_timer_cancel(orr_executor *ex, uint32_t timer)
{
    uint32_t index = timer & ORR__INDEX_MASK;
    if (index == 0 || index >= ex->timers.count)
        return ORR_ENOENT;
    orr__timer *t = (orr__timer *)ex->timers.items + index;
    if (!t->is_used || orr__handle(index, t->generation) != timer)
        return ORR_ENOENT;
    t->is_used = false;
    if (t->is_fired)
        return ORR_OK; /* its place in the fired list gives the slot back */
    orr__heap_remove(ex, t->heap_pos);
    orr__table_give(&ex->timers, sizeof(orr__timer), index);
    return ORR_OK;
}
