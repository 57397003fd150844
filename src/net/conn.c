/* One connection. See conn.h; owner: the thread of its executor.
 *
 *   state       receives                        ends by
 *   CONNECTING  nothing: the stream is not up   connect timeout, refusal
 *   HELLO       HELLO, GOODBYE                  handshake timeout, mismatch
 *   OPEN        all but HELLO                   silence, garbage, goodbye
 *   CLOSED      nothing                         the owner's sweep
 *
 * The happy path: new (our HELLO lies in writing) - connected: HELLO is
 * written - input: their HELLO comes, OPEN, what was queued is written - input
 * passes frames to the sink, send queues, flush writes - goodbye.
 *
 * Failures. Refused, unreachable, timeouts, silence, a lost stream: link down
 * with ORR_UNREACHABLE and the reason. Another protocol or cluster: goodbye and
 * ORR_VERSION_MISMATCH with both values. Garbage, lies about a length, a wrong
 * checksum: counted, closed; a peer that had passed the handshake is told why.
 * A full queue: ORR_OVERLOADED to the sender, nothing else.
 *
 * A peer that does not read for three times keepalive_ns, or leaves a body
 * half sent for as long, is cut off. Chunked bodies: body.c.
 *
 * Memory: a header is checked against the state's bound before its body gets
 * memory. in holds at most one frame; out and writing together queue_max and
 * our own small frames; big buffers are given back when empty.
 */
#include "net/conn.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    PART_MAX = 1024 * 1024,     /* given to the transport at a time */
    KEEP_MAX = 256 * 1024,      /* an empty buffer larger than this is freed */
    OWN_FRAMES_MAX = 16 * 1024, /* PONG, GOODBYE beyond queue_max */
    REASON_MAX = 200,
    TEXT_MAX = 640, /* an address, a reason and our words */
    SILENCE_FACTOR = 3
};
static const uint64_t linger_ns = 2000000000u;

#define BIT(kind) (1u << (kind))

static const uint32_t receives[] = {
    [ORR_CONN_CONNECTING] = 0,
    [ORR_CONN_HELLO] = BIT(ORR_FRAME_HELLO) | BIT(ORR_FRAME_GOODBYE),
    [ORR_CONN_OPEN] =
        BIT(ORR_FRAME_RESOLVE) | BIT(ORR_FRAME_ASK) | BIT(ORR_FRAME_TELL) |
        BIT(ORR_FRAME_REPLY) | BIT(ORR_FRAME_CANCEL) | BIT(ORR_FRAME_PING) |
        BIT(ORR_FRAME_PONG) | BIT(ORR_FRAME_GOODBYE) | BIT(ORR_FRAME_DATA) |
        BIT(ORR_FRAME_CREDIT) | BIT(ORR_FRAME_ABORT),
    [ORR_CONN_CLOSED] = 0,
};

static orr_conn *conn_of(orr_link *l)
{
    return (orr_conn *)l;
}

/* --- writing -------------------------------------------------------------- */

static void buf_give_back(orr_buf *b)
{
    size_t max = b->max;

    if (b->cap <= KEEP_MAX) {
        orr_buf_reset(b);
        return;
    }
    orr_buf_free(b);
    b->max = max;
}

static size_t queued(const orr_conn *c)
{
    return c->out.len + c->writing.len + c->bodies.held_bytes;
}

void orr__conn_seal(orr_conn *c, const orr_header *h, uint8_t *at)
{
    orr_header copy = *h;

    copy.version = ORR_WIRE_VERSION;
    copy.checksum = 0;
    orr_header_encode(&copy, at);
    copy.checksum = orr_header_checksum(at, at + ORR_HEADER_SIZE, h->length);
    orr_header_encode(&copy, at);
    c->env->info.frames_out++;
}

int orr__conn_frame(orr_conn *c, orr_buf *b, const orr_header *h,
                    const uint8_t *body)
{
    int rc = orr_buf_reserve(b, ORR_HEADER_SIZE + (size_t)h->length);

    if (rc != ORR_OK)
        return rc;
    if (h->length > 0)
        memcpy(b->data + b->len + ORR_HEADER_SIZE, body, h->length);
    orr__conn_seal(c, h, b->data + b->len);
    b->len += ORR_HEADER_SIZE + (size_t)h->length;
    return ORR_OK;
}

