/* Calls through the whole core without Lua: two processes, each an executor on
 * its loop, one connection, a C handler that answers with its argument. One run
 * is one round, like the raw baselines in ../raw.
 */
#define _GNU_SOURCE 1

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../raw/raw.h"
#include "orrery/loop.h"
#include "orrery/net.h"

static const char usage[] =
    "[--size BYTES] [--window N] [--rounds N]\n"
    "  --size    bytes of the body, 8..1048576 (64)\n"
    "  --window  calls under way, 1..4096 (256)\n"
    "  --rounds  calls to measure (400000)\n"
    "prints core_echo_rate in 1/s and, for a window of 1, core_echo_p50 in ns";

typedef struct side {
    orr_loop *loop;
    orr_executor *ex;
    orr_service *service;
    orr_net *net;
} side;

static side side_new(uint64_t incarnation)
{
    orr_error err;
    side s;
    s.loop = orr_loop_new(1, &err);
    if (s.loop == NULL)
        raw_fail("core_echo", err.text);
    s.ex = orr_loop_executor(s.loop);
    s.service = orr_service_new("bench", "bench", incarnation);
    if (s.service == NULL)
        raw_fail("core_echo", "no memory");
    s.net = orr_net_new(s.loop, s.service, NULL, &err);
    if (s.net == NULL)
        raw_fail("core_echo", err.text);
    return s;
}

static orr_msg *message_of(orr_executor *ex, const uint8_t *data, size_t len)
{
    orr_msg *m = orr_executor_message(ex);
    if (m == NULL || orr_buf_append(orr_msg_body(m), data, len) != ORR_OK)
        raw_fail("core_echo", "no memory");
    return m;
}

static void serve(int out)
{
    orr_error err;
    side s = side_new(1);
    char address[64];
    uint32_t slot;
    const orr_endpoint_options o = {.name = "echo",
                                    .methods = (const uint8_t *)"\x91\xa1"
                                                                "e",
                                    .methods_len = 3};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (orr_net_listen(s.net, "127.0.0.1:0", address, sizeof address, &err) !=
        ORR_OK)
        raw_fail("core_echo", err.text);
    orr_service_set_address(s.service, address);
    if (orr_endpoint_open(s.ex, s.service, &o, &slot) != ORR_OK ||
        orr_endpoint_set_state(s.ex, s.service, slot, ORR_ENDPOINT_STARTED) !=
            ORR_OK)
        raw_fail("core_echo", "no endpoint");
    if (write(out, address, sizeof address) != (ssize_t)sizeof address)
        raw_fail("core_echo", "the parent is gone");
    for (;;) {
        orr_event e;
        orr_executor_turn(s.ex);
        for (orr_executor_next(s.ex, &e); e.kind != ORR_EVENT_NONE;
             orr_executor_next(s.ex, &e))
            orr_executor_reply(s.ex, e.call, ORR_OK,
                               message_of(s.ex, e.body, e.body_len));
        orr_executor_flush(s.ex);
        orr_loop_turn(s.loop, 1);
    }
}

static uint32_t target_of(const orr_event *e)
{
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, e->body, e->body_len);
    /* {target = n, ...}: the third token */
    for (int i = 0; i < 3; i++)
        if (orr_unpack_next(&u, &t) != ORR_OK)
            raw_fail("core_echo", "a connect without an answer");
    return (uint32_t)t.i;
}

static uint32_t connect_to(side *s, const char *address)
{
    uint32_t slot;
    if (orr_executor_connect(s->ex, s->service, address, "echo", "", NULL, 0,
                             &slot) != ORR_OK)
        raw_fail("core_echo", "cannot connect");
    for (;;) {
        orr_event e;
        orr_executor_turn(s->ex);
        orr_executor_next(s->ex, &e);
        if (e.kind == ORR_EVENT_REPLY) {
            if (e.status != ORR_OK)
                raw_fail("core_echo", "refused");
            return target_of(&e);
        }
        orr_executor_flush(s->ex);
        orr_loop_turn(s->loop, 1);
    }
}

static uint64_t run(side *s, uint32_t target, const orr_buf *body,
                    uint64_t window, uint64_t rounds, uint64_t *latencies)
{
    uint64_t sent = 0, done = 0, begin = raw_now_ns(), at = begin;
    while (done < rounds) {
        orr_event e;
        uint32_t slot;
        orr_executor_turn(s->ex);
        for (orr_executor_next(s->ex, &e); e.kind != ORR_EVENT_NONE;
             orr_executor_next(s->ex, &e)) {
            if (e.status != ORR_OK)
                raw_fail("core_echo", orr_code_name(e.status));
            if (latencies != NULL)
                latencies[done] = raw_now_ns() - at;
            done++;
        }
        while (sent < rounds && sent - done < window) {
            at = raw_now_ns();
            if (orr_executor_ask(s->ex, target, 0,
                                 message_of(s->ex, body->data, body->len),
                                 10000000000u, 0, &slot) != ORR_OK)
                raw_fail("core_echo", "ask");
            sent++;
        }
        orr_executor_flush(s->ex);
        orr_loop_turn(s->loop, done < rounds);
    }
    return raw_now_ns() - begin;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--size", "--window", "--rounds", NULL};
    raw_usage(argc, argv, usage, known);
    uint64_t size = raw_option(argc, argv, "--size", 64, 8, 1048576);
    uint64_t window = raw_option(argc, argv, "--window", 256, 1, 4096);
    uint64_t rounds = raw_option(argc, argv, "--rounds", 400000, 1, 100000000);
    int pipes[2];
    char address[64];
    if (pipe(pipes) != 0)
        raw_fail("core_echo", "pipe");
    pid_t child = fork();
    if (child < 0)
        raw_fail("core_echo", "fork");
    if (child == 0)
        serve(pipes[1]);
    if (read(pipes[0], address, sizeof address) != (ssize_t)sizeof address)
        raw_fail("core_echo", "the server did not start");
    side s = side_new(2);
    uint32_t target = connect_to(&s, address);
    uint8_t *text = calloc(1, size);
    uint64_t *latencies =
        window == 1 ? calloc(rounds, sizeof *latencies) : NULL;
    orr_buf body = {0};
    if (text == NULL || orr_pack_bin(&body, text, size - 2) != ORR_OK)
        raw_fail("core_echo", "no memory");
    run(&s, target, &body, window, rounds / 10 + 1, NULL);
    uint64_t ns = run(&s, target, &body, window, rounds, latencies);
    printf("core_echo_rate %.0f 1/s\n", (double)rounds / ((double)ns / 1e9));
    if (latencies != NULL) {
        qsort(latencies, rounds, sizeof *latencies, by_value);
        printf("core_echo_p50 %llu ns\n",
               (unsigned long long)latencies[rounds / 2]);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
