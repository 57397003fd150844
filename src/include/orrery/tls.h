/* Mutual TLS 1.3 for the connections of a net, and the certificates for it.
 *
 * Both sides show a certificate and verify the other's: against an authority of
 * one's own, by pinned fingerprints, or both. A role may stand in the
 * certificate, as a subject alternative name URI:orrery:role/<name> or, without
 * one, as the first organizational unit of the subject.
 */
#ifndef ORRERY_TLS_H
#define ORRERY_TLS_H

#include "orrery/net.h"

/* ffi:begin */
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
