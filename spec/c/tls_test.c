/* TLS streams in memory, then over real sockets. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "net_fixture.h"
#include "tls_fixture.h"

static const uint64_t ms = 1000000u;

/* --- two streams in memory ------------------------------------------------ */

typedef struct side {
    orr_tls *tls;
    orr_tls_context *context;
    orr_tls_shared shared;
    orr_buf wire; /* what it wrote and the other has not read */
    orr_buf got;
    size_t room; /* of one write, before it is borrowed */
    const uint8_t *borrowed;
    size_t borrowed_len;
    int opens;
    int drains;
    int failures;
    int resets;
    int last_words;
    char role[ORR_TLS_ROLE_MAX + 1];
    char reason[ORR_TLS_REASON_MAX];
} side;

static size_t side_write(void *stream, const uint8_t *data, size_t len)
{
    side *s = stream;
    size_t n = len < s->room ? len : s->room;

    assert_int_equal(s->borrowed_len, 0);
    assert_int_equal(orr_buf_append(&s->wire, data, n), ORR_OK);
    s->borrowed = data + n;
    s->borrowed_len = len - n;
    return n;
}

static void side_reset(void *stream)
{
    ((side *)stream)->resets++;
}

static void side_open(void *stream, const char *role)
{
    side *s = stream;

    s->opens++;
    snprintf(s->role, sizeof s->role, "%s", role);
}

static void side_input(void *stream, const uint8_t *data, size_t len)
{
    side *s = stream;
    assert_int_equal(orr_buf_append(&s->got, data, len), ORR_OK);
}

static void side_drained(void *stream)
{
    ((side *)stream)->drains++;
}

static void side_failed(void *stream, const char *reason, int last_words)
{
    side *s = stream;

    s->failures++;
    s->last_words = last_words;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
}

static const orr_tls_ops side_ops = {
    .write = side_write,
    .reset = side_reset,
    .open = side_open,
    .input = side_input,
    .drained = side_drained,
    .failed = side_failed,
};

static void side_begin(side *s, const orr_tls_options *o, const char *host)
{
    orr_error err;

    memset(s, 0, sizeof *s);
    s->room = SIZE_MAX;
    s->context = orr__tls_context_new(o, &err);
    if (s->context == NULL)
        fail_msg("%s", err.text);
    s->tls = orr__tls_new(s->context, &s->shared, host, &side_ops, s);
    assert_non_null(s->tls);
}

static void side_end(side *s)
{
    orr__tls_free(s->tls);
    orr__tls_context_free(s->context);
    orr__tls_shared_fini(&s->shared);
    orr_buf_free(&s->wire);
    orr_buf_free(&s->got);
}

/* Moves what from wrote, step bytes at a time; answers whether there was any.
 * What the stream borrowed is written first. */
static int move(side *from, side *to, size_t step)
{
    orr_buf wire = from->wire;

    memset(&from->wire, 0, sizeof from->wire);
    for (size_t at = 0; at < wire.len; at += step)
        orr__tls_input(to->tls, wire.data + at,
                       wire.len - at < step ? wire.len - at : step);
    if (from->borrowed_len > 0) {
        size_t n = from->borrowed_len;
        from->borrowed_len = 0;
        assert_int_equal(orr_buf_append(&from->wire, from->borrowed, n),
                         ORR_OK);
        orr__tls_drained(from->tls);
    }
    int moved = wire.len > 0 || from->wire.len > 0;
    orr_buf_free(&wire);
    return moved;
}

static void settle(side *a, side *b, size_t step)
{
    int again = 1;

    for (int i = 0; again && i < 10000; i++) {
        again = move(a, b, step);
        again = move(b, a, step) || again;
    }
    assert_false(again);
}

/* a dials b. */
static void pair_begin(side *a, const orr_tls_options *a_options,
                       const char *host, side *b,
                       const orr_tls_options *b_options, size_t step)
{
    side_begin(a, a_options, host);
    side_begin(b, b_options, NULL);
    orr__tls_start(a->tls);
    settle(a, b, step);
}

static void both_begin(side *a, side *b, size_t step)
{
    orr_tls_options client = certs_options("client", "ca");
    orr_tls_options server = certs_options("jm", "ca");

    pair_begin(a, &client, "127.0.0.1", b, &server, step);
    assert_int_equal(a->opens, 1);
    assert_int_equal(b->opens, 1);
}