static void write_done(orr_conn *c)
{
    c->blocked = 0;
    if (c->bodies.slice != NULL) {
        orr__bodies_written(c);
        return;
    }
    c->written += c->part;
    if (c->written < c->writing.len)
        return;
    c->written = 0;
    buf_give_back(&c->writing);
}

void orr__conn_write(orr_conn *c, const uint8_t *data, size_t len)
{
    c->env->info.bytes_out += len;
    c->writes++;
    c->blocked = 1;
    if (c->env->transport.write(c->stream, data, len) == len)
        write_done(c);
}

/* Hands a part of writing to the transport: of one that takes long, progress is
 * seen by its parts. */
static void writing_submit(orr_conn *c)
{
    c->part = c->writing.len - c->written;
    if (c->part > PART_MAX)
        c->part = PART_MAX;
    orr__conn_write(c, c->writing.data + c->written, c->part);
}

static void conn_flush(orr_conn *c)
{
    orr_buf spare;

    if (c->state < ORR_CONN_OPEN)
        return;
    while (!c->blocked && c->stream != NULL) {
        if (c->writing.len > 0) {
            writing_submit(c);
        } else if (c->out.len > 0) {
            spare = c->writing;
            c->writing = c->out;
            c->out = spare;
        } else if (c->state != ORR_CONN_OPEN || !orr__bodies_write(c)) {
            return;
        }
    }
}

/* --- the end -------------------------------------------------------------- */

static void stream_close(orr_conn *c, int abort)
{
    void *stream = c->stream;

    if (stream == NULL)
        return;
    c->stream = NULL;
    c->blocked = 0;
    orr__bodies_written(c);
    c->env->accepted_open -= c->accepted;
    c->env->transport.close(stream, abort);
}

/* The queue is written: let the stream end in order. */
static void linger_check(orr_conn *c)
{
    if (c->stream != NULL && !c->blocked && c->out.len == 0 &&
        c->writing.len == 0)
        stream_close(c, 0);
}

/* The link is down from here on; the stream stays for what the caller does
 * next. */
static void conn_down(orr_conn *c, int code, const char *text)
{
    orr_conn_env *env = c->env;

    if (c->state == ORR_CONN_HELLO)
        env->info.handshake_failures++;
    c->state = ORR_CONN_CLOSED;
    orr__bodies_end(c);
    env->info.connections--;
    env->soon(env, 0);
    orr_logf(ORR_LOG_DEBUG, "net", "%s: %s", c->peer, text);
    if (c->up) {
        c->pins++;
        env->sink->down(env->executor, &c->link, code, text);
        c->pins--;
    }
}

void orr__conn_abort(orr_conn *c, int code, const char *text)
{
    if (c->state != ORR_CONN_CLOSED)
        conn_down(c, code, text);
    stream_close(c, 1);
}

/* Our last frame. Without memory for it the peer just sees the end. */
static void goodbye_append(orr_conn *c, int code, const char *reason)
{
    uint8_t body[REASON_MAX + 8];
    orr_buf b = {
        .data = body, .len = 0, .cap = sizeof body, .max = sizeof body};
    orr_header h = {.kind = ORR_FRAME_GOODBYE, .method = (uint32_t)code};
    size_t len = strlen(reason);

    if (orr_pack_str(&b, reason, len < REASON_MAX ? len : REASON_MAX) != ORR_OK)
        return;
    h.length = (uint32_t)b.len;
    (void)orr__conn_frame(c, &c->out, &h, b.data);
}

/* Goodbye to the peer, code and text to the link. */
static void conn_part(orr_conn *c, int code, const char *text, int peer_code,
                      const char *reason, uint64_t now_ns)
{
    int has_stream = c->state != ORR_CONN_CONNECTING;

    if (c->state == ORR_CONN_CLOSED)
        return;
    if (c->state == ORR_CONN_HELLO)
        orr_buf_reset(&c->out); /* for a peer that never said who it is */
    if (has_stream)
        goodbye_append(c, peer_code, reason);
    c->deadline_ns = now_ns + linger_ns;
    conn_down(c, code, text);
    if (!has_stream) {
        stream_close(c, 1);
        return;
    }
    conn_flush(c);
    linger_check(c);
    if (c->stream != NULL)
        c->env->soon(c->env, c->deadline_ns);
}

