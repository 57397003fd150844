/* The transport over libuv: streams of bytes over TCP. See transport.h; owner:
 * the loop's thread.
 *
 * One record a loop (tcp), made with its first net, gone with the loop; one
 * record a net (host), the ctx of its transport, with its timer.
 *
 * Path of a dialled stream: connect - numeric hosts at once, names by libuv's
 * pool - each address of the name in turn - on_connect. Of an accepted one:
 * on_connection, refused above the net's limit. Reads all use one buffer of the
 * loop: connections take what they keep. Writes go to the socket at once; what
 * it does not take is written when it can, borrowed until then.
 *
 * Closing in order (abort 0) sends the end of the stream and then reads on,
 * into nothing, until the peer's end, LINGER_MS at most: closing with unread
 * bytes would make the kernel reset the connection and throw away what the
 * peer has not read, our reason to go first of all.
 */
#define _GNU_SOURCE
#include "net/peer.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

enum {
    READ_SIZE = 128 * 1024,
    DIRECT_MIN = 32 * 1024, /* read into a large body itself, not buffer */
    LINGER_MS = 2000,
    LINGERING_MAX = 256, /* streams that close in order; more close at once */
    BACKLOG = 511,
    NS_PER_MS = 1000000
};

typedef struct tcp {
    orr_loop *loop;
    uv_loop_t *uv;
    orr_nets nets;
    uv_timer_t linger_timer;
    struct stream *lingering; /* oldest first */
    uint32_t lingering_count;
    uint32_t parts; /* records that point here, this one's handle included */
    uint8_t *buffer;
    orr_tls_shared tls;
    uint64_t refusal_told_ns; /* strangers must not fill the log */
    uint32_t refusals_untold;
} tcp;

typedef struct host {
    uv_timer_t timer;
    tcp *tcp;
    orr_net *net;
} host;

typedef struct listener {
    uv_tcp_t handle;
    host *host;
    tcp *tcp; /* the host may be gone when the handle is closed */
} listener;

typedef struct stream {
    uv_tcp_t handle;
    uv_connect_t connect;
    uv_write_t write;
    uv_shutdown_t shutdown;
    uv_getaddrinfo_t resolve;
    struct addrinfo *addresses; /* of a name */
    struct addrinfo *address;   /* the one that is tried */
    tcp *tcp;
    orr_conn *conn;      /* NULL when let go */
    orr_tls *tls;        /* between handle and conn; NULL: nothing is */
    struct stream *next; /* lingering */
    uint64_t linger_until_ms;
    uint16_t port;
    uint8_t connected;
    uint8_t resolving;
    uint8_t has_handle;
    uint8_t last_words; /* the peer was told why it ends: let it read that */
    uint8_t first_len;  /* of its first bytes, without TLS */
    uint8_t first[3];
} stream;

static void tcp_part_gone(tcp *t)
{
    if (--t->parts > 0)
        return;
    orr_free(t->buffer);
    orr__tls_shared_fini(&t->tls);
    orr_free(t);
}

/* --- ends ----------------------------------------------------------------- */

static void stream_free(stream *s)
{
    tcp *t = s->tcp;

    uv_freeaddrinfo(s->addresses);
    orr__tls_free(s->tls);
    orr_free(s);
    tcp_part_gone(t);
}

static void on_closed(uv_handle_t *handle)
{
    stream_free(handle->data);
}

/* Lets it go at once. While its name is looked up or its handle is made anew
 * the callback that is under way frees it. */
static void stream_drop(stream *s)
{
    s->conn = NULL;
    if (s->resolving)
        uv_cancel((uv_req_t *)&s->resolve);
    else if (s->has_handle && !uv_is_closing((uv_handle_t *)&s->handle))
        uv_close((uv_handle_t *)&s->handle, on_closed);
}

static void linger_remove(stream *s)
{
    stream **at = &s->tcp->lingering;

    while (*at != NULL && *at != s)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = s->next;
    s->tcp->lingering_count--;
    if (s->tcp->lingering == NULL)
        uv_timer_stop(&s->tcp->linger_timer);
}

static void linger_end(stream *s)
{
    linger_remove(s);
    stream_drop(s);
}