static void both_sides_prove_their_roles(void **state)
{
    side a, b;

    (void)state;
    both_begin(&a, &b, SIZE_MAX / 2);
    assert_string_equal(a.role, "jobmanager");
    assert_string_equal(b.role, "client");
    side_end(&a);
    side_end(&b);
}

static void exchange(side *a, side *b, size_t size, size_t step)
{
    uint8_t *data = malloc(size);

    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    orr_buf_reset(&b->got);
    if (orr__tls_write(a->tls, data, size) == size) {
        settle(a, b, step);
    } else {
        int before = a->drains;
        settle(a, b, step);
        assert_int_equal(a->drains, before + 1);
    }
    assert_int_equal(b->got.len, size);
    assert_memory_equal(b->got.data, data, size);
    free(data);
}

static void the_stream_may_be_split_anywhere(void **state)
{
    static const size_t steps[] = {1, 2, 3, 5, 7, 1000, 16384, 16389, 1 << 20};
    side a, b;

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        both_begin(&a, &b, steps[i]);
        exchange(&a, &b, 1, steps[i]);
        exchange(&b, &a, 100, steps[i]);
        exchange(&a, &b, 50000, steps[i]);
        assert_int_equal(a.failures + b.failures, 0);
        side_end(&a);
        side_end(&b);
    }
}

static void a_socket_that_is_full_is_waited_for(void **state)
{
    side a, b;

    (void)state;
    both_begin(&a, &b, 4096);
    for (size_t room = 0; room < 3; room++) {
        a.room = room * 777;
        exchange(&a, &b, 1 << 20, 100000);
    }
    /* At most a chunk is encrypted before the socket takes it. */
    a.room = 0;
    uint8_t *data = calloc(1, 8 << 20);
    assert_int_equal(orr__tls_write(a.tls, data, 8 << 20), 0);
    assert_true(a.borrowed_len < 200 * 1024);
    free(data);
    a.borrowed_len = 0;
    orr__tls_close(a.tls, 1);
    side_end(&a);
    side_end(&b);
}

static void a_write_before_the_handshake_is_kept(void **state)
{
    orr_tls_options client = certs_options("client", "ca");
    orr_tls_options server = certs_options("jm", "ca");
    side a, b;

    (void)state;
    side_begin(&a, &client, "localhost");
    side_begin(&b, &server, NULL);
    assert_int_equal(orr__tls_write(b.tls, (const uint8_t *)"hello", 5), 0);
    orr__tls_start(a.tls);
    settle(&a, &b, 100);
    assert_int_equal(b.drains, 1);
    assert_int_equal(a.got.len, 5);
    side_end(&a);
    side_end(&b);
}

static void an_end_in_order_is_told(void **state)
{
    side a, b;

    (void)state;
    both_begin(&a, &b, 1000);
    assert_int_equal(orr__tls_write(a.tls, (const uint8_t *)"bye", 3), 3);
    orr__tls_close(a.tls, 0);
    move(&a, &b, 1);
    assert_int_equal(b.got.len, 3);
    assert_int_equal(b.failures, 1);
    assert_string_equal(b.reason, "closed by the peer");
    assert_int_equal(b.last_words, 0);
    side_end(&a);
    side_end(&b);
}

static void a_changed_record_ends_the_stream(void **state)
{
    side a, b;

    (void)state;
    both_begin(&a, &b, 1000);
    assert_int_equal(orr__tls_write(a.tls, (const uint8_t *)"money", 5), 5);
    a.wire.data[a.wire.len - 3] ^= 1;
    move(&a, &b, 1000);
    assert_int_equal(b.got.len, 0);
    assert_int_equal(b.failures, 1);
    assert_non_null(strstr(b.reason, "TLS failed"));
    move(&b, &a, 1000);
    assert_non_null(strstr(a.reason, "bad record mac"));
    side_end(&a);
    side_end(&b);
}

/* --- refusals ------------------------------------------------------------- */

#define assert_part(text, part)                                                \
    do {                                                                       \
        if (strstr(text, part) == NULL)                                        \
            fail_msg("\"%s\" is not in \"%s\"", part, text);                   \
    } while (0)

