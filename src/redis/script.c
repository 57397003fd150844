/* Scripts by their digest. See redis.h; owner: the executor's thread.
 *
 * An evaluation is one unit of one or two requests: EVALSHA, and with a
 * confirmation WAIT or WAITAOF right behind it. Both must be sent again when
 * the script was not known: the WAIT that was sent with it confirmed what came
 * before, not what the script will do.
 *
 *   first use on a connection   SCRIPT LOAD goes before it
 *   value, no confirmation      done: the value
 *   value, then confirmation    done: [value, confirmation]
 *   NOSCRIPT                    nothing was done; EVAL with the text, once
 *   another error               done: that error, whatever the confirmation
 *   value, then no confirmation done: the outcome is unknown
 */
#include "redis/session.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "redis/reply.h"

enum {
    SCRIPT_MAX = 64 << 10,
    HEAD_ARGS = 3,    /* EVALSHA digest keys */
    HEADS_MAX = 1024, /* bytes of a unit besides its arguments */
    NUMBER_MAX = 24,
    VALUE_MAX = 192 << 20
};

typedef struct unit {
    orr_redis *redis;
    orr_external call;
    const orr__redis_script *script;
    orr_msg *value; /* [value, and room for the confirmation */
    orr_msg *error; /* an error map */
    int32_t error_status;
    uint64_t deadline_ns; /* 0 = none */
    uint64_t bytes;       /* of all arguments */
    int32_t confirm;
    uint8_t is_second; /* by EVAL */
    uint8_t again;
    char replicas[NUMBER_MAX];
    char wait_ms[NUMBER_MAX];
    char keys[NUMBER_MAX];
    uint32_t count;
    orr_redis_arg args[]; /* HEAD_ARGS, then those given; their bytes follow */
} unit;

/* --- scripts -------------------------------------------------------------- */

static int digest(const char *text, size_t size, char *out)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (EVP_Digest(text, size, raw, &len, EVP_sha1(), NULL) != 1 ||
        len * 2 != ORR_REDIS_DIGEST)
        return ORR_EIO;
    for (unsigned i = 0; i < len; i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
    return ORR_OK;
}

int orr_redis_script(orr_redis *r, const char *text, size_t size,
                     uint32_t *script)
{
    orr__redis_script *s = &r->scripts[r->script_count];
    int rc;

    if (size == 0)
        return ORR_EINVAL;
    if (size > SCRIPT_MAX)
        return ORR_TOO_LARGE;
    if (r->script_count == ORR_REDIS_SCRIPTS_MAX)
        return ORR_OVERLOADED;
    rc = digest(text, size, s->digest);
    if (rc != ORR_OK)
        return rc;
    s->text = orr_alloc(size);
    if (s->text == NULL)
        return ORR_ENOMEM;
    memcpy(s->text, text, size);
    s->size = size;
    s->sent = 0;
    *script = r->script_count++;
    return ORR_OK;
}

/* A script that is not loaded is met as NOSCRIPT and sent with its text: this
 * only tells why. */
static void on_loaded(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    orr_redis *r = ctx;

    if (result->status == ORR_REMOTE)
        orr_logf(ORR_LOG_WARN, "redis", "%s: script %s was not loaded: %s",
                 r->client.address, r->scripts[tag].digest, result->text);
}

static int load(orr_redis *r, orr__redis_script *s, uint64_t timeout_ns)
{
    const orr_redis_arg args[] = {
        {"SCRIPT", 6}, {"LOAD", 4}, {s->text, s->size}};
    int rc;

    if (s->sent)
        return ORR_OK;
    rc = orr__redis_client_request(&r->client, 3, args, timeout_ns,
                                   orr_executor_now_ns(r->executor), on_loaded,
                                   r, (uint64_t)(s - r->scripts));
    s->sent = rc == ORR_OK;
    return rc;
}

/* --- units ---------------------------------------------------------------- */

static void unit_free(unit *u)
{
    orr_executor *ex = u->redis->executor;

    u->redis->kept_bytes -= u->bytes;
    if (u->value != NULL)
        orr_executor_message_free(ex, u->value);
    if (u->error != NULL)
        orr_executor_message_free(ex, u->error);
    orr_free(u);
}

static void unit_fail(unit *u, int status, int outcome, const char *text)
{
    orr__redis_fail(u->redis->executor, &u->call, status, outcome, text);
    unit_free(u);
}

/* Gives the caller what is there: the error, or the value. */
static void unit_end(unit *u)
{
    orr_executor *ex = u->redis->executor;
    orr_msg *m = u->error != NULL ? u->error : u->value;
    int status = u->error != NULL ? u->error_status : ORR_OK;

    if (m == NULL) {
        unit_fail(u, ORR_ENOMEM, ORR_REDIS_UNKNOWN,
                  "no memory for the reply of a script");
        return;
    }
    if (m == u->error)
        u->error = NULL;
    else
        u->value = NULL;
    orr_executor_external_finish(ex, &u->call, status, m);
    unit_free(u);
}