static void on_linger_timer(uv_timer_t *timer)
{
    tcp *t = timer->data;
    uint64_t now_ms = uv_now(t->uv);

    while (t->lingering != NULL && t->lingering->linger_until_ms <= now_ms)
        linger_end(t->lingering);
    if (t->lingering != NULL)
        uv_timer_start(timer, on_linger_timer,
                       t->lingering->linger_until_ms - now_ms, 0);
}

static void linger_begin(stream *s)
{
    tcp *t = s->tcp;
    stream **at = &t->lingering;

    if (t->lingering == NULL)
        uv_timer_start(&t->linger_timer, on_linger_timer, LINGER_MS, 0);
    while (*at != NULL)
        at = &(*at)->next;
    *at = s;
    s->next = NULL;
    s->linger_until_ms = uv_now(t->uv) + LINGER_MS;
    t->lingering_count++;
}

static void on_shutdown(uv_shutdown_t *req, int status)
{
    stream *s = req->data;

    if (status < 0 && status != UV_ECANCELED)
        linger_end(s);
}

static void tcp_close(void *stream_, int abort)
{
    stream *s = stream_;

    s->conn = NULL;
    s->shutdown.data = s;
    if (s->tls != NULL)
        orr__tls_close(s->tls, abort);
    if ((abort && !s->last_words) || !s->connected ||
        s->tcp->lingering_count >= LINGERING_MAX ||
        uv_shutdown(&s->shutdown, (uv_stream_t *)&s->handle, on_shutdown) != 0)
        stream_drop(s);
    else
        linger_begin(s);
}

/* --- bytes ---------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    stream *s = handle->data;
    uint8_t *space = NULL;
    size_t room = 0;

    (void)suggested;
    if (s->conn != NULL && s->tls == NULL)
        space = orr__conn_space(s->conn, &room);
    if (space != NULL && room >= DIRECT_MIN)
        *out = uv_buf_init((char *)space, (unsigned)room);
    else
        *out = uv_buf_init((char *)s->tcp->buffer, READ_SIZE);
}

static void read_ended(stream *s, int rc)
{
    const char *reason = s->tls != NULL ? orr__tls_reason(s->tls) : NULL;

    if (reason == NULL)
        reason = rc == UV_EOF ? "closed by the peer" : uv_strerror(rc);
    orr__conn_lost(s->conn, reason);
}

/* A peer that begins with a TLS record on a stream without TLS is let go with a
 * reason. Our first frame never begins like one: it is much shorter than the
 * record's first bytes would say of it. */
static int speaks_tls(stream *s, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len && s->first_len < sizeof s->first; i++)
        s->first[s->first_len++] = data[i];
    if (s->first_len < sizeof s->first || s->first[0] != 0x16 ||
        s->first[1] != 0x03 || s->first[2] == 0)
        return 0;
    s->last_words = 1;
    orr__conn_lost(s->conn, "it speaks TLS, this side does not: set tls "
                            "(rpc.ssl.*) here");
    return 1;
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
    stream *s = handle->data;

    if (n == 0)
        return;
    if (s->conn == NULL) {
        if (n < 0)
            linger_end(s);
        return;
    }
    if (n <= 0)
        read_ended(s, (int)n);
    else if (s->tls != NULL)
        orr__tls_input(s->tls, (const uint8_t *)buf->base, (size_t)n);
    else if (s->first_len == sizeof s->first ||
             !speaks_tls(s, (const uint8_t *)buf->base, (size_t)n))
        orr__conn_input(s->conn, (const uint8_t *)buf->base, (size_t)n,
                        orr_clock_mono_ns());
}

static void on_write(uv_write_t *req, int status)
{
    stream *s = req->data;

    if (s->conn == NULL)
        return;
    if (status == 0 && s->tls != NULL)
        orr__tls_drained(s->tls);
    else if (status == 0)
        orr__conn_drained(s->conn);
    else
        orr__conn_lost(s->conn, uv_strerror(status));
}

