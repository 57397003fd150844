/* Executors on a clock that the test moves, links that the test carries. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/exec.h"

/* --- a world: executors, a clock, one wire between each pair -------------- */

typedef struct world world;

typedef struct wire_link {
    orr_link link;
    struct wire_link *peer;
    world *w;
    int open;
    int refs;
    int full; /* refuse to send */
    orr_buf out;
} wire_link;

typedef struct node {
    world *w;
    orr_executor *ex;
    orr_service *service;
    struct node *dial_to;
    wire_link *link;
    uint64_t armed;
    int wakes;
} node;

struct world {
    uint64_t now;
    node nodes[3];
    wire_link links[8];
    int link_count;
};

static uint64_t now_of(void *ctx)
{
    return ((node *)ctx)->w->now;
}

static void wake_of(void *ctx)
{
    ((node *)ctx)->wakes++;
}

static void arm_of(void *ctx, uint64_t at)
{
    ((node *)ctx)->armed = at;
}

static int link_send(orr_link *l, const orr_header *h, const uint8_t *body)
{
    wire_link *wl = (wire_link *)l;
    uint8_t head[ORR_HEADER_SIZE];
    if (wl->full)
        return ORR_OVERLOADED;
    if (!wl->open)
        return ORR_UNREACHABLE;
    if (h->length > l->body_max)
        return ORR_TOO_LARGE;
    orr_header_encode(h, head);
    assert_int_equal(orr_buf_append(&wl->out, head, sizeof head), ORR_OK);
    return orr_buf_append(&wl->out, body, h->length);
}

/* Carries every whole frame over to the peer. */
static void link_flush(orr_link *l)
{
    wire_link *wl = (wire_link *)l;
    size_t pos = 0;
    while (pos < wl->out.len) {
        orr_header h;
        assert_int_equal(
            orr_header_decode(&h, wl->out.data + pos, wl->out.len - pos),
            ORR_OK);
        orr_executor_receive(wl->peer->link.executor, &wl->peer->link, &h,
                             wl->out.data + pos + ORR_HEADER_SIZE);
        pos += ORR_HEADER_SIZE + h.length;
    }
    orr_buf_reset(&wl->out);
}

static void link_acquire(orr_link *l)
{
    ((wire_link *)l)->refs++;
}

static void link_release(orr_link *l)
{
    ((wire_link *)l)->refs--;
}

static int link_is_open(orr_link *l)
{
    return ((wire_link *)l)->open;
}

static const orr_link_ops ops = {.send = link_send,
                                 .flush = link_flush,
                                 .acquire = link_acquire,
                                 .release = link_release,
                                 .is_open = link_is_open};

static wire_link *new_link(node *n)
{
    wire_link *l = &n->w->links[n->w->link_count++];
    memset(l, 0, sizeof *l);
    l->link.ops = &ops;
    l->link.service = n->service;
    l->link.body_max = 1000;
    l->w = n->w;
    l->open = 1;
    orr_executor_link_up(n->ex, &l->link);
    return l;
}

static orr_link *dial_of(void *ctx, orr_executor *ex, orr_service *s,
                         const char *address, orr_error *err)
{
    node *n = ctx;
    (void)ex;
    (void)s;
    if (n->dial_to == NULL || strcmp(address, "there:1") != 0) {
        orr_error_set(err, ORR_UNREACHABLE, "no way to %s", address);
        return NULL;
    }
    if (n->link == NULL || !n->link->open) {
        n->link = new_link(n);
        n->link->peer = new_link(n->dial_to);
        n->link->peer->peer = n->link;
    }
    n->link->refs++;
    return &n->link->link;
}

static void drop_links(world *w)
{
    for (int i = 0; i < w->link_count; i++) {
        if (!w->links[i].open)
            continue;
        w->links[i].open = 0;
        orr_executor_link_down(w->links[i].link.executor, &w->links[i].link,
                               ORR_UNREACHABLE, "the wire was cut");
        orr_buf_free(&w->links[i].out);
    }
}

static void open_node(world *w, int i, uint64_t incarnation)
{
    node *n = &w->nodes[i];
    n->w = w;
    n->service = orr_service_new("test", "cluster", incarnation);
    orr_driver d = {.ctx = n,
                    .now_ns = now_of,
                    .wall_ms = now_of,
                    .wake = wake_of,
                    .arm = arm_of,
                    .dial = dial_of};
    n->ex = orr_executor_new(&d, (uint32_t)i + 1, 42);
    assert_non_null(n->service);
    assert_non_null(n->ex);
}

static uint64_t live_before;

