/* The transport of a Redis connection over libuv; see transport.h and stream.h.
 * Owner: the loop's thread.
 *
 * A host is the ctx of one client's transport: its timer, and the prepare
 * handle by which everything that a batch queued is written at once, right
 * before the loop polls. A stream is one socket.
 *
 * Path of a stream: connect - a Unix socket or a numeric host at once, a name
 * by libuv's pool - each address of the name in turn - on_connect. Writes go to
 * the socket at once; what it does not take is borrowed until on_write.
 *
 * Encryption has its place between socket_write / on_read / on_connect here and
 * the client: they are the only ones that touch the client's bytes.
 */
#define _GNU_SOURCE
#include "redis/stream.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "net/peer.h"
#include "redis/client.h"

enum {
    READ_SIZE = 64 * 1024,
    NS_PER_MS = 1000000,
    KEEPALIVE_S = 60,
    UNIX_PATH_MAX = 107 /* libuv cuts a longer one */
};

typedef struct host {
    orr_loop_guest guest; /* first */
    orr_loop *loop;       /* NULL when it went away */
    uv_loop_t *uv;
    uv_timer_t timer;
    uv_prepare_t prepare;
    orr_redis_client *client;
    uint32_t parts; /* handles, and the client */
} host;

typedef struct stream {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    uv_connect_t connect;
    uv_write_t write;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses; /* of a name */
    struct addrinfo *address;   /* the one that is tried */
    orr_redis_client *client;   /* NULL when let go */
    uv_loop_t *uv;
    uint16_t port;
    uint8_t resolving;
    uint8_t has_handle;
    char buffer[READ_SIZE];
} stream;

/* --- ends ----------------------------------------------------------------- */

static void stream_free(stream *s)
{
    uv_freeaddrinfo(s->addresses);
    orr_free(s);
}

static void on_closed(uv_handle_t *handle)
{
    stream_free(handle->data);
}

/* While its name is looked up or its handle is made anew the callback that is
 * under way frees it. */
static void stream_close(void *stream_)
{
    stream *s = stream_;

    s->client = NULL;
    if (s->resolving)
        uv_cancel((uv_req_t *)&s->resolve);
    else if (s->has_handle && !uv_is_closing(&s->handle.any))
        uv_close(&s->handle.any, on_closed);
}

/* --- bytes ---------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    stream *s = handle->data;

    (void)suggested;
    *out = uv_buf_init(s->buffer, READ_SIZE);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
    stream *s = handle->data;

    if (n == 0 || s->client == NULL)
        return;
    if (n > 0)
        orr__redis_client_input(s->client, (const uint8_t *)buf->base,
                                (size_t)n, orr_clock_mono_ns());
    else
        orr__redis_client_lost(s->client, n == UV_EOF ? "closed by the server"
                                                      : uv_strerror((int)n));
}

static void on_write(uv_write_t *req, int status)
{
    stream *s = req->data;

    if (s->client == NULL)
        return;
    if (status == 0)
        orr__redis_client_drained(s->client);
    else
        orr__redis_client_lost(s->client, uv_strerror(status));
}

/* An error of the first try comes again, from the callback of the second. */
static size_t socket_write(void *stream_, const uint8_t *data, size_t len)
{
    stream *s = stream_;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    int n = uv_try_write(&s->handle.stream, &buf, 1);
    int rc;

    if (n == (int)len)
        return len;
    if (n > 0) {
        buf.base += n;
        buf.len -= (size_t)n;
    }
    s->write.data = s;
    rc = uv_write(&s->write, &s->handle.stream, &buf, 1, on_write);
    assert(rc == 0); /* fails only for streams that are not connected */
    (void)rc;
    return n > 0 ? (size_t)n : 0;
}

/* --- connecting ----------------------------------------------------------- */

static int address_try(stream *s, const struct sockaddr *at);

/* It failed before it began; without a handle nothing else frees it. */
static void stream_lost(stream *s, int rc)
{
    int has_handle = s->has_handle;

    orr__redis_client_lost(s->client, uv_strerror(rc));
    if (!has_handle)
        stream_free(s);
}

