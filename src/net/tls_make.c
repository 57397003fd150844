/* Makes authorities and certificates: see orrery/net.h. For tests, trials and
 * closed networks; a company's own authority takes its place by its files.
 *
 * Keys are P-256: their handshake costs a tenth of one with RSA. Serial numbers
 * are 64 bits of chance.
 */
#define _GNU_SOURCE
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

enum { NAMES_MAX = 1000 };

static int failed(orr_error *err, const char *what)
{
    char text[120];

    orr__tls_error_text(text, sizeof text);
    return orr_error_set(err, ORR_EIO, "%s: %s", what, text);
}

/* --- files ---------------------------------------------------------------- */

static int errno_code(int number)
{
    switch (number) {
    case EEXIST: return ORR_EEXIST;
    case EACCES:
    case EPERM: return ORR_EACCES;
    default: return ORR_EIO;
    }
}

/* The mode holds from the first byte on, also when the file was there. */
static int file_create(const char *path, mode_t mode, int overwrite, FILE **out,
                       orr_error *err)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (overwrite ? O_TRUNC : O_EXCL);
    int fd = open(path, flags, mode);

    if (fd >= 0 && fchmod(fd, mode) == 0 && (*out = fdopen(fd, "w")) != NULL)
        return ORR_OK;
    int number = errno;
    if (fd >= 0)
        close(fd);
    return orr_error_set(err, errno_code(number), "cannot write %.180s: %s",
                         path, strerror(number));
}

static int file_close(FILE *f, int written, const char *path, orr_error *err)
{
    int flushed = fflush(f) == 0 && fsync(fileno(f)) == 0;
    int number = errno;

    if (fclose(f) == 0 && flushed && written)
        return ORR_OK;
    ERR_clear_error();
    unlink(path);
    return orr_error_set(err, ORR_EIO, "cannot write %.180s: %s", path,
                         strerror(number));
}

static int save(X509 *certificate, EVP_PKEY *key, const char *certificate_path,
                const char *key_path, int overwrite, orr_error *err)
{
    FILE *f;
    int rc = file_create(key_path, 0600, overwrite, &f, err);

    if (rc == ORR_OK)
        rc = file_close(
            f, PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1,
            key_path, err);
    if (rc != ORR_OK)
        return rc;
    rc = file_create(certificate_path, 0644, overwrite, &f, err);
    if (rc == ORR_OK)
        rc = file_close(f, PEM_write_X509(f, certificate) == 1,
                        certificate_path, err);
    if (rc != ORR_OK && !overwrite)
        unlink(key_path); /* ours, of no use alone */
    return rc;
}

static FILE *file_open(const char *path, orr_error *err)
{
    FILE *f = fopen(path, "re");

    if (f == NULL)
        orr_error_set(err, ORR_EIO, "cannot read %.180s: %s", path,
                      strerror(errno));
    return f;
}

static int no_password(char *out, int size, int writing, void *user)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

static X509 *certificate_read(const char *path, orr_error *err)
{
    FILE *f = file_open(path, err);
    X509 *x;

    if (f == NULL)
        return NULL;
    x = PEM_read_X509(f, NULL, no_password, NULL);
    fclose(f);
    if (x == NULL) {
        ERR_clear_error();
        orr_error_set(err, ORR_EIO, "%.180s holds no certificate (PEM)", path);
    }
    return x;
}

static EVP_PKEY *key_read(const char *path, orr_error *err)
{
    FILE *f = file_open(path, err);
    EVP_PKEY *key;

    if (f == NULL)
        return NULL;
    key = PEM_read_PrivateKey(f, NULL, no_password, NULL);
    fclose(f);
    if (key == NULL) {
        ERR_clear_error();
        orr_error_set(err, ORR_EIO,
                      "%.180s holds no key without a password (PEM)", path);
    }
    return key;
}

/* --- certificates --------------------------------------------------------- */

