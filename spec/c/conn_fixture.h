/* A connection on a transport and a sink of the test's own. */
#ifndef SPEC_CONN_FIXTURE_H
#define SPEC_CONN_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "net/conn.h"

enum { FIX_MS = 1000000, FIX_RECEIVED_MAX = 64 };

typedef struct fixture {
    orr_conn_env env; /* first */
    orr_chance chance;
    orr_conn *conn;
    uint64_t now;
    orr_buf wrote; /* what the transport took */
    size_t room;   /* what it takes before it borrows */
    const uint8_t *borrowed;
    size_t borrowed_len;
    int closes;
    int aborts;
    int ups;
    int downs;
    int down_code;
    char down_text[700];
    int received;
    orr_header headers[FIX_RECEIVED_MAX];
    orr_buf bodies;      /* one behind the other */
    int received_bodies; /* of those, in pieces */
    int receive_code;
    uint64_t soon;
} fixture;

static fixture *fix_current; /* the sink gets no context of its own */

static size_t fix_write(void *stream, const uint8_t *data, size_t len)
{
    fixture *f = stream;
    size_t n = len < f->room ? len : f->room;

    if (f->borrowed_len != 0)
        return 0; /* the connection broke the contract; a test will see it */
    (void)orr_buf_append(&f->wrote, data, n);
    f->room -= n;
    f->borrowed = data + n;
    f->borrowed_len = len - n;
    return n;
}

/* The transport gets room again. */
static inline void fix_drain(fixture *f)
{
    f->room = SIZE_MAX;
    if (f->borrowed_len == 0)
        return;
    (void)orr_buf_append(&f->wrote, f->borrowed, f->borrowed_len);
    f->borrowed_len = 0;
    orr__conn_drained(f->conn);
}

static void fix_close(void *stream, int abort)
{
    fixture *f = stream;

    f->closes++;
    f->aborts += abort;
    f->borrowed_len = 0;
}

static void fix_up(orr_executor *ex, orr_link *l)
{
    (void)ex;
    (void)l;
    fix_current->ups++;
}

static int fix_receive(orr_executor *ex, orr_link *l, const orr_header *h,
                       const uint8_t *body)
{
    fixture *f = fix_current;

    (void)ex;
    (void)l;
    if (f->received < FIX_RECEIVED_MAX)
        f->headers[f->received] = *h;
    f->received++;
    (void)orr_buf_append(&f->bodies, body, h->length);
    return f->receive_code;
}

static int fix_receive_body(orr_executor *ex, orr_link *l, const orr_header *h,
                            orr_buf *body)
{
    int rc = fix_receive(ex, l, h, body->data);

    fix_current->received_bodies++;
    orr_buf_free(body);
    return rc;
}

static void fix_down(orr_executor *ex, orr_link *l, int code, const char *text)
{
    (void)ex;
    (void)l;
    fix_current->downs++;
    fix_current->down_code = code;
    snprintf(fix_current->down_text, sizeof fix_current->down_text, "%s", text);
}

static const orr_conn_sink fix_sink = {fix_up, fix_receive, fix_receive_body,
                                       fix_down};

static void fix_soon(orr_conn_env *env, uint64_t at_ns)
{
    fixture *f = (fixture *)env;
    if (at_ns < f->soon)
        f->soon = at_ns;
}

static inline void fix_init(fixture *f, const char *cluster, uint64_t seed)
{
    memset(f, 0, sizeof *f);
    orr_chance_seed(&f->chance, seed);
    f->now = 1000u * FIX_MS;
    f->room = SIZE_MAX;
    f->soon = UINT64_MAX;
    f->env.transport.write = fix_write;
    f->env.transport.close = fix_close;
    f->env.sink = &fix_sink;
    f->env.chance = &f->chance;
    f->env.soon = fix_soon;
    f->env.service = orr_service_new("test", cluster, 7);
    f->env.options = (orr_net_options){
        .frame_max = 64 * 1024,
        .queue_max = 256 * 1024,
        .connections_max = 4,
        .connect_timeout_ns = 100u * FIX_MS,
        .handshake_timeout_ns = 50u * FIX_MS,
        .keepalive_ns = 1000u * FIX_MS,
        .chunk_size = 16 * 1024,
        .body_max = 1024 * 1024,
        .bodies_max = 4,
        .assembly_max = 1024 * 1024,
        .sending_max = 2 * 1024 * 1024,
        .window = 64 * 1024,
        .features = ORR_FEATURE_CHUNKS,
    };
    fix_current = f;
}

