/* Redis: one connection, its requests, scripts and messages; discovery by
 * Sentinel.
 *
 * An orr_redis is exactly one connection and is not made again by itself: WAIT
 * and everything else that Redis ties to a connection then mean what they say,
 * and who opened it decides what follows its end.
 *
 *   CONNECTING -> AUTH -> SETNAME -> ROLE -> SUBSCRIBE -> READY -> CLOSED
 *
 * Steps without options are left out. Requests are sent in their order, without
 * waiting for each other; requests made before READY wait for it.
 *
 * Every request is a slot of the executor (exec.h) and ends by one REPLY event.
 * Status ORR_OK: the body is the value: a string, an integer, nil, or an array
 * of those, with false for nil. Otherwise the body is an error map whose
 * context has `outcome` ("applied", "not_applied", "unknown") and, when the
 * server answered with an error, its first word as `error` ("OOM"):
 *
 *   ORR_REMOTE           the server refused; the text is the server's
 *   ORR_UNREACHABLE      the connection ended; what had not left this process
 *                        is not applied, the rest is unknown
 *   ORR_EXPIRED_UNKNOWN  the request's time is over; so is the connection,
 *                        because nothing after it can be told apart
 *   ORR_EXPIRED_UNSENT   the same before it was sent
 *   ORR_EPROTO, ORR_TOO_LARGE   the server sent what is no RESP2, or above the
 *                        limits; the connection is over
 *
 * Threads: everything here is for the owner of the executor.
 */
#ifndef ORRERY_REDIS_H
#define ORRERY_REDIS_H

#include "orrery/loop.h"

/* ffi:begin */
typedef struct orr_redis orr_redis;

typedef enum orr_redis_outcome {
    ORR_REDIS_APPLIED = 0,
    ORR_REDIS_NOT_APPLIED = 1,
    ORR_REDIS_UNKNOWN = 2
} orr_redis_outcome;
const char *orr_redis_outcome_name(int outcome);

typedef enum orr_redis_state {
    ORR_REDIS_CONNECTING = 0,
    ORR_REDIS_AUTH = 1,
    ORR_REDIS_SETNAME = 2,
    ORR_REDIS_ROLE = 3,
    ORR_REDIS_SUBSCRIBE = 4,
    ORR_REDIS_READY = 5,
    ORR_REDIS_CLOSED = 6
} orr_redis_state;

typedef enum orr_redis_role {
    ORR_REDIS_ROLE_ANY = 0, /* also what a server is that does not tell */
    ORR_REDIS_ROLE_MASTER = 1,
    ORR_REDIS_ROLE_REPLICA = 2,
    ORR_REDIS_ROLE_SENTINEL = 3
} orr_redis_role;

typedef struct orr_redis_options {
    const char *address;       /* host:port, [v6]:port or unix:/path */
    const char *user;          /* NULL: the default user */
    const char *password;      /* NULL: no AUTH; kept only until it is sent */
    const char *name;          /* of the connection; NULL: none */
    int32_t role;              /* the server must be this; see orr_redis_role */
    uint32_t requests_max;     /* not answered yet; 0 = 65,536 */
    uint64_t queue_max;        /* bytes not sent yet; 0 = 64 MiB */
    uint64_t ready_timeout_ns; /* from open to READY; 0 = 5 s */
    uint64_t keepalive_ns;     /* PING after so long without a byte from the
                                  server while nothing is in flight, and the end
                                  without an answer after as much again;
                                  0 = 5 s */
    const char *const *channels; /* NULL: no subscriber */
    uint32_t channel_count;      /* at most 64 */
    uint32_t messages_max;       /* waiting to be taken; 0 = 1,024 */
    uint64_t message_bytes_max;  /* 0 = 1 MiB */
} orr_redis_options;

typedef struct orr_redis_info {
    int32_t state;
    int32_t role;
    uint32_t replicas;  /* of a master, connected at READY */
    uint32_t in_flight; /* requests not answered */
    uint64_t queued;    /* bytes not sent */
    uint64_t requests;
    uint64_t replies;
    uint64_t scripts_reloaded; /* NOSCRIPT met and mended */
    uint64_t messages_dropped;
} orr_redis_info;

