/* What executors know of their work, on a clock that the test moves: latency of
 * methods, what runs, inherited deadlines, cancelled children, traces. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/exec.h"

#define MS UINT64_C(1000000)

typedef struct world {
    uint64_t now;
    orr_service *service;
    orr_executor *ex[2];
    uint32_t slot;
    uint32_t target;
    uint64_t live_before;
} world;

static world the_world;

static uint64_t now_of(void *ctx)
{
    return ((world *)ctx)->now;
}

static void wake_of(void *ctx)
{
    (void)ctx;
}

static void arm_of(void *ctx, uint64_t at)
{
    (void)ctx;
    (void)at;
}

static orr_link *dial_of(void *ctx, orr_executor *ex, orr_service *s,
                         const char *address, orr_error *err)
{
    (void)ctx;
    (void)ex;
    (void)s;
    orr_error_set(err, ORR_UNREACHABLE, "no way to %s", address);
    return NULL;
}

static uint32_t open_endpoint(world *w, const char *name)
{
    static const uint8_t methods[] = {0x92, 0xa3, 'a', 'd', 'd', 0x92,
                                      0xa4, 'r',  'e', 'a', 'd', 0x05};
    orr_endpoint_options o = {.name = name,
                              .methods = methods,
                              .methods_len = sizeof methods,
                              .capacity_bulk = 8};
    uint32_t slot;
    assert_int_equal(orr_endpoint_open(w->ex[0], w->service, &o, &slot),
                     ORR_OK);
    assert_int_equal(orr_endpoint_set_state(w->ex[0], w->service, slot,
                                            ORR_ENDPOINT_STARTED),
                     ORR_OK);
    return slot;
}

static int setup(void **state)
{
    world *w = &the_world;
    memset(w, 0, sizeof *w);
    w->live_before = orr_alloc_live();
    w->now = 1000 * MS;
    const orr_driver d = {.ctx = w,
                          .now_ns = now_of,
                          .wall_ms = now_of,
                          .wake = wake_of,
                          .arm = arm_of,
                          .dial = dial_of};
    w->service = orr_service_new("test", "cluster", 1);
    for (uint32_t i = 0; i < 2; i++)
        w->ex[i] = orr_executor_new(&d, i + 1, 42 + i);
    w->slot = open_endpoint(w, "counter");
    assert_int_equal(
        orr_executor_target(w->ex[0], w->service, w->slot, NULL, &w->target),
        ORR_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    uint32_t count = orr_service_endpoint_count(w->service);
    for (uint32_t slot = 0; slot < count; slot++)
        (void)orr_endpoint_close(w->ex[0], w->service, slot);
    for (int i = 0; i < 2; i++)
        orr_executor_free(w->ex[i]);
    orr_service_free(w->service);
    /* The ring of spans stays for the life of the process. */
    assert_true(orr_alloc_live() <= w->live_before + 1);
    return 0;
}

static orr_event next(orr_executor *ex)
{
    orr_event e;
    orr_executor_next(ex, &e);
    if (e.kind == ORR_EVENT_NONE) {
        orr_executor_flush(ex);
        orr_executor_turn(ex);
        orr_executor_next(ex, &e);
    }
    return e;
}

static uint32_t ask_with(world *w, uint32_t method, uint64_t timeout_ns,
                         uint32_t flags)
{
    uint32_t slot = 0;
    assert_int_equal(orr_executor_ask(w->ex[0], w->target, method,
                                      orr_executor_message(w->ex[0]),
                                      timeout_ns, flags, &slot),
                     ORR_OK);
    return slot;
}

static uint32_t take(world *w)
{
    orr_event e = next(w->ex[0]);
    assert_int_equal(e.kind, ORR_EVENT_CALL);
    return e.call;
}

static void answer(world *w, uint32_t call, int32_t status)
{
    assert_int_equal(orr_executor_reply(w->ex[0], call, status,
                                        orr_executor_message(w->ex[0])),
                     ORR_OK);
}

static orr_event expect_reply(world *w, uint32_t slot, int status)
{
    orr_event e = next(w->ex[0]);
    assert_int_equal(e.kind, ORR_EVENT_REPLY);
    assert_int_equal(e.call, slot);
    assert_int_equal(e.status, status);
    return e;
}

static void serve(world *w, uint32_t method, uint64_t wait, uint64_t run)
{
    uint32_t slot = ask_with(w, method, 0, 0);
    w->now += wait;
    uint32_t call = take(w);
    w->now += run;
    answer(w, call, ORR_OK);
    (void)expect_reply(w, slot, ORR_OK);
}

