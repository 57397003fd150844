/* Baseline of waking another libuv loop: two threads with a loop each, woken by
 * uv_async_send. One sample is there and back, that is two wake-ups.
 */
#define _GNU_SOURCE 1

#include <uv.h>

#include "raw.h"

static const char usage[] =
    "[--rounds N] [--warmup N]\n"
    "  --rounds  round trips to measure (20000)\n"
    "  --warmup  round trips before (a tenth of rounds)\n"
    "prints uv_async_pingpong_p50, _p99 in ns and _rate in 1/s";

typedef struct side {
    uv_loop_t loop;
    uv_async_t async;
    struct side *other;
    uint64_t left; /* wake-ups to come */
} side;

static side ping, pong;
static uint64_t *samples;
static size_t warmup, total, done;
static uint64_t from, started, ended;

static void check(int code, const char *what)
{
    if (code < 0)
        raw_fail(what, uv_strerror(code));
}

static void on_ping(uv_async_t *async)
{
    side *s = async->data;
    check(uv_async_send(&s->other->async), "async");
    if (--s->left == 0)
        uv_close((uv_handle_t *)async, NULL);
}

static void on_pong(uv_async_t *async)
{
    side *s = async->data;
    uint64_t now = raw_now_ns();
    if (done >= warmup)
        samples[done - warmup] = now - from;
    done++;
    if (done == warmup)
        started = now;
    if (done == total) {
        ended = now;
        uv_close((uv_handle_t *)async, NULL);
        return;
    }
    from = now;
    check(uv_async_send(&s->other->async), "async");
}

static void side_init(side *s, side *other, uv_async_cb cb)
{
    check(uv_loop_init(&s->loop), "loop");
    check(uv_async_init(&s->loop, &s->async, cb), "async");
    s->async.data = s;
    s->other = other;
    s->left = total;
}

static void answer(void *arg)
{
    side *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--rounds", "--warmup", NULL};
    raw_usage(argc, argv, usage, known);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 100000000);
    warmup = raw_option(argc, argv, "--warmup", rounds / 10, 0, 100000000);
    total = rounds + warmup;
    samples = raw_alloc(rounds, sizeof *samples);
    side_init(&ping, &pong, on_ping);
    side_init(&pong, &ping, on_pong);
    uv_thread_t thread;
    check(uv_thread_create(&thread, answer, &ping), "thread");

    started = from = raw_now_ns();
    check(uv_async_send(&ping.async), "async");
    uv_run(&pong.loop, UV_RUN_DEFAULT);

    uv_thread_join(&thread);
    check(uv_loop_close(&ping.loop), "loop");
    check(uv_loop_close(&pong.loop), "loop");
    raw_print("uv_async_pingpong", samples, rounds, ended - started);
    free(samples);
    return 0;
}