static int setup(void **state)
{
    static world w;
    live_before = orr_alloc_live();
    memset(&w, 0, sizeof w);
    w.now = 1000000000u;
    open_node(&w, 0, 11);
    open_node(&w, 1, 22);
    w.nodes[0].dial_to = &w.nodes[1];
    assert_int_equal(orr_service_set_address(w.nodes[1].service, "there:1"),
                     ORR_OK);
    *state = &w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    drop_links(w);
    for (int i = 0; i < 2; i++) {
        node *n = &w->nodes[i];
        uint32_t count = orr_service_endpoint_count(n->service);
        for (uint32_t slot = 0; slot < count; slot++)
            (void)orr_endpoint_close(n->ex, n->service, slot);
    }
    for (int i = 0; i < 2; i++)
        orr_executor_free(w->nodes[i].ex);
    for (int i = 0; i < 2; i++)
        orr_service_free(w->nodes[i].service);
    assert_int_equal(orr_alloc_live(), live_before);
    return 0;
}

/* --- helpers -------------------------------------------------------------- */

static uint32_t open_endpoint(node *n, const char *name,
                              const orr_endpoint_options *more)
{
    static const uint8_t methods[] = {0x92, 0xa3, 'a', 'd', 'd',
                                      0xa4, 'r',  'e', 'a', 'd'};
    orr_endpoint_options o = more == NULL ? (orr_endpoint_options){0} : *more;
    uint32_t slot = 999;
    o.name = name;
    o.methods = methods;
    o.methods_len = sizeof methods;
    assert_int_equal(orr_endpoint_open(n->ex, n->service, &o, &slot), ORR_OK);
    assert_int_equal(
        orr_endpoint_set_state(n->ex, n->service, slot, ORR_ENDPOINT_STARTED),
        ORR_OK);
    return slot;
}

static orr_event next(node *n)
{
    orr_event e;
    orr_executor_next(n->ex, &e);
    if (e.kind == ORR_EVENT_NONE) {
        orr_executor_flush(n->ex);
        orr_executor_turn(n->ex);
        orr_executor_next(n->ex, &e);
    }
    return e;
}

static int64_t body_int(const orr_event *e)
{
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, e->body, e->body_len);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_INT);
    return t.i;
}

static int body_has(const orr_event *e, const char *text)
{
    return memmem(e->body, e->body_len, text, strlen(text)) != NULL;
}

/* target is the second pair's value: {target, address, ...}. */
static uint32_t target_of(const orr_event *e)
{
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, e->body, e->body_len);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_MAP);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_memory_equal(t.data, "target", 6);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    return (uint32_t)t.i;
}

static uint32_t connect_to(node *n, const char *address, const char *endpoint,
                           const orr_token *token)
{
    uint32_t slot;
    assert_int_equal(orr_executor_connect(n->ex, n->service, address, endpoint,
                                          "", token, 0, &slot),
                     ORR_OK);
    orr_event e = next(n);
    for (int i = 0; i < 4 && e.kind == ORR_EVENT_NONE; i++) {
        orr_executor_flush(n->w->nodes[1].ex);
        e = next(n);
    }
    assert_int_equal(e.kind, ORR_EVENT_REPLY);
    assert_int_equal(e.call, slot);
    assert_int_equal(e.status, ORR_OK);
    return target_of(&e);
}

static uint32_t ask(node *n, uint32_t target, uint32_t method, int64_t value,
                    uint64_t timeout_ns)
{
    orr_msg *m = orr_executor_message(n->ex);
    uint32_t slot = 0;
    orr_pack_int(orr_msg_body(m), value);
    assert_int_equal(
        orr_executor_ask(n->ex, target, method, m, timeout_ns, 0, &slot),
        ORR_OK);
    return slot;
}

static void tell(node *n, uint32_t target, int64_t value, uint32_t flags)
{
    orr_msg *m = orr_executor_message(n->ex);
    orr_pack_int(orr_msg_body(m), value);
    assert_int_equal(orr_executor_tell(n->ex, target, 0, m, flags), ORR_OK);
}

static void answer(node *n, uint32_t call, int64_t value)
{
    orr_msg *m = orr_executor_message(n->ex);
    orr_pack_int(orr_msg_body(m), value);
    assert_int_equal(orr_executor_reply(n->ex, call, ORR_OK, m), ORR_OK);
}

static void expect_status(node *n, uint32_t slot, int status, const char *text)
{
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_REPLY);
    assert_int_equal(e.call, slot);
    assert_int_equal(e.status, status);
    if (text != NULL)
        assert_true(body_has(&e, text));
}

/* --- specs ---------------------------------------------------------------- */

