/* One Redis connection; see client.h and redis.h. Owner: the executor's thread.
 *
 *   state       from the stream       from the server           time
 *   CONNECTING  connected: handshake  -                         ready timeout
 *   AUTH        -                     answer to AUTH            ready timeout
 *   SETNAME     -                     to CLIENT SETNAME         ready timeout
 *   ROLE        -                     to ROLE                   ready timeout
 *   SUBSCRIBE   -                     confirmations             ready timeout
 *   READY       drained: goes on      replies in order, or      a request's
 *                                     messages                  end, keepalive
 *   any         lost: CLOSED          what is no RESP2: CLOSED  CLOSED
 *
 * The handshake goes out in one piece, its answers move the state. Its commands
 * are requests like any other, at the head of the queue. A subscriber has no
 * requests after it: everything that comes then is a message.
 */
#include "redis/client.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "redis/reply.h"

enum {
    RING_FIRST = 16,
    ARGS_ON_STACK = 16,
    COMMAND_MAX = 64 << 20,
    WRITING_KEEP = 1 << 20, /* a larger buffer is given back when written */
    CHANNELS_MAX = 64
};

/* --- the queue of requests ------------------------------------------------ */

static orr__redis_request *ring_at(const orr_redis_client *c, uint32_t n)
{
    return &c->ring[(c->ring_head + n) & (c->ring_cap - 1)];
}

static int ring_reserve(orr_redis_client *c)
{
    uint32_t cap = c->ring_cap == 0 ? RING_FIRST : c->ring_cap * 2;
    orr__redis_request *ring;

    if (c->ring_len < c->ring_cap)
        return ORR_OK;
    ring = orr_alloc(cap * sizeof *ring);
    if (ring == NULL)
        return ORR_ENOMEM;
    for (uint32_t i = 0; i < c->ring_len; i++)
        ring[i] = *ring_at(c, i);
    orr_free(c->ring);
    c->ring = ring;
    c->ring_cap = cap;
    c->ring_head = 0;
    return ORR_OK;
}

static orr__redis_request ring_pop(orr_redis_client *c)
{
    orr__redis_request r = *ring_at(c, 0);

    c->ring_head = (c->ring_head + 1) & (c->ring_cap - 1);
    c->ring_len--;
    return r;
}

/* --- time ----------------------------------------------------------------- */

static uint64_t later(uint64_t at_ns, uint64_t by_ns)
{
    return by_ns > UINT64_MAX - 1 - at_ns ? UINT64_MAX - 1 : at_ns + by_ns;
}

static void arm(orr_redis_client *c, uint64_t at_ns)
{
    if (at_ns >= c->armed_ns)
        return;
    c->armed_ns = at_ns;
    c->transport.arm(c->transport.ctx, at_ns);
}

static uint64_t next_due(const orr_redis_client *c)
{
    uint64_t at = c->request_due;
    uint64_t alive = later(c->last_in_ns, c->keepalive_ns);

    if (c->state != ORR_REDIS_READY)
        return c->ready_at_ns < at ? c->ready_at_ns : at;
    if (c->ping_ns != 0)
        alive = later(c->ping_ns, c->keepalive_ns);
    else if (alive <= c->now_ns)
        alive = later(c->now_ns, c->keepalive_ns); /* looked just now */
    return alive < at ? alive : at;
}

/* --- the end -------------------------------------------------------------- */

static void fail_request(const orr_redis_client *c, const orr__redis_request *q,
                         int code, const char *text)
{
    int sent = q->end <= c->handed;
    int expired = code == ORR_EXPIRED_UNKNOWN && q->deadline_ns != 0 &&
                  q->deadline_ns <= c->now_ns;
    orr_redis_result result = {
        .status = ORR_UNREACHABLE,
        .outcome = sent ? ORR_REDIS_UNKNOWN : ORR_REDIS_NOT_APPLIED,
        .text = text,
    };

    if (expired)
        result.status = sent ? ORR_EXPIRED_UNKNOWN : ORR_EXPIRED_UNSENT;
    else if (sent && (code == ORR_EPROTO || code == ORR_TOO_LARGE))
        result.status = code;
    q->done(q->ctx, q->tag, &result);
}