/* Begins to connect; options are borrowed for the call. ready receives a slot
 * whose REPLY comes at READY: {role, replicas}; or an error map: ORR_EACCES for
 * AUTH refused, ORR_EINVAL for another role, else as above. NULL with err:
 * ORR_EINVAL, ORR_ENOMEM, ORR_OVERLOADED, ORR_UNREACHABLE. */
orr_redis *orr_redis_open(orr_loop *loop, const orr_redis_options *options,
                          uint32_t *ready, orr_error *err);
/* Ends it now: what waits fails with reason (NULL: a default). */
void orr_redis_close(orr_redis *r, const char *reason);
/* Closes, then frees. NULL is fine. The loop may have been freed before. */
void orr_redis_free(orr_redis *r);
void orr_redis_info_get(const orr_redis *r, orr_redis_info *out);

/* A command of count arguments, borrowed; lengths may be NULL for C strings.
 * timeout_ns 0 = none. Answers ORR_OK with a slot, or at once: ORR_EINVAL (no
 * arguments, a subscriber), ORR_TOO_LARGE (above 64 MiB), ORR_OVERLOADED (the
 * bounds of options), ORR_ECLOSED, ORR_ENOMEM. */
int orr_redis_command(orr_redis *r, uint32_t count, const char *const *args,
                      const size_t *lengths, uint64_t timeout_ns,
                      uint32_t *slot);

/* Makes a script known to this connection; its text is loaded once, before its
 * first use. Answers ORR_OK with its id, ORR_EINVAL (empty), ORR_TOO_LARGE
 * (above 64 KiB), ORR_OVERLOADED (above 64 scripts), ORR_ENOMEM, ORR_EIO. */
int orr_redis_script(orr_redis *r, const char *text, size_t size,
                     uint32_t *script);
typedef struct orr_redis_eval {
    uint32_t script;
    uint32_t keys;   /* how many of the arguments are keys */
    int32_t confirm; /* 0: the reply is the value. 1: WAIT replicas wait_ms
                        follows on this connection, and the reply is [value,
                        replicas that have it]. 2: the same with WAITAOF 1
                        replicas wait_ms: [value, [here, there]] */
    uint32_t replicas;
    uint32_t wait_ms;
    uint32_t count;
    const char *const *args; /* keys first */
    const size_t *lengths;   /* NULL: C strings */
    uint64_t timeout_ns;
} orr_redis_eval;
/* Runs a script by its digest. When the server has lost it (NOSCRIPT: nothing
 * was done) it is sent again with its text, and the confirmation after it; only
 * then later requests may overtake it. Answers as orr_redis_command does;
 * ORR_EINVAL also for a script that is not known. */
int orr_redis_evaluate(orr_redis *r, const orr_redis_eval *eval,
                       uint32_t *slot);

/* A slot whose REPLY comes with the next messages of the channels, at once when
 * some wait: {messages = [[channel, payload], ...], dropped = n}, dropped since
 * the last one. At the end of the connection, also of one without channels, it
 * fails with the reason. One at a time. Answers ORR_OK, ORR_EEXIST (one waits
 * already), ORR_ECLOSED, ORR_OVERLOADED, ORR_ENOMEM. */
int orr_redis_watch(orr_redis *r, uint32_t *slot);

typedef struct orr_redis_discovery {
    const char *const *sentinels; /* addresses, at most 16 */
    uint32_t sentinel_count;
    const char *master;        /* its name there */
    const char *sentinel_user; /* NULL as in orr_redis_options */
    const char *sentinel_password;
    const char *user; /* of the master */
    const char *password;
    uint64_t timeout_ns; /* 0 = 5 s */
} orr_redis_discovery;
/* Asks every sentinel for the master's address and then the master for its
 * role. What more than half of the sentinels say is tried as soon as they have
 * said it; otherwise, when all have answered or half of the time is over, what
 * most say first. REPLY: {address, votes, asked, role}; or an error map with
 * what each sentinel said. Answers ORR_OK, or with err ORR_EINVAL, ORR_ENOMEM,
 * ORR_OVERLOADED. It ends by itself. */
int orr_redis_discover(orr_loop *loop, const orr_redis_discovery *options,
                       uint32_t *slot, orr_error *err);
/* ffi:end */

#endif
