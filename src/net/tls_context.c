/* The certificates of one net and what it asks of those of its peers. See tls.h
 * and orrery/net.h; owner: the thread of the net.
 *
 * What runs keeps the SSL_CTX it began with; a reload makes a new one and
 * swaps. A file that is written while it is read gives a pair that does not
 * fit: it is logged, the old pair stays, and the next change of a file is the
 * next try.
 */
#define _GNU_SOURCE
#include "net/tls.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { FILES = 3, PIN_SIZE = 32, PINS_MAX = 256 };

static const uint64_t look_every_ns = 1000000000u;
static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                             "TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256";
static const char role_prefix[] = "orrery:role/";

typedef struct stamp {
    struct timespec changed;
    off_t size;
    ino_t inode;
} stamp;

struct orr_tls_context {
    SSL_CTX *ssl;
    char *files[FILES]; /* certificate, key, authority or NULL */
    char *roles;        /* or NULL */
    uint8_t (*pins)[PIN_SIZE];
    size_t pin_count;
    stamp stamps[FILES];
    uint64_t looked_ns;
};

static const char *const file_kinds[FILES] = {"certificate", "key",
                                              "authority"};

/* --- words ---------------------------------------------------------------- */

void orr__tls_error_text(char *out, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);

    if (code == 0)
        snprintf(out, size, "no reason was given");
    else if (ERR_SYSTEM_ERROR(code))
        snprintf(out, size, "%s", strerror(ERR_GET_REASON(code)));
    else if (reason != NULL)
        snprintf(out, size, "%s", reason);
    else
        ERR_error_string_n(code, out, size);
    ERR_clear_error();
}

static int is_role(const char *text, size_t len)
{
    if (len == 0 || len > ORR_TLS_ROLE_MAX)
        return 0;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("_.-", text[i]) == NULL)
            return 0;
    return 1;
}

static int role_of_names(X509 *certificate, char *out)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t prefix = strlen(role_prefix);
    int found = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        const char *text;
        size_t len;

        if (name->type != GEN_URI)
            continue;
        text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
        len = (size_t)ASN1_STRING_length(name->d.ia5);
        if (len <= prefix || memcmp(text, role_prefix, prefix) != 0 ||
            !is_role(text + prefix, len - prefix))
            continue;
        memcpy(out, text + prefix, len - prefix);
        out[len - prefix] = '\0';
        found = 1;
    }
    GENERAL_NAMES_free(names);
    return found;
}

void orr__tls_role(X509 *certificate, char out[ORR_TLS_ROLE_MAX + 1])
{
    char unit[ORR_TLS_ROLE_MAX + 2] = "";
    int len;

    out[0] = '\0';
    if (role_of_names(certificate, out))
        return;
    len = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                                    NID_organizationalUnitName, unit,
                                    (int)sizeof unit);
    if (len > 0 && strlen(unit) == (size_t)len && is_role(unit, (size_t)len))
        memcpy(out, unit, (size_t)len + 1);
}

/* Is the word in a list of words? */
static int is_listed(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (*list != '\0') {
        size_t next = strcspn(list, " ");
        if (next == len && memcmp(list, word, len) == 0)
            return 1;
        list += next;
        list += strspn(list, " ");
    }
    return 0;
}

/* --- verification --------------------------------------------------------- */

static orr_tls *stream_of(X509_STORE_CTX *store)
{
    SSL *ssl =
        X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    return SSL_get_app_data(ssl);
}

/* With pins and no authority nobody vouches for a certificate: the pin does. */
static int is_about_issuers(int error)
{
    switch (error) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED: return 1;
    default: return 0;
    }
}

static int on_problem_without_authority(int ok, X509_STORE_CTX *store)
{
    if (ok || !is_about_issuers(X509_STORE_CTX_get_error(store)))
        return ok;
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
}