static void stream_close(orr_redis_client *c)
{
    void *stream = c->stream;

    c->stream = NULL;
    if (stream != NULL)
        c->transport.close(stream);
}

static void end(orr_redis_client *c, int code, const char *reason)
{
    char text[400];

    if (c->state == ORR_REDIS_CLOSED)
        return;
    snprintf(text, sizeof text, "%s: %s", c->address, reason);
    c->state = ORR_REDIS_CLOSED;
    stream_close(c);
    c->transport.arm(c->transport.ctx, UINT64_MAX);
    while (c->ring_len > 0) {
        orr__redis_request q = ring_pop(c);
        fail_request(c, &q, code, text);
    }
    c->owner.closed(c->owner.ctx, code, text);
}

void orr__redis_client_close(orr_redis_client *c, int code, const char *text)
{
    end(c, code, text);
}

void orr__redis_client_lost(orr_redis_client *c, const char *reason)
{
    char text[300];

    snprintf(text, sizeof text,
             c->state == ORR_REDIS_CONNECTING ? "cannot connect: %s"
                                              : "the connection was lost: %s",
             reason);
    end(c, ORR_UNREACHABLE, text);
}

/* --- sending -------------------------------------------------------------- */

static void wipe(orr_buf *b)
{
    if (b->data != NULL)
        explicit_bzero(b->data, b->cap);
}

static void writing_done(orr_redis_client *c)
{
    c->blocked = 0;
    if (c->state < ORR_REDIS_READY)
        wipe(&c->writing); /* it held the password */
    if (c->writing.cap > WRITING_KEEP) {
        uint64_t max = c->writing.max;
        orr_buf_free(&c->writing);
        c->writing.max = max;
    }
    orr_buf_reset(&c->writing);
}

static void write_out(orr_redis_client *c)
{
    c->handed += c->writing.len;
    c->blocked = c->transport.write(c->stream, c->writing.data,
                                    c->writing.len) < c->writing.len;
    if (!c->blocked)
        writing_done(c);
}

void orr__redis_client_flush(orr_redis_client *c)
{
    orr_buf swap = c->out;

    c->is_soon = 0;
    if (c->state != ORR_REDIS_READY || c->blocked || c->out.len == 0)
        return;
    c->out = c->writing;
    c->writing = swap;
    write_out(c);
}

void orr__redis_client_drained(orr_redis_client *c)
{
    if (c->state == ORR_REDIS_CLOSED)
        return;
    writing_done(c);
    orr__redis_client_flush(c);
}

static void want_flush(orr_redis_client *c)
{
    if (c->is_soon || c->blocked || c->state != ORR_REDIS_READY)
        return;
    c->is_soon = 1;
    c->transport.soon(c->transport.ctx);
}

/* --- requests ------------------------------------------------------------- */

static int is_word(const orr_redis_arg *a, const char *word)
{
    if (a->len != strlen(word))
        return 0;
    for (size_t i = 0; i < a->len; i++)
        if ((a->data[i] & ~0x20) != word[i])
            return 0;
    return 1;
}

static int is_script(const orr_redis_arg *a)
{
    static const char *const words[] = {"EVAL", "EVALSHA", "FCALL", NULL};

    for (const char *const *w = words; *w != NULL; w++)
        if (is_word(a, *w))
            return 1;
    return 0;
}

