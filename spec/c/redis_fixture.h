/* A Redis client on a stream of memory: what it sends is kept, what the server
 * says is fed, time is a number. */
#ifndef SPEC_REDIS_FIXTURE_H
#define SPEC_REDIS_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "redis/client.h"

enum { FIX_RESULTS_MAX = 64 };

typedef struct fix_result {
    uint64_t tag;
    int32_t status;
    int32_t outcome;
    int type; /* of the reply; 0 = none */
    long long integer;
    char text[200]; /* of the reply, or why there is none */
} fix_result;

typedef struct redis_fix {
    orr_redis_client client;
    orr_buf sent;
    size_t take_max; /* bytes the stream takes of one write; the rest waits */
    const uint8_t *borrowed;
    size_t borrowed_len;
    uint64_t now_ns;
    uint64_t armed_ns;
    int soon;
    int opened;
    int stream_open;
    int released;
    int ready;
    int closed;
    int close_code;
    char close_text[300];
    int results;
    fix_result result[FIX_RESULTS_MAX];
    int messages;
    char message[200];
} redis_fix;

static inline int fix_connect(void *ctx, const char *address,
                              orr_redis_client *c, void **stream,
                              orr_error *err)
{
    redis_fix *f = ctx;

    (void)address;
    (void)c;
    (void)err;
    f->opened++;
    f->stream_open = 1;
    *stream = f;
    return ORR_OK;
}

static inline size_t fix_write(void *stream, const uint8_t *data, size_t len)
{
    redis_fix *f = stream;
    size_t n = len < f->take_max ? len : f->take_max;

    assert_true(f->stream_open && f->borrowed_len == 0);
    assert_int_equal(orr_buf_append(&f->sent, data, n), ORR_OK);
    f->borrowed = data + n;
    f->borrowed_len = len - n;
    return n;
}

static inline void fix_close(void *stream)
{
    redis_fix *f = stream;

    assert_true(f->stream_open);
    f->stream_open = 0;
    f->borrowed_len = 0;
}

static inline void fix_arm(void *ctx, uint64_t at_ns)
{
    ((redis_fix *)ctx)->armed_ns = at_ns;
}

static inline void fix_soon(void *ctx)
{
    ((redis_fix *)ctx)->soon = 1;
}

static inline void fix_release(void *ctx)
{
    ((redis_fix *)ctx)->released++;
}

static inline void fix_on_ready(void *ctx)
{
    ((redis_fix *)ctx)->ready++;
}

static inline void fix_on_closed(void *ctx, int code, const char *text)
{
    redis_fix *f = ctx;

    f->closed++;
    f->close_code = code;
    snprintf(f->close_text, sizeof f->close_text, "%s", text);
}

static inline void fix_on_message(void *ctx, const redisReply *channel,
                                  const redisReply *payload)
{
    redis_fix *f = ctx;

    f->messages++;
    snprintf(f->message, sizeof f->message, "%s=%s", channel->str,
             payload->str);
}

static inline void fix_done(void *ctx, uint64_t tag,
                            const orr_redis_result *result)
{
    redis_fix *f = ctx;
    fix_result *r = &f->result[f->results++ % FIX_RESULTS_MAX];

    memset(r, 0, sizeof *r);
    r->tag = tag;
    r->status = result->status;
    r->outcome = result->outcome;
    if (result->reply != NULL) {
        r->type = result->reply->type;
        r->integer = result->reply->integer;
    }
    snprintf(r->text, sizeof r->text, "%s",
             result->reply != NULL && result->reply->str != NULL
                 ? result->reply->str
                 : result->text);
}

static inline int fix_init(redis_fix *f, const orr_redis_options *o,
                           orr_error *err)
{
    const orr_redis_transport transport = {.ctx = f,
                                           .connect = fix_connect,
                                           .write = fix_write,
                                           .close = fix_close,
                                           .arm = fix_arm,
                                           .soon = fix_soon,
                                           .release = fix_release};
    const orr_redis_owner owner = {.ctx = f,
                                   .ready = fix_on_ready,
                                   .closed = fix_on_closed,
                                   .message = fix_on_message};

    memset(f, 0, sizeof *f);
    f->now_ns = 1000000000u;
    f->take_max = SIZE_MAX;
    f->armed_ns = UINT64_MAX;
    orr_log_set_level(ORR_LOG_OFF);
    return orr__redis_client_init(&f->client, &transport, &owner, o, f->now_ns,
                                  err);
}

static inline void fix_fini(redis_fix *f)
{
    orr__redis_client_fini(&f->client);
    orr_buf_free(&f->sent);
}

static inline void fix_feed(redis_fix *f, const char *text, size_t len)
{
    if (f->stream_open)
        orr__redis_client_input(&f->client, (const uint8_t *)text, len,
                                f->now_ns);
}

static inline void fix_say(redis_fix *f, const char *text)
{
    fix_feed(f, text, strlen(text));
}

/* What was borrowed gets written. */
static inline void fix_drain(redis_fix *f)
{
    assert_int_equal(orr_buf_append(&f->sent, f->borrowed, f->borrowed_len),
                     ORR_OK);
    f->borrowed_len = 0;
    orr__redis_client_drained(&f->client);
}

static inline void fix_flush(redis_fix *f)
{
    f->soon = 0;
    if (f->stream_open)
        orr__redis_client_flush(&f->client);
}

/* One word commands. */
static inline int fix_request(redis_fix *f, const char *word,
                              uint64_t timeout_ns, uint64_t tag)
{
    const orr_redis_arg arg = {word, strlen(word)};

    return orr__redis_client_request(&f->client, 1, &arg, timeout_ns, f->now_ns,
                                     fix_done, f, tag);
}

#define FIX_MASTER "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"

#endif