void orr__conn_goodbye(orr_conn *c, const char *reason, uint64_t now_ns)
{
    char text[TEXT_MAX];

    snprintf(text, sizeof text, "connection to %s closed here: %s", c->peer,
             reason);
    conn_part(c, ORR_UNREACHABLE, text, ORR_OK, reason, now_ns);
}

/* The peer broke the protocol. Strangers are not answered. */
void orr__conn_broken(orr_conn *c, uint64_t now_ns, const char *format, ...)
{
    char what[160], text[TEXT_MAX];
    va_list args;

    if (c->state == ORR_CONN_CLOSED)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    c->env->info.protocol_errors++;
    snprintf(text, sizeof text, "protocol error from %s: %s", c->peer, what);
    if (c->state != ORR_CONN_OPEN) {
        orr__conn_abort(c, ORR_UNREACHABLE, text);
        return;
    }
    orr_logf(ORR_LOG_WARN, "net", "%s", text);
    conn_part(c, ORR_UNREACHABLE, text, ORR_EPROTO, what, now_ns);
}

static void conn_mismatch(orr_conn *c, const char *what, const char *theirs,
                          const char *ours, uint64_t now_ns)
{
    char text[TEXT_MAX], reason[REASON_MAX];

    snprintf(text, sizeof text,
             "cannot talk to %s: its %s is %.64s, ours is "
             "%.64s",
             c->peer, what, theirs, ours);
    snprintf(reason, sizeof reason, "its %s is %.64s, ours is %.64s", what,
             ours, theirs);
    orr_logf(ORR_LOG_WARN, "net", "%s", text);
    conn_part(c, ORR_VERSION_MISMATCH, text, ORR_VERSION_MISMATCH, reason,
              now_ns);
}

void orr__conn_lost(orr_conn *c, const char *reason)
{
    char text[TEXT_MAX];

    if (c->state == ORR_CONN_CLOSED) {
        stream_close(c, 1);
        return;
    }
    if (c->state == ORR_CONN_CONNECTING)
        snprintf(text, sizeof text, "cannot connect to %s: %s", c->peer,
                 reason);
    else
        snprintf(text, sizeof text, "connection to %s lost: %s%s%s", c->peer,
                 reason,
                 c->state == ORR_CONN_HELLO ? " during the handshake" : "",
                 c->in.len > 0 ? " in the middle of a frame" : "");
    orr__conn_abort(c, ORR_UNREACHABLE, text);
}

/* --- frames of our own kinds ---------------------------------------------- */

static void version_text(char *out, size_t size, int64_t version)
{
    snprintf(out, size, "%" PRId64, version);
}

static void range_text(char *out, size_t size, uint32_t min, uint32_t max)
{
    if (min == max)
        snprintf(out, size, "%u", min);
    else
        snprintf(out, size, "%u to %u", min, max);
}

/* It cannot do without something that we never heard of. */
static void conn_unknown(orr_conn *c, const char *what, uint64_t now_ns)
{
    char text[TEXT_MAX], reason[REASON_MAX];

    snprintf(text, sizeof text,
             "cannot talk to %s: it insists on %s, which is not known here",
             c->peer, what);
    snprintf(reason, sizeof reason, "you insist on %s, which is not known here",
             what);
    orr_logf(ORR_LOG_WARN, "net", "%s", text);
    conn_part(c, ORR_VERSION_MISMATCH, text, ORR_VERSION_MISMATCH, reason,
              now_ns);
}