static int extend(X509 *x, X509V3_CTX *context, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, context, nid, value);
    int ok = e != NULL && X509_add_ext(x, e, -1) == 1;

    X509_EXTENSION_free(e);
    return ok;
}

static int is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
              (c >= 'A' && c <= 'Z') || strchr("_.-:*", c) != NULL) ||
            c == '\0')
            return 0;
    }
    return len > 0;
}

/* An address is told from a name by what OpenSSL can read. */
static int is_address(const char *text, size_t len)
{
    char copy[64];
    ASN1_OCTET_STRING *ip;

    if (len >= sizeof copy)
        return 0;
    memcpy(copy, text, len);
    copy[len] = '\0';
    ip = a2i_IPADDRESS(copy);
    ASN1_OCTET_STRING_free(ip);
    ERR_clear_error();
    return ip != NULL;
}

/* "URI:orrery:role/x,DNS:a,IP:1.2.3.4"; "" when there is nothing to name. */
static int names_value(const orr_tls_request *r, char *out, size_t size,
                       orr_error *err)
{
    const char *at = r->hosts == NULL ? "" : r->hosts;
    size_t used = 0;

    out[0] = '\0';
    if (r->role != NULL) {
        if (!is_word(r->role, strlen(r->role)) ||
            strpbrk(r->role, ":*") != NULL ||
            strlen(r->role) > ORR_TLS_ROLE_MAX)
            return orr_error_set(err, ORR_EINVAL,
                                 "the role \"%.80s\" is not 1 to %d letters, "
                                 "digits, _ . -",
                                 r->role, ORR_TLS_ROLE_MAX);
        used = (size_t)snprintf(out, size, "URI:orrery:role/%s", r->role);
    }
    for (;;) {
        size_t len;

        at += strspn(at, " ");
        len = strcspn(at, " ");
        if (len == 0)
            return ORR_OK;
        if (!is_word(at, len))
            return orr_error_set(err, ORR_EINVAL,
                                 "\"%.*s\" is not the name or the address of "
                                 "a host",
                                 (int)(len < 80 ? len : 80), at);
        used += (size_t)snprintf(
            out + used, size - used, "%s%s:%.*s", used == 0 ? "" : ",",
            is_address(at, len) ? "IP" : "DNS", (int)len, at);
        if (used >= size)
            return orr_error_set(err, ORR_EINVAL,
                                 "the names of hosts have more than %d bytes",
                                 NAMES_MAX);
        at += len;
    }
}

static int serial_set(X509 *x)
{
    uint8_t bytes[8];
    BIGNUM *n;
    int ok;

    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return 0;
    bytes[0] &= 0x7f;
    bytes[7] |= 1; /* never 0 */
    n = BN_bin2bn(bytes, sizeof bytes, NULL);
    ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
    BN_free(n);
    return ok;
}

static int subject_set(X509 *x, const orr_tls_request *r)
{
    X509_NAME *name = X509_get_subject_name(x);
    const char *common = r->name != NULL ? r->name : "orrery";

    if (r->role != NULL && X509_NAME_add_entry_by_NID(
                               name, NID_organizationalUnitName, MBSTRING_UTF8,
                               (const uint8_t *)r->role, -1, -1, 0) != 1)
        return 0;
    return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                      (const uint8_t *)common, -1, -1, 0) == 1;
}

static int times_set(X509 *x, const orr_tls_request *r)
{
    time_t from = time(NULL) + (time_t)r->from_s;
    time_t until = time(NULL) + (time_t)r->until_s;

    return ASN1_TIME_set(X509_getm_notBefore(x), from) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(x), until) != NULL;
}

