/* One encrypted stream. See tls.h; owner: the thread of the net.
 *
 *   state      from below                  from above
 *   HANDSHAKE  the handshake               write is borrowed until OPEN
 *   OPEN       decrypted, in large parts   write is encrypted and sent
 *   ENDED      nothing                     nothing
 *
 * The happy path: a dialled stream says hello - both verify - open - what was
 * written before is sent - input and write - close says that it ends.
 *
 * Failures. A peer that does not speak TLS: told so in its own words when it
 * speaks our frames, else just closed. A certificate that is refused on either
 * side: OpenSSL writes an alert, the reason is told above. Anything wrong with
 * a record: the same. Without memory in a write, which cannot fail: the stream
 * is reset from below, and the reason is kept for whoever is told.
 *
 * Copies: OpenSSL takes records straight from the read buffer (bio_read), and
 * decrypts into one buffer of the loop, from which the connection is fed as
 * much at a time as came. What it encrypts for one write is gathered in one
 * buffer of the loop and written at once; only when the socket does not take
 * it does the stream keep that buffer, and the loop gets a new one.
 */
#include "net/tls.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

enum {
    FIRST_SIZE = 5, /* of a record's header */
    RECORD_MAX = 16384,
    PLAIN_SIZE = 128 * 1024 + RECORD_MAX,
    CHUNK_MAX = 128 * 1024,  /* encrypted before the socket is asked */
    WAITING_MAX = 64 * 1024, /* our answers to a peer that reads nothing */
    KEEP_MAX = 256 * 1024
};

typedef enum tls_state { HANDSHAKE, OPEN, ENDED } tls_state;

struct orr_tls {
    SSL *ssl;
    orr_tls_shared *shared;
    const orr_tls_ops *ops;
    void *stream;
    const uint8_t *in; /* what OpenSSL has not taken of the input */
    size_t in_len;
    const uint8_t *plain; /* borrowed: what is still to be encrypted */
    size_t plain_len;
    orr_buf writing; /* lent to the stream below while blocked */
    orr_buf waiting; /* behind it: answers of OpenSSL's own */
    uint8_t first[FIRST_SIZE];
    uint8_t first_len;
    uint8_t first_used;
    uint8_t state;
    uint8_t blocked;
    uint8_t owed; /* a write that could not be finished at once */
    uint8_t accepted;
    char host[ORR_TLS_HOST_MAX];
    char reason[ORR_TLS_REASON_MAX];
};

void orr__tls_shared_fini(orr_tls_shared *shared)
{
    orr_free(shared->plain);
    orr_buf_free(&shared->out);
    shared->plain = NULL;
}

/* --- OpenSSL's side of the stream ----------------------------------------- */

static size_t take(const uint8_t *from, size_t have, char *out, size_t want)
{
    size_t n = have < want ? have : want;

    memcpy(out, from, n);
    return n;
}