/* Appends the command to b. */
static int format(orr_buf *b, uint32_t count, const orr_redis_arg *args)
{
    const char *data_few[ARGS_ON_STACK], **data = data_few;
    size_t lens_few[ARGS_ON_STACK] = {0}, *lens = lens_few;
    char *command = NULL;
    int n = -1, rc;

    if (count > ARGS_ON_STACK) {
        data = orr_alloc(count * sizeof *data);
        lens = orr_alloc(count * sizeof *lens);
    }
    if (data != NULL && lens != NULL) {
        for (uint32_t i = 0; i < count; i++) {
            data[i] = args[i].data;
            lens[i] = args[i].len;
        }
        n = redisFormatCommandArgv(&command, (int)count, data, lens);
    }
    rc = n < 0 ? ORR_ENOMEM : orr_buf_append(b, command, (size_t)n);
    if (n >= 0) {
        if (is_word(&args[0], "AUTH"))
            explicit_bzero(command, (size_t)n);
        redisFreeCommand(command);
    }
    if (count > ARGS_ON_STACK) {
        orr_free(data);
        orr_free(lens);
    }
    return rc;
}

static uint64_t waiting_bytes(const orr_redis_client *c)
{
    return c->out.len + (c->blocked ? c->writing.len : 0);
}

int orr__redis_client_room(const orr_redis_client *c, uint32_t requests,
                           uint64_t bytes)
{
    if (c->state == ORR_REDIS_CLOSED)
        return ORR_ECLOSED;
    if (bytes > COMMAND_MAX || bytes > c->queue_max)
        return ORR_TOO_LARGE;
    if (c->ring_max - c->ring_len < requests ||
        c->queue_max - waiting_bytes(c) < bytes)
        return ORR_OVERLOADED;
    return ORR_OK;
}

static uint64_t command_bytes(uint32_t count, const orr_redis_arg *args)
{
    uint64_t bytes = 16;

    for (uint32_t i = 0; i < count; i++) {
        if (args[i].len > COMMAND_MAX)
            return UINT64_MAX;
        bytes += args[i].len + 16;
    }
    return bytes;
}

/* Queues the request; its bytes go to b. */
static int push(orr_redis_client *c, orr_buf *b, uint32_t count,
                const orr_redis_arg *args, const orr__redis_request *q)
{
    size_t before = b->len;
    int rc = ring_reserve(c);

    if (rc == ORR_OK)
        rc = format(b, count, args);
    if (rc != ORR_OK)
        return rc == ORR_TOO_LARGE ? ORR_OVERLOADED : rc;
    c->queued += b->len - before;
    c->ring_len++;
    *ring_at(c, c->ring_len - 1) = *q;
    ring_at(c, c->ring_len - 1)->end = c->queued;
    ring_at(c, c->ring_len - 1)->is_script = (uint8_t)is_script(&args[0]);
    c->requests++;
    if (q->deadline_ns != 0 && q->deadline_ns < c->request_due)
        c->request_due = q->deadline_ns;
    return ORR_OK;
}

int orr__redis_client_request(orr_redis_client *c, uint32_t count,
                              const orr_redis_arg *args, uint64_t timeout_ns,
                              uint64_t now_ns, orr_redis_done done, void *ctx,
                              uint64_t tag)
{
    orr__redis_request q = {
        .done = done,
        .ctx = ctx,
        .tag = tag,
        .deadline_ns = timeout_ns == 0 ? 0 : later(now_ns, timeout_ns),
    };
    int rc;

    if (count == 0 || count > ORR_REDIS_ARGS_MAX || c->subscriber)
        return ORR_EINVAL;
    rc = orr__redis_client_room(c, 1, command_bytes(count, args));
    if (rc == ORR_OK)
        rc = push(c, &c->out, count, args, &q);
    if (rc != ORR_OK)
        return rc;
    want_flush(c);
    arm(c, c->request_due);
    return ORR_OK;
}

/* --- the handshake -------------------------------------------------------- */

static void become(orr_redis_client *c, int state)
{
    c->state = (uint8_t)state;
    if (state != ORR_REDIS_READY)
        return;
    c->owner.ready(c->owner.ctx);
    if (c->state == ORR_REDIS_CLOSED)
        return; /* the owner had enough */
    if (c->out.len > 0)
        want_flush(c);
    arm(c, next_due(c));
}

