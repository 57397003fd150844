/* One connection, pure: bytes and time in, bytes and link events out.
 *
 * States, and what each may receive: see the table in conn.c. The stream is
 * moved by a transport (transport.h), the link events go to a sink (the
 * executor, or a test).
 */
#ifndef ORRERY_NET_CONN_H
#define ORRERY_NET_CONN_H

#include "net/body.h"
#include "net/hello.h"
#include "net/transport.h"

typedef enum orr_conn_state {
    ORR_CONN_CONNECTING = 0,
    ORR_CONN_HELLO = 1,
    ORR_CONN_OPEN = 2,
    ORR_CONN_CLOSED = 3
} orr_conn_state;

/* Where link events go; the seams of exec.h. */
typedef struct orr_conn_sink {
    void (*up)(orr_executor *ex, orr_link *l);
    int (*receive)(orr_executor *ex, orr_link *l, const orr_header *h,
                   const uint8_t *body);
    int (*receive_body)(orr_executor *ex, orr_link *l, const orr_header *h,
                        orr_buf *body);
    void (*down)(orr_executor *ex, orr_link *l, int code, const char *text);
} orr_conn_sink;

/* What the connections of one net share; outlives them. */
typedef struct orr_conn_env {
    orr_transport transport;
    const orr_conn_sink *sink;
    orr_executor *executor;
    orr_service *service;
    orr_chance *chance;
    orr_net_options options; /* resolved: no zeros */
    orr_net_info info;
    uint32_t accepted_open; /* accepted and their stream not let go */
    /* A connection wants a tick at that time. */
    void (*soon)(struct orr_conn_env *env, uint64_t at_ns);
} orr_conn_env;

struct orr_conn {
    orr_link link; /* first */
    orr_conn_env *env;
    void *stream; /* NULL when let go */
    orr_conn *next;
    orr_buf in;      /* the frame that is not complete yet */
    orr_buf out;     /* frames that wait */
    orr_buf writing; /* HELLO at first; then what the transport borrows */
    size_t written;  /* of writing, in whole parts */
    size_t part;     /* what the transport borrows now */
    orr__bodies bodies;
    uint64_t deadline_ns; /* of connecting, the handshake, or lingering */
    uint64_t last_in_ns;
    uint64_t last_ping_ns; /* 0 = none since the last byte */
    uint64_t stuck_ns;     /* blocked without progress since then; 0 = not */
    uint64_t writes;       /* parts given to the transport so far */
    uint64_t writes_seen;  /* by the last tick */
    uint64_t idle_ns;      /* unused since then; 0 = used */
    uint64_t start_ns;     /* its stream is begun then; 0 = was */
    uint64_t peer_incarnation;
    uint32_t refs;       /* users of the link */
    uint32_t pins;       /* calls under way on it */
    uint32_t queued_max; /* largest body queued before OPEN */
    uint8_t state;
    uint8_t accepted;
    uint8_t blocked;                /* the transport borrows writing */
    uint8_t up;                     /* the sink knows the link */
    char peer[ORR_ADDRESS_MAX + 1]; /* the address, for people and dial */
};

extern const orr_link_ops orr__conn_ops;

/* Gives a connection in CONNECTING that has no stream yet, or NULL without
 * memory. self says who we are: its nonce is filled in. */
orr_conn *orr__conn_new(orr_conn_env *env, const char *peer, int accepted,
                        orr_hello *self, uint64_t now_ns);
/* Only when it is CLOSED, without a stream and unused. */
void orr__conn_free(orr_conn *c);
int orr__conn_is_done(const orr_conn *c);
/* The env goes away after c is CLOSED without a stream: c goes with its last
 * user. */
void orr__conn_orphan(orr_conn *c);

/* From the transport. */
void orr__conn_connected(orr_conn *c, uint64_t now_ns);
void orr__conn_input(orr_conn *c, const uint8_t *data, size_t len,
                     uint64_t now_ns);
void orr__conn_drained(orr_conn *c);
/* The stream failed or ended; reason is a part of a sentence. */
void orr__conn_lost(orr_conn *c, const char *reason);

/* Where the bytes that come next belong, if that is known: a transport may read
 * up to *len bytes there and give them to orr__conn_input. NULL: anywhere. */
uint8_t *orr__conn_space(orr_conn *c, size_t *len);

/* Acts on deadlines; answers the next one. */
uint64_t orr__conn_tick(orr_conn *c, uint64_t now_ns);
/* A planned end: says goodbye with reason and lets the queue drain. */
void orr__conn_goodbye(orr_conn *c, const char *reason, uint64_t now_ns);
/* An end without ceremony. */
void orr__conn_abort(orr_conn *c, int code, const char *text);

/* For body.c. frame appends a frame to b; seal writes the header of a frame
 * whose body is behind it already; write gives bytes to the transport, only
 * when nothing is under way. broken: the peer broke the protocol. */
int orr__conn_frame(orr_conn *c, orr_buf *b, const orr_header *h,
                    const uint8_t *body);
void orr__conn_seal(orr_conn *c, const orr_header *h, uint8_t *at);
void orr__conn_write(orr_conn *c, const uint8_t *data, size_t len);
void orr__conn_broken(orr_conn *c, uint64_t now_ns, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