static void conn_open(orr_conn *c, const orr_hello *peer, uint64_t now_ns)
{
    orr_conn_env *env = c->env;

    c->peer_incarnation = peer->incarnation;
    if (c->accepted && peer->address[0] != '\0')
        snprintf(c->peer, sizeof c->peer, "%s", peer->address);
    c->link.body_max = env->options.frame_max;
    if (peer->frame_max < c->link.body_max)
        c->link.body_max = peer->frame_max;
    c->link.features = peer->features & env->options.features;
    if ((c->link.features & ORR_FEATURE_CHUNKS) == 0) {
        c->link.frame_max = c->link.body_max;
    } else {
        c->link.frame_max = env->options.chunk_size < c->link.body_max
                                ? env->options.chunk_size
                                : c->link.body_max;
        c->link.body_max = peer->body_max < env->options.body_max
                               ? peer->body_max
                               : env->options.body_max;
    }
    c->state = ORR_CONN_OPEN;
    if (c->queued_max > c->link.body_max) {
        char text[TEXT_MAX];
        snprintf(text, sizeof text,
                 "%s takes bodies of %u bytes at most, %u "
                 "were queued before it could say so",
                 c->peer, c->link.body_max, c->queued_max);
        orr_buf_reset(&c->out);
        conn_part(c, ORR_TOO_LARGE, text, ORR_OK, "nothing to say", now_ns);
        return;
    }
    if (!c->up) {
        c->up = 1;
        env->sink->up(env->executor, &c->link);
    }
    orr__bodies_begin(c, peer);
    env->soon(env, now_ns + env->options.keepalive_ns);
}

static void on_hello(orr_conn *c, const orr_header *h, const uint8_t *body,
                     uint64_t now_ns)
{
    orr_hello peer;
    orr_error err;
    char theirs[48], ours[48];
    const char *cluster = orr_service_cluster_id(c->env->service);

    if (orr__hello_read(&peer, body, h->length, &err) != ORR_OK) {
        orr__conn_broken(c, now_ns, "%s", err.text);
        return;
    }
    if (peer.protocol != ORR_PROTOCOL) {
        version_text(theirs, sizeof theirs, peer.protocol);
        version_text(ours, sizeof ours, ORR_PROTOCOL);
        conn_mismatch(c, "protocol", theirs, ours, now_ns);
    } else if (peer.wire_min > ORR_WIRE_MAX || peer.wire_max < ORR_WIRE_MIN) {
        range_text(theirs, sizeof theirs, peer.wire_min, peer.wire_max);
        range_text(ours, sizeof ours, ORR_WIRE_MIN, ORR_WIRE_MAX);
        conn_mismatch(c, "wire version", theirs, ours, now_ns);
    } else if (peer.unknown[0] != '\0') {
        conn_unknown(c, peer.unknown, now_ns);
    } else if (strcmp(peer.cluster, cluster) != 0) {
        conn_mismatch(c, "cluster id", peer.cluster, cluster, now_ns);
    } else {
        conn_open(c, &peer, now_ns);
    }
}

static void on_ping(orr_conn *c, const orr_header *h, uint64_t now_ns)
{
    orr_header pong = {.kind = ORR_FRAME_PONG,
                       .call_slot = h->call_slot,
                       .call_generation = h->call_generation};

    if (orr__conn_frame(c, &c->out, &pong, NULL) != ORR_OK)
        orr__conn_broken(c, now_ns, "it sends pings and reads no answers");
}

static void on_goodbye(orr_conn *c, const orr_header *h, const uint8_t *body)
{
    char text[TEXT_MAX], reason[REASON_MAX] = "";
    int mismatch = (int32_t)h->method == ORR_VERSION_MISMATCH;
    orr_unpacker u;
    orr_pack_token t;

    orr_unpack_init(&u, body, h->length);
    if (orr_unpack_next(&u, &t) == ORR_OK && t.type == ORR_PACK_STR)
        orr__printable(reason, sizeof reason, t.data, t.size);
    snprintf(text, sizeof text, "%s %s: %s", c->peer,
             mismatch ? "refuses us" : "said goodbye", reason);
    conn_down(c, mismatch ? ORR_VERSION_MISMATCH : ORR_UNREACHABLE, text);
    stream_close(c, c->blocked);
}

/* --- reading -------------------------------------------------------------- */

static int is_body_kind(int kind)
{
    return kind == ORR_FRAME_ASK || kind == ORR_FRAME_TELL ||
           kind == ORR_FRAME_REPLY;
}

