/* The real driver of an executor: a libuv loop of its own. See loop.h.
 *
 * Owner: the executor's thread. Only wake may come from elsewhere; it touches
 * nothing but the eventfd.
 *
 * Deadlines. The executor tells the time of its next deadline by arm, often and
 * cheaply: we only note it (wanted_ns). Right before the loop may sleep the
 * libuv timer is started, and only when wanted_ns is earlier than what it is
 * set to (armed_ns). A timer that fires for a deadline that has moved away
 * since costs one empty turn.
 */
#define _GNU_SOURCE
#include "orrery/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

enum { NS_PER_MS = 1000000 };

struct orr_loop {
    uv_loop_t uv;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    int wake_fd;
    uint64_t wanted_ns;
    uint64_t armed_ns;
    uint64_t spin_ns;
    orr_executor *executor;
    orr_network network;
    orr_loop_guest *guests;
};

static uint64_t driver_now_ns(void *ctx)
{
    (void)ctx;
    return orr_clock_mono_ns();
}

static uint64_t driver_wall_ms(void *ctx)
{
    (void)ctx;
    return orr_clock_wall_ms();
}

/* Thread: any. The counter of an eventfd overflows only after 2^64 - 2 unread
 * wake-ups, and then it is awake anyway: EAGAIN needs no answer. */
static void driver_wake(void *ctx)
{
    orr_loop *loop = ctx;
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(loop->wake_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
}

static void driver_arm(void *ctx, uint64_t at_ns)
{
    orr_loop *loop = ctx;
    loop->wanted_ns = at_ns;
}

static orr_link *driver_dial(void *ctx, orr_executor *ex, orr_service *s,
                             const char *address, orr_error *err)
{
    orr_loop *loop = ctx;

    if (loop->network.dial == NULL) {
        orr_error_set(err, ORR_UNREACHABLE,
                      "cannot connect to %s: the executor has no network",
                      address);
        return NULL;
    }
    return loop->network.dial(loop->network.ctx, ex, s, address, err);
}

static void on_wake(uv_poll_t *handle, int status, int events)
{
    orr_loop *loop = handle->data;
    uint64_t count;
    ssize_t n;

    (void)status;
    (void)events;
    do
        n = read(loop->wake_fd, &count, sizeof count);
    while (n < 0 && errno == EINTR);
}

static void on_timer(uv_timer_t *handle)
{
    orr_loop *loop = handle->data;

    /* libuv 1.44 runs timers before it polls, also in UV_RUN_ONCE: without this
     * it would now sleep with no timer set. */
    uv_stop(&loop->uv);
    /* The wish stays: a turn with an older clock may leave the deadline where
     * it is, and the executor tells only of deadlines that move. */
    loop->armed_ns = UINT64_MAX;
}

/* Right before the loop sleeps: what ran in this turn already, a timer of a
 * connection for one, may have given the executor work. */
static void on_prepare(uv_prepare_t *handle)
{
    orr_loop *loop = handle->data;

    if (orr_executor_ready(loop->executor))
        uv_stop(&loop->uv);
}

/* libuv's clock is CLOCK_MONOTONIC in whole ms, rounded down, as of its last
 * look; it never runs ahead of ours. Due at the deadline rounded up to ms on
 * that clock is therefore never early. */
static void timer_start(orr_loop *loop)
{
    uint64_t due_ms, now_ms;

    if (loop->wanted_ns >= loop->armed_ns)
        return;
    due_ms = loop->wanted_ns / NS_PER_MS + (loop->wanted_ns % NS_PER_MS != 0);
    now_ms = uv_now(&loop->uv);
    uv_timer_start(&loop->timer, on_timer,
                   due_ms > now_ms ? due_ms - now_ms : 0, 0);
    loop->armed_ns = loop->wanted_ns;
}

void orr_loop_set_spin(orr_loop *loop, uint64_t spin_ns)
{
    loop->spin_ns = spin_ns;
}

/* Looks again and again instead of sleeping: going to sleep and being woken
 * costs more than most answers take. Answers 1 when work came. */
static int spin(orr_loop *loop)
{
    uint64_t until = orr_clock_mono_ns() + loop->spin_ns;

    /* A deadline within the spin is the executor's next turn. */
    if (loop->wanted_ns < until)
        until = loop->wanted_ns;
    do {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
        if (orr_executor_ready(loop->executor))
            return 1;
    } while (orr_clock_mono_ns() < until);
    return 0;
}

int orr_loop_turn(orr_loop *loop, int may_block)
{
    int sleeps = 0;

    if (may_block && loop->spin_ns != 0 &&
        !orr_executor_ready(loop->executor) && spin(loop))
        return 0;
    if (may_block && orr_executor_try_sleep(loop->executor)) {
        sleeps = 1;
        timer_start(loop);
    }
    uv_run(&loop->uv, sleeps ? UV_RUN_ONCE : UV_RUN_NOWAIT);
    if (may_block)
        orr_executor_awake(loop->executor);
    return sleeps;
}

static int handles_open(orr_loop *loop, orr_error *err)
{
    int rc = uv_loop_init(&loop->uv);

    if (rc != 0)
        return orr_error_set(err, ORR_EIO, "cannot make an event loop: %s",
                             uv_strerror(rc));
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_fd < 0) {
        int saved = errno;
        uv_loop_close(&loop->uv);
        return orr_error_set(err, ORR_EIO, "cannot make an eventfd: %s",
                             strerror(saved));
    }
    rc = uv_poll_init(&loop->uv, &loop->poll, loop->wake_fd);
    if (rc != 0) {
        close(loop->wake_fd);
        uv_loop_close(&loop->uv);
        return orr_error_set(err, ORR_EIO, "cannot watch an eventfd: %s",
                             uv_strerror(rc));
    }
    loop->poll.data = loop;
    uv_poll_start(&loop->poll, UV_READABLE, on_wake);
    uv_timer_init(&loop->uv, &loop->timer);
    loop->timer.data = loop;
    uv_prepare_init(&loop->uv, &loop->prepare);
    loop->prepare.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    return ORR_OK;
}