static int is_pinned(const orr_tls_context *x, X509 *certificate)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (X509_digest(certificate, EVP_sha256(), digest, &len) != 1 ||
        len != PIN_SIZE)
        return 0;
    for (size_t i = 0; i < x->pin_count; i++)
        if (memcmp(x->pins[i], digest, PIN_SIZE) == 0)
            return 1;
    return 0;
}

/* Which hosts a certificate names, for people. */
static void names_text(X509 *certificate, char *out, size_t size)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;

    snprintf(out, size, "nobody");
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && used < size; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        char text[64];
        const uint8_t *ip;

        if (name->type == GEN_DNS) {
            snprintf(text, sizeof text, "%.*s",
                     ASN1_STRING_length(name->d.dNSName),
                     (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        } else if (name->type == GEN_IPADD &&
                   ASN1_STRING_length(name->d.iPAddress) == 4) {
            ip = ASN1_STRING_get0_data(name->d.iPAddress);
            snprintf(text, sizeof text, "%u.%u.%u.%u", ip[0], ip[1], ip[2],
                     ip[3]);
        } else {
            continue;
        }
        for (char *c = text; *c != '\0'; c++)
            if (!isprint((unsigned char)*c))
                *c = '?';
        used += (size_t)snprintf(out + used, size - used, "%s%s",
                                 used == 0 ? "" : ", ", text);
    }
    GENERAL_NAMES_free(names);
}

static void explain(orr_tls *t, X509_STORE_CTX *store)
{
    char text[ORR_TLS_REASON_MAX], names[100];
    int error = X509_STORE_CTX_get_error(store);

    if (error == X509_V_ERR_HOSTNAME_MISMATCH ||
        error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
        names_text(X509_STORE_CTX_get0_cert(store), names, sizeof names);
        snprintf(text, sizeof text,
                 "its certificate is refused: it is not for %.100s but for %s",
                 orr__tls_host(t), names);
    } else {
        snprintf(text, sizeof text, "its certificate is refused: %s",
                 X509_verify_cert_error_string(error));
    }
    orr__tls_refused(t, text);
}

/* What the chain does not say: pins, and the roles that may come in. */
static int check_beyond(const orr_tls_context *x, orr_tls *t, X509 *certificate)
{
    char text[ORR_TLS_REASON_MAX], role[ORR_TLS_ROLE_MAX + 1];

    if (x->pin_count > 0 && !is_pinned(x, certificate)) {
        orr__tls_refused(t, "its certificate is refused: its fingerprint is "
                            "not among the pinned ones");
        return 0;
    }
    if (x->roles == NULL || !orr__tls_is_accepted(t))
        return 1;
    orr__tls_role(certificate, role);
    if (is_listed(x->roles, role))
        return 1;
    snprintf(text, sizeof text,
             "its certificate is refused: its role is %s, one of these may "
             "connect: %.100s",
             role[0] == '\0' ? "none" : role, x->roles);
    orr__tls_refused(t, text);
    return 0;
}

