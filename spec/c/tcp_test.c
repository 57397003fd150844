/* Real sockets on loopback: two loops in one thread, and raw sockets that
 * behave badly. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "conn_fixture.h"
#include "net_fixture.h"

static const uint64_t ms = 1000000u;

typedef struct world {
    orr_loop *loops[2];
    party parties[2];
    orr_net_options options;
} world;

static void start(world *w, int i, const char *listen)
{
    party *p = &w->parties[i];
    orr_error err = {0};

    w->loops[i] = orr_loop_new((uint32_t)i, &err);
    assert_non_null(w->loops[i]);
    p->ex = orr_loop_executor(w->loops[i]);
    p->service = orr_service_new(i == 0 ? "a" : "b", "alpha", 1);
    p->net = orr_net_new(w->loops[i], p->service, &w->options, &err);
    assert_non_null(p->net);
    if (listen != NULL && orr_net_listen(p->net, listen, p->address,
                                         sizeof p->address, &err) != ORR_OK)
        fail_msg("%s", err.text);
    party_serve(p);
}

static int setup_with(void **state, const char *listen)
{
    world *w = calloc(1, sizeof *w);

    orr_log_set_level(ORR_LOG_OFF);
    w->options.handshake_timeout_ns = 200 * ms;
    w->options.queue_max = 32u << 20;
    start(w, 0, NULL);
    start(w, 1, listen);
    *state = w;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, "127.0.0.1:0");
}

static int teardown(void **state)
{
    world *w = *state;
    int left = 0;

    for (int i = 0; i < 2; i++) {
        orr_net_free(w->parties[i].net);
        left += (int)orr_loop_free(w->loops[i]);
        orr_service_free(w->parties[i].service);
    }
    free(w);
    return left == 0 ? 0 : -1;
}

static void pump(world *w)
{
    for (int i = 0; i < 2; i++) {
        if (w->loops[i] == NULL)
            continue;
        party_drain(&w->parties[i]);
        orr_loop_turn(w->loops[i], 0);
    }
}

/* Until cond holds or 10 s have passed. */
#define pump_until(w, cond)                                                    \
    do {                                                                       \
        uint64_t begin_ = orr_clock_mono_ns();                                 \
        int met_;                                                              \
        while (!(met_ = (cond)) && orr_clock_mono_ns() - begin_ < 10000 * ms)  \
            pump(w);                                                           \
        if (!met_)                                                             \
            fail_msg("10 s without %s", #cond);                                \
    } while (0)

static uint32_t joined(world *w, const char *address)
{
    party *a = &w->parties[0];
    int before = a->replies;

    party_connect(a, address, 0);
    pump_until(w, a->replies > before);
    if (party_last(a)->status != ORR_OK)
        fail_msg("%s", party_last(a)->text);
    return party_last(a)->target;
}

static uint16_t port_of(const char *address)
{
    return (uint16_t)atoi(strrchr(address, ':') + 1);
}

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static int raw_connect(const char *address)
{
    struct sockaddr_in at = loopback(port_of(address));
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static int raw_listen(char *address, size_t size)
{
    struct sockaddr_in at = loopback(0);
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(address, size, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static void raw_write(int fd, const orr_buf *b)
{
    assert_int_equal(write(fd, b->data, b->len), b->len);
}

/* Reads what there is; 1 when the stream ended. */
static int raw_ended(int fd)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);

    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* --- calls ---------------------------------------------------------------- */

static void echo(world *w, const char *address)
{
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, address);

    for (int i = 1; i <= 20; i++)
        assert_int_equal(
            party_ask(a, target, "abcdefghijklmnopqrstu", (size_t)i, 0),
            ORR_OK);
    pump_until(w, a->replies == 21);
    assert_int_equal(b->calls, 20);
    for (int i = 1; i <= 20; i++)
        assert_int_equal(a->reply[i].size, i);
}

static void calls_go_over_a_socket(void **state)
{
    world *w = *state;
    orr_net_info info;

    echo(w, w->parties[1].address);
    orr_net_info_get(w->parties[1].net, &info);
    assert_int_equal(info.accepted, 1);
    assert_int_equal(info.connections, 1);
    assert_int_equal(info.frames_in, 22);
    assert_int_equal(info.frames_out, 22);
}

static void names_are_resolved(void **state)
{
    world *w = *state;
    char address[32];

    snprintf(address, sizeof address, "localhost:%u",
             port_of(w->parties[1].address));
    echo(w, address);
}

static int has_ipv6(void)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&at, sizeof at);

    if (fd >= 0)
        close(fd);
    return rc == 0;
}

