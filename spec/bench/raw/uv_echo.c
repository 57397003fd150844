/* Baseline of a call over TCP: two processes with a bare libuv loop each, one
 * connection on the loopback. The client keeps `window` frames under way; the
 * server sends back every whole frame. Both try to write at once and queue only
 * what the socket does not take; Nagle's algorithm is off.
 *
 * The process forks: the child serves, the parent measures. One run is one
 * round, so that a driver can interleave rounds with those of something else.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "raw.h"

static const char usage[] =
    "[--size BYTES] [--window N] [--rounds N] [--warmup N]\n"
    "  --size    bytes of a frame, 8..1048576 (64)\n"
    "  --window  frames under way, 1..4096 (1)\n"
    "  --rounds  frames to measure (20000)\n"
    "  --warmup  frames before (a tenth of rounds)\n"
    "prints uv_echo_p50, uv_echo_p99 in ns and uv_echo_rate in 1/s";

enum { READ_MAX = 256 * 1024 };

typedef struct peer {
    uv_tcp_t tcp;
    uv_loop_t loop;
    size_t size;   /* of a frame */
    size_t filled; /* bytes of a frame that is not whole yet */
    uint8_t *read; /* READ_MAX bytes */
    uint8_t *out;  /* bytes to send at the end of a read */
    size_t out_len;
    size_t out_cap;
    /* client */
    uint64_t *sent_at; /* ring of `window` times, in the order of sending */
    uint64_t *samples;
    size_t window;
    size_t sent;
    size_t received;
    size_t warmup;
    size_t total; /* warmup and measured */
    uint64_t started;
    uint64_t ended;
} peer;

typedef struct pending {
    uv_write_t req;
    uint8_t data[];
} pending;

static void check(int code, const char *what)
{
    if (code < 0)
        raw_fail(what, uv_strerror(code));
}

static void on_written(uv_write_t *req, int status)
{
    check(status, "write");
    free(req->data);
}

static void flush(peer *p)
{
    if (!p->out_len)
        return;
    uv_stream_t *stream = (uv_stream_t *)&p->tcp;
    uv_buf_t buf = uv_buf_init((char *)p->out, (unsigned)p->out_len);
    int done = uv_try_write(stream, &buf, 1);
    if (done == UV_EAGAIN)
        done = 0;
    check(done, "write");
    size_t left = p->out_len - (size_t)done;
    if (left) {
        pending *w = raw_alloc(1, sizeof *w + left);
        memcpy(w->data, p->out + done, left);
        w->req.data = w;
        buf = uv_buf_init((char *)w->data, (unsigned)left);
        check(uv_write(&w->req, stream, &buf, 1, on_written), "write");
    }
    p->out_len = 0;
}

static void append(peer *p, const void *data, size_t len)
{
    if (p->out_len + len > p->out_cap) {
        p->out_cap = (p->out_len + len) * 2;
        p->out = realloc(p->out, p->out_cap);
        if (!p->out)
            raw_fail("memory", "not enough");
    }
    if (data)
        memcpy(p->out + p->out_len, data, len);
    else
        memset(p->out + p->out_len, 'x', len);
    p->out_len += len;
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    peer *p = handle->data;
    *buf = uv_buf_init((char *)p->read, READ_MAX);
}

static void start_reading(peer *p, uv_read_cb on_read)
{
    check(uv_tcp_nodelay(&p->tcp, 1), "nodelay");
    check(uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read), "read");
}

static void on_server_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    peer *p = s->data;
    if (n == UV_EOF || n == UV_ECONNRESET) {
        uv_stop(&p->loop);
        return;
    }
    check((int)n, "server read");
    /* A frame goes back when it is whole, as a real server would do. */
    size_t have = p->filled + (size_t)n;
    size_t whole = have / p->size * p->size;
    p->filled = have - whole;
    append(p, buf->base, (size_t)n);
    if (!whole)
        return;
    /* What belongs to the next frame stays behind. */
    size_t held = p->filled;
    p->out_len = whole;
    uint8_t *tail = held ? raw_alloc(1, held) : NULL;
    if (held)
        memcpy(tail, p->out + p->out_len, held);
    flush(p);
    if (held)
        append(p, tail, held);
    free(tail);
}