static void frame_dispatch(orr_conn *c, const orr_header *h,
                           const uint8_t *data, uint64_t now_ns)
{
    const uint8_t *body = data + ORR_HEADER_SIZE;
    orr_conn_env *env = c->env;

    env->info.frames_in++;
    if (orr_header_checksum(data, body, h->length) != h->checksum) {
        orr__conn_broken(c, now_ns, "wrong checksum in a frame of kind %u",
                         h->kind);
        return;
    }
    switch (h->kind) {
    case ORR_FRAME_HELLO: on_hello(c, h, body, now_ns); return;
    case ORR_FRAME_PING: on_ping(c, h, now_ns); return;
    case ORR_FRAME_PONG: return;
    case ORR_FRAME_GOODBYE: on_goodbye(c, h, body); return;
    case ORR_FRAME_CREDIT: orr__bodies_on_credit(c, h, now_ns); return;
    case ORR_FRAME_ABORT: orr__bodies_on_abort(c, h, now_ns); return;
    default:
        if (h->kind > ORR_FRAME_ABORT || h->kind == 0)
            return; /* optional: header_check has seen to it */
        if ((h->flags & ORR_FLAG_MORE) != 0 && is_body_kind(h->kind)) {
            orr__bodies_open(c, h, body, now_ns);
            return;
        }
        if (h->kind == ORR_FRAME_CANCEL && c->bodies.sending_bytes > 0)
            orr__bodies_cancelled(c, h);
        if (h->length > env->info.body_in_max)
            env->info.body_in_max = h->length;
        if (env->sink->receive(env->executor, &c->link, h, body) != ORR_OK)
            orr__conn_broken(c, now_ns, "a frame of kind %u makes no sense",
                             h->kind);
    }
}

/* Everything that can be known before the body. */
static int header_check(orr_conn *c, orr_header *h, const uint8_t *data,
                        uint64_t now_ns)
{
    uint32_t bound = c->state == ORR_CONN_OPEN ? c->env->options.frame_max
                                               : ORR_HELLO_BODY_MAX;

    if (orr_header_decode(h, data, ORR_HEADER_SIZE) != ORR_OK) {
        /* A HELLO of another version, not just any bytes. */
        if (c->state == ORR_CONN_HELLO && h->kind == ORR_FRAME_HELLO &&
            h->version != 0 && h->length <= bound) {
            char theirs[32], ours[32];
            version_text(theirs, sizeof theirs, data[4]);
            version_text(ours, sizeof ours, ORR_WIRE_VERSION);
            conn_mismatch(c, "wire version", theirs, ours, now_ns);
        } else {
            orr__conn_broken(c, now_ns,
                             "not a frame of ours (version %u, kind %u)",
                             data[4], data[5]);
        }
        return 0;
    }
    if (h->length > bound) {
        orr__conn_broken(
            c, now_ns, "a body of %u bytes, at most %u may come%s", h->length,
            bound, c->state == ORR_CONN_OPEN ? "" : " before the handshake");
        return 0;
    }
    if (h->kind > ORR_FRAME_ABORT || h->kind == 0) { /* and optional */
        if (c->state == ORR_CONN_OPEN)
            return 1;
        orr__conn_broken(c, now_ns, "a frame of kind %u before the handshake",
                         h->kind);
        return 0;
    }
    if ((receives[c->state] & BIT(h->kind)) == 0) {
        orr__conn_broken(c, now_ns, "a frame of kind %u %s the handshake",
                         h->kind,
                         c->state == ORR_CONN_OPEN ? "after" : "before");
        return 0;
    }
    return 1;
}

static int out_of_memory(orr_conn *c)
{
    orr__conn_abort(c, ORR_UNREACHABLE, "no memory for a frame that came");
    return 0;
}

static int collect(orr_conn *c, size_t more, const uint8_t *data)
{
    return orr_buf_append(&c->in, data, more) == ORR_OK || out_of_memory(c);
}

