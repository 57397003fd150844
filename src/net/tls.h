/* TLS between a stream and its connection.
 *
 * orr_tls_context: the certificates of one net and what it asks of peers.
 * orr_tls: one encrypted stream. Pure: bytes in by orr__tls_input, bytes out
 * by ops->write; it knows no sockets and no clock.
 *
 * States: HANDSHAKE -> OPEN -> ENDED (closed here, by the peer, or failed).
 * Owner: the thread of the net.
 */
#ifndef ORRERY_NET_TLS_H
#define ORRERY_NET_TLS_H

#include <openssl/ssl.h>

#include "orrery/net.h"

enum {
    ORR_TLS_ROLE_MAX = 64,
    ORR_TLS_REASON_MAX = 256,
    ORR_TLS_HOST_MAX = 256
};

typedef struct orr_tls_context orr_tls_context;
typedef struct orr_tls orr_tls;

/* --- tls_context.c -------------------------------------------------------- */

orr_tls_context *orr__tls_context_new(const orr_tls_options *o, orr_error *err);
void orr__tls_context_free(orr_tls_context *x);
int orr__tls_context_reload(orr_tls_context *x, orr_error *err);
/* Looks at the files when a second has passed since the last look. */
void orr__tls_context_refresh(orr_tls_context *x, uint64_t now_ns);
/* Gives an SSL for a stream, t as its app data; host is NULL for an accepted
 * one. NULL without memory. */
SSL *orr__tls_context_ssl(orr_tls_context *x, orr_tls *t, const char *host);
/* The first line of OpenSSL's error queue, which is empty then. */
void orr__tls_error_text(char *out, size_t size);
/* "" when the certificate names none, or one that is no word. */
void orr__tls_role(X509 *certificate, char out[ORR_TLS_ROLE_MAX + 1]);

/* --- tls.c ---------------------------------------------------------------- */

/* What the streams of one loop share, because only one of them is at work at a
 * time. Zeroed is empty. */
typedef struct orr_tls_shared {
    uint8_t *plain; /* what was decrypted, until the connection took it */
    orr_buf out;    /* what was encrypted, until the stream took it */
} orr_tls_shared;

void orr__tls_shared_fini(orr_tls_shared *shared);

typedef struct orr_tls_ops {
    /* Below: as the write of a transport; ends in orr__tls_drained. */
    size_t (*write)(void *stream, const uint8_t *data, size_t len);
    /* Below: end the stream soon, from outside; what comes of it is told as if
     * the peer had ended it. */
    void (*reset)(void *stream);
    /* Above. role: see orr__tls_role. */
    void (*open)(void *stream, const char *role);
    void (*input)(void *stream, const uint8_t *data, size_t len);
    void (*drained)(void *stream);
    /* last_words: the peer was written why and should have time to read it. */
    void (*failed)(void *stream, const char *reason, int last_words);
} orr_tls_ops;

/* host: whom we dial; NULL for a stream that was accepted. Borrows all but
 * host, for its life. NULL without memory. */
orr_tls *orr__tls_new(orr_tls_context *x, orr_tls_shared *shared,
                      const char *host, const orr_tls_ops *ops, void *stream);
void orr__tls_free(orr_tls *t);
/* A dialled stream is connected: says hello. */
void orr__tls_start(orr_tls *t);
/* From below. */
void orr__tls_input(orr_tls *t, const uint8_t *data, size_t len);
void orr__tls_drained(orr_tls *t);
/* From above; the contracts of a transport. */
size_t orr__tls_write(orr_tls *t, const uint8_t *data, size_t len);
void orr__tls_close(orr_tls *t, int abort);
/* Why it failed in a place that could not say so, or NULL. */
const char *orr__tls_reason(const orr_tls *t);
/* For the verification: a sentence for the one who is told of the refusal. */
void orr__tls_refused(orr_tls *t, const char *reason);
int orr__tls_is_accepted(const orr_tls *t);
const char *orr__tls_host(const orr_tls *t);

#endif
