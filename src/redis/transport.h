/* The seam between a Redis connection and what moves its bytes.
 *
 * The same shape as net/transport.h: a stream belongs to its client from
 * connect until close, which comes exactly once; what happens to it is told by
 * orr__redis_client_connected, _input, _drained and _lost (client.h), never
 * from inside of one of these functions. redis/stream.c is the real one. A
 * stream that encrypts says connected when its handshake is done.
 */
#ifndef ORRERY_REDIS_TRANSPORT_H
#define ORRERY_REDIS_TRANSPORT_H

#include "orrery/redis.h"

typedef struct orr_redis_client orr_redis_client;

typedef struct orr_redis_transport {
    void *ctx;
    /* Begins to connect c. ORR_OK with a stream, or a code with err. */
    int (*connect)(void *ctx, const char *address, orr_redis_client *c,
                   void **stream, orr_error *err);
    /* Answers how many bytes it took. When that is less than len it borrows the
     * rest, writes it, and then says drained; no write comes before that. */
    size_t (*write)(void *stream, const uint8_t *data, size_t len);
    /* Lets go of the stream at once; nothing is borrowed then. */
    void (*close)(void *stream);
    /* Wants orr__redis_client_tick then; a later call replaces an earlier. */
    void (*arm)(void *ctx, uint64_t at_ns);
    /* Wants orr__redis_client_flush before the executor sleeps. */
    void (*soon)(void *ctx);
    /* The client is gone. */
    void (*release)(void *ctx);
} orr_redis_transport;

#endif
