/* Certificates in a folder of the test's own. */
#ifndef SPEC_TLS_FIXTURE_H
#define SPEC_TLS_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/tls.h"

enum { CERTS_PATH_MAX = 100 };

static char certs_folder[CERTS_PATH_MAX];

/* A path below the folder; four may be in use at a time. */
static inline const char *certs_path(const char *name, const char *ending)
{
    static char paths[8][2 * CERTS_PATH_MAX];
    static int next;
    char *out = paths[next++ % 8];

    snprintf(out, sizeof paths[0], "%s/%s.%s", certs_folder, name, ending);
    return out;
}

static inline void certs_authority(const char *name)
{
    orr_tls_request r = {.name = name, .from_s = -60, .until_s = 3600};
    orr_error err;

    if (orr_tls_make_authority(&r, certs_path(name, "pem"),
                               certs_path(name, "key"), 1, &err) != ORR_OK)
        fail_msg("%s", err.text);
}

static inline void certs_make(const char *name, const char *authority,
                              const char *role, const char *hosts, int64_t from,
                              int64_t until)
{
    orr_tls_request r = {.name = name,
                         .role = role,
                         .hosts = hosts,
                         .from_s = from,
                         .until_s = until};
    orr_error err;

    if (orr_tls_make_certificate(&r, certs_path(authority, "pem"),
                                 certs_path(authority, "key"),
                                 certs_path(name, "pem"),
                                 certs_path(name, "key"), 1, &err) != ORR_OK)
        fail_msg("%s", err.text);
}

/* certificate and key of name, trusting authority ("" = none). */
static inline orr_tls_options certs_options(const char *name,
                                            const char *authority)
{
    orr_tls_options o = {.certificate = certs_path(name, "pem"),
                         .key = certs_path(name, "key")};

    if (authority[0] != '\0')
        o.authority = certs_path(authority, "pem");
    return o;
}

static inline int certs_setup(void **state)
{
    (void)state;
    orr_log_set_level(ORR_LOG_OFF);
    snprintf(certs_folder, sizeof certs_folder, "/tmp/orrery-tls-XXXXXX");
    if (mkdtemp(certs_folder) == NULL)
        return -1;
    certs_authority("ca");
    certs_authority("other");
    certs_make("jm", "ca", "jobmanager", "localhost 127.0.0.1", -60, 3600);
    certs_make("client", "ca", "client", NULL, -60, 3600);
    certs_make("plain", "ca", NULL, "127.0.0.1", -60, 3600);
    certs_make("expired", "ca", "client", "127.0.0.1", -600, -60);
    certs_make("early", "ca", "client", "127.0.0.1", 600, 3600);
    certs_make("elsewhere", "ca", "client", "example.org 10.1.2.3", -60, 3600);
    certs_make("stranger", "other", "client", "127.0.0.1", -60, 3600);
    return 0;
}

static inline int certs_teardown(void **state)
{
    static const char *const names[] = {
        "ca",      "other", "jm",        "client",   "plain",
        "expired", "early", "elsewhere", "stranger", "changing"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(certs_path(names[i], "pem"));
        unlink(certs_path(names[i], "key"));
    }
    return rmdir(certs_folder);
}

#endif