static void ipv6_has_brackets(void **state)
{
    world *w;
    void *inner;

    (void)state;
    if (!has_ipv6())
        skip();
    setup_with(&inner, "[::1]:0");
    w = inner;
    assert_int_equal(strncmp(w->parties[1].address, "[::1]:", 6), 0);
    echo(w, w->parties[1].address);
    assert_int_equal(teardown(&inner), 0);
}

static void large_bodies(void **state)
{
    world *w = *state;
    party *a = &w->parties[0];
    uint32_t target = joined(w, w->parties[1].address);
    static const size_t sizes[] = {1 << 20, 100, 12 << 20, 70000};
    uint32_t crcs[4];
    uint8_t *body = calloc(1, 12 << 20);

    for (size_t i = 0; i < 12 << 20; i++)
        body[i] = (uint8_t)(i * 131 >> 5);
    for (int i = 0; i < 4; i++) {
        crcs[i] = orr_crc32c(0, body, sizes[i]);
        assert_int_equal(party_ask(a, target, body, sizes[i], 0), ORR_OK);
    }
    pump_until(w, a->replies == 5);
    /* Asked in order; the answers pass each other. */
    for (int i = 0; i < 4; i++) {
        int at = 1;

        while (at < 5 && a->reply[at].size != sizes[i])
            at++;
        assert_int_equal(a->reply[at].size, sizes[i]);
        assert_int_equal(a->reply[at].crc, crcs[i]);
    }
    free(body);
}

static void one_connection_serves_all_targets(void **state)
{
    world *w = *state;
    orr_net_info info;

    joined(w, w->parties[1].address);
    joined(w, w->parties[1].address);
    orr_net_info_get(w->parties[1].net, &info);
    assert_int_equal(info.accepted, 1);
}

/* --- ends ----------------------------------------------------------------- */

static void a_port_in_use_is_told(void **state)
{
    world *w = *state;
    orr_error err;
    char text[128];

    assert_int_equal(
        orr_net_listen(w->parties[0].net, w->parties[1].address, NULL, 0, &err),
        ORR_EADDRINUSE);
    snprintf(text, sizeof text, "cannot listen on %s: address already in use",
             w->parties[1].address);
    assert_string_equal(err.text, text);
    assert_int_equal(
        orr_net_listen(w->parties[0].net, "127.0.0.1", NULL, 0, &err),
        ORR_EINVAL);
    assert_int_equal(
        orr_net_listen(w->parties[0].net, "192.0.2.1:0", NULL, 0, &err),
        ORR_EIO);
    assert_non_null(strstr(err.text, "address not available"));
    assert_int_equal(
        orr_net_listen(w->parties[0].net, "127.0.0.1:0", NULL, 0, &err),
        ORR_OK);
}

static void a_refused_connection_fails_at_once(void **state)
{
    world *w = *state;
    party *a = &w->parties[0];
    char address[32], text[96];

    close(raw_listen(address, sizeof address));
    party_connect(a, address, 0);
    pump_until(w, a->replies == 1);
    snprintf(text, sizeof text, "cannot connect to %s: connection refused",
             address);
    assert_reply(a, ORR_UNREACHABLE, text);
    snprintf(text, sizeof text, "localhost:%u", port_of(address));
    party_connect(a, text, 0);
    pump_until(w, a->replies == 2);
    assert_reply(a, ORR_UNREACHABLE, "connection refused");
}

static void a_peer_that_ends_within_a_frame(void **state)
{
    world *w = *state;
    party *a = &w->parties[0];
    char address[32];
    int listener = raw_listen(address, sizeof address), fd = -1;
    orr_buf bytes = {0};

    party_connect(a, address, 0);
    pump_until(w, (fd = accept(listener, NULL, NULL)) >= 0);
    fix_hello(&bytes, 1, "alpha", 65536);
    fix_frame(&bytes, ORR_FRAME_REPLY, 0, "half of this", 12);
    bytes.len -= 6;
    raw_write(fd, &bytes);
    for (int i = 0; i < 20; i++)
        pump(w);
    close(fd);
    pump_until(w, a->replies == 1);
    assert_reply(a, ORR_UNREACHABLE, "in the middle of a frame");
    orr_buf_free(&bytes);
    close(listener);
}

