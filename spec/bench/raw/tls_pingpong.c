/* Baseline of a call over TLS: two processes, one connection on the loopback,
 * blocking SSL_write and SSL_read, one frame under way. TLS 1.3 with the suite
 * that Orrery prefers, a self-signed P-256 certificate on the server, Nagle's
 * algorithm off.
 *
 * The process forks: the child serves, the parent measures.
 */
#define _GNU_SOURCE 1

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "raw.h"

static const char usage[] =
    "[--size BYTES] [--rounds N] [--warmup N]\n"
    "  --size    bytes of a frame, 8..1048576 (64)\n"
    "  --rounds  frames to measure (20000)\n"
    "  --warmup  frames before (a tenth of rounds)\n"
    "prints tls_pingpong_p50, tls_pingpong_p99 in ns, tls_pingpong_rate in 1/s";

static _Noreturn void tls_fail(const char *what)
{
    char text[200];

    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    raw_fail(what, text);
}

static X509 *certificate_make(EVP_PKEY *key)
{
    X509 *x = X509_new();
    X509_NAME *name;

    if (x == NULL)
        tls_fail("certificate");
    name = X509_get_subject_name(x);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)"raw", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_set_pubkey(x, key);
    if (X509_sign(x, key, EVP_sha256()) <= 0)
        tls_fail("sign");
    return x;
}

static SSL_CTX *context_make(int is_server)
{
    SSL_CTX *ctx =
        SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());

    if (ctx == NULL ||
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1)
        tls_fail("context");
    SSL_CTX_set_num_tickets(ctx, 0);
    if (is_server) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *x = key == NULL ? NULL : certificate_make(key);

        if (x == NULL || SSL_CTX_use_certificate(ctx, x) != 1 ||
            SSL_CTX_use_PrivateKey(ctx, key) != 1)
            tls_fail("certificate");
        X509_free(x);
        EVP_PKEY_free(key);
    }
    return ctx;
}

static SSL *stream_make(int fd, int is_server)
{
    SSL_CTX *ctx = context_make(is_server);
    SSL *ssl = SSL_new(ctx);
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
        tls_fail("stream");
    SSL_CTX_free(ctx);
    if ((is_server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1)
        tls_fail("handshake");
    return ssl;
}

/* Answers 0 when the stream ended. */
static int read_all(SSL *ssl, char *data, size_t size)
{
    size_t have = 0, n;

    while (have < size) {
        if (SSL_read_ex(ssl, data + have, size - have, &n) != 1)
            return 0;
        have += n;
    }
    return 1;
}

static void serve(int listener, size_t size)
{
    char *data = raw_alloc(1, size);
    size_t n;
    int fd;
    SSL *ssl;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        raw_fail("accept", strerror(errno));
    ssl = stream_make(fd, 1);
    while (read_all(ssl, data, size))
        if (SSL_write_ex(ssl, data, size, &n) != 1)
            break;
    _exit(0);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--size", "--rounds", "--warmup", NULL};
    raw_usage(argc, argv, usage, known);
    size_t size = raw_option(argc, argv, "--size", 64, 8, 1 << 20);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 100000000);
    size_t warmup =
        raw_option(argc, argv, "--warmup", rounds / 10, 0, 100000000);

    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, len) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        raw_fail("listen", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        raw_fail("fork", strerror(errno));
    if (child == 0)
        serve(listener, size);
    close(listener);

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, len) != 0)
        raw_fail("connect", strerror(errno));
    SSL *ssl = stream_make(fd, 0);
    char *data = raw_alloc(1, size);
    uint64_t *samples = raw_alloc(rounds, sizeof *samples);
    uint64_t started = raw_now_ns();
    for (size_t i = 0; i < warmup + rounds; i++) {
        uint64_t begin = raw_now_ns();
        size_t n;

        if (i == warmup)
            started = begin;
        if (SSL_write_ex(ssl, data, size, &n) != 1 ||
            !read_all(ssl, data, size))
            tls_fail("ping-pong");
        if (i >= warmup)
            samples[i - warmup] = raw_now_ns() - begin;
    }
    uint64_t total = raw_now_ns() - started;

    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    waitpid(child, NULL, 0);
    raw_print("tls_pingpong", samples, rounds, total);
    free(samples);
    free(data);
    return 0;
}
