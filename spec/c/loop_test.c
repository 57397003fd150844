/* The real driver: a real clock and real threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "net_fixture.h"

static const uint64_t ms = 1000000u;

static int setup(void **state)
{
    orr_error err;

    alarm(60); /* a loop that sleeps for ever ends the program */
    *state = orr_loop_new(3, &err);
    return *state == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    return orr_loop_free(*state) == 0 ? 0 : -1;
}

static void pause_ms(unsigned n)
{
    struct timespec t = {.tv_sec = n / 1000, .tv_nsec = n % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

static void *wake_later(void *arg)
{
    pause_ms(150);
    orr_executor_wake(arg);
    return NULL;
}

static void another_thread_wakes_a_loop_that_sleeps_without_end(void **state)
{
    orr_loop *loop = *state;
    orr_executor *ex = orr_loop_executor(loop);
    orr_executor_info info;
    pthread_t thread;
    uint64_t begin;

    orr_executor_turn(ex);
    orr_executor_flush(ex);
    while (orr_executor_ready(ex)) {
        orr_event e;
        orr_executor_next(ex, &e);
    }
    begin = orr_clock_mono_ns();
    pthread_create(&thread, NULL, wake_later, ex);
    /* One turn: it neither returns on its own nor polls. */
    assert_int_equal(orr_loop_turn(loop, 1), 1);
    assert_true(orr_clock_mono_ns() - begin >= 140 * ms);
    pthread_join(thread, NULL);
    orr_executor_info_get(ex, &info);
    assert_int_equal(info.wakeups, 1);
    assert_int_equal(info.number, 3);
    /* The wake-up was taken: the next turn would sleep again. */
    begin = orr_clock_mono_ns();
    assert_int_equal(orr_loop_turn(loop, 0), 0);
    assert_true(orr_clock_mono_ns() - begin < 100 * ms);
}

enum { ROUNDS = 2000 };

typedef struct relay {
    orr_executor *ex;
    atomic_int sent;
    atomic_int seen;
} relay;

/* One wake-up at a time, each only after the last one was seen. */
static void *wake_in_turn(void *arg)
{
    relay *r = arg;

    for (int i = 1; i <= ROUNDS; i++) {
        atomic_store(&r->sent, i);
        while (atomic_load(&r->seen) < i)
            orr_executor_wake(r->ex);
    }
    return NULL;
}

static void wake_ups_are_never_lost(void **state)
{
    orr_loop *loop = *state;
    relay r = {.ex = orr_loop_executor(loop)};
    pthread_t thread;

    pthread_create(&thread, NULL, wake_in_turn, &r);
    while (atomic_load(&r.seen) < ROUNDS) {
        orr_loop_turn(loop, 1);
        atomic_store(&r.seen, atomic_load(&r.sent));
    }
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&r.sent), ROUNDS);
}

static void timers_are_never_early(void **state)
{
    orr_loop *loop = *state;
    orr_executor *ex = orr_loop_executor(loop);
    orr_chance chance;
    uint64_t due[40], latest = 0;
    uint32_t ids[40];
    int fired = 0, turns = 0;

    orr_chance_seed(&chance, 5);
    for (int i = 0; i < 40; i++) {
        uint64_t delay = orr_chance_below(&chance, 60 * ms);
        due[i] = orr_executor_now_ns(ex) + delay;
        latest = due[i] > latest ? due[i] : latest;
        assert_int_equal(orr_executor_timer(ex, delay, &ids[i]), ORR_OK);
        /* The loop's idea of now grows stale meanwhile. */
        if (i % 8 == 0)
            pause_ms(3);
    }
    while (fired < 40 && turns++ < 1000) {
        orr_event e;

        orr_executor_turn(ex);
        for (orr_executor_next(ex, &e); e.kind != ORR_EVENT_NONE;
             orr_executor_next(ex, &e)) {
            assert_int_equal(e.kind, ORR_EVENT_TIMER);
            for (int i = 0; i < 40; i++)
                if (ids[i] == e.call)
                    assert_true(orr_clock_mono_ns() >= due[i]);
            fired++;
        }
        orr_executor_flush(ex);
        if (fired < 40)
            orr_loop_turn(loop, 1);
    }
    assert_int_equal(fired, 40);
    assert_true(orr_clock_mono_ns() - latest < 2000 * ms);
    assert_true(turns <= 81); /* it slept between them */
}