static orr_method_info info_of(world *w, uint32_t method)
{
    orr_method_info info;
    assert_int_equal(
        orr_service_method_info(w->service, w->slot, method, &info), ORR_OK);
    return info;
}

static void is_near(uint64_t got, uint64_t wanted)
{
    uint64_t error = got > wanted ? got - wanted : wanted - got;
    if (error * 8 > wanted)
        fail_msg("%llu is not within 12.5 %% of %llu", (unsigned long long)got,
                 (unsigned long long)wanted);
}

/* --- specs ---------------------------------------------------------------- */

static void latencies_are_known_to_an_eighth(void **state)
{
    world *w = *state;
    for (uint64_t run = 100; run < UINT64_C(100000000000); run = run * 13 / 9) {
        assert_int_equal(orr_service_method_reset(w->service, w->slot, 0),
                         ORR_OK);
        serve(w, 0, run / 2, run);
        serve(w, 0, run / 2, run);
        serve(w, 0, run / 2, run * 2);
        orr_method_info info = info_of(w, 0);
        assert_int_equal(info.handler.count, 3);
        assert_int_equal(info.queue.count, 3);
        is_near(info.handler.p50_ns, run);
        is_near(info.queue.p99_ns, run / 2 < 64 ? info.queue.p99_ns : run / 2);
        assert_int_equal(info.handler.max_ns, run * 2);
        assert_int_equal(info.queue.max_ns, run / 2);
        assert_int_equal(info.run_ns, run * 4);
        assert_int_equal(info.run_max_ns, run * 2);
    }
}

static void quantiles_have_their_ranks(void **state)
{
    world *w = *state;
    for (int i = 0; i < 100; i++)
        serve(w, 0, 0, i < 89 ? MS : i < 98 ? 20 * MS : 400 * MS);
    orr_method_info info = info_of(w, 0);
    is_near(info.handler.p50_ns, MS);
    is_near(info.handler.p90_ns, 20 * MS);
    is_near(info.handler.p99_ns, 400 * MS);
    assert_int_equal(info.handler.max_ns, 400 * MS);
}

static void the_ends_of_the_scale_are_counted(void **state)
{
    world *w = *state;
    serve(w, 0, 0, 0);
    serve(w, 0, 0, 1);
    serve(w, 0, 0, 63);
    serve(w, 0, 0, UINT64_C(3600000000000));
    orr_method_info info = info_of(w, 0);
    assert_int_equal(info.handler.count, 4);
    assert_true(info.handler.p50_ns <= 63);
    assert_int_equal(info.handler.max_ns, UINT64_C(3600000000000));
}

static void methods_are_apart_and_named(void **state)
{
    world *w = *state;
    serve(w, 1, 0, MS);
    assert_int_equal(info_of(w, 0).handler.count, 0);
    assert_int_equal(info_of(w, 1).handler.count, 1);
    assert_string_equal(info_of(w, 0).name, "add");
    assert_string_equal(info_of(w, 1).name, "read");
    orr_method_info info;
    assert_int_equal(orr_service_method_info(w->service, w->slot, 2, &info),
                     ORR_ENOENT);
    assert_int_equal(orr_service_method_info(w->service, 77, 0, &info),
                     ORR_ENOENT);
    assert_int_equal(orr_service_method_reset(w->service, w->slot, 2),
                     ORR_ENOENT);
}

static void a_handler_that_waits_is_measured_to_its_answer(void **state)
{
    world *w = *state;
    uint32_t slot = ask_with(w, 0, 0, 0);
    uint32_t call = take(w);
    w->now += 2 * MS;
    assert_int_equal(next(w->ex[0]).kind, ORR_EVENT_NONE);
    w->now += 50 * MS; /* nobody runs */
    assert_int_equal(orr_executor_enter(w->ex[0], call), ORR_OK);
    w->now += 3 * MS;
    answer(w, call, ORR_UNREACHABLE);
    (void)expect_reply(w, slot, ORR_UNREACHABLE);
    orr_method_info info = info_of(w, 0);
    assert_int_equal(info.run_ns, 5 * MS);
    assert_int_equal(info.run_max_ns, 3 * MS);
    assert_int_equal(info.handler.max_ns, 55 * MS);
    assert_int_equal(info.errors, 1);
    assert_int_equal(orr_executor_enter(w->ex[0], call), ORR_ENOENT);
}

