/* Baseline of waking another thread: two threads, an eventfd each; every thread
 * sleeps in read() until the other writes. One sample is there and back, that
 * is two wake-ups.
 */
#define _GNU_SOURCE 1

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "raw.h"

static const char usage[] =
    "[--rounds N] [--warmup N]\n"
    "  --rounds  round trips to measure (20000)\n"
    "  --warmup  round trips before (a tenth of rounds)\n"
    "prints eventfd_pingpong_p50, _p99 in ns and _rate in 1/s";

static int ping, pong;
static uint64_t total;

static void post(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) != sizeof one)
        raw_fail("eventfd write", strerror(errno));
}

static void wait_for(int fd)
{
    uint64_t count;
    if (read(fd, &count, sizeof count) != sizeof count)
        raw_fail("eventfd read", strerror(errno));
}

static void *answer(void *unused)
{
    for (uint64_t i = 0; i < total; i++) {
        wait_for(ping);
        post(pong);
    }
    return unused;
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--rounds", "--warmup", NULL};
    raw_usage(argc, argv, usage, known);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 100000000);
    size_t warmup =
        raw_option(argc, argv, "--warmup", rounds / 10, 0, 100000000);
    uint64_t *samples = raw_alloc(rounds, sizeof *samples);
    total = rounds + warmup;
    ping = eventfd(0, EFD_CLOEXEC);
    pong = eventfd(0, EFD_CLOEXEC);
    if (ping < 0 || pong < 0)
        raw_fail("eventfd", strerror(errno));
    pthread_t thread;
    if (pthread_create(&thread, NULL, answer, NULL) != 0)
        raw_fail("thread", "cannot be made");

    uint64_t started = raw_now_ns();
    for (size_t i = 0; i < total; i++) {
        uint64_t from = raw_now_ns();
        if (i == warmup)
            started = from;
        post(ping);
        wait_for(pong);
        if (i >= warmup)
            samples[i - warmup] = raw_now_ns() - from;
    }
    uint64_t ended = raw_now_ns();
    pthread_join(thread, NULL);
    raw_print("eventfd_pingpong", samples, rounds, ended - started);
    free(samples);
    close(ping);
    close(pong);
    return 0;
}