/* The dialler refuses: the reason there, the alert at the other side. */
static void dialler_refuses(const char *server, const char *host,
                            const char *why, const char *alert)
{
    orr_tls_options a_options = certs_options("client", "ca");
    orr_tls_options b_options = certs_options(server, "ca");
    side a, b;

    pair_begin(&a, &a_options, host, &b, &b_options, 333);
    assert_int_equal(a.opens, 0);
    assert_int_equal(a.failures, 1);
    assert_int_equal(a.last_words, 1);
    assert_part(a.reason, why);
    assert_int_equal(b.opens, 0);
    assert_int_equal(b.failures, 1);
    assert_part(b.reason, alert);
    side_end(&a);
    side_end(&b);
}

static void acceptor_refuses(const char *client, const char *why,
                             const char *alert)
{
    orr_tls_options a_options = certs_options(client, "ca");
    orr_tls_options b_options = certs_options("jm", "ca");
    side a, b;

    pair_begin(&a, &a_options, "127.0.0.1", &b, &b_options, 333);
    assert_int_equal(b.opens, 0);
    assert_int_equal(b.failures, 1);
    assert_part(b.reason, why);
    assert_int_equal(a.failures, 1);
    assert_part(a.reason, alert);
    side_end(&a);
    side_end(&b);
}

static void a_certificate_out_of_its_time_is_refused(void **state)
{
    (void)state;
    dialler_refuses("expired", "127.0.0.1", "certificate has expired",
                    "certificate expired");
    acceptor_refuses("expired", "certificate has expired",
                     "certificate expired");
    dialler_refuses("early", "127.0.0.1", "not yet valid", "bad certificate");
}

static void a_certificate_of_others_is_refused(void **state)
{
    (void)state;
    dialler_refuses("stranger", "127.0.0.1", "issuer certificate",
                    "unknown CA");
    acceptor_refuses("stranger", "issuer certificate", "unknown CA");
}

static void a_certificate_for_another_host_is_refused(void **state)
{
    (void)state;
    dialler_refuses("elsewhere", "127.0.0.1",
                    "it is not for 127.0.0.1 but for example.org, 10.1.2.3",
                    "bad certificate");
    dialler_refuses("jm", "example.org",
                    "it is not for example.org but for localhost, 127.0.0.1",
                    "bad certificate");
    dialler_refuses("client", "127.0.0.1", "but for nobody", "bad certificate");
}

static const char *pin_of(const char *name)
{
    static char pins[2][65];
    static int next;
    char *out = pins[next++ % 2];
    orr_error err;

    assert_int_equal(orr_tls_fingerprint(certs_path(name, "pem"), out, &err),
                     ORR_OK);
    return out;
}

/* The client with its options, against jm. */
static void with_pins(const char *server, const char *pin,
                      const char *authority, int ok, const char *why)
{
    orr_tls_options a_options = certs_options("client", authority);
    orr_tls_options b_options = certs_options(server, "ca");
    side a, b;

    a_options.fingerprints = pin;
    pair_begin(&a, &a_options, "no.such.host", &b, &b_options, 333);
    assert_int_equal(a.opens, ok);
    assert_int_equal(a.failures, !ok);
    assert_part(a.reason, why);
    side_end(&a);
    side_end(&b);
}

static void a_pinned_certificate_needs_no_host_and_no_authority(void **state)
{
    (void)state;
    with_pins("jm", pin_of("jm"), "", 1, "");
    with_pins("jm", pin_of("jm"), "ca", 1, "");
    with_pins("stranger", pin_of("stranger"), "", 1, "");
    with_pins("jm", pin_of("client"), "", 0, "not among the pinned");
    with_pins("jm", pin_of("client"), "ca", 0, "not among the pinned");
    with_pins("stranger", pin_of("stranger"), "ca", 0, "issuer certificate");
    with_pins("expired", pin_of("expired"), "", 0, "has expired");
}