static void refused(orr_redis_client *c, int code, const char *what,
                    const char *text)
{
    char sentence[300];

    snprintf(sentence, sizeof sentence, "%s: %s", what, text);
    end(c, code, sentence);
}

static void on_auth(void *ctx, uint64_t has_name,
                    const orr_redis_result *result)
{
    orr_redis_client *c = ctx;

    if (c->state == ORR_REDIS_CLOSED)
        return;
    if (result->status != ORR_OK)
        refused(c, ORR_EACCES, "the server refused user and password",
                result->text);
    else
        become(c, has_name ? ORR_REDIS_SETNAME : ORR_REDIS_ROLE);
}

/* The name is for people: a server that does not take it will do. */
static void on_setname(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    orr_redis_client *c = ctx;
    char word[ORR_REDIS_WORD_MAX + 1] = "";

    (void)tag;
    if (c->state == ORR_REDIS_CLOSED)
        return;
    if (result->status != ORR_OK)
        orr__redis_error_word(result->text, strlen(result->text), word);
    if (strcmp(word, "NOAUTH") == 0) {
        refused(c, ORR_EACCES, "the server wants a password", result->text);
        return;
    }
    if (result->status != ORR_OK)
        orr_logf(ORR_LOG_WARN, "redis", "%s: the connection has no name: %s",
                 c->address, result->text);
    become(c, ORR_REDIS_ROLE);
}

static int role_of(const redisReply *reply)
{
    static const char *const names[] = {"", "master", "slave", "sentinel"};

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return ORR_REDIS_ROLE_ANY;
    for (int i = ORR_REDIS_ROLE_MASTER; i <= ORR_REDIS_ROLE_SENTINEL; i++)
        if (strcmp(reply->element[0]->str, names[i]) == 0)
            return i;
    return ORR_REDIS_ROLE_ANY;
}

static const char *role_name(int role)
{
    static const char *const names[] = {"a server of unknown role", "a primary",
                                        "a replica", "a sentinel"};
    return names[role];
}

static void on_role(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    orr_redis_client *c = ctx;
    const redisReply *reply = result->reply;
    char word[ORR_REDIS_WORD_MAX + 1] = "", text[120];

    (void)tag;
    if (c->state == ORR_REDIS_CLOSED)
        return;
    if (result->status != ORR_OK)
        orr__redis_error_word(result->text, strlen(result->text), word);
    if (result->status != ORR_OK &&
        (c->role_wanted != ORR_REDIS_ROLE_ANY || strcmp(word, "NOPERM") != 0)) {
        refused(c, strcmp(word, "NOAUTH") == 0 ? ORR_EACCES : ORR_REMOTE,
                "the server does not tell its role", result->text);
        return;
    }
    c->role = result->status == ORR_OK ? role_of(reply) : ORR_REDIS_ROLE_ANY;
    if (c->role == ORR_REDIS_ROLE_MASTER && reply->elements > 2 &&
        reply->element[2]->type == REDIS_REPLY_ARRAY)
        c->replicas = (uint32_t)reply->element[2]->elements;
    if (c->role_wanted != ORR_REDIS_ROLE_ANY && c->role_wanted != c->role) {
        snprintf(text, sizeof text, "it is %s, %s is needed",
                 role_name(c->role), role_name(c->role_wanted));
        end(c, ORR_EINVAL, text);
        return;
    }
    become(c, c->subscriber ? ORR_REDIS_SUBSCRIBE : ORR_REDIS_READY);
}

static int step(orr_redis_client *c, orr_redis_done done, uint64_t tag,
                uint32_t count, const orr_redis_arg *args)
{
    orr__redis_request q = {.done = done, .ctx = c, .tag = tag};

    return push(c, &c->writing, count, args, &q);
}