static void garbage_is_counted_and_others_go_on(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, b->address);
    orr_net_info info;
    char junk[200];
    int fd = raw_connect(b->address);

    memset(junk, 'G', sizeof junk);
    assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
    pump_until(w, raw_ended(fd));
    close(fd);
    orr_net_info_get(b->net, &info);
    assert_int_equal(info.protocol_errors, 1);
    assert_int_equal(info.handshake_failures, 1);
    assert_int_equal(info.connections, 1);
    party_ask(a, target, "x", 1, 0);
    pump_until(w, a->replies == 2);
    assert_reply(a, ORR_OK, "");
}

static void a_stalled_handshake_is_ended(void **state)
{
    world *w = *state;
    party *b = &w->parties[1];
    orr_net_info info;
    uint64_t begin = orr_clock_mono_ns();
    int fd = raw_connect(b->address);

    pump_until(w, raw_ended(fd));
    assert_true(orr_clock_mono_ns() - begin >= 200 * ms);
    close(fd);
    orr_net_info_get(b->net, &info);
    assert_int_equal(info.handshake_failures, 1);
}

static void a_peer_of_another_cluster_reads_why(void **state)
{
    world *w = *state;
    party *b = &w->parties[1];
    orr_buf hello = {0}, got = {0};
    int fd = raw_connect(b->address), ended = 0;
    orr_header h;

    fix_hello(&hello, 1, "beta", 65536);
    fix_frame(&hello, ORR_FRAME_ASK, 0, "unread", 6);
    raw_write(fd, &hello);
    for (int i = 0; i < 100000 && !ended; i++) {
        char bytes[4096];
        ssize_t n;

        pump(w);
        n = read(fd, bytes, sizeof bytes);
        ended = n == 0 || (n < 0 && errno != EAGAIN);
        if (n > 0)
            orr_buf_append(&got, bytes, (size_t)n);
    }
    assert_true(ended);
    assert_int_equal(orr_header_decode(&h, got.data, got.len), ORR_OK);
    assert_int_equal(orr_header_decode(&h, got.data + 64 + h.length,
                                       got.len - 64 - h.length),
                     ORR_OK);
    assert_int_equal(h.kind, ORR_FRAME_GOODBYE);
    assert_non_null(memmem(got.data, got.len, "ours is beta", 12));
    orr_buf_free(&hello);
    orr_buf_free(&got);
    close(fd);
}

static void too_many_connections_are_refused(void **state)
{
    world *w = calloc(1, sizeof *w);
    void *inner = w;
    orr_net_info info;
    int fds[4];

    (void)state;
    orr_log_set_level(ORR_LOG_OFF);
    w->options.connections_max = 3;
    start(w, 0, NULL);
    start(w, 1, "127.0.0.1:0");
    for (int i = 0; i < 4; i++)
        fds[i] = raw_connect(w->parties[1].address);
    pump_until(w, raw_ended(fds[3]));
    orr_net_info_get(w->parties[1].net, &info);
    assert_int_equal(info.accepted, 3);
    assert_int_equal(info.refused, 1);
    close(fds[0]);
    pump_until(
        w, (orr_net_info_get(w->parties[1].net, &info), info.connections == 2));
    joined(w, w->parties[1].address);
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    assert_int_equal(teardown(&inner), 0);
}

/* b is stopped: its socket fills, then a's queue. */
static void a_peer_that_reads_nothing_bounds_the_queue(void **state)
{
    world *w = *state;
    party *a = &w->parties[0];
    uint32_t target = joined(w, w->parties[1].address);
    size_t size = 1 << 17;
    uint8_t *body = calloc(1, size);
    orr_net_info info;
    int asked = 0;

    for (; asked < 800 && a->replies == 1; asked++) {
        party_ask(a, target, body, size, 0);
        party_drain(a);
        orr_loop_turn(w->loops[0], 0);
    }
    assert_true(asked >= 256 && asked < 800);
    assert_reply(a, ORR_OVERLOADED, "");
    orr_net_info_get(a->net, &info);
    assert_int_equal(info.connections, 1);
    pump_until(w, a->replies == asked + 1);
    assert_int_equal(w->parties[1].calls, asked - 1);
    assert_int_equal(party_ask(a, target, body, size, 0), ORR_OK);
    pump_until(w, a->replies == asked + 2);
    assert_reply(a, ORR_OK, "");
    free(body);
}