static void ask_and_reply_on_one_executor(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", &(orr_endpoint_options){.ref = 7});
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t slot = ask(n, target, 1, 5, 0);
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_CALL);
    assert_int_equal(e.ref, 7);
    assert_int_equal(e.method, 1);
    assert_int_equal(body_int(&e), 5);
    assert_int_not_equal(e.call, 0);
    answer(n, e.call, 6);
    e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_REPLY);
    assert_int_equal(e.call, slot);
    assert_int_equal(e.status, ORR_OK);
    assert_int_equal(body_int(&e), 6);
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
}

static void answering_twice_is_refused(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    ask(n, target, 0, 1, 0);
    uint32_t call = next(n).call;
    answer(n, call, 1);
    orr_msg *m = orr_executor_message(n->ex);
    assert_int_equal(orr_executor_reply(n->ex, call, ORR_OK, m), ORR_ENOENT);
}

static void messages_of_one_sender_keep_their_order(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    for (int i = 0; i < 1000; i++)
        tell(n, target, i, 0);
    for (int i = 0; i < 1000; i++) {
        orr_event e = next(n);
        assert_int_equal(e.kind, ORR_EVENT_CALL);
        assert_int_equal(e.call, 0);
        assert_int_equal(body_int(&e), i);
    }
}

static void control_lane_passes_bulk(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    tell(n, target, 1, 0);
    tell(n, target, 2, ORR_FLAG_CONTROL);
    orr_event e = next(n);
    assert_int_equal(body_int(&e), 2);
    e = next(n);
    assert_int_equal(body_int(&e), 1);
}

static void a_busy_endpoint_yields_after_its_quota(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "busy", &(orr_endpoint_options){.ref = 1});
    open_endpoint(n, "quiet", &(orr_endpoint_options){.ref = 2});
    uint32_t busy = connect_to(n, "", "busy", NULL);
    uint32_t quiet = connect_to(n, "", "quiet", NULL);
    for (int i = 0; i < 100; i++)
        tell(n, busy, i, 0);
    tell(n, quiet, 0, 0);
    int before = 0;
    while (next(n).ref == 1)
        before++;
    assert_int_equal(before, ORR_QUOTA);
}

static void a_full_mailbox_answers_overloaded_at_once(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "small", &(orr_endpoint_options){.capacity_bulk = 2});
    uint32_t target = connect_to(n, "", "small", NULL);
    tell(n, target, 1, 0);
    tell(n, target, 2, 0);
    uint32_t slot = ask(n, target, 0, 3, 0);
    expect_status(n, slot, ORR_OVERLOADED, "2 messages wait");
    tell(n, target, 4, ORR_FLAG_CONTROL); /* the control lane has room */
    orr_event e = next(n);
    assert_int_equal(body_int(&e), 4);
}

static void an_endpoint_that_is_not_started_says_so(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t ep = open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    orr_endpoint_set_state(n->ex, n->service, ep, ORR_ENDPOINT_CREATED);
    expect_status(n, ask(n, target, 0, 1, 0), ORR_NOT_STARTED, "counter");
}

static void an_unknown_method_is_refused(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    expect_status(n, ask(n, target, 2, 1, 0), ORR_NO_METHOD, "no method 2");
}

static void names_are_unique_while_alive(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t first = open_endpoint(n, "counter", NULL);
    orr_endpoint_options o = {.name = "counter",
                              .methods = (const uint8_t *)"\x90",
                              .methods_len = 1};
    uint32_t slot;
    assert_int_equal(orr_endpoint_open(n->ex, n->service, &o, &slot),
                     ORR_EEXIST);
    assert_int_equal(orr_endpoint_close(n->ex, n->service, first), ORR_OK);
    assert_int_equal(orr_endpoint_open(n->ex, n->service, &o, &slot), ORR_OK);
    o.name = "bad name";
    assert_int_equal(orr_endpoint_open(n->ex, n->service, &o, &slot),
                     ORR_EINVAL);
    o.name = "";
    assert_int_equal(orr_endpoint_open(n->ex, n->service, &o, &slot),
                     ORR_EINVAL);
}

static void an_ended_endpoint_fails_what_waits_and_what_was_taken(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t ep = open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t taken = ask(n, target, 0, 1, 0);
    uint32_t queued = ask(n, target, 0, 2, 0);
    uint32_t call = next(n).call;
    orr_endpoint_close(n->ex, n->service, ep);
    expect_status(n, queued, ORR_UNREACHABLE, "ended before it took");
    expect_status(n, taken, ORR_CALLEE_DIED, "ended before it answered");
    orr_msg *m = orr_executor_message(n->ex);
    assert_int_equal(orr_executor_reply(n->ex, call, ORR_OK, m), ORR_ENOENT);
    expect_status(n, ask(n, target, 0, 3, 0), ORR_UNREACHABLE, "gone");
    /* The next endpoint in the same slot is somebody else. */
    open_endpoint(n, "other", NULL);
    expect_status(n, ask(n, target, 0, 4, 0), ORR_UNREACHABLE, "gone");
}