static void what_runs_is_shown(void **state)
{
    world *w = *state;
    orr_running r;
    orr_endpoint_info e;
    uint32_t slot = ask_with(w, 1, 0, 0);
    uint32_t call = take(w);
    w->now += 5 * MS;
    orr_executor_running(w->ex[0], &r);
    assert_string_equal(r.endpoint, "counter");
    assert_string_equal(r.name, "read");
    uint64_t progress = r.progress;
    assert_int_equal(orr_service_endpoint_info(w->service, w->slot, w->now, &e),
                     ORR_OK);
    assert_string_equal(e.running_name, "read");
    assert_int_equal(e.running_ns, 5 * MS);
    (void)next(w->ex[0]); /* it awaits */
    orr_executor_running(w->ex[0], &r);
    assert_string_equal(r.endpoint, "");
    assert_int_not_equal(r.progress, progress);
    assert_int_equal(orr_executor_enter(w->ex[0], call), ORR_OK);
    orr_executor_running(w->ex[0], &r);
    assert_string_equal(r.name, "read");
    answer(w, call, ORR_OK);
    (void)expect_reply(w, slot, ORR_OK);
}

static void refused_expired_and_abandoned_are_counted(void **state)
{
    world *w = *state;
    for (int i = 0; i < 9; i++)
        (void)ask_with(w, 0, 0, 0);
    assert_int_equal(info_of(w, 0).refused, 1);
    for (int i = 0; i < 10; i++) {
        orr_event e = next(w->ex[0]);
        if (e.kind == ORR_EVENT_CALL)
            answer(w, e.call, ORR_OK);
    }
    while (next(w->ex[0]).kind != ORR_EVENT_NONE)
        continue;
    uint32_t slot = ask_with(w, 0, MS, 0);
    uint32_t call = take(w);
    assert_int_equal(orr_executor_cancel(w->ex[0], slot), ORR_OK);
    answer(w, call, ORR_OK);
    assert_int_equal(info_of(w, 0).abandoned, 1);
    (void)next(w->ex[0]);
    slot = ask_with(w, 0, MS, 0);
    w->now += 2 * MS;
    orr_executor_turn(w->ex[0]);
    (void)expect_reply(w, slot, ORR_EXPIRED_IN_QUEUE);
    assert_int_equal(info_of(w, 0).expired, 1);
}

static void messages_from_another_thread_wait_visibly(void **state)
{
    world *w = *state;
    uint32_t target, slot;
    orr_endpoint_info e;
    assert_int_equal(
        orr_executor_target(w->ex[1], w->service, w->slot, NULL, &target),
        ORR_OK);
    for (int i = 0; i < 3; i++) {
        orr_executor_turn(w->ex[1]);
        assert_int_equal(orr_executor_ask(w->ex[1], target, 0,
                                          orr_executor_message(w->ex[1]), 0, 0,
                                          &slot),
                         ORR_OK);
        w->now += 10 * MS;
    }
    assert_int_equal(orr_service_endpoint_info(w->service, w->slot, w->now, &e),
                     ORR_OK);
    assert_int_equal(e.posted, 3);
    assert_int_equal(e.depth[ORR_LANE_BULK], 0);
    assert_int_equal(e.oldest_ns, 30 * MS);
    uint32_t call = take(w);
    assert_int_equal(orr_service_endpoint_info(w->service, w->slot, w->now, &e),
                     ORR_OK);
    assert_int_equal(e.posted, 0);
    assert_int_equal(e.depth[ORR_LANE_BULK], 2);
    assert_int_equal(e.oldest_ns, 20 * MS);
    answer(w, call, ORR_OK);
    (void)next(w->ex[0]);
    assert_int_equal(info_of(w, 0).queue.max_ns, 30 * MS);
    orr_executor_info x;
    orr_executor_info_get(w->ex[0], &x);
    assert_true(x.lag.max_ns >= 30 * MS);
}