/* Adds to the frame in c->in; answers how much of data it used. */
static size_t input_collected(orr_conn *c, const uint8_t *data, size_t len,
                              uint64_t now_ns)
{
    orr_header h;
    size_t used = 0, want, take;

    if (c->in.len < ORR_HEADER_SIZE) {
        take = ORR_HEADER_SIZE - c->in.len;
        used = take < len ? take : len;
        if (!collect(c, used, data))
            return len;
        if (c->in.len < ORR_HEADER_SIZE ||
            !header_check(c, &h, c->in.data, now_ns))
            return len;
        if (h.kind == ORR_FRAME_DATA) {
            (void)orr__bodies_data_begin(c, &h, c->in.data, now_ns);
            orr_buf_reset(&c->in);
            return used;
        }
        if (orr_buf_reserve(&c->in, h.length) != ORR_OK)
            return len + (size_t)out_of_memory(c);
    } else {
        (void)orr_header_decode(&h, c->in.data, ORR_HEADER_SIZE);
    }
    want = ORR_HEADER_SIZE + (size_t)h.length - c->in.len;
    take = want < len - used ? want : len - used;
    if (!collect(c, take, data + used))
        return len;
    if (take == want) {
        frame_dispatch(c, &h, c->in.data, now_ns);
        buf_give_back(&c->in);
    }
    return used + take;
}

/* Whole frames straight from data; answers how much of it they were. */
static size_t input_direct(orr_conn *c, const uint8_t *data, size_t len,
                           uint64_t now_ns)
{
    size_t used = 0;

    while (c->state != ORR_CONN_CLOSED && len - used >= ORR_HEADER_SIZE) {
        orr_header h;
        size_t whole;

        if (!header_check(c, &h, data + used, now_ns))
            return len;
        if (h.kind == ORR_FRAME_DATA) {
            if (!orr__bodies_data_begin(c, &h, data + used, now_ns))
                return len;
            return used + ORR_HEADER_SIZE;
        }
        whole = ORR_HEADER_SIZE + (size_t)h.length;
        if (len - used < whole)
            break;
        frame_dispatch(c, &h, data + used, now_ns);
        used += whole;
    }
    return used;
}

void orr__conn_input(orr_conn *c, const uint8_t *data, size_t len,
                     uint64_t now_ns)
{
    size_t used = 0;

    if (c->state == ORR_CONN_CLOSED)
        return; /* it lingers: what comes has no reader */
    c->env->info.bytes_in += len;
    c->last_in_ns = now_ns;
    c->last_ping_ns = 0;
    c->pins++;
    while (used < len && c->state != ORR_CONN_CLOSED) {
        if (c->bodies.filling != NULL) {
            used += orr__bodies_data(c, data + used, len - used, now_ns);
            continue;
        }
        if (c->in.len == 0)
            used += input_direct(c, data + used, len - used, now_ns);
        if (used < len && c->state != ORR_CONN_CLOSED &&
            c->bodies.filling == NULL)
            used += input_collected(c, data + used, len - used, now_ns);
    }
    if (c->state == ORR_CONN_OPEN && !c->link.dirty)
        conn_flush(c);
    c->pins--;
}

void orr__conn_connected(orr_conn *c, uint64_t now_ns)
{
    if (c->state != ORR_CONN_CONNECTING)
        return;
    c->state = ORR_CONN_HELLO;
    c->deadline_ns = now_ns + c->env->options.handshake_timeout_ns;
    c->env->soon(c->env, c->deadline_ns);
    writing_submit(c);
}

void orr__conn_drained(orr_conn *c)
{
    write_done(c);
    conn_flush(c);
    if (c->state == ORR_CONN_CLOSED)
        linger_check(c);
}

/* --- time ----------------------------------------------------------------- */

static unsigned ms_of(uint64_t ns)
{
    return (unsigned)(ns / 1000000);
}

static void tick_setup(orr_conn *c, uint64_t now_ns)
{
    char text[TEXT_MAX];
    const orr_net_options *o = &c->env->options;

    if (now_ns < c->deadline_ns)
        return;
    if (c->state == ORR_CONN_CONNECTING)
        snprintf(text, sizeof text,
                 "cannot connect to %s: no answer within "
                 "%u ms",
                 c->peer, ms_of(o->connect_timeout_ns));
    else
        snprintf(text, sizeof text, "no handshake from %s within %u ms",
                 c->peer, ms_of(o->handshake_timeout_ns));
    orr__conn_abort(c, ORR_UNREACHABLE, text);
}