static void send_one(peer *p)
{
    p->sent_at[p->sent % p->window] = raw_now_ns();
    p->sent++;
    append(p, NULL, p->size);
}

static void on_client_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    peer *p = s->data;
    if (n == 0)
        return;
    check((int)n, "client read");
    p->filled += (size_t)n;
    uint64_t now = raw_now_ns();
    while (p->filled >= p->size) {
        p->filled -= p->size;
        size_t i = p->received++;
        if (i >= p->warmup)
            p->samples[i - p->warmup] = now - p->sent_at[i % p->window];
        if (i + 1 == p->warmup)
            p->started = now;
        if (p->sent < p->total)
            send_one(p);
    }
    flush(p);
    if (p->received == p->total) {
        p->ended = now;
        uv_stop(&p->loop);
    }
}

static void on_connected(uv_connect_t *req, int status)
{
    check(status, "connect");
    peer *p = req->data;
    start_reading(p, on_client_read);
    p->started = raw_now_ns();
    while (p->sent < p->window && p->sent < p->total)
        send_one(p);
    flush(p);
}

static void peer_init(peer *p, size_t size)
{
    memset(p, 0, sizeof *p);
    p->size = size;
    p->read = raw_alloc(1, READ_MAX);
    check(uv_loop_init(&p->loop), "loop");
    check(uv_tcp_init(&p->loop, &p->tcp), "socket");
    p->tcp.data = p;
}

static void serve(int listener, size_t size)
{
    static peer p;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    peer_init(&p, size);
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        raw_fail("accept", "failed");
    check(uv_tcp_open(&p.tcp, fd), "open");
    start_reading(&p, on_server_read);
    uv_run(&p.loop, UV_RUN_DEFAULT);
    _exit(0);
}

static int listen_on_loopback(struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    memset(at, 0, sizeof *at);
    at->sin_family = AF_INET;
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)at, len) != 0 ||
        listen(fd, 1) != 0 || getsockname(fd, (struct sockaddr *)at, &len) != 0)
        raw_fail("listen", strerror(errno));
    return fd;
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--size", "--window", "--rounds",
                                        "--warmup", NULL};
    static peer p;
    raw_usage(argc, argv, usage, known);
    size_t size = raw_option(argc, argv, "--size", 64, 8, 1 << 20);
    size_t window = raw_option(argc, argv, "--window", 1, 1, 4096);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 100000000);
    size_t warmup =
        raw_option(argc, argv, "--warmup", rounds / 10, 0, 100000000);

    struct sockaddr_in at;
    int listener = listen_on_loopback(&at);
    pid_t child = fork();
    if (child < 0)
        raw_fail("fork", strerror(errno));
    if (child == 0)
        serve(listener, size);
    close(listener);

    peer_init(&p, size);
    p.window = window;
    p.warmup = warmup;
    p.total = warmup + rounds;
    p.sent_at = raw_alloc(window, sizeof *p.sent_at);
    p.samples = raw_alloc(rounds, sizeof *p.samples);
    uv_connect_t req = {.data = &p};
    check(uv_tcp_connect(&req, &p.tcp, (struct sockaddr *)&at, on_connected),
          "connect");
    uv_run(&p.loop, UV_RUN_DEFAULT);

    uv_close((uv_handle_t *)&p.tcp, NULL);
    uv_run(&p.loop, UV_RUN_DEFAULT);
    uv_loop_close(&p.loop);
    waitpid(child, NULL, 0);
    raw_print("uv_echo", p.samples, rounds, p.ended - p.started);
    free(p.samples);
    free(p.sent_at);
    free(p.read);
    free(p.out);
    return 0;
}