/* An error of the first try comes again, from the callback of the second. */
static size_t socket_write(void *stream_, const uint8_t *data, size_t len)
{
    stream *s = stream_;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)data, (unsigned)len);
    int n = uv_try_write((uv_stream_t *)&s->handle, &buf, 1);
    int rc;

    if (n == (int)len)
        return len;
    if (n > 0) {
        buf.base += n;
        buf.len -= (size_t)n;
    }
    s->write.data = s;
    rc = uv_write(&s->write, (uv_stream_t *)&s->handle, &buf, 1, on_write);
    assert(rc == 0); /* fails only for streams that are not connected */
    (void)rc;
    return n > 0 ? (size_t)n : 0;
}

static size_t tcp_write(void *stream_, const uint8_t *data, size_t len)
{
    stream *s = stream_;

    if (s->tls != NULL)
        return orr__tls_write(s->tls, data, len);
    return socket_write(s, data, len);
}

/* --- TLS ------------------------------------------------------------------ */

static void on_tls_open(void *stream_, const char *role)
{
    stream *s = stream_;

    if (s->conn == NULL)
        return;
    orr_link_set_role(&s->conn->link, role);
    if (!s->conn->accepted)
        orr__conn_connected(s->conn, orr_clock_mono_ns());
}

static void on_tls_input(void *stream_, const uint8_t *data, size_t len)
{
    stream *s = stream_;

    if (s->conn != NULL)
        orr__conn_input(s->conn, data, len, orr_clock_mono_ns());
}

static void on_tls_drained(void *stream_)
{
    stream *s = stream_;

    if (s->conn != NULL)
        orr__conn_drained(s->conn);
}

/* A line a second at most: anybody may come and be refused. */
static void tell_refusal(tcp *t, const char *peer, const char *reason)
{
    uint64_t now_ns = orr_clock_mono_ns();

    if (t->refusal_told_ns != 0 &&
        now_ns - t->refusal_told_ns < 1000u * (uint64_t)NS_PER_MS) {
        t->refusals_untold++;
        return;
    }
    orr_logf(ORR_LOG_WARN, "tls", "%s: %s (%u more since the last line)", peer,
             reason, t->refusals_untold);
    t->refusal_told_ns = now_ns;
    t->refusals_untold = 0;
}

static void on_tls_failed(void *stream_, const char *reason, int last_words)
{
    stream *s = stream_;

    if (s->conn == NULL)
        return;
    if (last_words)
        tell_refusal(s->tcp, s->conn->peer, reason);
    s->last_words = (uint8_t)last_words;
    orr__conn_lost(s->conn, reason);
}

/* The end comes by on_read. */
static void tls_reset(void *stream_)
{
    stream *s = stream_;
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&s->handle, &fd) == 0)
        shutdown(fd, SHUT_RDWR);
}

static const orr_tls_ops tls_ops = {
    .write = socket_write,
    .reset = tls_reset,
    .open = on_tls_open,
    .input = on_tls_input,
    .drained = on_tls_drained,
    .failed = on_tls_failed,
};

/* dialled: the host, NULL for who came to us. Answers 0 without memory. */
static int tls_begin(stream *s, orr_net *net, const char *dialled)
{
    orr_tls_context *x = orr__net_tls(net);

    if (x == NULL)
        return 1;
    s->tls = orr__tls_new(x, &s->tcp->tls, dialled, &tls_ops, s);
    return s->tls != NULL;
}

static void stream_begin(stream *s)
{
    s->connected = 1;
    uv_tcp_nodelay(&s->handle, 1);
    uv_read_start((uv_stream_t *)&s->handle, on_alloc, on_read);
}

/* --- connecting ----------------------------------------------------------- */

static int address_try(stream *s, const struct sockaddr *at);

/* It failed before it began; without a handle nothing else frees it. */
static void stream_lost(stream *s, int rc)
{
    orr__conn_lost(s->conn, uv_strerror(rc));
    if (!s->has_handle)
        stream_free(s);
}