static int extensions_set(X509 *x, X509 *issuer, const char *names)
{
    X509V3_CTX context;
    int is_authority = x == issuer;

    X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
    return extend(x, &context, NID_basic_constraints,
                  is_authority ? "critical,CA:TRUE,pathlen:0"
                               : "critical,CA:FALSE") &&
           extend(x, &context, NID_key_usage,
                  is_authority ? "critical,keyCertSign,cRLSign"
                               : "critical,digitalSignature") &&
           (is_authority ||
            extend(x, &context, NID_ext_key_usage, "serverAuth,clientAuth")) &&
           extend(x, &context, NID_subject_key_identifier, "hash") &&
           extend(x, &context, NID_authority_key_identifier, "keyid") &&
           (names[0] == '\0' ||
            extend(x, &context, NID_subject_alt_name, names));
}

/* Fills and signs x; issuer NULL: by itself. */
static int fill(X509 *x, EVP_PKEY *key, const orr_tls_request *r,
                const char *names, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *by = issuer != NULL ? issuer : x;

    return X509_set_version(x, X509_VERSION_3) == 1 && serial_set(x) &&
           times_set(x, r) && subject_set(x, r) &&
           X509_set_issuer_name(x, X509_get_subject_name(by)) == 1 &&
           X509_set_pubkey(x, key) == 1 && extensions_set(x, by, names) &&
           X509_sign(x, issuer != NULL ? issuer_key : key, EVP_sha256()) > 0;
}

static int request_check(const orr_tls_request *r, orr_error *err)
{
    if (r->until_s <= r->from_s)
        return orr_error_set(err, ORR_EINVAL,
                             "the certificate would end before it begins");
    if (r->name != NULL && (r->name[0] == '\0' || strlen(r->name) > 64))
        return orr_error_set(err, ORR_EINVAL,
                             "the common name must have 1 to 64 bytes");
    return ORR_OK;
}

static int make(const orr_tls_request *r, X509 *issuer, EVP_PKEY *issuer_key,
                const char *certificate_path, const char *key_path,
                int overwrite, orr_error *err)
{
    char names[NAMES_MAX];
    int rc = request_check(r, err);
    EVP_PKEY *key;
    X509 *x;

    if (rc == ORR_OK)
        rc = names_value(r, names, sizeof names, err);
    if (rc != ORR_OK)
        return rc;
    ERR_clear_error();
    key = EVP_EC_gen("P-256");
    x = X509_new();
    if (key == NULL || x == NULL || !fill(x, key, r, names, issuer, issuer_key))
        rc = failed(err, "a certificate cannot be made");
    else
        rc = save(x, key, certificate_path, key_path, overwrite, err);
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

int orr_tls_make_authority(const orr_tls_request *request,
                           const char *certificate_path, const char *key_path,
                           int overwrite, orr_error *err)
{
    return make(request, NULL, NULL, certificate_path, key_path, overwrite,
                err);
}

int orr_tls_make_certificate(const orr_tls_request *request,
                             const char *authority_path,
                             const char *authority_key_path,
                             const char *certificate_path, const char *key_path,
                             int overwrite, orr_error *err)
{
    X509 *issuer = certificate_read(authority_path, err);
    EVP_PKEY *issuer_key =
        issuer == NULL ? NULL : key_read(authority_key_path, err);
    int rc = ORR_EIO;

    if (issuer_key != NULL && X509_check_private_key(issuer, issuer_key) != 1) {
        ERR_clear_error();
        orr_error_set(err, ORR_EIO, "the key %.100s does not belong to %.100s",
                      authority_key_path, authority_path);
    } else if (issuer_key != NULL) {
        rc = make(request, issuer, issuer_key, certificate_path, key_path,
                  overwrite, err);
    }
    EVP_PKEY_free(issuer_key);
    X509_free(issuer);
    return rc;
}

int orr_tls_fingerprint(const char *path, char *out, orr_error *err)
{
    X509 *x = certificate_read(path, err);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int ok;

    if (x == NULL)
        return ORR_EIO;
    ok = X509_digest(x, EVP_sha256(), digest, &len) == 1;
    X509_free(x);
    if (!ok)
        return failed(err, "no fingerprint");
    for (unsigned i = 0; i < len; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return ORR_OK;
}