static void a_nested_call_has_what_is_left(void **state)
{
    world *w = *state;
    uint64_t left;
    assert_int_equal(orr_executor_remaining(w->ex[0], &left), ORR_ENOENT);
    uint32_t outer = ask_with(w, 0, 100 * MS, 0);
    uint32_t call = take(w);
    w->now += 40 * MS;
    assert_int_equal(orr_executor_remaining(w->ex[0], &left), ORR_OK);
    assert_int_equal(left, 60 * MS);
    uint32_t longer = ask_with(w, 1, 500 * MS, 0);
    uint32_t none = ask_with(w, 1, 0, 0);
    uint32_t shorter = ask_with(w, 1, 10 * MS, 0);
    uint32_t own = ask_with(w, 1, 500 * MS, ORR_ASK_OWN);
    uint32_t calls[4];
    static const uint64_t wanted[] = {60, 60, 10, 500};
    for (int i = 0; i < 4; i++) {
        calls[i] = take(w);
        assert_int_equal(orr_executor_remaining(w->ex[0], &left), ORR_OK);
        assert_int_equal(left, wanted[i] * MS);
    }
    for (int i = 0; i < 4; i++)
        answer(w, calls[i], ORR_OK);
    assert_int_equal(expect_reply(w, longer, ORR_OK).limit_ms, 60);
    assert_int_equal(expect_reply(w, none, ORR_OK).limit_ms, 60);
    assert_int_equal(expect_reply(w, shorter, ORR_OK).limit_ms, 0);
    assert_int_equal(expect_reply(w, own, ORR_OK).limit_ms, 0);
    assert_int_equal(orr_executor_enter(w->ex[0], call), ORR_OK);
    w->now += 70 * MS;
    assert_int_equal(orr_executor_remaining(w->ex[0], &left), ORR_OK);
    assert_int_equal(left, 0);
    uint32_t late = ask_with(w, 1, 0, 0);
    (void)expect_reply(w, late, ORR_EXPIRED_UNSENT);
    answer(w, call, ORR_OK);
    orr_event e = next(w->ex[0]);
    assert_int_equal(e.call, outer);
}

static void children_are_cancelled_with_their_parent(void **state)
{
    world *w = *state;
    uint32_t outer = ask_with(w, 0, 0, 0);
    uint32_t parent = take(w);
    uint32_t child = ask_with(w, 1, 0, 0);
    uint32_t own = ask_with(w, 1, 0, ORR_ASK_OWN);
    uint32_t inner = take(w);
    uint32_t other = take(w);
    assert_int_equal(orr_executor_cancel(w->ex[0], outer), ORR_OK);
    (void)expect_reply(w, outer, ORR_CANCELLED);
    orr_event e = next(w->ex[0]);
    assert_int_equal(e.kind, ORR_EVENT_CANCEL);
    assert_int_equal(e.call, parent);
    assert_true(orr_executor_is_abandoned(w->ex[0], parent));
    (void)expect_reply(w, child, ORR_CANCELLED);
    e = next(w->ex[0]);
    assert_int_equal(e.kind, ORR_EVENT_CANCEL);
    assert_int_equal(e.call, inner);
    assert_false(orr_executor_is_abandoned(w->ex[0], other));
    assert_int_equal(orr_executor_enter(w->ex[0], parent), ORR_OK);
    uint32_t after = ask_with(w, 1, 0, 0);
    (void)expect_reply(w, after, ORR_CANCELLED);
    answer(w, other, ORR_OK);
    (void)expect_reply(w, own, ORR_OK);
    answer(w, inner, ORR_OK);
    answer(w, parent, ORR_OK);
}

static void an_answer_leaves_its_children_alone(void **state)
{
    world *w = *state;
    uint32_t outer = ask_with(w, 0, 0, 0);
    uint32_t parent = take(w);
    uint32_t children[3];
    for (int i = 0; i < 3; i++)
        children[i] = ask_with(w, 1, 0, 0);
    assert_int_equal(orr_executor_cancel(w->ex[0], children[1]), ORR_OK);
    answer(w, parent, ORR_OK);
    for (int i = 0; i < 6; i++) {
        orr_event e = next(w->ex[0]);
        if (e.kind == ORR_EVENT_CALL)
            answer(w, e.call, ORR_OK);
        else if (e.kind == ORR_EVENT_REPLY)
            assert_int_equal(e.status,
                             e.call == children[1] ? ORR_CANCELLED : ORR_OK);
        (void)outer;
    }
    assert_int_equal(next(w->ex[0]).kind, ORR_EVENT_NONE);
}

static void senders_are_named(void **state)
{
    world *w = *state;
    char text[200];
    uint32_t outer = ask_with(w, 0, 0, 0);
    uint32_t parent = take(w);
    orr_executor_sender(w->ex[0], parent, text, sizeof text);
    assert_string_equal(text, "executor 1");
    uint32_t child = ask_with(w, 1, 0, 0);
    uint32_t inner = take(w);
    assert_true(orr_executor_sender(w->ex[0], 0, text, sizeof text) > 0);
    assert_string_equal(text, "endpoint counter");
    answer(w, inner, ORR_OK);
    (void)expect_reply(w, child, ORR_OK);
    answer(w, parent, ORR_OK);
    (void)expect_reply(w, outer, ORR_OK);
    assert_int_equal(orr_executor_sender(w->ex[0], parent, text, sizeof text),
                     0);
}