/* The handle that failed is closed: the next address, or its end. */
static void on_closed_to_retry(uv_handle_t *handle)
{
    stream *s = handle->data;
    int rc;

    s->has_handle = 0;
    if (s->conn == NULL) {
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

    if (s->conn == NULL)
        return;
    if (status == 0) {
        stream_begin(s);
        if (s->tls != NULL)
            orr__tls_start(s->tls);
        else
            orr__conn_connected(s->conn, orr_clock_mono_ns());
    } else if (s->address != NULL && s->address->ai_next != NULL) {
        uv_close((uv_handle_t *)&s->handle, on_closed_to_retry);
    } else {
        orr__conn_lost(s->conn, uv_strerror(status));
    }
}

static int address_try(stream *s, const struct sockaddr *at)
{
    struct sockaddr_storage copy;
    int v6 = at->sa_family == AF_INET6;
    int rc = uv_tcp_init(s->tcp->uv, &s->handle);

    if (rc != 0)
        return rc;
    s->has_handle = 1;
    s->handle.data = s;
    s->connect.data = s;
    memset(&copy, 0, sizeof copy);
    memcpy(&copy, at,
           v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    if (v6)
        ((struct sockaddr_in6 *)&copy)->sin6_port = htons(s->port);
    else
        ((struct sockaddr_in *)&copy)->sin_port = htons(s->port);
    return uv_tcp_connect(&s->connect, &s->handle, (struct sockaddr *)&copy,
                          on_connect);
}

static void on_resolved(uv_getaddrinfo_t *req, int status,
                        struct addrinfo *found)
{
    stream *s = req->data;
    int rc;

    s->resolving = 0;
    s->addresses = found;
    if (s->conn == NULL) {
        stream_free(s);
        return;
    }
    s->address = found;
    rc = status != 0 ? status : address_try(s, found->ai_addr);
    if (rc != 0)
        stream_lost(s, rc);
}

/* localhost is the loopback address without asking anybody (RFC 6761 section
 * 6.3): it works where no hosts file says so. */
static int numeric(const char *name, struct sockaddr_storage *out)
{
    if (strcmp(name, "localhost") == 0)
        name = "127.0.0.1";
    return uv_ip4_addr(name, 0, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(name, 0, (struct sockaddr_in6 *)out) == 0;
}

static const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                      .ai_socktype = SOCK_STREAM};

static stream *stream_new(tcp *t)
{
    stream *s = orr_calloc(1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->tcp = t;
    t->parts++;
    return s;
}

static int tcp_connect(void *ctx, const char *address, orr_conn *c, void **out,
                       orr_error *err)
{
    host *h = ctx;
    char name[ORR_ADDRESS_MAX + 1];
    struct sockaddr_storage at;
    uint16_t port;
    stream *s;
    int rc = orr__address_split(address, name, sizeof name, &port, err);

    if (rc != ORR_OK)
        return rc;
    s = stream_new(h->tcp);
    if (s == NULL || !tls_begin(s, h->net, name)) {
        if (s != NULL)
            stream_free(s);
        return orr_error_set(err, ORR_ENOMEM, "no memory to connect to %s",
                             address);
    }
    s->port = port;
    if (numeric(name, &at)) {
        rc = address_try(s, (struct sockaddr *)&at);
    } else {
        s->resolve.data = s;
        rc = uv_getaddrinfo(h->tcp->uv, &s->resolve, on_resolved, name, NULL,
                            &hints);
        s->resolving = rc == 0;
    }
    if (rc != 0) {
        if (s->has_handle)
            stream_drop(s);
        else
            stream_free(s);
        return orr_error_set(err, ORR_UNREACHABLE, "cannot connect to %s: %s",
                             address, uv_strerror(rc));
    }
    s->conn = c;
    *out = s;
    return ORR_OK;
}

/* --- listening ------------------------------------------------------------ */

static void peer_name(stream *s, char *out, size_t size)
{
    struct sockaddr_storage at;
    int len = sizeof at;
    char ip[64] = "?";
    unsigned port = 0;

    if (uv_tcp_getpeername(&s->handle, (struct sockaddr *)&at, &len) == 0) {
        if (at.ss_family == AF_INET6) {
            uv_ip6_name((struct sockaddr_in6 *)&at, ip, sizeof ip);
            port = ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
        } else {
            uv_ip4_name((struct sockaddr_in *)&at, ip, sizeof ip);
            port = ntohs(((struct sockaddr_in *)&at)->sin_port);
        }
    }
    snprintf(out, size, strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, port);
}

static void on_connection(uv_stream_t *handle, int status)
{
    listener *l = handle->data;
    host *h = l->host;
    char peer[80];
    stream *s;

    if (status < 0) {
        orr_logf(ORR_LOG_WARN, "net", "cannot accept a connection: %s",
                 uv_strerror(status));
        return;
    }
    s = stream_new(h->tcp);
    if (s == NULL)
        return; /* it stays in the backlog until libuv asks again */
    if (uv_tcp_init(h->tcp->uv, &s->handle) != 0) {
        stream_free(s);
        return;
    }
    s->has_handle = 1;
    s->handle.data = s;
    if (uv_accept(handle, (uv_stream_t *)&s->handle) != 0) {
        stream_drop(s);
        return;
    }
    peer_name(s, peer, sizeof peer);
    if (tls_begin(s, h->net, NULL))
        s->conn = orr__net_accept(h->net, s, peer);
    if (s->conn == NULL)
        stream_drop(s);
    else
        stream_begin(s);
}

static void on_listener_closed(uv_handle_t *handle)
{
    listener *l = handle->data;
    tcp *t = l->tcp;

    orr_free(l);
    tcp_part_gone(t);
}

static void tcp_unlisten(void *ctx, void *listener_)
{
    listener *l = listener_;

    (void)ctx;
    uv_close((uv_handle_t *)&l->handle, on_listener_closed);
}

static int listen_code(int rc)
{
    switch (rc) {
    case UV_EADDRINUSE: return ORR_EADDRINUSE;
    case UV_EACCES:
    case UV_EPERM: return ORR_EACCES;
    case UV_ENOMEM: return ORR_ENOMEM;
    default: return ORR_EIO;
    }
}

/* A host name is looked up here and now: this happens once, at the start. */
static int listen_address(tcp *t, const char *name, uint16_t port,
                          struct sockaddr_storage *out)
{
    uv_getaddrinfo_t req;
    int rc;

    memset(out, 0, sizeof *out);
    if (!numeric(name, out)) {
        rc = uv_getaddrinfo(t->uv, &req, NULL, name, NULL, &hints);
        if (rc != 0)
            return rc;
        memcpy(out, req.addrinfo->ai_addr, req.addrinfo->ai_addrlen);
        uv_freeaddrinfo(req.addrinfo);
    }
    if (out->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)out)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)out)->sin_port = htons(port);
    return 0;
}