/* What we, or a peer like us, would say. */
static inline orr_hello fix_self(const fixture *f)
{
    const orr_net_options *o = &f->env.options;
    orr_hello self = {.protocol = ORR_PROTOCOL,
                      .incarnation = 7,
                      .wire_min = ORR_WIRE_MIN,
                      .wire_max = ORR_WIRE_MAX,
                      .frame_max = o->frame_max,
                      .features = o->features,
                      .body_max = o->body_max,
                      .bodies_max = o->bodies_max,
                      .window = o->window,
                      .body_first = ORR_BODY_FIRST};

    snprintf(self.cluster, sizeof self.cluster, "%s",
             orr_service_cluster_id(f->env.service));
    return self;
}

/* Answers 0 without memory. */
static inline int fix_new(fixture *f, int accepted)
{
    orr_hello self = fix_self(f);

    f->conn = orr__conn_new(&f->env, accepted ? "caller:1" : "callee:2",
                            accepted, &self, f->now);
    if (f->conn == NULL)
        return 0;
    f->conn->stream = f;
    f->conn->up = accepted ? 0 : 1;
    return 1;
}

static inline void fix_fini(fixture *f)
{
    if (f->conn != NULL) {
        orr__conn_abort(f->conn, ORR_UNREACHABLE, "the test ends");
        orr__conn_free(f->conn);
    }
    orr_buf_free(&f->wrote);
    orr_buf_free(&f->bodies);
    orr_service_free(f->env.service);
}

/* Appends a frame as a peer would write it. */
static inline void fix_put(orr_buf *out, orr_header h, const void *body)
{
    uint8_t head[ORR_HEADER_SIZE];

    h.version = ORR_WIRE_VERSION;
    h.checksum = 0;
    orr_header_encode(&h, head);
    h.checksum = orr_header_checksum(head, body, h.length);
    orr_header_encode(&h, head);
    (void)orr_buf_append(out, head, sizeof head);
    (void)orr_buf_append(out, body, h.length);
}

static inline void fix_frame(orr_buf *out, int kind, uint32_t method,
                             const void *body, uint32_t len)
{
    orr_header h = {.length = len, .kind = (uint8_t)kind, .method = method};

    fix_put(out, h, body);
}

static inline void fix_hello(orr_buf *out, int64_t protocol,
                             const char *cluster, uint32_t frame_max)
{
    orr_buf body = {0};
    orr_hello h = {.protocol = protocol,
                   .incarnation = 9,
                   .wire_min = ORR_WIRE_MIN,
                   .wire_max = ORR_WIRE_MAX,
                   .frame_max = frame_max};

    snprintf(h.cluster, sizeof h.cluster, "%s", cluster);
    snprintf(h.address, sizeof h.address, "peer:9");
    (void)orr__hello_write(&h, &body);
    fix_frame(out, ORR_FRAME_HELLO, 0, body.data, (uint32_t)body.len);
    orr_buf_free(&body);
}

static inline void fix_input(fixture *f, const void *data, size_t len)
{
    fix_current = f;
    orr__conn_input(f->conn, data, len, f->now);
}

/* A HELLO of a peer that takes pieces, as large as we do. */
static inline void fix_hello_chunks(const fixture *f, orr_buf *out)
{
    orr_buf body = {0};
    orr_hello h = fix_self(f);

    (void)orr__hello_write(&h, &body);
    fix_frame(out, ORR_FRAME_HELLO, 0, body.data, (uint32_t)body.len);
    orr_buf_free(&body);
}

/* The same as fix_open with such a peer. */
static inline int fix_open_chunks(fixture *f, int accepted)
{
    orr_buf hello = {0};

    if (!fix_new(f, accepted))
        return 0;
    orr__conn_connected(f->conn, f->now);
    fix_hello_chunks(f, &hello);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    orr_buf_reset(&f->wrote);
    return f->conn->state == ORR_CONN_OPEN;
}

/* A connection that is OPEN; what it wrote so far is forgotten. */
static inline int fix_open(fixture *f, int accepted)
{
    orr_buf hello = {0};

    if (!fix_new(f, accepted))
        return 0;
    orr__conn_connected(f->conn, f->now);
    fix_hello(&hello, ORR_PROTOCOL, orr_service_cluster_id(f->env.service),
              64 * 1024);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    orr_buf_reset(&f->wrote);
    return f->conn->state == ORR_CONN_OPEN;
}

#endif