/* The value is lent: it must be written down now. */
static void keep_value(unit *u, const redisReply *reply)
{
    orr_msg *m = orr_executor_message(u->redis->executor);
    int rc = ORR_OK;

    if (m == NULL)
        return;
    orr_msg_body(m)->max = VALUE_MAX;
    if (u->confirm != 0)
        rc = orr_pack_array(orr_msg_body(m), 2);
    if (rc == ORR_OK)
        rc = orr__redis_pack_reply(orr_msg_body(m), reply);
    if (rc == ORR_OK)
        u->value = m;
    else
        orr_executor_message_free(u->redis->executor, m);
}

static void keep_error(unit *u, const orr_redis_result *result, int outcome)
{
    orr_msg *m = orr_executor_message(u->redis->executor);
    char word[ORR_REDIS_WORD_MAX + 1] = "";
    size_t len =
        result->reply != NULL ? result->reply->len : strlen(result->text);

    if (m == NULL)
        return;
    if (result->reply != NULL)
        orr__redis_error_word(result->text, len, word);
    u->error_status = result->status;
    if (orr__redis_pack_failure(orr_msg_body(m), result->status, result->text,
                                len, outcome, word) == ORR_OK)
        u->error = m;
    else
        orr_executor_message_free(u->redis->executor, m);
}

static int unit_send(unit *u);

static void unit_again(unit *u)
{
    uint64_t now_ns = orr_executor_now_ns(u->redis->executor);
    int rc;

    u->again = 0;
    u->is_second = 1;
    u->redis->reloaded++;
    if (u->deadline_ns != 0 && u->deadline_ns <= now_ns) {
        unit_fail(u, ORR_EXPIRED_UNSENT, ORR_REDIS_NOT_APPLIED,
                  "the server had lost the script, and there was no time left "
                  "to send it again");
        return;
    }
    rc = unit_send(u);
    if (rc != ORR_OK)
        unit_fail(u, rc, ORR_REDIS_NOT_APPLIED,
                  "the server had lost the script, and it could not be sent "
                  "again");
}

static void on_value(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    unit *u = ctx;
    char word[ORR_REDIS_WORD_MAX + 1] = "";

    (void)tag;
    if (result->status == ORR_REMOTE)
        orr__redis_error_word(result->text, strlen(result->text), word);
    if (!u->is_second && strcmp(word, "NOSCRIPT") == 0)
        u->again = 1;
    else if (result->status == ORR_OK)
        keep_value(u, result->reply);
    else
        keep_error(u, result, result->outcome);
    if (u->confirm != 0)
        return; /* the confirmation ends it */
    if (u->again)
        unit_again(u);
    else
        unit_end(u);
}

static void on_confirmation(void *ctx, uint64_t tag,
                            const orr_redis_result *result)
{
    unit *u = ctx;

    (void)tag;
    if (u->again && result->status != ORR_OK && result->reply == NULL) {
        /* Lost before it could be sent again. */
        unit_fail(u, result->status, ORR_REDIS_NOT_APPLIED, result->text);
        return;
    }
    if (u->again) {
        unit_again(u);
        return;
    }
    if (u->value != NULL && result->status != ORR_OK) {
        orr_executor_message_free(u->redis->executor, u->value);
        u->value = NULL;
        keep_error(u, result, ORR_REDIS_UNKNOWN);
    } else if (u->value != NULL &&
               orr__redis_pack_reply(orr_msg_body(u->value), result->reply) !=
                   ORR_OK) {
        orr_executor_message_free(u->redis->executor, u->value);
        u->value = NULL;
    }
    unit_end(u);
}

static uint64_t unit_timeout(const unit *u, uint64_t now_ns)
{
    if (u->deadline_ns == 0)
        return 0;
    return u->deadline_ns > now_ns ? u->deadline_ns - now_ns : 1;
}

static int unit_confirm(unit *u, uint64_t now_ns)
{
    const orr_redis_arg wait[] = {{"WAIT", 4},
                                  {u->replicas, strlen(u->replicas)},
                                  {u->wait_ms, strlen(u->wait_ms)}};
    const orr_redis_arg wait_aof[] = {
        {"WAITAOF", 7}, {"1", 1}, wait[1], wait[2]};

    if (u->confirm == 1)
        return orr__redis_client_request(&u->redis->client, 3, wait,
                                         unit_timeout(u, now_ns), now_ns,
                                         on_confirmation, u, 0);
    return orr__redis_client_request(&u->redis->client, 4, wait_aof,
                                     unit_timeout(u, now_ns), now_ns,
                                     on_confirmation, u, 0);
}