static void ping(orr_conn *c, uint64_t now_ns)
{
    orr_header h = {.kind = ORR_FRAME_PING};

    /* Without memory for it the next tick tries again. */
    c->last_ping_ns = now_ns;
    if (orr__conn_frame(c, &c->out, &h, NULL) == ORR_OK)
        conn_flush(c);
}

static uint64_t tick_open(orr_conn *c, uint64_t now_ns)
{
    uint64_t keepalive = c->env->options.keepalive_ns, next, ping_at;
    char text[TEXT_MAX];

    if (now_ns - c->last_in_ns >= SILENCE_FACTOR * keepalive) {
        snprintf(text, sizeof text, "no sign of life from %s for %u ms",
                 c->peer, ms_of(now_ns - c->last_in_ns));
        orr__conn_abort(c, ORR_UNREACHABLE, text);
        return UINT64_MAX;
    }
    if (!c->blocked || c->writes != c->writes_seen)
        c->stuck_ns = now_ns;
    c->writes_seen = c->writes;
    if (now_ns - c->stuck_ns >= SILENCE_FACTOR * keepalive) {
        snprintf(text, sizeof text, "%s has not read for %u ms", c->peer,
                 ms_of(now_ns - c->stuck_ns));
        orr__conn_abort(c, ORR_UNREACHABLE, text);
        return UINT64_MAX;
    }
    if (c->bodies.coming != NULL && now_ns > SILENCE_FACTOR * keepalive &&
        orr__bodies_stuck(c, now_ns - SILENCE_FACTOR * keepalive)) {
        orr__conn_broken(c, now_ns, "a body that it sends stands still");
        return UINT64_MAX;
    }
    if (c->refs > 0 || c->accepted || c->link.calls != 0)
        c->idle_ns = 0;
    else if (c->idle_ns == 0)
        c->idle_ns = now_ns;
    else if (now_ns - c->idle_ns >= keepalive) {
        orr__conn_goodbye(c, "unused", now_ns);
        return UINT64_MAX;
    }
    ping_at =
        (c->last_ping_ns > c->last_in_ns ? c->last_ping_ns : c->last_in_ns) +
        keepalive;
    if (now_ns >= ping_at) {
        ping(c, now_ns);
        ping_at = now_ns + keepalive;
    }
    next = c->last_in_ns + SILENCE_FACTOR * keepalive;
    if (ping_at < next)
        next = ping_at;
    if ((c->blocked || c->bodies.coming != NULL) && now_ns + keepalive < next)
        next = now_ns + keepalive;
    if (c->idle_ns != 0 && c->idle_ns + keepalive < next)
        next = c->idle_ns + keepalive;
    return next;
}

uint64_t orr__conn_tick(orr_conn *c, uint64_t now_ns)
{
    switch (c->state) {
    case ORR_CONN_OPEN: return tick_open(c, now_ns);
    case ORR_CONN_CLOSED:
        if (c->stream != NULL && now_ns >= c->deadline_ns)
            stream_close(c, 1);
        return c->stream != NULL ? c->deadline_ns : UINT64_MAX;
    default:
        tick_setup(c, now_ns);
        return c->state == ORR_CONN_CLOSED ? UINT64_MAX : c->deadline_ns;
    }
}

/* --- the link ------------------------------------------------------------- */

static int link_send(orr_link *l, const orr_header *h, const uint8_t *body)
{
    orr_conn *c = conn_of(l);

    if (c->state == ORR_CONN_CLOSED)
        return ORR_UNREACHABLE;
    if (h->length > l->body_max) {
        c->env->info.too_large++;
        return ORR_TOO_LARGE;
    }
    if (c->bodies.sending_bytes > 0) {
        orr__out_body *before;

        if (h->kind == ORR_FRAME_CANCEL && orr__bodies_cancel(c, h))
            return ORR_OK;
        before = h->kind == ORR_FRAME_ASK || h->kind == ORR_FRAME_TELL
                     ? orr__bodies_before(c, h)
                     : NULL;
        if (before != NULL) {
            if (queued(c) + ORR_HEADER_SIZE + h->length >
                c->env->options.queue_max)
                return ORR_OVERLOADED;
            return orr__bodies_hold(c, before, h, body);
        }
    }
    if (queued(c) + ORR_HEADER_SIZE + h->length > c->env->options.queue_max)
        return ORR_OVERLOADED;
    if (orr__conn_frame(c, &c->out, h, body) != ORR_OK)
        return ORR_OVERLOADED; /* no memory to queue it in */
    if (c->state < ORR_CONN_OPEN && h->length > c->queued_max)
        c->queued_max = h->length;
    if (h->length > c->env->info.body_out_max)
        c->env->info.body_out_max = h->length;
    return ORR_OK;
}