static int listener_open(listener *l, const struct sockaddr *at, uint16_t *port)
{
    struct sockaddr_storage bound;
    int len = sizeof bound;
    int rc = uv_tcp_bind(&l->handle, at, 0);

    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&l->handle, BACKLOG, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&l->handle, (struct sockaddr *)&bound, &len);
    if (rc == 0)
        *port = ntohs(bound.ss_family == AF_INET6
                          ? ((struct sockaddr_in6 *)&bound)->sin6_port
                          : ((struct sockaddr_in *)&bound)->sin_port);
    return rc;
}

static int tcp_listen(void *ctx, const char *address, void **out, char *bound,
                      size_t size, orr_error *err)
{
    host *h = ctx;
    char name[ORR_ADDRESS_MAX + 1];
    struct sockaddr_storage at;
    uint16_t port;
    listener *l;
    int rc = orr__address_split(address, name, sizeof name, &port, err);

    if (rc != ORR_OK)
        return rc;
    l = orr_calloc(1, sizeof *l);
    if (l == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory to listen on %s",
                             address);
    l->host = h;
    l->tcp = h->tcp;
    l->handle.data = l;
    rc = listen_address(h->tcp, name, port, &at);
    if (rc == 0)
        rc = uv_tcp_init(h->tcp->uv, &l->handle);
    if (rc != 0) {
        orr_free(l);
        return orr_error_set(err, listen_code(rc), "cannot listen on %s: %s",
                             address, uv_strerror(rc));
    }
    h->tcp->parts++;
    rc = listener_open(l, (struct sockaddr *)&at, &port);
    if (rc != 0) {
        tcp_unlisten(h, l);
        return orr_error_set(err, listen_code(rc), "cannot listen on %s: %s",
                             address, uv_strerror(rc));
    }
    *out = l;
    if (size > 0)
        snprintf(bound, size, strchr(name, ':') ? "[%s]:%u" : "%s:%u", name,
                 port);
    return ORR_OK;
}