static orr_redis_arg text_arg(const char *text)
{
    return (orr_redis_arg){text, strlen(text)};
}

/* No request: its answers are the first messages. */
static int handshake_subscribe(orr_redis_client *c, const orr_redis_options *o)
{
    orr_redis_arg args[CHANNELS_MAX + 1];
    size_t before = c->writing.len;
    int rc;

    args[0] = text_arg("SUBSCRIBE");
    for (uint32_t i = 0; i < o->channel_count; i++)
        args[i + 1] = text_arg(o->channels[i]);
    rc = format(&c->writing, o->channel_count + 1, args);
    c->queued += c->writing.len - before;
    c->subscriptions = o->channel_count;
    c->subscriber = 1;
    return rc;
}

static int handshake(orr_redis_client *c, const orr_redis_options *o)
{
    orr_redis_arg args[3];
    uint32_t n = 0;
    int rc = ORR_OK;

    if (o->password != NULL) {
        args[n++] = text_arg("AUTH");
        if (o->user != NULL)
            args[n++] = text_arg(o->user);
        args[n++] = text_arg(o->password);
        rc = step(c, on_auth, o->name != NULL, n, args);
    }
    if (rc == ORR_OK && o->name != NULL) {
        args[0] = text_arg("CLIENT");
        args[1] = text_arg("SETNAME");
        args[2] = text_arg(o->name);
        rc = step(c, on_setname, 0, 3, args);
    }
    args[0] = text_arg("ROLE");
    if (rc == ORR_OK)
        rc = step(c, on_role, 0, 1, args);
    if (rc == ORR_OK && o->channels != NULL)
        rc = handshake_subscribe(c, o);
    return rc;
}

void orr__redis_client_connected(orr_redis_client *c, uint64_t now_ns)
{
    if (c->state != ORR_REDIS_CONNECTING)
        return;
    c->now_ns = now_ns;
    c->last_in_ns = now_ns;
    if (ring_at(c, 0)->done == on_auth)
        become(c, ORR_REDIS_AUTH);
    else if (ring_at(c, 0)->done == on_setname)
        become(c, ORR_REDIS_SETNAME);
    else
        become(c, ORR_REDIS_ROLE);
    write_out(c);
}

/* --- replies -------------------------------------------------------------- */

static void on_answer(orr_redis_client *c, const redisReply *reply)
{
    orr__redis_request q = ring_pop(c);
    orr_redis_result result = {.status = ORR_OK, .reply = reply, .text = ""};

    if (c->ring_len == 0)
        c->request_due = UINT64_MAX;
    if (reply->type == REDIS_REPLY_ERROR) {
        result.status = ORR_REMOTE;
        result.text = reply->str;
        result.outcome =
            orr__redis_error_outcome(reply->str, reply->len, q.is_script);
    }
    c->replies++;
    q.done(q.ctx, q.tag, &result);
}

static int is_push(const redisReply *reply, const char *kind, size_t elements)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == elements &&
           reply->element[0]->type == REDIS_REPLY_STRING &&
           strcmp(reply->element[0]->str, kind) == 0;
}

static void on_push(orr_redis_client *c, const redisReply *reply)
{
    if (is_push(reply, "message", 3)) {
        c->replies++;
        c->owner.message(c->owner.ctx, reply->element[1], reply->element[2]);
    } else if (is_push(reply, "subscribe", 3) && c->subscriptions > 0) {
        if (--c->subscriptions == 0)
            become(c, ORR_REDIS_READY);
    } else if (is_push(reply, "pong", 2)) {
        c->ping_ns = 0;
    } else if (reply->type == REDIS_REPLY_ERROR) {
        refused(c, ORR_EACCES, "the server refused to subscribe", reply->str);
    } else {
        end(c, ORR_EPROTO, "the server sent what is no message");
    }
}