/* A handle that is neither ours nor closing was forgotten by its owner. */
static void close_foreign(uv_handle_t *handle, void *arg)
{
    uint32_t *foreign = arg;

    if (uv_is_closing(handle))
        return;
    (*foreign)++;
    uv_close(handle, NULL);
}

static uint32_t handles_close(orr_loop *loop)
{
    uint32_t foreign = 0;

    uv_close((uv_handle_t *)&loop->poll, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    /* Close callbacks of others may open handles again: walk until none is. */
    do {
        uv_walk(&loop->uv, close_foreign, &foreign);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    } while (uv_loop_close(&loop->uv) == UV_EBUSY);
    close(loop->wake_fd);
    return foreign;
}

static orr_executor *executor_new(orr_loop *loop, uint32_t number,
                                  orr_error *err)
{
    const orr_driver driver = {
        .ctx = loop,
        .is_real = 1,
        .now_ns = driver_now_ns,
        .wall_ms = driver_wall_ms,
        .wake = driver_wake,
        .arm = driver_arm,
        .dial = driver_dial,
    };
    orr_chance chance;
    orr_executor *ex;

    if (orr_chance_seed_os(&chance) != ORR_OK) {
        orr_error_set(err, ORR_EIO, "the system gives no random bytes");
        return NULL;
    }
    ex = orr_executor_new(&driver, number, orr_chance_next(&chance));
    if (ex == NULL)
        orr_error_set(err, ORR_ENOMEM, "no memory for an executor");
    return ex;
}

orr_loop *orr_loop_new(uint32_t number, orr_error *err)
{
    orr_loop *loop = orr_calloc(1, sizeof *loop);

    if (loop == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory for an event loop");
        return NULL;
    }
    loop->wanted_ns = UINT64_MAX;
    loop->armed_ns = UINT64_MAX;
    if (handles_open(loop, err) != ORR_OK) {
        orr_free(loop);
        return NULL;
    }
    loop->executor = executor_new(loop, number, err);
    if (loop->executor == NULL) {
        handles_close(loop);
        orr_free(loop);
        return NULL;
    }
    return loop;
}

uint32_t orr_loop_free(orr_loop *loop)
{
    uint32_t foreign;

    if (loop == NULL)
        return 0;
    if (loop->network.detach != NULL)
        loop->network.detach(loop->network.ctx);
    while (loop->guests != NULL) {
        orr_loop_guest *g = loop->guests;
        loop->guests = g->next;
        g->detach(g);
    }
    foreign = handles_close(loop);
    orr_executor_free(loop->executor);
    orr_free(loop);
    return foreign;
}

void orr_loop_guest_add(orr_loop *loop, orr_loop_guest *g)
{
    g->next = loop->guests;
    loop->guests = g;
}

void orr_loop_guest_remove(orr_loop *loop, orr_loop_guest *g)
{
    orr_loop_guest **at = &loop->guests;

    while (*at != NULL && *at != g)
        at = &(*at)->next;
    if (*at != NULL)
        *at = g->next;
}

orr_executor *orr_loop_executor(orr_loop *loop)
{
    return loop->executor;
}

void *orr_loop_uv(orr_loop *loop)
{
    return &loop->uv;
}

void orr_loop_set_network(orr_loop *loop, const orr_network *network)
{
    if (network != NULL)
        loop->network = *network;
    else
        memset(&loop->network, 0, sizeof loop->network);
}

void *orr_loop_network(const orr_loop *loop)
{
    return loop->network.ctx;
}