static void closing_tells_the_peer_and_ends_every_handle(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, b->address);
    orr_net_info info;

    b->silent = 1;
    party_ask(a, target, "x", 1, 0);
    pump_until(w, b->calls == 1);
    orr_net_close(b->net, NULL);
    pump_until(w, a->replies == 2);
    assert_reply(a, ORR_UNREACHABLE, "said goodbye: the service stops");
    orr_net_info_get(b->net, &info);
    assert_int_equal(info.connections, 0);
    party_ask(a, target, "x", 1, 0);
    pump_until(w, a->replies == 3);
    assert_reply(a, ORR_UNREACHABLE, "connection refused");
}

static void a_loop_may_go_before_its_nets(void **state)
{
    world *w = *state;

    joined(w, w->parties[1].address);
    assert_int_equal(orr_loop_free(w->loops[0]), 0);
    w->loops[0] = NULL;
    assert_int_equal(
        orr_net_listen(w->parties[0].net, "127.0.0.1:0", NULL, 0, NULL),
        ORR_ECLOSED);
    pump_until(w, w->parties[1].replies == 0);
}

static void going_while_connecting_leaves_nothing(void **state)
{
    world *w = *state;
    char address[32];

    snprintf(address, sizeof address, "localhost:%u",
             port_of(w->parties[1].address));
    party_connect(&w->parties[0], address, 0);
    party_connect(&w->parties[0], w->parties[1].address, 0);
}

static void bad_options_are_refused(void **state)
{
    world *w = *state;
    orr_service *s = orr_service_new("s", "alpha", 1);
    orr_error err;

    assert_null(orr_net_new(w->loops[0], s,
                            &(orr_net_options){.frame_max = 100}, &err));
    assert_non_null(strstr(err.text, "frame_max is 100"));
    assert_null(orr_net_new(w->loops[0], s,
                            &(orr_net_options){.queue_max = 5000}, &err));
    assert_non_null(strstr(err.text, "queue_max is 5000"));
    assert_null(orr_net_new(w->loops[0], w->parties[0].service, NULL, &err));
    assert_int_equal(err.code, ORR_EEXIST);
    orr_service_free(s);
}

static void without_memory_there_is_no_net_and_no_leak(void **state)
{
    orr_error err;

    (void)state;
    for (uint64_t n = 1; n < 5; n++) {
        uint64_t live = orr_alloc_live();
        orr_service *s = orr_service_new("s", "alpha", 1);
        orr_loop *loop = orr_loop_new(1, &err);
        orr_net *net;

        orr_alloc_fail_at(n);
        net = orr_net_new(loop, s, NULL, &err);
        orr_alloc_fail_at(0);
        assert_true(net == NULL);
        assert_int_equal(err.code, ORR_ENOMEM);
        assert_int_equal(orr_loop_free(loop), 0);
        orr_service_free(s);
        assert_true(orr_alloc_live() <= live);
    }
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(calls_go_over_a_socket),
        ROW(names_are_resolved),
        cmocka_unit_test(ipv6_has_brackets),
        ROW(large_bodies),
        ROW(one_connection_serves_all_targets),
        ROW(a_port_in_use_is_told),
        ROW(a_refused_connection_fails_at_once),
        ROW(a_peer_that_ends_within_a_frame),
        ROW(garbage_is_counted_and_others_go_on),
        ROW(a_stalled_handshake_is_ended),
        ROW(a_peer_of_another_cluster_reads_why),
        cmocka_unit_test(too_many_connections_are_refused),
        ROW(a_peer_that_reads_nothing_bounds_the_queue),
        ROW(closing_tells_the_peer_and_ends_every_handle),
        ROW(a_loop_may_go_before_its_nets),
        ROW(going_while_connecting_leaves_nothing),
        ROW(bad_options_are_refused),
        cmocka_unit_test(without_memory_there_is_no_net_and_no_leak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
