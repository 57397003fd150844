/* Connections: frames over a byte stream, with a handshake and a keepalive.
 *
 * The connection is pure: bytes and time in, bytes and link events out. A
 * transport moves the bytes: net/tcp.c over libuv, sim/ in simulation.
 *
 * States: CONNECTING (stream not up) -> HELLO (ours sent, theirs awaited) ->
 * OPEN -> CLOSED. Frames sent before OPEN are queued behind our HELLO.
 */
#ifndef ORRERY_NET_H
#define ORRERY_NET_H

#include "orrery/loop.h"

/* ffi:begin */
/* The connections of one service on one executor: those it dialled and, when it
 * listens, those it accepted. An executor can reach other hosts for a service
 * only while it has a net for it. */
typedef struct orr_net orr_net;

typedef struct orr_net_options {
    uint32_t frame_max;          /* body bytes; 0 = ORR_FRAME_MAX_DEFAULT;
                                   4 KiB to 256 MiB */
    uint32_t queue_max;          /* bytes waiting to be written on a connection;
                                   0 = 64 MiB, at least a whole frame */
    uint32_t connections_max;    /* accepted and not closed; 0 = 1024 */
    uint64_t connect_timeout_ns; /* 0 = 10 s */
    uint64_t handshake_timeout_ns; /* 0 = 10 s */
    uint64_t keepalive_ns;         /* idle time before a ping; 0 = 15 s; closed
                                   after three times that without a byte */
    /* Chunked bodies. A body above chunk_size travels in pieces of that size
     * between the other frames. */
    uint32_t chunk_size;    /* 0 = 256 KiB, at most frame_max */
    uint32_t body_max;      /* 0 = 256 MiB; not above frame_max: no chunks */
    uint32_t bodies_max;    /* coming in at a time on a connection; 0 = 64 */
    uint32_t assembly_max;  /* bytes of bodies coming in on a connection that
                              get memory at a time; 0 = body_max, not less */
    uint32_t sending_max;   /* bytes of bodies waiting to be sent on a
                              connection; 0 = twice body_max; one may always */
    uint32_t window;        /* bytes of pieces under way to us on a connection;
                              0 = 512 KiB */
    uint32_t features;      /* more orr_feature bits to offer: SPILL */
    uint64_t retry_gate_ns; /* pause before an address is dialled again
                                   after a connection to it ended; 0 = 50 ms */
} orr_net_options;

typedef struct orr_net_info {
    uint32_t connections;
    uint64_t accepted;
    uint64_t refused; /* over connections_max */
    uint64_t handshake_failures;
    uint64_t protocol_errors; /* garbage, lies, checksum */
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t body_in_max; /* the largest body so far */
    uint64_t body_out_max;
    uint64_t too_large;  /* bodies refused to be sent for their size */
    uint64_t chunked_in; /* bodies that came in pieces, whole */
    uint64_t chunked_out;
    uint64_t chunked_dropped; /* given up on the way, by either side */
    uint64_t assembling;      /* bytes of memory held for those coming in */
    uint64_t sending;         /* bytes of those waiting to be sent */
} orr_net_info;

/* Gives the net of service s on the loop's executor; options may be NULL. The
 * service must outlive it. NULL with err: ORR_ENOMEM, ORR_EINVAL, ORR_EEXIST
 * (has one already). orr_sim_net is the same in simulation. Thread: owner. */
orr_net *orr_net_new(orr_loop *loop, orr_service *s,
                     const orr_net_options *options, orr_error *err);
/* Listens on "host:port" or "[v6]:port", port 0 = any free one. bound (size
 * bytes, NULL with 0: not wanted) receives the address with the real port. It
 * does not set the address of the service. Answers ORR_OK, ORR_EINVAL,
 * ORR_EADDRINUSE, ORR_EACCES, ORR_EEXIST (listens already), ORR_EIO,
 * ORR_ENOMEM, ORR_ECLOSED. Thread: owner. */
int orr_net_listen(orr_net *net, const char *address, char *bound, size_t size,
                   orr_error *err);
/* Stops listening, says goodbye with reason (NULL: a default) on every
 * connection and closes it after what is queued was written, for 2 s at most.
 * Calls that wait fail now. Later dials fail. Thread: owner. */
void orr_net_close(orr_net *net, const char *reason);
/* Closes, then frees. NULL is fine. Thread: owner; the executor must still
 * exist unless its loop (or simulation) was freed before. */
void orr_net_free(orr_net *net);
/* Thread: owner. */
void orr_net_info_get(const orr_net *net, orr_net_info *out);

/* --- TLS ------------------------------------------------------------------ *
 * Mutual TLS 1.3 for the connections of a net, and the certificates for it.
 * Both sides show a certificate and verify the other's: against an authority of
 * one's own, by pinned fingerprints, or both. A role may stand in the
 * certificate, as a subject alternative name URI:orrery:role/<name> or, without
 * one, as the first organizational unit of the subject. */

typedef struct orr_tls_options {
    const char *certificate;  /* PEM file: ours, then its chain */
    const char *key;          /* PEM file, not encrypted */
    const char *authority;    /* PEM file, may hold several; NULL = pins only */
    const char *fingerprints; /* SHA-256 of peers' certificates, 64 hex digits
                                 each (colons may stand between), separated by
                                 spaces; NULL = none; at most 256 */
    const char *roles;        /* those that may connect to us, separated by
                                 spaces; NULL = any */
} orr_tls_options;

/* From now on every stream of the net is encrypted; before listen and dial.
 * The files are read now, and again by a handshake that comes a second or more
 * after the last look and finds one of them changed; a pair that cannot be used
 * is logged and the old one stays. With fingerprints the name of the host is
 * not looked at; else a dialled peer's certificate must name the host that was
 * dialled. Answers ORR_OK, ORR_EINVAL (options; no TLS in simulation), ORR_EIO
 * (a file, what is in it), ORR_EEXIST, ORR_ENOMEM. Thread: owner. */
int orr_net_secure(orr_net *net, const orr_tls_options *options,
                   orr_error *err);
/* Reads the files again, changed or not; connections that run stay as they
 * are. Answers ORR_OK, ORR_EINVAL (no TLS), ORR_EIO, ORR_ENOMEM: the old ones
 * stay. Thread: owner. */
int orr_net_tls_reload(orr_net *net, orr_error *err);

/* What is asked of a new certificate. Times are seconds from now. */
typedef struct orr_tls_request {
    const char *name;  /* common name of the subject */
    const char *role;  /* NULL = none */
    const char *hosts; /* names and addresses, separated by spaces; NULL */
    int64_t from_s;
    int64_t until_s;
} orr_tls_request;

/* Makes an authority, or a certificate of one, with a new P-256 key: two PEM
 * files, that of the key for its owner alone (0600). Files that exist are
 * refused (ORR_EEXIST) unless overwrite. Answers ORR_OK, ORR_EINVAL, ORR_EIO,
 * ORR_EEXIST, ORR_EACCES, ORR_ENOMEM. They take milliseconds. Thread: any. */
int orr_tls_make_authority(const orr_tls_request *request,
                           const char *certificate_path, const char *key_path,
                           int overwrite, orr_error *err);
int orr_tls_make_certificate(const orr_tls_request *request,
                             const char *authority_path,
                             const char *authority_key_path,
                             const char *certificate_path, const char *key_path,
                             int overwrite, orr_error *err);
/* 64 hex digits and a zero: the fingerprint of the first certificate of a file.
 * Answers ORR_OK, ORR_EIO. Thread: any. */
int orr_tls_fingerprint(const char *path, char *out, orr_error *err);
/* ffi:end */

#endif