static void a_trace_goes_with_the_calls(void **state)
{
    world *w = *state;
    orr_span spans[8];
    uint64_t before = 0;
    while (orr_trace_read(0, before, spans, 1) == 1)
        before = spans[0].sequence;
    assert_int_equal(orr_trace_set("", w->now + 1000 * MS), ORR_OK);
    uint32_t outer = ask_with(w, 0, 0, 0);
    w->now += MS;
    uint32_t parent = take(w);
    uint32_t child = ask_with(w, 1, 0, 0);
    uint32_t inner = take(w);
    w->now += 2 * MS;
    answer(w, inner, ORR_UNREACHABLE);
    (void)expect_reply(w, child, ORR_UNREACHABLE);
    answer(w, parent, ORR_OK);
    (void)expect_reply(w, outer, ORR_OK);
    assert_int_equal(orr_trace_set("", 0), ORR_OK);
    serve(w, 0, 0, 0);
    assert_int_equal(orr_trace_read(0, before, spans, 8), 2);
    assert_int_equal(spans[0].trace, spans[1].trace);
    assert_int_equal(spans[0].parent, spans[1].span);
    assert_int_equal(spans[1].parent, 0);
    assert_int_equal(spans[0].status, ORR_UNREACHABLE);
    assert_int_equal(spans[0].run_ns, 2 * MS);
    assert_int_equal(spans[1].queue_ns, MS);
    assert_string_equal(spans[0].method, "read");
    assert_string_equal(spans[1].endpoint, "counter");
    assert_int_equal(orr_trace_read(spans[0].trace, before, spans, 8), 2);
    assert_int_equal(orr_trace_read(spans[0].trace + 1, before, spans, 8), 0);
    char filter[200];
    memset(filter, 'x', sizeof filter);
    filter[199] = 0;
    assert_int_equal(orr_trace_set(filter, 1), ORR_EINVAL);
}

typedef struct reader {
    world *w;
    uint32_t slot;
    _Atomic int stop;
    _Atomic uint64_t reads;
} reader;

static void *read_all(void *arg)
{
    reader *r = arg;
    while (!atomic_load(&r->stop)) {
        orr_method_info m;
        orr_endpoint_info e;
        orr_executor_info x[4];
        orr_running run;
        (void)orr_service_method_info(r->w->service, r->slot, 0, &m);
        if (r->reads % 64 == 0)
            (void)orr_service_method_reset(r->w->service, r->slot, 0);
        (void)orr_service_endpoint_info(r->w->service, r->slot, 0, &e);
        (void)orr_executors(0, x, 4);
        orr_executor_running(r->w->ex[0], &run);
        r->reads++;
    }
    return NULL;
}

static uint64_t fixed_now(void *ctx)
{
    (void)ctx;
    return 5 * MS;
}

/* For the thread sanitizer: nothing here may be a race. */
static void any_thread_may_look_while_the_owner_works(void **state)
{
    world *w = *state;
    const orr_driver d = {.ctx = w,
                          .now_ns = fixed_now,
                          .wall_ms = fixed_now,
                          .wake = wake_of,
                          .arm = arm_of,
                          .dial = dial_of};
    for (int i = 0; i < 2; i++)
        orr_executor_free(w->ex[i]);
    for (uint32_t i = 0; i < 2; i++)
        w->ex[i] = orr_executor_new(&d, i + 1, 1);
    w->slot = open_endpoint(w, "busy");
    assert_int_equal(
        orr_executor_target(w->ex[0], w->service, w->slot, NULL, &w->target),
        ORR_OK);
    reader r = {.w = w, .slot = w->slot};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
    while (atomic_load(&r.reads) == 0)
        sched_yield();
    for (int i = 0; i < 20000; i++)
        serve(w, (uint32_t)i & 1, 0, 0);
    assert_int_equal(orr_endpoint_close(w->ex[0], w->service, w->slot), ORR_OK);
    w->slot = open_endpoint(w, "again");
    atomic_store(&r.stop, 1);
    pthread_join(thread, NULL);
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(latencies_are_known_to_an_eighth),
        SPEC(quantiles_have_their_ranks),
        SPEC(the_ends_of_the_scale_are_counted),
        SPEC(methods_are_apart_and_named),
        SPEC(a_handler_that_waits_is_measured_to_its_answer),
        SPEC(what_runs_is_shown),
        SPEC(refused_expired_and_abandoned_are_counted),
        SPEC(messages_from_another_thread_wait_visibly),
        SPEC(a_nested_call_has_what_is_left),
        SPEC(children_are_cancelled_with_their_parent),
        SPEC(an_answer_leaves_its_children_alone),
        SPEC(senders_are_named),
        SPEC(a_trace_goes_with_the_calls),
        SPEC(any_thread_may_look_while_the_owner_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