static void roles_may_be_asked_for_at_the_door(void **state)
{
    orr_tls_options a_options = certs_options("client", "ca");
    orr_tls_options b_options = certs_options("jm", "ca");
    side a, b;

    (void)state;
    b_options.roles = "taskmanager client";
    pair_begin(&a, &a_options, "localhost", &b, &b_options, 333);
    assert_int_equal(b.opens, 1);
    side_end(&a);
    side_end(&b);
    b_options.roles = "taskmanager jobmanager";
    pair_begin(&a, &a_options, "localhost", &b, &b_options, 333);
    assert_int_equal(b.opens, 0);
    assert_part(b.reason, "its role is client, one of these may connect: "
                          "taskmanager jobmanager");
    side_end(&a);
    side_end(&b);
}

static void a_certificate_without_a_role_has_none(void **state)
{
    orr_tls_options a_options = certs_options("plain", "ca");
    orr_tls_options b_options = certs_options("jm", "ca");
    side a, b;

    (void)state;
    pair_begin(&a, &a_options, "localhost", &b, &b_options, 333);
    assert_int_equal(b.opens, 1);
    assert_string_equal(b.role, "");
    side_end(&a);
    side_end(&b);
}

/* A client of OpenSSL alone, in memory, of some version, without a certificate
 * of its own. Answers the reason at our side. */
