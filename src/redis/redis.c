/* orr_redis: a connection whose requests are slots of an executor. See redis.h;
 * owner: the executor's thread. Scripts are in script.c.
 */
#include "redis/session.h"

#include <stdio.h>
#include <string.h>

#include "redis/reply.h"
#include "redis/stream.h"

enum { BODY_MAX = 192 << 20 /* a reply of ORR_REDIS_TOTAL_MAX bytes fits */ };

/* --- ends of calls -------------------------------------------------------- */

/* Takes m; rc tells whether its body could be made. */
static void finish(orr_executor *ex, const orr_external *call, int status,
                   orr_msg *m, int rc)
{
    if (m != NULL && rc == ORR_OK) {
        orr_executor_external_finish(ex, call, status, m);
        return;
    }
    if (m != NULL)
        orr_executor_message_free(ex, m);
    orr_executor_external_fail(ex, call, m == NULL ? ORR_ENOMEM : rc,
                               "a reply of Redis came, but there is no memory "
                               "for it");
}

static void fail(orr_executor *ex, const orr_external *call, int status,
                 int outcome, const char *text, size_t len, const char *word)
{
    orr_msg *m = orr_executor_message(ex);
    int rc = m == NULL ? ORR_ENOMEM
                       : orr__redis_pack_failure(orr_msg_body(m), status, text,
                                                 len, outcome, word);

    finish(ex, call, status, m, rc);
}

void orr__redis_fail(orr_executor *ex, const orr_external *call, int status,
                     int outcome, const char *text)
{
    fail(ex, call, status, outcome, text, strlen(text), "");
}

void orr__redis_finish(orr_executor *ex, const orr_external *call,
                       const orr_redis_result *result)
{
    char word[ORR_REDIS_WORD_MAX + 1] = "";
    orr_msg *m;

    if (result->status == ORR_OK) {
        m = orr_executor_message(ex);
        if (m != NULL)
            orr_msg_body(m)->max = BODY_MAX;
        finish(ex, call, ORR_OK, m,
               m == NULL
                   ? ORR_ENOMEM
                   : orr__redis_pack_reply(orr_msg_body(m), result->reply));
    } else if (result->reply != NULL) {
        orr__redis_error_word(result->reply->str, result->reply->len, word);
        fail(ex, call, result->status, result->outcome, result->reply->str,
             result->reply->len, word);
    } else {
        orr__redis_fail(ex, call, result->status, result->outcome,
                        result->text);
    }
}

/* --- commands ------------------------------------------------------------- */

orr_redis_arg *orr__redis_args(uint32_t before, uint32_t count,
                               const char *const *args, const size_t *lengths)
{
    orr_redis_arg *out = orr_alloc((before + (size_t)count) * sizeof *out);

    for (uint32_t i = 0; out != NULL && i < count; i++) {
        out[before + i].data = args[i];
        out[before + i].len = lengths != NULL ? lengths[i] : strlen(args[i]);
    }
    return out;
}

static void on_command(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    orr_redis *r = ctx;
    orr_external call = {.slot = (uint32_t)tag,
                         .generation = (uint32_t)(tag >> 32)};

    orr__redis_finish(r->executor, &call, result);
}

static int request(orr_redis *r, uint32_t count, const orr_redis_arg *args,
                   uint64_t timeout_ns, uint32_t *slot)
{
    orr_external call;
    int rc = orr_executor_external_begin(r->executor, &call);

    if (rc != ORR_OK)
        return rc;
    rc = orr__redis_client_request(
        &r->client, count, args, timeout_ns, orr_executor_now_ns(r->executor),
        on_command, r, call.slot | (uint64_t)call.generation << 32);
    if (rc != ORR_OK)
        orr_executor_external_forget(r->executor, &call);
    else
        *slot = call.slot;
    return rc;
}

int orr_redis_command(orr_redis *r, uint32_t count, const char *const *args,
                      const size_t *lengths, uint64_t timeout_ns,
                      uint32_t *slot)
{
    orr_redis_arg *list;
    int rc;

    if (r->client.state == ORR_REDIS_CLOSED)
        return ORR_ECLOSED;
    if (count == 0 || count > ORR_REDIS_ARGS_MAX)
        return ORR_EINVAL;
    list = orr__redis_args(0, count, args, lengths);
    if (list == NULL)
        return ORR_ENOMEM;
    rc = request(r, count, list, timeout_ns, slot);
    orr_free(list);
    return rc;
}

/* --- messages ------------------------------------------------------------- */

static int pack_key(orr_buf *b, const char *key)
{
    return orr_pack_str(b, key, strlen(key));
}

static int pack_messages(orr_redis *r, orr_buf *b)
{
    int rc = orr_pack_map(b, 2);

    if (rc == ORR_OK)
        rc = pack_key(b, "messages");
    if (rc == ORR_OK)
        rc = orr_pack_array(b, r->message_count);
    if (rc == ORR_OK && r->messages.len > 0)
        rc = orr_buf_append(b, r->messages.data, r->messages.len);
    if (rc == ORR_OK)
        rc = pack_key(b, "dropped");
    if (rc == ORR_OK)
        rc = orr_pack_uint(b, r->dropped);
    return rc;
}

static void give_messages(orr_redis *r)
{
    orr_external watch = r->watch;
    orr_msg *m;
    int rc;

    if (watch.slot == 0 || (r->message_count == 0 && r->dropped == 0))
        return;
    m = orr_executor_message(r->executor);
    rc = m == NULL ? ORR_ENOMEM : pack_messages(r, orr_msg_body(m));
    r->watch.slot = 0;
    r->message_count = 0;
    r->dropped = 0;
    orr_buf_reset(&r->messages);
    finish(r->executor, &watch, ORR_OK, m, rc);
}