static void a_reset_ends_one_life_and_keeps_targets_good(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t ep = open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t taken = ask(n, target, 0, 1, 0);
    uint32_t queued = ask(n, target, 0, 2, 0);
    uint32_t call = next(n).call;
    assert_int_equal(orr_endpoint_reset(n->ex, n->service, ep), ORR_OK);
    expect_status(n, queued, ORR_UNREACHABLE, "ended before it took");
    expect_status(n, taken, ORR_CALLEE_DIED, "ended before it answered");
    orr_msg *m = orr_executor_message(n->ex);
    assert_int_equal(orr_executor_reply(n->ex, call, ORR_OK, m), ORR_ENOENT);
    expect_status(n, ask(n, target, 0, 3, 0), ORR_NOT_STARTED, "counter");
    orr_endpoint_set_state(n->ex, n->service, ep, ORR_ENDPOINT_STARTED);
    uint32_t again = ask(n, target, 0, 4, 0);
    answer(n, next(n).call, 5);
    expect_status(n, again, ORR_OK, NULL);
    orr_endpoint_close(n->ex, n->service, ep);
    assert_int_equal(orr_endpoint_reset(n->ex, n->service, ep), ORR_ENOENT);
}

static void a_fenced_endpoint_checks_the_token(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    orr_token mine = {.epoch = 3, .session = {1, 2, 3}};
    orr_token other = {.epoch = 3, .session = {1, 2, 4}};
    orr_token older = {.epoch = 2, .session = {1, 2, 3}};
    orr_endpoint_options o = {.fenced = 1, .token = mine};
    open_endpoint(n, "leader", &o);
    uint32_t good = connect_to(n, "", "leader", &mine);
    uint32_t bad = connect_to(n, "", "leader", &other);
    uint32_t old = connect_to(n, "", "leader", &older);
    uint32_t none = connect_to(n, "", "leader", NULL);
    expect_status(n, ask(n, bad, 0, 1, 0), ORR_FENCED, "epoch 3 session 0102");
    expect_status(n, ask(n, old, 0, 1, 0), ORR_FENCED, "carries epoch 2");
    expect_status(n, ask(n, none, 0, 1, 0), ORR_FENCED, "no token");
    ask(n, good, 0, 1, 0);
    assert_int_equal(next(n).kind, ORR_EVENT_CALL);
}

static void a_call_that_expires_in_the_queue_never_runs(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t slot = ask(n, target, 0, 1, 5000000);
    w->now += 5000000;
    orr_executor_turn(n->ex); /* the timer asks where the call is */
    expect_status(n, slot, ORR_EXPIRED_IN_QUEUE, "waited 5 ms");
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
}

static void a_call_that_expires_in_its_handler_names_the_phase(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t slot = ask(n, target, 1, 1, 5000000);
    uint32_t call = next(n).call;
    w->now += 7000000;
    orr_executor_turn(n->ex);
    expect_status(n, slot, ORR_EXPIRED_IN_HANDLER, "runs for 7 ms");
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_CANCEL);
    assert_int_equal(e.call, call);
    answer(n, call, 1); /* late: dropped without a word to anybody */
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
}

static void a_cancelled_call_ends_and_the_callee_is_told(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    uint32_t queued = ask(n, target, 0, 1, 0);
    assert_int_equal(orr_executor_cancel(n->ex, queued), ORR_OK);
    assert_int_equal(orr_executor_cancel(n->ex, queued), ORR_ENOENT);
    expect_status(n, queued, ORR_CANCELLED, NULL);
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
    uint32_t running = ask(n, target, 0, 2, 0);
    uint32_t call = next(n).call;
    assert_int_equal(orr_executor_cancel(n->ex, running), ORR_OK);
    expect_status(n, running, ORR_CANCELLED, NULL);
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_CANCEL);
    assert_int_equal(e.call, call);
}

static void posted_runs_keep_their_place_among_messages(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t ep =
        open_endpoint(n, "counter", &(orr_endpoint_options){.ref = 9});
    uint32_t target = connect_to(n, "", "counter", NULL);
    tell(n, target, 1, 0);
    assert_int_equal(orr_executor_post_run(n->ex, n->service, ep, 77), ORR_OK);
    tell(n, target, 2, 0);
    assert_int_equal(next(n).kind, ORR_EVENT_CALL);
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_RUN);
    assert_int_equal(e.ref, 9);
    assert_int_equal(e.call, 77);
    assert_int_equal(next(n).kind, ORR_EVENT_CALL);
}