static int link_send_body(orr_link *l, const orr_header *h, orr_buf *body)
{
    return orr__bodies_send(conn_of(l), h, body);
}

static void link_flush(orr_link *l)
{
    conn_flush(conn_of(l));
}

static void link_acquire(orr_link *l)
{
    conn_of(l)->refs++;
}

static void link_release(orr_link *l)
{
    orr_conn *c = conn_of(l);

    assert(c->refs > 0);
    c->refs--;
    if (c->refs > 0)
        return;
    if (c->env == NULL)
        orr__conn_free(c);
    else if (c->state == ORR_CONN_CLOSED)
        c->env->soon(c->env, 0);
}

static int link_is_open(orr_link *l)
{
    return conn_of(l)->state == ORR_CONN_OPEN;
}

const orr_link_ops orr__conn_ops = {
    .send = link_send,
    .send_body = link_send_body,
    .flush = link_flush,
    .acquire = link_acquire,
    .release = link_release,
    .is_open = link_is_open,
};

/* --- making --------------------------------------------------------------- */

static int hello_append(orr_conn *c, orr_hello *self)
{
    uint8_t space[1024];
    orr_buf body = {.data = space, .cap = sizeof space, .max = sizeof space};
    orr_header h = {.kind = ORR_FRAME_HELLO};

    orr_chance_bytes(c->env->chance, self->nonce, sizeof self->nonce);
    if (orr__hello_write(self, &body) != ORR_OK)
        return ORR_TOO_LARGE;
    h.length = (uint32_t)body.len;
    return orr__conn_frame(c, &c->writing, &h, body.data);
}

orr_conn *orr__conn_new(orr_conn_env *env, const char *peer, int accepted,
                        orr_hello *self, uint64_t now_ns)
{
    orr_conn *c = orr_calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->link.ops = &orr__conn_ops;
    c->link.executor = env->executor;
    c->link.service = env->service;
    c->link.peer = c->peer;
    c->link.body_max = env->options.frame_max;
    c->link.frame_max = env->options.frame_max;
    if ((env->options.features & ORR_FEATURE_CHUNKS) != 0) {
        c->link.body_max = env->options.body_max;
        c->link.frame_max = env->options.chunk_size;
    }
    c->bodies.in_window = env->options.window;
    c->env = env;
    c->accepted = accepted != 0;
    c->in.max = ORR_HEADER_SIZE + (size_t)env->options.frame_max;
    c->out.max = (size_t)env->options.queue_max + OWN_FRAMES_MAX;
    c->writing.max = c->out.max;
    c->last_in_ns = now_ns;
    c->stuck_ns = now_ns;
    c->deadline_ns = now_ns + env->options.connect_timeout_ns;
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    if (hello_append(c, self) != ORR_OK) {
        orr_buf_free(&c->writing);
        orr_free(c);
        return NULL;
    }
    env->info.connections++;
    env->accepted_open += c->accepted;
    env->soon(env, c->deadline_ns);
    return c;
}

int orr__conn_is_done(const orr_conn *c)
{
    return c->state == ORR_CONN_CLOSED && c->stream == NULL && c->refs == 0 &&
           c->pins == 0 && !c->link.dirty;
}

void orr__conn_orphan(orr_conn *c)
{
    assert(c->state == ORR_CONN_CLOSED && c->stream == NULL && c->pins == 0);
    c->env = NULL;
    if (c->refs == 0)
        orr__conn_free(c);
}

void orr__conn_free(orr_conn *c)
{
    if (c == NULL)
        return;
    assert(c->bodies.sending_bytes == 0 && c->bodies.coming == NULL);
    orr_buf_free(&c->in);
    orr_buf_free(&c->out);
    orr_buf_free(&c->writing);
    orr_free(c);
}