static void on_reply(orr_redis_client *c, const redisReply *reply)
{
    if (c->ring_len > 0)
        on_answer(c, reply);
    else if (c->subscriber)
        on_push(c, reply);
    else if (reply->type == REDIS_REPLY_ERROR)
        refused(c, ORR_REMOTE, "the server said", reply->str);
    else
        end(c, ORR_EPROTO, "the server sent a reply that nobody asked for");
}

/* The scanner found the end of a reply: the reader must give it. */
static void take_reply(orr_redis_client *c)
{
    void *reply = NULL;

    if (redisReaderGetReply(c->reader, &reply) != REDIS_OK || reply == NULL) {
        end(c, ORR_EPROTO,
            c->reader->err != 0 ? c->reader->errstr : "half a reply");
        return;
    }
    on_reply(c, reply);
    freeReplyObject(reply);
}

void orr__redis_client_input(orr_redis_client *c, const uint8_t *data,
                             size_t len, uint64_t now_ns)
{
    c->now_ns = now_ns;
    c->last_in_ns = now_ns;
    while (len > 0 && c->state != ORR_REDIS_CLOSED) {
        orr_error err;
        size_t used;
        int rc = orr__redis_scan(&c->scanner, data, len, &used, &err);

        if (rc != ORR_OK && rc != ORR_EMORE) {
            end(c, rc, err.text);
            return;
        }
        if (redisReaderFeed(c->reader, (const char *)data, used) != REDIS_OK) {
            end(c, ORR_ENOMEM, "no memory for a reply");
            return;
        }
        if (rc == ORR_OK)
            take_reply(c);
        data += used;
        len -= used;
    }
}

/* --- time ----------------------------------------------------------------- */

static void on_pong(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    (void)ctx;
    (void)tag;
    (void)result; /* any answer shows that it lives */
}

static void keep_alive(orr_redis_client *c)
{
    const orr_redis_arg ping = {"PING", 4};
    size_t before = c->out.len;
    int rc;

    if (c->ring_len > 0 || c->now_ns < later(c->last_in_ns, c->keepalive_ns))
        return;
    if (!c->subscriber) {
        rc = orr__redis_client_request(c, 1, &ping, c->keepalive_ns, c->now_ns,
                                       on_pong, c, 0);
    } else {
        rc = format(&c->out, 1, &ping);
        c->queued += c->out.len - before;
        c->ping_ns = c->now_ns;
        want_flush(c);
    }
    if (rc != ORR_OK)
        end(c, ORR_ENOMEM, "no memory to ask whether the server lives");
}

static uint64_t first_deadline(const orr_redis_client *c)
{
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 0; i < c->ring_len; i++) {
        uint64_t at = ring_at(c, i)->deadline_ns;
        if (at != 0 && at < first)
            first = at;
    }
    return first;
}

void orr__redis_client_tick(orr_redis_client *c, uint64_t now_ns)
{
    if (c->state == ORR_REDIS_CLOSED)
        return;
    c->now_ns = now_ns;
    c->armed_ns = UINT64_MAX;
    /* Looked for only when it may have come: most ticks cost no walk. */
    if (c->request_due <= now_ns)
        c->request_due = first_deadline(c);
    if (c->request_due <= now_ns)
        end(c, ORR_EXPIRED_UNKNOWN, "the server did not answer in time");
    else if (c->state != ORR_REDIS_READY && c->ready_at_ns <= now_ns)
        end(c, ORR_UNREACHABLE,
            c->state == ORR_REDIS_CONNECTING
                ? "no connection stood in time"
                : "the server did not answer the first commands in time");
    else if (c->ping_ns != 0 && later(c->ping_ns, c->keepalive_ns) <= now_ns &&
             c->last_in_ns < c->ping_ns)
        end(c, ORR_UNREACHABLE, "the server did not answer a PING in time");
    else if (c->state == ORR_REDIS_READY)
        keep_alive(c);
    if (c->state != ORR_REDIS_CLOSED)
        arm(c, next_due(c));
}

/* --- life ----------------------------------------------------------------- */