/* All of it or nothing, but for memory between the two: then the connection
 * ends, because nobody may take the next answer for the confirmation. */
static int unit_send(unit *u)
{
    orr_redis_client *c = &u->redis->client;
    uint64_t now_ns = orr_executor_now_ns(u->redis->executor);
    uint64_t room = u->bytes + HEADS_MAX + (u->is_second ? u->script->size : 0);
    int rc = orr__redis_client_room(c, u->confirm != 0 ? 2 : 1, room);

    if (rc != ORR_OK)
        return rc;
    u->args[0] = u->is_second ? (orr_redis_arg){"EVAL", 4}
                              : (orr_redis_arg){"EVALSHA", 7};
    u->args[1] = u->is_second
                     ? (orr_redis_arg){u->script->text, u->script->size}
                     : (orr_redis_arg){u->script->digest, ORR_REDIS_DIGEST};
    u->args[2] = (orr_redis_arg){u->keys, strlen(u->keys)};
    rc = orr__redis_client_request(c, u->count + HEAD_ARGS, u->args,
                                   unit_timeout(u, now_ns), now_ns, on_value, u,
                                   0);
    if (rc != ORR_OK || u->confirm == 0)
        return rc;
    rc = unit_confirm(u, now_ns);
    if (rc != ORR_OK) {
        u->confirm = 0; /* the end of its first request ends it */
        orr__redis_client_close(c, ORR_ENOMEM, "no memory for a request");
    }
    return ORR_OK;
}

static uint64_t bytes_of(const orr_redis_eval *e)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < e->count; i++)
        bytes += 16 + (e->lengths != NULL ? e->lengths[i] : strlen(e->args[i]));
    return bytes;
}

static unit *unit_new(orr_redis *r, const orr_redis_eval *e, uint64_t bytes)
{
    size_t list = (e->count + (size_t)HEAD_ARGS) * sizeof(orr_redis_arg);
    unit *u = orr_alloc(sizeof *u + list + bytes);
    char *at;

    if (u == NULL)
        return NULL;
    memset(u, 0, sizeof *u);
    u->redis = r;
    u->script = &r->scripts[e->script];
    u->confirm = e->confirm;
    u->count = e->count;
    u->bytes = bytes;
    snprintf(u->replicas, sizeof u->replicas, "%u", e->replicas);
    snprintf(u->wait_ms, sizeof u->wait_ms, "%u", e->wait_ms);
    snprintf(u->keys, sizeof u->keys, "%u", e->keys);
    at = (char *)u + sizeof *u + list;
    for (uint32_t i = 0; i < e->count; i++) {
        size_t len = e->lengths != NULL ? e->lengths[i] : strlen(e->args[i]);
        memcpy(at, e->args[i], len);
        u->args[HEAD_ARGS + i] = (orr_redis_arg){at, len};
        at += len;
    }
    r->kept_bytes += bytes;
    return u;
}

static int eval_check(const orr_redis *r, const orr_redis_eval *e,
                      uint64_t bytes)
{
    const orr__redis_script *s;

    if (r->client.state == ORR_REDIS_CLOSED)
        return ORR_ECLOSED;
    if (e->script >= r->script_count || e->keys > e->count ||
        e->count > ORR_REDIS_ARGS_MAX - HEAD_ARGS || e->confirm < 0 ||
        e->confirm > 2 || r->client.subscriber)
        return ORR_EINVAL;
    if (r->kept_bytes + bytes > r->client.queue_max && r->kept_bytes > 0)
        return ORR_OVERLOADED;
    s = &r->scripts[e->script];
    return orr__redis_client_room(&r->client, 3,
                                  bytes + HEADS_MAX + (s->sent ? 0 : s->size));
}

int orr_redis_evaluate(orr_redis *r, const orr_redis_eval *e, uint32_t *slot)
{
    uint64_t bytes = bytes_of(e);
    int rc = eval_check(r, e, bytes);
    unit *u;

    if (rc == ORR_OK)
        rc = load(r, &r->scripts[e->script], e->timeout_ns);
    if (rc != ORR_OK)
        return rc;
    u = unit_new(r, e, bytes);
    if (u == NULL)
        return ORR_ENOMEM;
    if (e->timeout_ns != 0)
        u->deadline_ns = orr_executor_now_ns(r->executor) + e->timeout_ns;
    rc = orr_executor_external_begin(r->executor, &u->call);
    if (rc == ORR_OK) {
        uint32_t made = u->call.slot;
        orr_external call = u->call;
        rc = unit_send(u);
        if (rc == ORR_OK)
            *slot = made;
        else
            orr_executor_external_forget(r->executor, &call);
    }
    if (rc != ORR_OK)
        unit_free(u);
    return rc;
}
