/* Baseline of many connections: one process with a bare libuv loop echoes, the
 * other keeps one frame under way on each of its connections.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "raw.h"

static const char usage[] =
    "[--size BYTES] [--connections N] [--rounds N]\n"
    "  --size         bytes of a frame, 8..16384 (128)\n"
    "  --connections  1..4000 (1000)\n"
    "  --rounds       frames to measure, of all connections (200000)\n"
    "prints uv_echo_many_rate in 1/s";

enum { READ_MAX = 64 * 1024 };

typedef struct conn {
    uv_tcp_t tcp;
    uv_connect_t connect;
    size_t filled;
} conn;

static uint8_t read_space[READ_MAX];
static uint8_t frame[16384];
static size_t size;
static uint64_t rounds, warmup, received, began, ended;
static uint64_t connections, connected;
static conn *conns;

static void check(int code, const char *what)
{
    if (code < 0)
        raw_fail(what, uv_strerror(code));
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    (void)handle;
    (void)hint;
    *buf = uv_buf_init((char *)read_space, READ_MAX);
}

/* Small frames on an idle socket: they fit, or the baseline is wrong. */
static void send_frame(uv_stream_t *s)
{
    uv_buf_t buf = uv_buf_init((char *)frame, (unsigned)size);
    int n = uv_try_write(s, &buf, 1);
    check(n, "write");
    if ((size_t)n != size)
        raw_fail("write", "the socket is full");
}

static void on_server_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    conn *c = s->data;
    (void)buf;
    if (n < 0)
        _exit(0);
    for (c->filled += (size_t)n; c->filled >= size; c->filled -= size)
        send_frame(s);
}

static void accept_one(uv_stream_t *listener, int status)
{
    check(status, "listen");
    conn *c = raw_alloc(1, sizeof *c);
    check(uv_tcp_init(listener->loop, &c->tcp), "socket");
    c->tcp.data = c;
    check(uv_accept(listener, (uv_stream_t *)&c->tcp), "accept");
    check(uv_tcp_nodelay(&c->tcp, 1), "nodelay");
    check(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_server_read),
          "read");
}

static void serve(int fd)
{
    static uv_loop_t loop;
    static uv_tcp_t listener;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(uv_loop_init(&loop), "loop");
    check(uv_tcp_init(&loop, &listener), "socket");
    check(uv_tcp_open(&listener, fd), "open");
    check(uv_listen((uv_stream_t *)&listener, 1024, accept_one), "listen");
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(0);
}

static void on_client_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    conn *c = s->data;
    (void)buf;
    check((int)n, "read");
    for (c->filled += (size_t)n; c->filled >= size; c->filled -= size) {
        received++;
        if (received == warmup)
            began = raw_now_ns();
        if (received == warmup + rounds) {
            ended = raw_now_ns();
            uv_stop(s->loop);
        }
        send_frame(s);
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    conn *c = req->data;
    check(status, "connect");
    check(uv_tcp_nodelay(&c->tcp, 1), "nodelay");
    check(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_client_read),
          "read");
    if (++connected < connections)
        return;
    for (uint64_t i = 0; i < connections; i++)
        send_frame((uv_stream_t *)&conns[i].tcp);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--size", "--connections", "--rounds",
                                        NULL};
    raw_usage(argc, argv, usage, known);
    size = raw_option(argc, argv, "--size", 128, 8, sizeof frame);
    connections = raw_option(argc, argv, "--connections", 1000, 1, 4000);
    rounds = raw_option(argc, argv, "--rounds", 200000, 1, 100000000);
    warmup = rounds / 10 + 1;
    struct rlimit limit = {8192, 8192};
    (void)setrlimit(RLIMIT_NOFILE, &limit);

    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) != 0 ||
        listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        raw_fail("listen", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        raw_fail("fork", strerror(errno));
    if (child == 0)
        serve(fd);
    close(fd);

    static uv_loop_t loop;
    check(uv_loop_init(&loop), "loop");
    conns = raw_alloc(connections, sizeof *conns);
    for (uint64_t i = 0; i < connections; i++) {
        conn *c = &conns[i];
        check(uv_tcp_init(&loop, &c->tcp), "socket");
        c->tcp.data = c;
        c->connect.data = c;
        check(uv_tcp_connect(&c->connect, &c->tcp, (struct sockaddr *)&at,
                             on_connected),
              "connect");
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    printf("uv_echo_many_rate %.0f 1/s\n",
           (double)rounds / ((double)(ended - began) / 1e9));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
