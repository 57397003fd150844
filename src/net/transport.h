/* The seam between connections and what moves their bytes.
 *
 * Five functions move streams; arm asks for a tick, release ends the use. One
 * transport value serves one net: ctx is the implementer's record of it.
 *
 * A stream is the implementer's object. It belongs to its connection from
 * connect or orr__net_accept until close, which comes exactly once for each.
 * What happens to it is told by orr__conn_connected, _input, _drained and
 * _lost (conn.h), never from inside one of the functions below: a caller need
 * not expect its own connection to end under its feet.
 */
#ifndef ORRERY_NET_TRANSPORT_H
#define ORRERY_NET_TRANSPORT_H

#include "orrery/net.h"

typedef struct orr_conn orr_conn;

enum { ORR_ADDRESS_MAX = 255 };

typedef struct orr_transport {
    void *ctx;
    /* Begins to connect c. ORR_OK with a stream, or a code with err. */
    int (*connect)(void *ctx, const char *address, orr_conn *c, void **stream,
                   orr_error *err);
    /* Listens for the net. See orr_net_listen. */
    int (*listen)(void *ctx, const char *address, void **listener, char *bound,
                  size_t size, orr_error *err);
    void (*unlisten)(void *ctx, void *listener);
    /* Answers how many bytes it took. When that is less than len it borrows the
     * rest, writes it, and then says orr__conn_drained; no write comes before
     * that. */
    size_t (*write)(void *stream, const uint8_t *data, size_t len);
    /* The connection lets go of the stream. With abort 0 what was taken still
     * reaches the peer, then the end of the stream does; nothing is borrowed
     * then. */
    void (*close)(void *stream, int abort);
    /* Wants orr__net_tick then; a later call replaces an earlier one. */
    void (*arm)(void *ctx, uint64_t at_ns);
    /* The net is gone. */
    void (*release)(void *ctx);
    /* 1: asks orr__net_tls for each new stream and encrypts it by net/tls.h. */
    int can_encrypt;
} orr_transport;

#endif