/* --- nets ----------------------------------------------------------------- */

static void on_net_timer(uv_timer_t *timer)
{
    host *h = timer->data;
    orr__net_tick(h->net, orr_clock_mono_ns());
}

/* Never early: see timer_start in loop.c. */
static void tcp_arm(void *ctx, uint64_t at_ns)
{
    host *h = ctx;
    uint64_t due_ms = at_ns / NS_PER_MS + (at_ns % NS_PER_MS != 0);
    uint64_t now_ms = uv_now(h->tcp->uv);

    if (at_ns == UINT64_MAX)
        uv_timer_stop(&h->timer);
    else
        uv_timer_start(&h->timer, on_net_timer,
                       due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void on_host_closed(uv_handle_t *handle)
{
    host *h = handle->data;
    tcp *t = h->tcp;

    orr_free(h);
    tcp_part_gone(t);
}

static void tcp_release(void *ctx)
{
    host *h = ctx;
    uv_close((uv_handle_t *)&h->timer, on_host_closed);
}

static orr_link *tcp_dial(void *ctx, orr_executor *ex, orr_service *s,
                          const char *address, orr_error *err)
{
    tcp *t = ctx;
    return orr__nets_dial(&t->nets, ex, s, address, err);
}

static void on_tcp_closed(uv_handle_t *handle)
{
    tcp_part_gone(handle->data);
}

static void tcp_detach(void *ctx)
{
    tcp *t = ctx;

    orr__nets_detach(&t->nets);
    while (t->lingering != NULL)
        linger_end(t->lingering);
    orr_loop_set_network(t->loop, NULL);
    uv_close((uv_handle_t *)&t->linger_timer, on_tcp_closed);
}

/* libuv writes to sockets without MSG_NOSIGNAL: a peer that went away would end
 * the process. A handler that the program set itself stays. */
static void ignore_sigpipe(void)
{
    struct sigaction now, ignore = {.sa_handler = SIG_IGN};

    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(SIGPIPE, &ignore, NULL);
}

static tcp *tcp_new(orr_loop *loop)
{
    tcp *t = orr_calloc(1, sizeof *t);
    orr_network network = {.ctx = t, .dial = tcp_dial, .detach = tcp_detach};

    if (t == NULL)
        return NULL;
    ignore_sigpipe();
    t->buffer = orr_alloc(READ_SIZE);
    if (t->buffer == NULL) {
        orr_free(t);
        return NULL;
    }
    t->loop = loop;
    t->uv = orr_loop_uv(loop);
    t->parts = 1;
    uv_timer_init(t->uv, &t->linger_timer);
    t->linger_timer.data = t;
    orr_loop_set_network(loop, &network);
    return t;
}

orr_net *orr_net_new(orr_loop *loop, orr_service *s,
                     const orr_net_options *options, orr_error *err)
{
    tcp *t = orr_loop_network(loop);
    host *h = orr_calloc(1, sizeof *h);
    orr_transport transport = {
        .ctx = h,
        .connect = tcp_connect,
        .listen = tcp_listen,
        .unlisten = tcp_unlisten,
        .write = tcp_write,
        .close = tcp_close,
        .arm = tcp_arm,
        .release = tcp_release,
        .can_encrypt = 1,
    };

    if (h != NULL && t == NULL)
        t = tcp_new(loop);
    if (h == NULL || t == NULL) {
        orr_free(h);
        orr_error_set(err, ORR_ENOMEM, "no memory for a net");
        return NULL;
    }
    h->net = orr__net_new(&t->nets, &transport, orr_loop_executor(loop), s,
                          options, err);
    if (h->net == NULL) {
        orr_free(h);
        return NULL;
    }
    h->tcp = t;
    t->parts++;
    uv_timer_init(t->uv, &h->timer);
    h->timer.data = h;
    return h->net;
}