static void a_deadline_that_moved_away_costs_one_turn(void **state)
{
    orr_loop *loop = *state;
    orr_executor *ex = orr_loop_executor(loop);
    uint32_t timer;
    pthread_t thread;
    int turns = 0;
    uint64_t begin;

    orr_executor_timer(ex, 20 * ms, &timer);
    orr_executor_flush(ex);
    pthread_create(&thread, NULL, wake_later, ex);
    orr_loop_turn(loop, 0);
    orr_executor_timer_cancel(ex, timer);
    orr_executor_flush(ex);
    begin = orr_clock_mono_ns();
    while (orr_clock_mono_ns() - begin < 100 * ms) {
        orr_loop_turn(loop, 1);
        orr_executor_turn(ex);
        orr_executor_flush(ex);
        turns++;
    }
    assert_true(turns <= 2);
    pthread_join(thread, NULL);
}

static int turn_for_timer(orr_loop *loop)
{
    orr_executor *ex = orr_loop_executor(loop);
    int fired = 0;
    orr_event e;

    orr_executor_turn(ex);
    for (orr_executor_next(ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(ex, &e))
        fired += e.kind == ORR_EVENT_TIMER;
    orr_executor_flush(ex);
    return fired;
}

/* The first deadline is armed, passes while the loop is away, and is handled
 * by the executor; libuv's timer for it is stale. It must not take the second
 * deadline with it. */
static void a_stale_timer_does_not_lose_the_next_deadline(void **state)
{
    orr_loop *loop = *state;
    orr_executor *ex = orr_loop_executor(loop);
    uint32_t first, second;
    uint64_t begin = orr_clock_mono_ns();
    pthread_t thread;
    int fired;

    assert_int_equal(orr_executor_timer(ex, 300 * ms, &first), ORR_OK);
    assert_int_equal(orr_executor_timer(ex, 400 * ms, &second), ORR_OK);
    assert_int_equal(turn_for_timer(loop), 0);
    pthread_create(&thread, NULL, wake_later, ex);
    orr_loop_turn(loop, 1); /* woken at 150 ms, the timer stays armed */
    pthread_join(thread, NULL);
    pause_ms(200);
    fired = turn_for_timer(loop);
    assert_int_equal(fired, 1);
    while (fired < 2) {
        orr_loop_turn(loop, 1); /* hung here when it was lost */
        fired += turn_for_timer(loop);
        assert_true(orr_clock_mono_ns() - begin < 5000 * ms);
    }
    assert_true(orr_clock_mono_ns() - begin >= 400 * ms);
}

static void an_executor_without_a_network_says_so(void **state)
{
    orr_loop *loop = *state;
    party p = {.ex = orr_loop_executor(loop)};

    p.service = orr_service_new("s", "alpha", 1);
    party_connect(&p, "127.0.0.1:1", 0);
    party_drain(&p);
    assert_reply(&p, ORR_UNREACHABLE, "the executor has no network");
    orr_service_free(p.service);
}

static void handles_that_others_left_open_are_counted(void **state)
{
    orr_error err;
    orr_loop *loop = orr_loop_new(1, &err);
    static uv_timer_t left, closed;

    (void)state;
    uv_timer_init(orr_loop_uv(loop), &left);
    uv_timer_init(orr_loop_uv(loop), &closed);
    uv_close((uv_handle_t *)&closed, NULL);
    assert_int_equal(orr_loop_free(loop), 1);
    assert_int_equal(orr_loop_free(NULL), 0);
}

static void without_memory_there_is_no_loop_and_no_leak(void **state)
{
    uint64_t live = orr_alloc_live();
    orr_error err;

    (void)state;
    orr_alloc_fail_at(1);
    assert_null(orr_loop_new(1, &err));
    assert_int_equal(err.code, ORR_ENOMEM);
    orr_alloc_fail_at(0);
    assert_int_equal(orr_alloc_live(), live);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(another_thread_wakes_a_loop_that_sleeps_without_end),
        ROW(wake_ups_are_never_lost),
        ROW(timers_are_never_early),
        ROW(a_deadline_that_moved_away_costs_one_turn),
        ROW(an_executor_without_a_network_says_so),
        ROW(a_stale_timer_does_not_lose_the_next_deadline),
        cmocka_unit_test(handles_that_others_left_open_are_counted),
        cmocka_unit_test(without_memory_there_is_no_loop_and_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