static void on_closed_to_retry(uv_handle_t *handle)
{
    stream *s = handle->data;
    int rc;

    s->has_handle = 0;
    if (s->client == NULL) {
        stream_free(s);
        return;
    }
    s->address = s->address->ai_next;
    rc = address_try(s, s->address->ai_addr);
    if (rc != 0)
        stream_lost(s, rc);
}

static void on_connect(uv_connect_t *req, int status)
{
    stream *s = req->data;

    if (s->client == NULL)
        return;
    if (status == 0) {
        if (s->handle.any.type == UV_TCP) {
            uv_tcp_nodelay(&s->handle.tcp, 1);
            uv_tcp_keepalive(&s->handle.tcp, 1, KEEPALIVE_S);
        }
        uv_read_start(&s->handle.stream, on_alloc, on_read);
        orr__redis_client_connected(s->client, orr_clock_mono_ns());
    } else if (s->address != NULL && s->address->ai_next != NULL) {
        uv_close(&s->handle.any, on_closed_to_retry);
    } else {
        orr__redis_client_lost(s->client, uv_strerror(status));
    }
}

static int address_try(stream *s, const struct sockaddr *at)
{
    struct sockaddr_storage copy;
    int v6 = at->sa_family == AF_INET6;
    int rc = uv_tcp_init(s->uv, &s->handle.tcp);

    if (rc != 0)
        return rc;
    s->has_handle = 1;
    s->handle.any.data = s;
    s->connect.data = s;
    memset(&copy, 0, sizeof copy);
    memcpy(&copy, at,
           v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    if (v6)
        ((struct sockaddr_in6 *)&copy)->sin6_port = htons(s->port);
    else
        ((struct sockaddr_in *)&copy)->sin_port = htons(s->port);
    return uv_tcp_connect(&s->connect, &s->handle.tcp, (struct sockaddr *)&copy,
                          on_connect);
}

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *found)
{
    stream *s = req->data;
    int rc;

    s->resolving = 0;
    s->addresses = found;
    if (s->client == NULL) {
        stream_free(s);
        return;
    }
    s->address = found;
    rc = status != 0 ? status : address_try(s, found->ai_addr);
    if (rc != 0)
        stream_lost(s, rc);
}

static int unix_connect(stream *s, const char *path)
{
    int rc = uv_pipe_init(s->uv, &s->handle.pipe, 0);

    if (rc != 0)
        return rc;
    s->has_handle = 1;
    s->handle.any.data = s;
    s->connect.data = s;
    uv_pipe_connect(&s->connect, &s->handle.pipe, path, on_connect);
    return 0;
}

static int tcp_connect(stream *s, const char *name)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                          .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage at;
    int rc;

    if (uv_ip4_addr(name, 0, (struct sockaddr_in *)&at) == 0 ||
        uv_ip6_addr(name, 0, (struct sockaddr_in6 *)&at) == 0)
        return address_try(s, (struct sockaddr *)&at);
    s->resolve.data = s;
    rc = uv_getaddrinfo(s->uv, &s->resolve, on_resolved, name, NULL, &hints);
    s->resolving = rc == 0;
    return rc;
}

static int address_check(const char *address, const char **path, char *name,
                         size_t size, uint16_t *port, orr_error *err)
{
    size_t len;

    *path = NULL;
    if (strncmp(address, "unix:", 5) != 0)
        return orr__address_split(address, name, size, port, err);
    len = strlen(address + 5);
    if (len == 0 || len > UNIX_PATH_MAX)
        return orr_error_set(err, ORR_EINVAL,
                             "the path of a Unix socket has 1 to %d bytes, "
                             "\"%.120s\" has %zu",
                             UNIX_PATH_MAX, address + 5, len);
    *path = address + 5;
    return ORR_OK;
}