static int has_blank(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~')
            return 1;
    return 0;
}

static int options_check(const orr_redis_options *o, orr_error *err)
{
    if (o->address == NULL || strlen(o->address) > ORR_REDIS_ADDRESS_MAX)
        return orr_error_set(err, ORR_EINVAL,
                             "the address of a Redis has 1 to %d bytes",
                             ORR_REDIS_ADDRESS_MAX);
    if (o->user != NULL && o->password == NULL)
        return orr_error_set(err, ORR_EINVAL,
                             "%s: the user \"%.60s\" has no password",
                             o->address, o->user);
    if (o->name != NULL && (*o->name == '\0' || has_blank(o->name)))
        return orr_error_set(err, ORR_EINVAL,
                             "%s: the name of a connection is a word, not "
                             "\"%.60s\"",
                             o->address, o->name);
    if (o->role < ORR_REDIS_ROLE_ANY || o->role > ORR_REDIS_ROLE_SENTINEL)
        return orr_error_set(err, ORR_EINVAL, "%s: there is no role %d",
                             o->address, o->role);
    if (o->channels != NULL &&
        (o->channel_count == 0 || o->channel_count > CHANNELS_MAX))
        return orr_error_set(err, ORR_EINVAL,
                             "%s: %u channels, 1 to %d are possible",
                             o->address, o->channel_count, CHANNELS_MAX);
    if (o->requests_max > 1u << 24 || o->queue_max > 1u << 30)
        return orr_error_set(err, ORR_EINVAL,
                             "%s: at most %u requests and %u bytes can wait",
                             o->address, 1u << 24, 1u << 30);
    return ORR_OK;
}

static uint64_t or_default(uint64_t value, uint64_t instead)
{
    return value != 0 ? value : instead;
}

static void client_free(orr_redis_client *c)
{
    if (c->reader != NULL)
        redisReaderFree(c->reader);
    c->reader = NULL;
    wipe(&c->writing);
    orr_buf_free(&c->out);
    orr_buf_free(&c->writing);
    orr_free(c->ring);
    c->ring = NULL;
    c->ring_len = 0;
    c->state = ORR_REDIS_CLOSED;
}

int orr__redis_client_init(orr_redis_client *c,
                           const orr_redis_transport *transport,
                           const orr_redis_owner *owner,
                           const orr_redis_options *o, uint64_t now_ns,
                           orr_error *err)
{
    static const uint64_t second = 1000000000u;
    int rc = options_check(o, err);

    if (rc != ORR_OK)
        return rc;
    memset(c, 0, sizeof *c);
    snprintf(c->address, sizeof c->address, "%s", o->address);
    c->transport = *transport;
    c->owner = *owner;
    c->ring_max = (uint32_t)or_default(o->requests_max, 65536);
    c->queue_max = or_default(o->queue_max, 64u << 20);
    c->keepalive_ns = or_default(o->keepalive_ns, 5 * second);
    c->ready_at_ns = later(now_ns, or_default(o->ready_timeout_ns, 5 * second));
    c->role_wanted = o->role;
    c->out.max = c->queue_max + 4096;
    c->writing.max = c->out.max;
    c->request_due = UINT64_MAX;
    c->armed_ns = UINT64_MAX;
    c->now_ns = now_ns;
    c->reader = redisReaderCreate();
    rc = c->reader == NULL ? ORR_ENOMEM : handshake(c, o);
    if (rc != ORR_OK)
        orr_error_set(err, rc, "no memory to connect to %s", c->address);
    else
        rc = transport->connect(transport->ctx, c->address, c, &c->stream, err);
    if (rc != ORR_OK) {
        client_free(c);
        return rc;
    }
    arm(c, c->ready_at_ns);
    return ORR_OK;
}

void orr__redis_client_fini(orr_redis_client *c)
{
    stream_close(c);
    client_free(c);
    c->transport.release(c->transport.ctx);
}