static int bio_read(BIO *bio, char *out, int size)
{
    orr_tls *t = BIO_get_data(bio);
    size_t n;

    BIO_clear_retry_flags(bio);
    if (t->first_used < t->first_len) {
        n = take(t->first + t->first_used,
                 (size_t)(t->first_len - t->first_used), out, (size_t)size);
        t->first_used = (uint8_t)(t->first_used + n);
        return (int)n;
    }
    if (t->in_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = take(t->in, t->in_len, out, (size_t)size);
    t->in += n;
    t->in_len -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int len)
{
    orr_tls *t = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    return orr_buf_append(&t->shared->out, data, (size_t)len) == ORR_OK ? len
                                                                        : -1;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void bio_method_make(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
                                 "orrery stream");

    if (m == NULL)
        return;
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    bio_method = m;
}

/* --- below: what is encrypted --------------------------------------------- */

/* Answers 0 when the peer lets our answers pile up. */
static int wait_behind(orr_tls *t, orr_buf *out)
{
    int fits = t->waiting.len + out->len <= WAITING_MAX &&
               orr_buf_append(&t->waiting, out->data, out->len) == ORR_OK;

    orr_buf_reset(out);
    return fits;
}

static void break_off(orr_tls *t, const char *reason)
{
    if (t->reason[0] == '\0')
        snprintf(t->reason, sizeof t->reason, "%s", reason);
    t->state = ENDED;
    orr_buf_reset(&t->shared->out);
    t->ops->reset(t->stream);
}

/* Sends what OpenSSL has written. */
static void out_flush(orr_tls *t)
{
    orr_buf *out = &t->shared->out;

    if (out->len == 0)
        return;
    if (t->blocked) {
        if (!wait_behind(t, out))
            break_off(t, "it makes us answer and reads no answers");
        return;
    }
    if (t->ops->write(t->stream, out->data, out->len) == out->len) {
        orr_buf_reset(out);
        return;
    }
    assert(t->writing.data == NULL);
    t->writing = *out;
    memset(out, 0, sizeof *out);
    t->blocked = 1;
}

/* The stream gave the buffer back. */
static void writing_recycle(orr_tls *t)
{
    orr_buf *out = &t->shared->out;

    t->blocked = 0;
    if (out->data == NULL && t->writing.cap <= KEEP_MAX) {
        *out = t->writing;
        orr_buf_reset(out);
        memset(&t->writing, 0, sizeof t->writing);
    } else {
        orr_buf_free(&t->writing);
    }
}

static void encrypt(orr_tls *t)
{
    while (t->plain_len > 0 && !t->blocked && t->state == OPEN) {
        size_t part = t->plain_len < CHUNK_MAX ? t->plain_len : CHUNK_MAX;
        size_t done = 0;

        if (ERR_peek_error() != 0)
            ERR_clear_error();
        if (orr_buf_reserve(&t->shared->out, part + part / 8 + 256) != ORR_OK ||
            SSL_write_ex(t->ssl, t->plain, part, &done) != 1) {
            break_off(t, "no memory to encrypt what is to be sent");
            return;
        }
        t->plain += done;
        t->plain_len -= done;
        out_flush(t);
    }
}

/* --- ends ----------------------------------------------------------------- */

static void fail(orr_tls *t, const char *reason, int last_words)
{
    out_flush(t);
    if (t->reason[0] == '\0')
        snprintf(t->reason, sizeof t->reason, "%s", reason);
    t->state = ENDED;
    t->ops->failed(t->stream, t->reason, last_words);
}

/* A peer that speaks our frames in the clear is told in a frame. */
static void tell_plain(orr_tls *t)
{
    static const char text[] = "it speaks TLS only: set tls (rpc.ssl.*) here";
    uint8_t body[sizeof text + 8];
    orr_buf b = {.data = body, .cap = sizeof body, .max = sizeof body};
    orr_header h = {.version = ORR_WIRE_VERSION,
                    .kind = ORR_FRAME_GOODBYE,
                    .method = (uint32_t)ORR_VERSION_MISMATCH};
    uint8_t head[ORR_HEADER_SIZE];

    if (orr_pack_str(&b, text, sizeof text - 1) != ORR_OK)
        return;
    h.length = (uint32_t)b.len;
    orr_header_encode(&h, head);
    h.checksum = orr_header_checksum(head, b.data, h.length);
    orr_header_encode(&h, head);
    orr_buf_reset(&t->shared->out);
    if (orr_buf_append(&t->shared->out, head, sizeof head) == ORR_OK)
        (void)orr_buf_append(&t->shared->out, b.data, b.len);
}

/* The first bytes: a record of a handshake or an alert, or something else. */
static int speaks_tls(orr_tls *t)
{
    const uint8_t *b = t->first;

    if ((b[0] == 0x16 || b[0] == 0x15) && b[1] == 0x03)
        return 1;
    if (b[2] == 0 && b[3] == 0 && b[4] == ORR_WIRE_VERSION) {
        tell_plain(t);
        fail(t, "it speaks without TLS, here TLS is needed", 1);
    } else {
        fail(t, "it speaks neither TLS nor our protocol", 0);
    }
    return 0;
}

/* The words of an alert that came, or of what OpenSSL found wrong. */
static void error_reason(orr_tls *t, char *out, size_t size)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    char text[120];

    if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
        reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        snprintf(out, size, "it showed no certificate, one is needed here");
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
               reason > SSL_AD_REASON_OFFSET &&
               reason < SSL_AD_REASON_OFFSET + 256) {
        snprintf(out, size, "it refuses us by the TLS alert \"%s\"",
                 SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
    } else {
        orr__tls_error_text(text, sizeof text);
        snprintf(out, size, "TLS failed%s: %s",
                 t->state == HANDSHAKE ? " in the handshake" : "", text);
    }
    ERR_clear_error();
}

static void fail_by_error(orr_tls *t)
{
    char text[ORR_TLS_REASON_MAX];

    error_reason(t, text, sizeof text);
    fail(t, text, 1);
}

/* --- the handshake -------------------------------------------------------- */

static void opened(orr_tls *t)
{
    X509 *peer = SSL_get0_peer_certificate(t->ssl);
    char role[ORR_TLS_ROLE_MAX + 1];

    assert(peer != NULL); /* none is a failed handshake */
    orr__tls_role(peer, role);
    t->state = OPEN;
    t->ops->open(t->stream, role);
}

static void owed_pay(orr_tls *t);

static void handshake(orr_tls *t)
{
    int rc;

    ERR_clear_error();
    rc = SSL_do_handshake(t->ssl);
    if (rc == 1) {
        out_flush(t);
        if (t->state != HANDSHAKE)
            return;
        opened(t);
        owed_pay(t);
    } else if (SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ) {
        out_flush(t);
    } else {
        fail_by_error(t);
    }
}

/* --- above ---------------------------------------------------------------- */

/* Goes on with a write that waits; tells when it is done. */
static void owed_pay(orr_tls *t)
{
    encrypt(t);
    if (t->owed && t->plain_len == 0 && !t->blocked && t->state == OPEN) {
        t->owed = 0;
        t->ops->drained(t->stream);
    }
}