static void timers_fire_in_order_and_never_early(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    uint32_t late, early, gone;
    orr_executor_timer(n->ex, 20000000, &late);
    orr_executor_timer(n->ex, 10000000, &early);
    orr_executor_timer(n->ex, 15000000, &gone);
    orr_executor_flush(n->ex);
    assert_int_equal(n->armed, w->now + 10000000);
    assert_int_equal(orr_executor_timer_cancel(n->ex, gone), ORR_OK);
    assert_int_equal(orr_executor_timer_cancel(n->ex, gone), ORR_ENOENT);
    w->now += 9999999;
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
    w->now += 10000001;
    orr_event e = next(n);
    assert_int_equal(e.kind, ORR_EVENT_TIMER);
    assert_int_equal(e.call, early);
    e = next(n);
    assert_int_equal(e.call, late);
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
    assert_int_equal(n->armed, UINT64_MAX);
}

static void a_timer_cancelled_after_it_fired_is_not_given(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    uint32_t timer;
    orr_executor_timer(n->ex, 0, &timer);
    orr_executor_turn(n->ex);
    assert_int_equal(orr_executor_timer_cancel(n->ex, timer), ORR_OK);
    assert_int_equal(next(n).kind, ORR_EVENT_NONE);
}

static void deadlines_leave_the_heap_in_any_order(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    enum { COUNT = 500 };
    uint32_t timers[COUNT];
    orr_chance c;
    orr_chance_seed(&c, 7);
    for (int i = 0; i < COUNT; i++)
        orr_executor_timer(n->ex, orr_chance_below(&c, 1000) * 1000000,
                           &timers[i]);
    int left = COUNT;
    for (int i = 0; i < COUNT; i++) {
        if (orr_chance_below(&c, 2) == 0)
            continue;
        assert_int_equal(orr_executor_timer_cancel(n->ex, timers[i]), ORR_OK);
        left--;
    }
    uint64_t last = 0;
    for (int ms = 0; ms <= 1000; ms++, w->now += 1000000) {
        orr_event e;
        while ((e = next(n)).kind == ORR_EVENT_TIMER) {
            assert_true(w->now >= last);
            last = w->now;
            left--;
        }
    }
    assert_int_equal(left, 0);
}

/* Node 0 calls node 1 over the wire; both are turned by hand. */
static void a_remote_call_goes_there_and_back(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    open_endpoint(b, "counter", &(orr_endpoint_options){.ref = 3});
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    uint32_t slot = ask(a, target, 1, 41, 1000000000);
    assert_int_equal(next(a).kind, ORR_EVENT_NONE);
    orr_event e = next(b);
    assert_int_equal(e.kind, ORR_EVENT_CALL);
    assert_int_equal(e.ref, 3);
    assert_int_equal(body_int(&e), 41);
    answer(b, e.call, 42);
    orr_executor_flush(b->ex);
    e = next(a);
    assert_int_equal(e.kind, ORR_EVENT_REPLY);
    assert_int_equal(e.call, slot);
    assert_int_equal(body_int(&e), 42);
    assert_int_equal(a->link->refs, 1); /* the target's */
    orr_executor_disconnect(a->ex, target);
    assert_int_equal(a->link->refs, 0);
}