static int verify(X509_STORE_CTX *store, void *context)
{
    orr_tls_context *x = context;
    orr_tls *t = stream_of(store);

    if (X509_verify_cert(store) != 1) {
        explain(t, store);
        return 0;
    }
    if (check_beyond(x, t, X509_STORE_CTX_get0_cert(store)))
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

/* --- loading -------------------------------------------------------------- */

/* Without it OpenSSL would ask on the terminal. */
static int no_password(char *out, int size, int writing, void *user)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

static void stamps_take(const orr_tls_context *x, stamp out[FILES])
{
    struct stat s;

    memset(out, 0, FILES * sizeof *out);
    for (int i = 0; i < FILES; i++) {
        if (x->files[i] == NULL || stat(x->files[i], &s) != 0)
            continue;
        out[i].changed = s.st_mtim;
        out[i].size = s.st_size;
        out[i].inode = s.st_ino;
    }
}

static int stamps_differ(const stamp *a, const stamp *b)
{
    for (int i = 0; i < FILES; i++)
        if (a[i].changed.tv_sec != b[i].changed.tv_sec ||
            a[i].changed.tv_nsec != b[i].changed.tv_nsec ||
            a[i].size != b[i].size || a[i].inode != b[i].inode)
            return 1;
    return 0;
}

static int file_failed(const orr_tls_context *x, int i, orr_error *err)
{
    char text[120];

    orr__tls_error_text(text, sizeof text);
    return orr_error_set(err, ORR_EIO, "the %s %.110s cannot be used: %s",
                         file_kinds[i], x->files[i], text);
}

static int files_load(const orr_tls_context *x, SSL_CTX *ssl, orr_error *err)
{
    struct stat s;

    for (int i = 0; i < FILES; i++)
        if (x->files[i] != NULL && stat(x->files[i], &s) != 0)
            return orr_error_set(err, ORR_EIO,
                                 "the %s %.150s cannot be read: %s",
                                 file_kinds[i], x->files[i], strerror(errno));
    if (SSL_CTX_use_certificate_chain_file(ssl, x->files[0]) != 1)
        return file_failed(x, 0, err);
    if (SSL_CTX_use_PrivateKey_file(ssl, x->files[1], SSL_FILETYPE_PEM) != 1) {
        if (ERR_GET_REASON(ERR_peek_error()) != X509_R_KEY_VALUES_MISMATCH)
            return file_failed(x, 1, err);
        ERR_clear_error();
        return orr_error_set(err, ORR_EIO,
                             "the key %.100s does not belong to the "
                             "certificate %.100s",
                             x->files[1], x->files[0]);
    }
    if (x->files[2] != NULL && SSL_CTX_load_verify_file(ssl, x->files[2]) != 1)
        return file_failed(x, 2, err);
    return ORR_OK;
}

static int settings(orr_tls_context *x, SSL_CTX *ssl)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 0);
    SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_NO_AUTO_CHAIN); /* a root is no news */
    SSL_CTX_set_read_ahead(ssl, 1);
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       x->files[2] == NULL ? on_problem_without_authority
                                           : NULL);
    SSL_CTX_set_cert_verify_callback(ssl, verify, x);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(ssl, suites) == 1 &&
           SSL_CTX_set1_groups_list(ssl, groups) == 1;
}

int orr__tls_context_reload(orr_tls_context *x, orr_error *err)
{
    char text[120];
    SSL_CTX *ssl;
    int rc;

    stamps_take(x, x->stamps);
    ERR_clear_error();
    ssl = SSL_CTX_new(TLS_method());
    if (ssl == NULL || !settings(x, ssl)) {
        SSL_CTX_free(ssl);
        orr__tls_error_text(text, sizeof text);
        return orr_error_set(err, ORR_ENOMEM, "TLS cannot be set up: %s", text);
    }
    rc = files_load(x, ssl, err);
    if (rc != ORR_OK) {
        SSL_CTX_free(ssl);
        return rc;
    }
    SSL_CTX_free(x->ssl);
    x->ssl = ssl;
    return ORR_OK;
}

void orr__tls_context_refresh(orr_tls_context *x, uint64_t now_ns)
{
    stamp now[FILES];
    orr_error err;

    if (x->looked_ns != 0 && now_ns - x->looked_ns < look_every_ns)
        return;
    x->looked_ns = now_ns;
    stamps_take(x, now);
    if (!stamps_differ(now, x->stamps))
        return;
    if (orr__tls_context_reload(x, &err) == ORR_OK)
        orr_logf(ORR_LOG_INFO, "tls", "read %s again", x->files[0]);
    else
        orr_logf(ORR_LOG_WARN, "tls", "%s; the one read before stays",
                 err.text);
}

SSL *orr__tls_context_ssl(orr_tls_context *x, orr_tls *t, const char *host)
{
    SSL *ssl = SSL_new(x->ssl);
    X509_VERIFY_PARAM *param;

    if (ssl == NULL)
        return NULL;
    SSL_set_app_data(ssl, t);
    if (host == NULL) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    SSL_set_connect_state(ssl);
    if (x->pin_count > 0)
        return ssl;
    param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param,
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ||
        X509_VERIFY_PARAM_set1_host(param, host, 0) == 1) {
        ERR_clear_error();
        return ssl;
    }
    SSL_free(ssl);
    return NULL;
}