static int pack_message(orr_buf *b, const redisReply *channel,
                        const redisReply *payload)
{
    size_t before = b->len;
    int rc = orr_pack_array(b, 2);

    if (rc == ORR_OK)
        rc = orr__redis_pack_reply(b, channel);
    if (rc == ORR_OK)
        rc = orr__redis_pack_reply(b, payload);
    if (rc != ORR_OK)
        b->len = before;
    return rc;
}

static void on_message(void *ctx, const redisReply *channel,
                       const redisReply *payload)
{
    orr_redis *r = ctx;

    if (r->message_count < r->messages_max &&
        pack_message(&r->messages, channel, payload) == ORR_OK) {
        r->message_count++;
    } else {
        r->dropped++;
        r->dropped_all++;
    }
    give_messages(r);
}

int orr_redis_watch(orr_redis *r, uint32_t *slot)
{
    int rc;

    if (r->client.state == ORR_REDIS_CLOSED)
        return ORR_ECLOSED;
    if (r->watch.slot != 0)
        return ORR_EEXIST;
    rc = orr_executor_external_begin(r->executor, &r->watch);
    if (rc != ORR_OK) {
        r->watch.slot = 0;
        return rc;
    }
    *slot = r->watch.slot;
    give_messages(r);
    return ORR_OK;
}

/* --- life ----------------------------------------------------------------- */

static const char *role_word(int role)
{
    static const char *const words[] = {"unknown", "master", "replica",
                                        "sentinel"};
    return words[role];
}

static void on_ready(void *ctx)
{
    orr_redis *r = ctx;
    orr_msg *m = orr_executor_message(r->executor);
    orr_external call = r->ready;
    int rc = ORR_ENOMEM;

    r->ready.slot = 0;
    if (m != NULL) {
        orr_buf *b = orr_msg_body(m);
        rc = orr_pack_map(b, 2);
        if (rc == ORR_OK)
            rc = pack_key(b, "role");
        if (rc == ORR_OK)
            rc = pack_key(b, role_word(r->client.role));
        if (rc == ORR_OK)
            rc = pack_key(b, "replicas");
        if (rc == ORR_OK)
            rc = orr_pack_uint(b, r->client.replicas);
    }
    finish(r->executor, &call, ORR_OK, m, rc);
}

static void on_closed(void *ctx, int code, const char *text)
{
    orr_redis *r = ctx;
    orr_external *calls[] = {&r->ready, &r->watch};

    for (int i = 0; i < 2; i++) {
        orr_external call = *calls[i];
        calls[i]->slot = 0;
        if (call.slot != 0)
            orr__redis_fail(r->executor, &call, code, ORR_REDIS_NOT_APPLIED,
                            text);
    }
}

orr_redis *orr__redis_new(const orr_redis_transport *transport,
                          orr_executor *ex, const orr_redis_options *options,
                          uint32_t *ready, orr_error *err)
{
    orr_redis *r = orr_calloc(1, sizeof *r);
    orr_redis_owner owner = {
        .ctx = r,
        .ready = on_ready,
        .closed = on_closed,
        .message = on_message,
    };

    if (r == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory for a connection to Redis");
        return NULL;
    }
    r->executor = ex;
    r->messages_max = options->messages_max != 0 ? options->messages_max : 1024;
    r->messages.max =
        options->message_bytes_max != 0 ? options->message_bytes_max : 1u << 20;
    if (orr_executor_external_begin(ex, &r->ready) != ORR_OK) {
        orr_error_set(err, ORR_OVERLOADED, "too many calls wait already");
        orr_free(r);
        return NULL;
    }
    if (orr__redis_client_init(&r->client, transport, &owner, options,
                               orr_executor_now_ns(ex), err) != ORR_OK) {
        orr_executor_external_forget(ex, &r->ready);
        orr_free(r);
        return NULL;
    }
    *ready = r->ready.slot;
    return r;
}

orr_redis *orr_redis_open(orr_loop *loop, const orr_redis_options *options,
                          uint32_t *ready, orr_error *err)
{
    orr_redis_transport transport;
    orr_redis *r;

    if (orr__redis_stream_transport(loop, &transport) != ORR_OK) {
        orr_error_set(err, ORR_ENOMEM, "no memory for a connection to Redis");
        return NULL;
    }
    r = orr__redis_new(&transport, orr_loop_executor(loop), options, ready,
                       err);
    if (r == NULL)
        transport.release(transport.ctx);
    return r;
}

void orr_redis_close(orr_redis *r, const char *reason)
{
    char text[200];

    snprintf(text, sizeof text, "closed here: %s",
             reason != NULL ? reason : "no longer needed");
    orr__redis_client_close(&r->client, ORR_ECLOSED, text);
}

void orr_redis_free(orr_redis *r)
{
    if (r == NULL)
        return;
    orr_redis_close(r, NULL);
    orr__redis_client_fini(&r->client);
    for (uint32_t i = 0; i < r->script_count; i++)
        orr_free(r->scripts[i].text);
    orr_buf_free(&r->messages);
    orr_free(r);
}

void orr_redis_info_get(const orr_redis *r, orr_redis_info *out)
{
    const orr_redis_client *c = &r->client;

    *out = (orr_redis_info){
        .state = c->state,
        .role = c->role,
        .replicas = c->replicas,
        .in_flight = c->ring_len,
        .queued = c->out.len + (c->blocked ? c->writing.len : 0),
        .requests = c->requests,
        .replies = c->replies,
        .scripts_reloaded = r->reloaded,
        .messages_dropped = r->dropped_all,
    };
}