size_t orr__tls_write(orr_tls *t, const uint8_t *data, size_t len)
{
    t->plain = data;
    t->plain_len = len;
    if (t->state == OPEN)
        encrypt(t);
    if (t->plain_len == 0 && !t->blocked)
        return len;
    t->owed = 1;
    return 0;
}

void orr__tls_drained(orr_tls *t)
{
    orr_buf *out = &t->shared->out;

    writing_recycle(t);
    if (t->waiting.len > 0) {
        if (orr_buf_append(out, t->waiting.data, t->waiting.len) != ORR_OK) {
            break_off(t, "no memory for what is to be sent");
            return;
        }
        orr_buf_free(&t->waiting);
        out_flush(t);
    }
    owed_pay(t);
}

static void deliver(orr_tls *t, size_t *have)
{
    size_t len = *have;

    out_flush(t);
    *have = 0;
    if (len > 0 && t->state == OPEN)
        t->ops->input(t->stream, t->shared->plain, len);
}

static void ended(orr_tls *t, int rc, size_t *have)
{
    int why = SSL_get_error(t->ssl, rc);

    deliver(t, have);
    if (why == SSL_ERROR_WANT_READ || t->state != OPEN)
        return;
    if (why == SSL_ERROR_ZERO_RETURN)
        fail(t, "closed by the peer", 0);
    else
        fail_by_error(t);
}

static void decrypt(orr_tls *t)
{
    uint8_t *plain = t->shared->plain;
    size_t have = 0;

    while (t->state == OPEN) {
        int n;

        if (ERR_peek_error() != 0)
            ERR_clear_error();
        n = SSL_read(t->ssl, plain + have, (int)(PLAIN_SIZE - have));
        if (n <= 0) {
            ended(t, n, &have);
            return;
        }
        have += (size_t)n;
        if (PLAIN_SIZE - have < RECORD_MAX)
            deliver(t, &have);
        if (t->in_len == 0 && !SSL_has_pending(t->ssl))
            break;
    }
    deliver(t, &have);
}

void orr__tls_input(orr_tls *t, const uint8_t *data, size_t len)
{
    if (t->state == ENDED)
        return;
    if (t->first_len < FIRST_SIZE) {
        size_t n = take(data, len, (char *)t->first + t->first_len,
                        (size_t)(FIRST_SIZE - t->first_len));
        t->first_len = (uint8_t)(t->first_len + n);
        if (t->first_len < FIRST_SIZE || !speaks_tls(t))
            return;
        data += n;
        len -= n;
    }
    t->in = data;
    t->in_len = len;
    if (t->state == HANDSHAKE)
        handshake(t);
    if (t->state == OPEN && (t->in_len > 0 || SSL_has_pending(t->ssl)))
        decrypt(t);
    t->in_len = 0;
}

void orr__tls_start(orr_tls *t)
{
    handshake(t);
}

void orr__tls_close(orr_tls *t, int abort)
{
    tls_state before = t->state;

    t->plain_len = 0;
    t->owed = 0;
    if (before == OPEN && !abort) {
        ERR_clear_error();
        (void)SSL_shutdown(t->ssl); /* says that we end; nothing is awaited */
        ERR_clear_error();
        out_flush(t);
    }
    t->state = ENDED;
}

/* --- making --------------------------------------------------------------- */

const char *orr__tls_reason(const orr_tls *t)
{
    return t->reason[0] != '\0' ? t->reason : NULL;
}

void orr__tls_refused(orr_tls *t, const char *reason)
{
    if (t->reason[0] == '\0')
        snprintf(t->reason, sizeof t->reason, "%s", reason);
}

int orr__tls_is_accepted(const orr_tls *t)
{
    return t->accepted;
}

const char *orr__tls_host(const orr_tls *t)
{
    return t->host;
}

static int shared_fill(orr_tls_shared *shared)
{
    if (shared->plain == NULL)
        shared->plain = orr_alloc(PLAIN_SIZE);
    return shared->plain != NULL;
}

orr_tls *orr__tls_new(orr_tls_context *x, orr_tls_shared *shared,
                      const char *host, const orr_tls_ops *ops, void *stream)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    orr_tls *t = orr_calloc(1, sizeof *t);
    BIO *bio;

    pthread_once(&once, bio_method_make);
    if (t == NULL || bio_method == NULL || !shared_fill(shared)) {
        orr_free(t);
        return NULL;
    }
    t->shared = shared;
    t->ops = ops;
    t->stream = stream;
    t->accepted = host == NULL;
    snprintf(t->host, sizeof t->host, "%s", host == NULL ? "" : host);
    t->ssl = orr__tls_context_ssl(x, t, host);
    bio = t->ssl == NULL ? NULL : BIO_new(bio_method);
    if (bio == NULL) {
        orr__tls_free(t);
        return NULL;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return t;
}

void orr__tls_free(orr_tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    orr_buf_free(&t->writing);
    orr_buf_free(&t->waiting);
    orr_free(t);
}
