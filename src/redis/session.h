/* What the files of orr_redis share. */
#ifndef ORRERY_REDIS_SESSION_H
#define ORRERY_REDIS_SESSION_H

#include "redis/client.h"

enum { ORR_REDIS_SCRIPTS_MAX = 64, ORR_REDIS_DIGEST = 40 };

typedef struct orr__redis_script {
    char *text;
    size_t size;
    char digest[ORR_REDIS_DIGEST + 1]; /* SHA-1, hexadecimal */
    uint8_t sent;                      /* SCRIPT LOAD went out */
} orr__redis_script;

struct orr_redis {
    orr_redis_client client;
    orr_executor *executor; /* not to be used when the client is closed */
    orr_external ready;     /* slot 0 when answered */
    orr_external watch;     /* slot 0 when nobody watches */
    orr_buf messages;       /* pairs for the next watch */
    uint32_t message_count;
    uint32_t messages_max;
    uint64_t dropped; /* since the last watch */
    uint64_t dropped_all;
    uint64_t reloaded;
    orr__redis_script scripts[ORR_REDIS_SCRIPTS_MAX];
    uint32_t script_count;
    uint64_t kept_bytes; /* of evaluations under way */
};

/* Over any transport, which it takes when it answers a value. */
orr_redis *orr__redis_new(const orr_redis_transport *transport,
                          orr_executor *ex, const orr_redis_options *options,
                          uint32_t *ready, orr_error *err);
/* Gives the arguments as one block to free, or NULL without memory. */
orr_redis_arg *orr__redis_args(uint32_t before, uint32_t count,
                               const char *const *args, const size_t *lengths);
/* Ends a call by a failure. */
void orr__redis_fail(orr_executor *ex, const orr_external *call, int status,
                     int outcome, const char *text);
/* The same with what a request's end told. */
void orr__redis_finish(orr_executor *ex, const orr_external *call,
                       const orr_redis_result *result);

#endif