static int host_connect(void *ctx, const char *address, orr_redis_client *c,
                        void **out, orr_error *err)
{
    host *h = ctx;
    char name[ORR_REDIS_ADDRESS_MAX + 1];
    const char *path;
    uint16_t port = 0;
    stream *s;
    int rc = address_check(address, &path, name, sizeof name, &port, err);

    if (rc != ORR_OK)
        return rc;
    s = orr_alloc(sizeof *s);
    if (s == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory to connect to %s",
                             address);
    memset(s, 0, offsetof(stream, buffer));
    s->uv = h->uv;
    s->port = port;
    rc = path != NULL ? unix_connect(s, path) : tcp_connect(s, name);
    if (rc != 0) {
        if (s->has_handle)
            stream_close(s);
        else
            stream_free(s);
        return orr_error_set(err, ORR_UNREACHABLE, "cannot connect to %s: %s",
                             address, uv_strerror(rc));
    }
    s->client = c;
    h->client = c;
    *out = s;
    return ORR_OK;
}

/* --- time ----------------------------------------------------------------- */

/* libuv 1.44 runs timers before it polls: without uv_stop it would sleep on
 * what the tick gave the executor to do. */
static void on_timer(uv_timer_t *timer)
{
    host *h = timer->data;

    uv_stop(h->uv);
    if (h->client != NULL)
        orr__redis_client_tick(h->client, orr_clock_mono_ns());
}

/* Never early: see timer_start in loop.c. */
static void host_arm(void *ctx, uint64_t at_ns)
{
    host *h = ctx;
    uint64_t due_ms = at_ns / NS_PER_MS + (at_ns % NS_PER_MS != 0);
    uint64_t now_ms = uv_now(h->uv);

    if (at_ns == UINT64_MAX)
        uv_timer_stop(&h->timer);
    else
        uv_timer_start(&h->timer, on_timer,
                       due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void on_prepare(uv_prepare_t *prepare)
{
    host *h = prepare->data;

    uv_prepare_stop(prepare);
    if (h->client != NULL)
        orr__redis_client_flush(h->client);
}

static void host_soon(void *ctx)
{
    host *h = ctx;

    uv_prepare_start(&h->prepare, on_prepare);
}

/* --- hosts ---------------------------------------------------------------- */

static void part_gone(host *h)
{
    if (--h->parts == 0)
        orr_free(h);
}

static void on_host_closed(uv_handle_t *handle)
{
    part_gone(handle->data);
}

static void handles_close(host *h)
{
    h->loop = NULL;
    uv_close((uv_handle_t *)&h->timer, on_host_closed);
    uv_close((uv_handle_t *)&h->prepare, on_host_closed);
}

static void host_detach(orr_loop_guest *g)
{
    host *h = (host *)g;

    if (h->client != NULL)
        orr__redis_client_close(h->client, ORR_UNREACHABLE,
                                "the executor ended");
    handles_close(h);
}

static void host_release(void *ctx)
{
    host *h = ctx;

    h->client = NULL;
    if (h->loop != NULL) {
        orr_loop_guest_remove(h->loop, &h->guest);
        handles_close(h);
    }
    part_gone(h);
}

/* libuv writes to sockets without MSG_NOSIGNAL: a server that went away would
 * end the process. A handler that the program set itself stays. */
static void ignore_sigpipe(void)
{
    struct sigaction now, ignore = {.sa_handler = SIG_IGN};

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(SIGPIPE, &ignore, NULL);
}

int orr__redis_stream_transport(orr_loop *loop, orr_redis_transport *out)
{
    host *h = orr_calloc(1, sizeof *h);

    if (h == NULL)
        return ORR_ENOMEM;
    ignore_sigpipe();
    h->loop = loop;
    h->uv = orr_loop_uv(loop);
    h->parts = 3;
    h->guest.detach = host_detach;
    orr_loop_guest_add(loop, &h->guest);
    uv_timer_init(h->uv, &h->timer);
    uv_prepare_init(h->uv, &h->prepare);
    h->timer.data = h;
    h->prepare.data = h;
    *out = (orr_redis_transport){
        .ctx = h,
        .connect = host_connect,
        .write = socket_write,
        .close = stream_close,
        .arm = host_arm,
        .soon = host_soon,
        .release = host_release,
    };
    return ORR_OK;
}