static void a_lost_link_fails_its_calls_at_once(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    open_endpoint(b, "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    uint32_t first = ask(a, target, 0, 1, 0);
    uint32_t second = ask(a, target, 0, 2, 0);
    next(a);
    uint32_t call = next(b).call;
    drop_links(w);
    orr_event e = next(a);
    assert_int_equal(e.status, ORR_UNREACHABLE);
    assert_true(body_has(&e, "the wire was cut"));
    uint32_t seen = e.call;
    e = next(a);
    assert_int_equal(e.status, ORR_UNREACHABLE);
    assert_int_equal(seen + e.call, first + second);
    answer(b, call, 1); /* its link is gone; nothing to do */
    /* The target dials again by itself. */
    ask(a, target, 0, 3, 0);
    next(a);
    e = next(b);
    assert_int_equal(body_int(&e), 2); /* what the old link had brought */
    e = next(b);
    assert_int_equal(body_int(&e), 3);
}

static void an_oversized_request_fails_with_both_sizes(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    open_endpoint(b, "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    uint8_t big[2000] = {0};
    orr_msg *m = orr_executor_message(a->ex);
    uint32_t slot;
    orr_pack_bin(orr_msg_body(m), big, sizeof big);
    assert_int_equal(orr_executor_ask(a->ex, target, 0, m, 0, 0, &slot),
                     ORR_OK);
    expect_status(a, slot, ORR_TOO_LARGE, "2003 bytes, the limit is 1000");
    ask(a, target, 0, 1, 0);
    next(a);
    uint32_t call = next(b).call;
    m = orr_executor_message(b->ex);
    orr_pack_bin(orr_msg_body(m), big, sizeof big);
    assert_int_equal(orr_executor_reply(b->ex, call, ORR_OK, m), ORR_OK);
    orr_executor_flush(b->ex);
    orr_event e = next(a);
    assert_int_equal(e.status, ORR_TOO_LARGE);
    assert_true(body_has(&e, "the result has 2003 bytes"));
}

static void a_full_send_queue_is_overload(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0];
    open_endpoint(&w->nodes[1], "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    a->link->full = 1;
    expect_status(a, ask(a, target, 0, 1, 0), ORR_OVERLOADED, "queue is full");
    orr_msg *m = orr_executor_message(a->ex);
    assert_int_equal(orr_executor_tell(a->ex, target, 0, m, 0), ORR_OVERLOADED);
    a->link->full = 0;
}

static void a_silent_peer_ends_in_expired_unknown(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0];
    open_endpoint(&w->nodes[1], "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    a->link->full = 0;
    uint32_t slot = ask(a, target, 0, 1, 10000000);
    orr_buf_reset(&a->link->out); /* lost on the way */
    w->now += 10000000;
    assert_int_equal(next(a).kind, ORR_EVENT_NONE);
    w->now += ORR_PROBE_GRACE_NS;
    expect_status(a, slot, ORR_EXPIRED_UNKNOWN, "did not say");
}

static void a_remote_probe_names_the_phase(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    open_endpoint(b, "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    ask(a, target, 0, 1, 0);
    uint32_t slot = ask(a, target, 0, 2, 10000000);
    next(a);
    next(b); /* takes the first, leaves the second */
    w->now += 10000000;
    next(a);
    orr_executor_flush(a->ex); /* sends the probe */
    orr_executor_flush(b->ex); /* its answer goes back */
    expect_status(a, slot, ORR_EXPIRED_IN_QUEUE, "1 in line");
}

static void connecting_to_nothing_says_what_is_missing(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    uint32_t slot;
    orr_executor_connect(a->ex, a->service, "", "ghost", "", NULL, 0, &slot);
    expect_status(a, slot, ORR_UNREACHABLE, "no endpoint ghost");
    orr_executor_connect(a->ex, a->service, "nowhere:9", "ghost", "", NULL, 0,
                         &slot);
    expect_status(a, slot, ORR_UNREACHABLE, "no way to nowhere:9");
    open_endpoint(b, "counter",
                  &(orr_endpoint_options){.gateways = "counter reader"});
    orr_executor_connect(a->ex, a->service, "there:1", "counter", "writer",
                         NULL, 0, &slot);
    next(a);
    orr_executor_flush(b->ex);
    expect_status(a, slot, ORR_VERSION_MISMATCH, "counter reader, not writer");
}

static void a_prefix_resolves_to_the_one_endpoint(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    uint32_t slot;
    open_endpoint(n, "worker_1", NULL);
    connect_to(n, "", "worker_*", NULL);
    open_endpoint(n, "worker_2", NULL);
    orr_executor_connect(n->ex, n->service, "", "worker_*", "", NULL, 0, &slot);
    expect_status(n, slot, ORR_UNREACHABLE, "2 endpoints match worker_*");
    orr_executor_connect(n->ex, n->service, "", "task_*", "", NULL, 0, &slot);
    expect_status(n, slot, ORR_UNREACHABLE, "no endpoint task_*");
}

static void a_peer_cannot_answer_calls_of_another_link(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *b = &w->nodes[1];
    open_endpoint(b, "counter", NULL);
    uint32_t target = connect_to(a, "there:1", "counter", NULL);
    uint32_t slot = ask(a, target, 0, 1, 0);
    next(a);
    wire_link *stranger = new_link(a);
    orr_header h = {.kind = ORR_FRAME_REPLY, .call_slot = slot};
    for (uint32_t g = 0; g < 8; g++) {
        h.call_generation = g;
        assert_int_equal(orr_executor_receive(a->ex, &stranger->link, &h, NULL),
                         ORR_OK);
    }
    assert_int_equal(next(a).kind, ORR_EVENT_NONE);
}

static void info_tells_depth_age_and_what_runs(void **state)
{
    world *w = *state;
    node *n = &w->nodes[0];
    uint32_t ep = open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    orr_endpoint_info info;
    ask(n, target, 1, 1, 0);
    ask(n, target, 1, 2, 0);
    w->now += 3000000;
    orr_service_endpoint_info(n->service, ep, w->now, &info);
    assert_string_equal(info.name, "counter");
    assert_int_equal(info.depth[ORR_LANE_BULK], 2);
    assert_int_equal(info.oldest_ns, 3000000);
    assert_int_equal(info.running_ns, 0);
    next(n);
    w->now += 1000000;
    orr_service_endpoint_info(n->service, ep, w->now, &info);
    assert_int_equal(info.depth[ORR_LANE_BULK], 1);
    assert_int_equal(info.handled, 1);
    assert_int_equal(info.running_method, 1);
    assert_true(info.running_ns >= 1000000);
}

static void a_batch_ends_and_the_next_turn_goes_on(void **state)
{
    node *n = &((world *)*state)->nodes[0];
    open_endpoint(n, "counter", NULL);
    uint32_t target = connect_to(n, "", "counter", NULL);
    for (int i = 0; i < ORR_BATCH_MAX + 10; i++)
        tell(n, target, i, 0);
    orr_executor_turn(n->ex);
    orr_event e;
    int given = 0;
    for (orr_executor_next(n->ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(n->ex, &e))
        given++;
    assert_int_equal(given, ORR_BATCH_MAX);
    assert_true(orr_executor_ready(n->ex));
    orr_executor_turn(n->ex);
    for (orr_executor_next(n->ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(n->ex, &e))
        given++;
    assert_int_equal(given, ORR_BATCH_MAX + 10);
}

static void calls_to_an_executor_that_ends_are_answered(void **state)
{
    world *w = *state;
    node *a = &w->nodes[0], *c = &w->nodes[2];
    open_node(w, 2, 9);
    orr_service_free(c->service);
    c->service = a->service;
    uint32_t slot = open_endpoint(c, "late", NULL), target;
    assert_int_equal(
        orr_executor_target(a->ex, a->service, slot, NULL, &target), ORR_OK);
    uint32_t waits = ask(a, target, 0, 1, 0);
    tell(a, target, 2, 0);
    orr_executor_free(c->ex);
    expect_status(a, waits, ORR_UNREACHABLE, "has ended");
    expect_status(a, ask(a, target, 0, 3, 0), ORR_UNREACHABLE, "has ended");
}

/* --- two threads ---------------------------------------------------------- */

typedef struct peer {
    node *n;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int woken;
    atomic_int stop;
    uint32_t done;
    uint32_t total;
} peer;

static void wake_peer(void *ctx)
{
    peer *p = ctx;
    pthread_mutex_lock(&p->lock);
    p->woken = 1;
    pthread_cond_signal(&p->cond);
    pthread_mutex_unlock(&p->lock);
}

static uint64_t clock_of(void *ctx)
{
    (void)ctx;
    return orr_clock_mono_ns();
}

static void arm_nothing(void *ctx, uint64_t at)
{
    (void)ctx;
    (void)at;
}

static void sleep_peer(peer *p)
{
    if (orr_executor_try_sleep(p->n->ex)) {
        pthread_mutex_lock(&p->lock);
        while (!p->woken && !atomic_load(&p->stop))
            pthread_cond_wait(&p->cond, &p->lock);
        p->woken = 0;
        pthread_mutex_unlock(&p->lock);
    }
    orr_executor_awake(p->n->ex);
}

static void *serve(void *arg)
{
    peer *p = arg;
    while (!atomic_load(&p->stop)) {
        orr_event e;
        orr_executor_turn(p->n->ex);
        for (orr_executor_next(p->n->ex, &e); e.kind != ORR_EVENT_NONE;
             orr_executor_next(p->n->ex, &e)) {
            int64_t value = body_int(&e);
            answer(p->n, e.call, value + 1);
        }
        sleep_peer(p);
    }
    return NULL;
}

static void *call(void *arg)
{
    peer *p = arg;
    uint32_t target = connect_to(p->n, "", "server", NULL);
    uint32_t sent = 0;
    while (p->done < p->total) {
        while (sent < p->total && sent - p->done < 64)
            ask(p->n, target, 0, (int64_t)sent++, 10000000000u);
        orr_event e;
        orr_executor_turn(p->n->ex);
        for (orr_executor_next(p->n->ex, &e); e.kind != ORR_EVENT_NONE;
             orr_executor_next(p->n->ex, &e)) {
            assert_int_equal(e.status, ORR_OK);
            assert_int_equal(body_int(&e), p->done + 1);
            p->done++;
        }
        if (p->done < p->total && (sent == p->total || sent - p->done >= 64))
            sleep_peer(p);
    }
    return NULL;
}

static void two_threads_exchange_calls_in_order(void **state)
{
    (void)state;
    peer peers[2];
    node nodes[2];
    world w = {.now = 1};
    orr_service *s = orr_service_new("threads", "cluster", 5);
    for (int i = 0; i < 2; i++) {
        memset(&peers[i], 0, sizeof peers[i]);
        memset(&nodes[i], 0, sizeof nodes[i]);
        nodes[i].w = &w;
        nodes[i].service = s;
        peers[i].n = &nodes[i];
        peers[i].total = 50000;
        pthread_mutex_init(&peers[i].lock, NULL);
        pthread_cond_init(&peers[i].cond, NULL);
        orr_driver d = {.ctx = &peers[i],
                        .now_ns = clock_of,
                        .wall_ms = clock_of,
                        .wake = wake_peer,
                        .arm = arm_nothing};
        nodes[i].ex = orr_executor_new(&d, (uint32_t)i, 1);
    }
    uint32_t ep = open_endpoint(&nodes[0], "server", NULL);
    pthread_t server, client;
    pthread_create(&server, NULL, serve, &peers[0]);
    pthread_create(&client, NULL, call, &peers[1]);
    orr_endpoint_info info;
    for (int i = 0; i < 1000; i++)
        orr_service_endpoint_info(s, ep, orr_clock_mono_ns(), &info);
    pthread_join(client, NULL);
    atomic_store(&peers[0].stop, 1);
    wake_peer(&peers[0]);
    pthread_join(server, NULL);
    assert_int_equal(peers[1].done, 50000);
    orr_endpoint_close(nodes[0].ex, s, ep);
    orr_executor_free(nodes[0].ex);
    orr_executor_free(nodes[1].ex);
    orr_service_free(s);
}

/* --- every allocation fails once ------------------------------------------ */

static int scenario(world *w)
{
    node *n = &w->nodes[0];
    static const uint8_t methods[] = {0x91, 0xa1, 'a'};
    orr_endpoint_options o = {
        .name = "counter", .methods = methods, .methods_len = sizeof methods};
    uint32_t ep, slot, timer;
    int ended = 0;
    if (orr_endpoint_open(n->ex, n->service, &o, &ep) != ORR_OK)
        return 0;
    orr_endpoint_set_state(n->ex, n->service, ep, ORR_ENDPOINT_STARTED);
    if (orr_executor_connect(n->ex, n->service, "", "counter", "", NULL, 0,
                             &slot) == ORR_OK) {
        orr_event e = next(n);
        assert_int_equal(e.kind, ORR_EVENT_REPLY); /* it always ends */
        if (e.status == ORR_OK) {
            uint32_t target = target_of(&e);
            orr_msg *m = orr_executor_message(n->ex);
            if (m != NULL && orr_executor_ask(n->ex, target, 0, m, 1000, 0,
                                              &slot) == ORR_OK) {
                (void)orr_executor_timer(n->ex, 5, &timer);
                w->now += ORR_PROBE_GRACE_NS + 1001;
                for (int i = 0; i < 8; i++) {
                    e = next(n);
                    ended += e.kind == ORR_EVENT_REPLY && e.call == slot;
                    w->now += ORR_PROBE_GRACE_NS;
                }
                assert_int_equal(ended, 1);
            }
        }
    }
    orr_endpoint_close(n->ex, n->service, ep);
    return ended;
}

static void every_failing_allocation_is_survived(void **state)
{
    world *w = *state;
    int clean = 0;
    for (uint64_t nth = 1; nth < 200 && clean < 3; nth++) {
        orr_alloc_fail_at(nth);
        clean = scenario(w) ? clean + 1 : 0;
        orr_alloc_fail_at(0);
    }
    assert_true(clean >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ask_and_reply_on_one_executor, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(answering_twice_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(messages_of_one_sender_keep_their_order,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(control_lane_passes_bulk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_busy_endpoint_yields_after_its_quota,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_full_mailbox_answers_overloaded_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(an_endpoint_that_is_not_started_says_so,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_method_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_are_unique_while_alive, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            an_ended_endpoint_fails_what_waits_and_what_was_taken, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            a_reset_ends_one_life_and_keeps_targets_good, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fenced_endpoint_checks_the_token,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_call_that_expires_in_the_queue_never_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_call_that_expires_in_its_handler_names_the_phase, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            a_cancelled_call_ends_and_the_callee_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(
            posted_runs_keep_their_place_among_messages, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_fire_in_order_and_never_early,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_timer_cancelled_after_it_fired_is_not_given, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_leave_the_heap_in_any_order,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_remote_call_goes_there_and_back,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_link_fails_its_calls_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            an_oversized_request_fails_with_both_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_send_queue_is_overload, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_silent_peer_ends_in_expired_unknown,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_remote_probe_names_the_phase, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            connecting_to_nothing_says_what_is_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_prefix_resolves_to_the_one_endpoint,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_peer_cannot_answer_calls_of_another_link, setup, teardown),
        cmocka_unit_test_setup_teardown(info_tells_depth_age_and_what_runs,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_ends_and_the_next_turn_goes_on,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            calls_to_an_executor_that_ends_are_answered, setup, teardown),
        cmocka_unit_test(two_threads_exchange_calls_in_order),
        cmocka_unit_test_setup_teardown(every_failing_allocation_is_survived,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