/* --- options -------------------------------------------------------------- */

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One fingerprint of len characters; answers 0 when it is none. */
static int pin_read(const char *text, size_t len, uint8_t out[PIN_SIZE])
{
    size_t digits = 0;

    for (size_t i = 0; i < len; i++) {
        int d = digit_of(text[i]);
        if (text[i] == ':')
            continue;
        if (d < 0 || digits == 2 * PIN_SIZE)
            return 0;
        if (digits % 2 == 0)
            out[digits / 2] = (uint8_t)(d << 4);
        else
            out[digits / 2] |= (uint8_t)d;
        digits++;
    }
    return digits == 2 * PIN_SIZE;
}

static int pins_read(orr_tls_context *x, const char *text, orr_error *err)
{
    if (text == NULL)
        return ORR_OK;
    x->pins = orr_calloc(PINS_MAX, PIN_SIZE);
    if (x->pins == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory for fingerprints");
    for (;;) {
        size_t len;

        text += strspn(text, " ");
        len = strcspn(text, " ");
        if (len == 0)
            return ORR_OK;
        if (x->pin_count == PINS_MAX)
            return orr_error_set(err, ORR_EINVAL,
                                 "more than %d fingerprints; an authority "
                                 "vouches for any number",
                                 PINS_MAX);
        if (!pin_read(text, len, x->pins[x->pin_count]))
            return orr_error_set(err, ORR_EINVAL,
                                 "\"%.*s\" is not a fingerprint: 64 hex digits "
                                 "are needed, the SHA-256 of a certificate",
                                 (int)(len < 70 ? len : 70), text);
        x->pin_count++;
        text += len;
    }
}

static char *copy_of(const char *text)
{
    char *copy = orr_alloc(strlen(text) + 1);

    if (copy != NULL)
        memcpy(copy, text, strlen(text) + 1);
    return copy;
}

static int options_copy(orr_tls_context *x, const orr_tls_options *o)
{
    const char *files[FILES] = {o->certificate, o->key, o->authority};

    for (int i = 0; i < FILES; i++) {
        if (files[i] == NULL)
            continue;
        x->files[i] = copy_of(files[i]);
        if (x->files[i] == NULL)
            return ORR_ENOMEM;
    }
    if (o->roles != NULL && (x->roles = copy_of(o->roles)) == NULL)
        return ORR_ENOMEM;
    return ORR_OK;
}

static int context_fill(orr_tls_context *x, const orr_tls_options *o,
                        orr_error *err)
{
    int rc;

    if (o->certificate == NULL || o->key == NULL)
        return orr_error_set(err, ORR_EINVAL,
                             "TLS needs a certificate and its key: both sides "
                             "show one");
    if (options_copy(x, o) != ORR_OK)
        return orr_error_set(err, ORR_ENOMEM, "no memory for TLS");
    rc = pins_read(x, o->fingerprints, err);
    if (rc != ORR_OK)
        return rc;
    if (x->files[2] == NULL && x->pin_count == 0)
        return orr_error_set(err, ORR_EINVAL,
                             "TLS needs an authority or fingerprints to know "
                             "its peers by");
    return orr__tls_context_reload(x, err);
}

orr_tls_context *orr__tls_context_new(const orr_tls_options *o, orr_error *err)
{
    orr_tls_context *x = orr_calloc(1, sizeof *x);

    if (x == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory for TLS");
        return NULL;
    }
    if (context_fill(x, o, err) != ORR_OK) {
        orr__tls_context_free(x);
        return NULL;
    }
    return x;
}

void orr__tls_context_free(orr_tls_context *x)
{
    if (x == NULL)
        return;
    SSL_CTX_free(x->ssl);
    for (int i = 0; i < FILES; i++)
        orr_free(x->files[i]);
    orr_free(x->roles);
    orr_free(x->pins);
    orr_free(x);
}