static void foreign_client(int version, char *reason, size_t size)
{
    orr_tls_options o = certs_options("jm", "ca");
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    char bytes[4096];
    side b;
    int n;

    SSL_CTX_set_max_proto_version(ctx, version);
    ssl = SSL_new(ctx);
    SSL_set_bio(ssl, in, out);
    SSL_set_connect_state(ssl);
    side_begin(&b, &o, NULL);
    for (int i = 0; i < 10 && b.failures == 0; i++) {
        SSL_do_handshake(ssl);
        while ((n = BIO_read(out, bytes, sizeof bytes)) > 0)
            orr__tls_input(b.tls, (const uint8_t *)bytes, (size_t)n);
        BIO_write(in, b.wire.data, (int)b.wire.len);
        orr_buf_reset(&b.wire);
    }
    assert_int_equal(b.opens, 0);
    assert_int_equal(b.failures, 1);
    snprintf(reason, size, "%s", b.reason);
    side_end(&b);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

static void strangers_are_refused(void **state)
{
    char reason[ORR_TLS_REASON_MAX];

    (void)state;
    foreign_client(TLS1_3_VERSION, reason, sizeof reason);
    assert_string_equal(reason, "it showed no certificate, one is needed here");
    foreign_client(TLS1_2_VERSION, reason, sizeof reason);
    assert_part(reason, "unsupported protocol");
}

/* --- options and files ---------------------------------------------------- */

static void options_refused(orr_tls_options o, int code, const char *part)
{
    orr_error err = {0};

    assert_null(orr__tls_context_new(&o, &err));
    assert_int_equal(err.code, code);
    assert_part(err.text, part);
}

static void options_that_cannot_be_used_are_one_sentence(void **state)
{
    orr_tls_options o;

    (void)state;
    options_refused((orr_tls_options){0}, ORR_EINVAL, "a certificate and its");
    options_refused(certs_options("jm", ""), ORR_EINVAL,
                    "an authority or fingerprints");
    options_refused(certs_options("nobody", "ca"), ORR_EIO,
                    "No such file or directory");
    options_refused(certs_options("jm", "nobody"), ORR_EIO, "the authority");
    o = certs_options("jm", "ca");
    o.key = certs_path("client", "key");
    options_refused(o, ORR_EIO, "does not belong to the certificate");
    o.key = certs_path("ca", "pem");
    options_refused(o, ORR_EIO, "the key");
    o = certs_options("jm", "ca");
    o.certificate = certs_path("jm", "key");
    options_refused(o, ORR_EIO, "the certificate");
    o = certs_options("jm", "ca");
    o.fingerprints = "12:34";
    options_refused(o, ORR_EINVAL, "\"12:34\" is not a fingerprint");
}

static void what_is_made_is_for_its_owner(void **state)
{
    orr_tls_request r = {.name = "x", .until_s = 100};
    struct stat s;
    orr_error err;

    (void)state;
    assert_int_equal(stat(certs_path("ca", "key"), &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(orr_tls_make_authority(&r, certs_path("ca", "pem"),
                                            certs_path("ca", "key"), 0, &err),
                     ORR_EEXIST);
    assert_part(err.text, "File exists");
    r.until_s = 0;
    assert_int_equal(orr_tls_make_authority(&r, certs_path("ca", "pem"),
                                            certs_path("ca", "key"), 1, &err),
                     ORR_EINVAL);
    r.until_s = 100;
    r.hosts = "a,DNS:evil.example";
    assert_int_equal(orr_tls_make_authority(&r, certs_path("ca", "pem"),
                                            certs_path("ca", "key"), 1, &err),
                     ORR_EINVAL);
    assert_part(err.text, "is not the name or the address of a host");
    r.hosts = NULL;
    r.role = "a b";
    assert_int_equal(orr_tls_make_authority(&r, certs_path("ca", "pem"),
                                            certs_path("ca", "key"), 1, &err),
                     ORR_EINVAL);
    assert_int_equal(orr_tls_make_certificate(&r, certs_path("ca", "pem"),
                                              certs_path("other", "key"),
                                              certs_path("jm", "pem"),
                                              certs_path("jm", "key"), 1, &err),
                     ORR_EIO);
    assert_part(err.text, "does not belong to");
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int opens_with(orr_tls_context *x, const char *reason)
{
    orr_tls_options a_options = certs_options("client", "ca");
    side a, b;

    side_begin(&a, &a_options, "127.0.0.1");
    memset(&b, 0, sizeof b);
    b.room = SIZE_MAX;
    b.tls = orr__tls_new(x, &b.shared, NULL, &side_ops, &b);
    orr__tls_start(a.tls);
    settle(&a, &b, 5000);
    int opens = a.opens;
    assert_part(a.reason, reason);
    side_end(&a);
    side_end(&b);
    return opens;
}

static void certificates_are_read_again(void **state)
{
    orr_tls_options o;
    orr_tls_context *x;
    orr_error err;

    (void)state;
    certs_make("changing", "ca", "a", "127.0.0.1", -60, 3600);
    o = certs_options("changing", "ca");
    x = orr__tls_context_new(&o, &err);
    assert_non_null(x);
    orr__tls_context_refresh(x, 1000 * ms);
    assert_int_equal(opens_with(x, ""), 1);

    certs_make("changing", "other", "a", "127.0.0.1", -60, 3600);
    orr__tls_context_refresh(x, 1999 * ms); /* looked at a moment ago */
    assert_int_equal(opens_with(x, ""), 1);
    orr__tls_context_refresh(x, 2000 * ms);
    assert_int_equal(opens_with(x, "issuer certificate"), 0);

    certs_make("changing", "ca", "a", "127.0.0.1", -60, 3600);
    assert_int_equal(orr__tls_context_reload(x, &err), ORR_OK);
    assert_int_equal(opens_with(x, ""), 1);

    /* What cannot be used changes nothing, however it is asked for. */
    write_file(certs_path("changing", "pem"), "no certificate");
    assert_int_equal(orr__tls_context_reload(x, &err), ORR_EIO);
    assert_part(err.text, "changing.pem cannot be used");
    write_file(certs_path("changing", "pem"), "none either");
    orr__tls_context_refresh(x, 3000 * ms);
    assert_int_equal(opens_with(x, ""), 1);
    unlink(certs_path("changing", "pem"));
    orr__tls_context_refresh(x, 4000 * ms);
    assert_int_equal(opens_with(x, ""), 1);
    orr__tls_context_free(x);
}

/* Carries what from wrote without an allocation of the fixture's own. */
static void carry(side *from, side *to)
{
    uint8_t bytes[16384];
    size_t n = from->wire.len;

    assert_true(n <= sizeof bytes);
    if (n > 0)
        memcpy(bytes, from->wire.data, n);
    orr_buf_reset(&from->wire);
    orr__tls_input(to->tls, bytes, n);
}

static void without_memory_nothing_is_lost(void **state)
{
    orr_tls_options client = certs_options("client", "ca");
    orr_tls_options server = certs_options("jm", "ca");

    (void)state;
    for (uint64_t n = 1; n < 12; n++) {
        uint64_t live = orr_alloc_live();
        side a, b;

        side_begin(&a, &client, "localhost");
        side_begin(&b, &server, NULL);
        assert_int_equal(orr_buf_reserve(&a.wire, 16384), ORR_OK);
        assert_int_equal(orr_buf_reserve(&b.wire, 16384), ORR_OK);
        assert_int_equal(orr_buf_reserve(&a.got, 16384), ORR_OK);
        orr_alloc_fail_at(n);
        assert_int_equal(orr__tls_write(b.tls, (const uint8_t *)"hello", 5), 0);
        orr__tls_start(a.tls);
        for (int i = 0; i < 4; i++) {
            carry(&a, &b);
            carry(&b, &a);
        }
        orr_alloc_fail_at(0);
        /* All went well, or somebody was told. */
        assert_true((a.opens == 1 && b.drains == 1) ||
                    a.failures + a.resets + b.failures + b.resets > 0);
        side_end(&a);
        side_end(&b);
        assert_int_equal(orr_alloc_live(), live);
    }
}

/* --- over sockets --------------------------------------------------------- */

typedef struct world {
    orr_loop *loops[2];
    party parties[2];
} world;

/* certificate NULL: without TLS. */
static void start(world *w, int i, const char *certificate, const char *listen)
{
    orr_net_options options = {.handshake_timeout_ns = 200 * ms,
                               .connect_timeout_ns = 300 * ms};
    party *p = &w->parties[i];
    orr_error err = {0};

    w->loops[i] = orr_loop_new((uint32_t)i, &err);
    assert_non_null(w->loops[i]);
    p->ex = orr_loop_executor(w->loops[i]);
    p->service = orr_service_new(i == 0 ? "a" : "b", "alpha", 1);
    p->net = orr_net_new(w->loops[i], p->service, &options, &err);
    assert_non_null(p->net);
    if (certificate != NULL) {
        orr_tls_options o = certs_options(certificate, "ca");
        assert_int_equal(orr_net_secure(p->net, &o, &err), ORR_OK);
        assert_int_equal(orr_net_secure(p->net, &o, &err), ORR_EEXIST);
    }
    if (listen != NULL && orr_net_listen(p->net, listen, p->address,
                                         sizeof p->address, &err) != ORR_OK)
        fail_msg("%s", err.text);
    party_serve(p);
}

static void begin(world *w, const char *dialler, const char *listener)
{
    memset(w, 0, sizeof *w);
    start(w, 0, dialler, NULL);
    start(w, 1, listener, "127.0.0.1:0");
}

static void end(world *w)
{
    for (int i = 0; i < 2; i++) {
        orr_net_free(w->parties[i].net);
        assert_int_equal(orr_loop_free(w->loops[i]), 0);
        orr_service_free(w->parties[i].service);
    }
}

static void pump(world *w)
{
    for (int i = 0; i < 2; i++) {
        party_drain(&w->parties[i]);
        orr_loop_turn(w->loops[i], 0);
    }
}

/* Until cond holds, within the limit. */
#define pump_until(w, limit_ms, cond)                                          \
    do {                                                                       \
        uint64_t begin_ = orr_clock_mono_ns();                                 \
        int met_;                                                              \
        while (!(met_ = (cond)) &&                                             \
               orr_clock_mono_ns() - begin_ < (limit_ms)*ms)                   \
            pump(w);                                                           \
        if (!met_)                                                             \
            fail_msg("%d ms without %s", limit_ms, #cond);                     \
    } while (0)

/* The connect fails within a second, with these words. */
static void refused(const char *dialler, const char *listener, int code,
                    const char *part)
{
    orr_net_info info;
    world w;
    party *a = &w.parties[0];

    begin(&w, dialler, listener);
    party_connect(a, w.parties[1].address, 0);
    pump_until(&w, 1000, a->replies == 1);
    assert_reply(a, code, part);
    orr_net_info_get(w.parties[1].net, &info);
    pump_until(&w, 1000,
               (orr_net_info_get(w.parties[1].net, &info),
                info.handshake_failures == 1 && info.connections == 0));
    end(&w);
}

static void large_bodies_go_over_tls(void **state)
{
    world w;
    party *a = &w.parties[0];
    size_t size = 8 << 20;
    uint8_t *body = malloc(size);
    uint32_t target;

    (void)state;
    for (size_t i = 0; i < size; i++)
        body[i] = (uint8_t)(i * 131 >> 5);
    begin(&w, "client", "jm");
    party_connect(a, w.parties[1].address, 0);
    pump_until(&w, 5000, a->replies == 1);
    assert_reply(a, ORR_OK, "");
    target = party_last(a)->target;
    assert_int_equal(party_ask(a, target, body, size, 0), ORR_OK);
    assert_int_equal(party_ask(a, target, "x", 1, 0), ORR_OK);
    pump_until(&w, 20000, a->replies == 3);
    assert_int_equal(a->reply[1].size, 1); /* answers pass each other */
    assert_int_equal(a->reply[2].size, size);
    assert_int_equal(a->reply[2].crc, orr_crc32c(0, body, size));
    free(body);
    end(&w);
}

static void refusals_reach_the_caller(void **state)
{
    (void)state;
    refused("client", "expired", ORR_UNREACHABLE,
            "its certificate is refused: certificate has expired");
    refused("client", "elsewhere", ORR_UNREACHABLE,
            "it is not for 127.0.0.1 but for example.org, 10.1.2.3");
    refused("expired", "jm", ORR_UNREACHABLE,
            "it refuses us by the TLS alert \"certificate expired\"");
    refused("stranger", "jm", ORR_UNREACHABLE,
            "it refuses us by the TLS alert \"unknown CA\"");
}

static void a_side_without_tls_is_told_at_once(void **state)
{
    (void)state;
    refused(NULL, "jm", ORR_VERSION_MISMATCH, "it speaks TLS only: set tls");
    refused("client", NULL, ORR_UNREACHABLE,
            "it speaks without TLS, here TLS is needed");
}

static int raw_connect(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    at.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static int raw_ended(int fd)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);

    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* The stranger writes that much of it and then nothing: it is cut off. */
static void cut_off(const void *data, size_t len)
{
    orr_net_info info;
    world w;
    int fd;

    begin(&w, "client", "jm");
    fd = raw_connect(w.parties[1].address);
    assert_int_equal(write(fd, data, len), len);
    pump_until(&w, 1000, raw_ended(fd));
    close(fd);
    orr_net_info_get(w.parties[1].net, &info);
    assert_int_equal(info.accepted, 1);
    assert_int_equal(info.connections, 0);
    end(&w);
}

static void strangers_that_stall_are_cut_off(void **state)
{
    static const uint8_t half[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00};

    (void)state;
    cut_off("", 0);
    cut_off(half, 1);
    cut_off(half, sizeof half);
    cut_off("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 26);
}

static void a_peer_that_never_answers_is_given_up(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char address[32];
    world w;

    (void)state;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(at.sin_port));
    begin(&w, "client", "jm");
    party_connect(&w.parties[0], address, 0);
    pump_until(&w, 1000, w.parties[0].replies == 1);
    assert_reply(&w.parties[0], ORR_UNREACHABLE, "no answer within 300 ms");
    close(fd);
    end(&w);
}

static void a_handshake_may_end_at_any_step(void **state)
{
    (void)state;
    for (int steps = 0; steps < 12; steps++) {
        world w;

        begin(&w, "client", "jm");
        party_connect(&w.parties[0], w.parties[1].address, 0);
        for (int i = 0; i < steps; i++)
            pump(&w);
        orr_net_close(w.parties[steps % 2].net, NULL);
        pump_until(&w, 1000, w.parties[0].replies == 1);
        end(&w);
    }
}

/* --- roles ---------------------------------------------------------------- */

static void permission_serve(party *p)
{
    static const char *const permissions[] = {"jobmanager", "", "client admin"};
    orr_endpoint_options o = {.name = "guarded",
                              .methods = (const uint8_t *)"\x93\x91\xa4"
                                                          "halt\x91\xa4"
                                                          "look\xa4"
                                                          "stop",
                              .methods_len = 18,
                              .gateways = "",
                              .permissions = permissions,
                              .ref = 2};
    uint32_t slot;

    assert_int_equal(orr_endpoint_open(p->ex, p->service, &o, &slot), ORR_OK);
    assert_int_equal(
        orr_endpoint_set_state(p->ex, p->service, slot, ORR_ENDPOINT_STARTED),
        ORR_OK);
}

static int32_t status_of(world *w, uint32_t target, uint32_t method)
{
    party *a = &w->parties[0];
    orr_msg *m = orr_executor_message(a->ex);
    int before = a->replies;
    uint32_t slot;

    assert_int_equal(orr_pack_int(orr_msg_body(m), 1), ORR_OK);
    assert_int_equal(orr_executor_ask(a->ex, target, method, m, 0, 0, &slot),
                     ORR_OK);
    pump_until(w, 2000, a->replies == before + 1);
    return party_last(a)->status;
}

static uint32_t guarded(world *w, const char *dialler, const char *listener)
{
    party *a = &w->parties[0];
    uint32_t slot;

    begin(w, dialler, listener);
    permission_serve(&w->parties[1]);
    assert_int_equal(orr_executor_connect(a->ex, a->service,
                                          w->parties[1].address, "guarded", "",
                                          NULL, 0, &slot),
                     ORR_OK);
    pump_until(w, 2000, a->replies == 1);
    assert_reply(a, ORR_OK, "");
    return party_last(a)->target;
}

static void a_role_opens_its_methods_only(void **state)
{
    world w;
    uint32_t target = guarded(&w, "client", "jm");

    (void)state;
    assert_int_equal(status_of(&w, target, 0), ORR_ACCESS_DENIED);
    assert_part(party_last(&w.parties[0])->text,
                "halt of guarded needs the role jobmanager; the caller's "
                "certificate says client");
    assert_int_equal(w.parties[1].calls, 0);
    assert_int_equal(status_of(&w, target, 1), ORR_OK);
    assert_int_equal(status_of(&w, target, 2), ORR_OK);
    end(&w);

    target = guarded(&w, "plain", "jm");
    assert_int_equal(status_of(&w, target, 2), ORR_ACCESS_DENIED);
    assert_part(party_last(&w.parties[0])->text,
                "stop of guarded needs the role client or admin; the caller's "
                "certificate names no role");
    end(&w);
}

static void without_tls_roles_count_when_it_is_required(void **state)
{
    world w;
    uint32_t target = guarded(&w, NULL, NULL);

    (void)state;
    assert_int_equal(status_of(&w, target, 0), ORR_OK);
    orr_service_require_tls(w.parties[1].service, 1);
    assert_int_equal(status_of(&w, target, 0), ORR_ACCESS_DENIED);
    assert_part(party_last(&w.parties[0])->text, "the caller came without TLS");
    assert_int_equal(status_of(&w, target, 1), ORR_OK);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_prove_their_roles),
        cmocka_unit_test(the_stream_may_be_split_anywhere),
        cmocka_unit_test(a_socket_that_is_full_is_waited_for),
        cmocka_unit_test(a_write_before_the_handshake_is_kept),
        cmocka_unit_test(an_end_in_order_is_told),
        cmocka_unit_test(a_changed_record_ends_the_stream),
        cmocka_unit_test(a_certificate_out_of_its_time_is_refused),
        cmocka_unit_test(a_certificate_of_others_is_refused),
        cmocka_unit_test(a_certificate_for_another_host_is_refused),
        cmocka_unit_test(a_pinned_certificate_needs_no_host_and_no_authority),
        cmocka_unit_test(roles_may_be_asked_for_at_the_door),
        cmocka_unit_test(a_certificate_without_a_role_has_none),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(options_that_cannot_be_used_are_one_sentence),
        cmocka_unit_test(what_is_made_is_for_its_owner),
        cmocka_unit_test(certificates_are_read_again),
        cmocka_unit_test(without_memory_nothing_is_lost),
        cmocka_unit_test(large_bodies_go_over_tls),
        cmocka_unit_test(refusals_reach_the_caller),
        cmocka_unit_test(a_side_without_tls_is_told_at_once),
        cmocka_unit_test(strangers_that_stall_are_cut_off),
        cmocka_unit_test(a_peer_that_never_answers_is_given_up),
        cmocka_unit_test(a_handshake_may_end_at_any_step),
        cmocka_unit_test(a_role_opens_its_methods_only),
        cmocka_unit_test(without_tls_roles_count_when_it_is_required),
    };

    return cmocka_run_group_tests(tests, certs_setup, certs_teardown);
}
