/* One Redis connection, pure: bytes and time in, bytes and results out.
 *
 * See redis.h for its states and for what each end of a request means. The
 * stream is moved by a transport; results go to the done of each request, what
 * concerns the connection to its owner.
 */
#ifndef ORRERY_REDIS_CLIENT_H
#define ORRERY_REDIS_CLIENT_H

#include <hiredis/hiredis.h>

#include "redis/scanner.h"
#include "redis/transport.h"

enum { ORR_REDIS_ADDRESS_MAX = 255, ORR_REDIS_ARGS_MAX = 65536 };

/* The end of a request; lent to done. */
typedef struct orr_redis_result {
    int32_t status;          /* see redis.h */
    int32_t outcome;         /* orr_redis_outcome */
    const redisReply *reply; /* NULL when none came; an error for ORR_REMOTE */
    const char *text;        /* why; "" for ORR_OK */
} orr_redis_result;

/* May make requests and may close the client; must not free it. */
typedef void (*orr_redis_done)(void *ctx, uint64_t tag,
                               const orr_redis_result *result);

typedef struct orr_redis_arg {
    const char *data;
    size_t len;
} orr_redis_arg;

typedef struct orr__redis_request {
    orr_redis_done done;
    void *ctx;
    uint64_t tag;
    uint64_t deadline_ns; /* 0 = none */
    uint64_t end;         /* of its bytes in all that this connection sends */
    uint8_t is_script;
} orr__redis_request;

typedef struct orr_redis_owner {
    void *ctx;
    /* As done: may make requests and close, must not free. closed comes last
     * and once, after every request has had its end. */
    void (*ready)(void *ctx);
    void (*closed)(void *ctx, int code, const char *text);
    void (*message)(void *ctx, const redisReply *channel,
                    const redisReply *payload);
} orr_redis_owner;

struct orr_redis_client {
    orr_redis_transport transport;
    orr_redis_owner owner;
    void *stream; /* NULL when let go */
    redisReader *reader;
    orr__redis_scanner scanner;
    orr_buf out;     /* requests that wait */
    orr_buf writing; /* the handshake at first; then what is borrowed */
    orr__redis_request *ring;
    uint32_t ring_cap; /* a power of two */
    uint32_t ring_head;
    uint32_t ring_len;
    uint32_t ring_max;
    uint32_t subscriptions; /* confirmations to come */
    uint64_t queue_max;
    uint64_t queued;      /* bytes of all requests so far, */
    uint64_t handed;      /* and how many of them the stream has */
    uint64_t ready_at_ns; /* it must be READY by then */
    uint64_t keepalive_ns;
    uint64_t last_in_ns;
    uint64_t ping_ns;     /* when the PING under way was sent; 0 = none */
    uint64_t request_due; /* no request ends before */
    uint64_t armed_ns;
    uint64_t now_ns; /* as of the last call that told it */
    uint64_t requests;
    uint64_t replies;
    uint32_t replicas;
    int32_t role_wanted;
    int32_t role;
    uint8_t state;
    uint8_t subscriber;
    uint8_t blocked; /* the stream borrows writing */
    uint8_t is_soon; /* flush was asked for */
    char address[ORR_REDIS_ADDRESS_MAX + 1];
};

/* Checks the options, makes the handshake and begins to connect. Answers
 * ORR_OK, ORR_EINVAL, ORR_ENOMEM or what connect answers. On failure c needs no
 * fini and the transport was not released; fini releases it. */
int orr__redis_client_init(orr_redis_client *c,
                           const orr_redis_transport *transport,
                           const orr_redis_owner *owner,
                           const orr_redis_options *o, uint64_t now_ns,
                           orr_error *err);
/* Closed or not; nothing is told. */
void orr__redis_client_fini(orr_redis_client *c);
/* Ends it: requests first, then owner.closed. */
void orr__redis_client_close(orr_redis_client *c, int code, const char *text);

/* Queues a request; borrows args. Answers as orr_redis_command does. */
int orr__redis_client_request(orr_redis_client *c, uint32_t count,
                              const orr_redis_arg *args, uint64_t timeout_ns,
                              uint64_t now_ns, orr_redis_done done, void *ctx,
                              uint64_t tag);
/* ORR_OK when so many more requests with so many bytes in all would be taken:
 * for those that belong together. */
int orr__redis_client_room(const orr_redis_client *c, uint32_t requests,
                           uint64_t bytes);

/* From the transport. */
void orr__redis_client_connected(orr_redis_client *c, uint64_t now_ns);
void orr__redis_client_input(orr_redis_client *c, const uint8_t *data,
                             size_t len, uint64_t now_ns);
void orr__redis_client_drained(orr_redis_client *c);
void orr__redis_client_lost(orr_redis_client *c, const char *reason);
void orr__redis_client_tick(orr_redis_client *c, uint64_t now_ns);
void orr__redis_client_flush(orr_redis_client *c);

#endif
