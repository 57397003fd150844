/* Bytes from a peer, in pieces. The first byte says whether the handshake was
 * done before (bit 0), and seeds how the rest is cut into pieces. Whatever
 * comes: no crash, no frame to the sink before the handshake, bounded memory,
 * and a connection that ended is told once. */
#include <assert.h>

#include "conn_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Gives checksums that hold to frames whose own one is zero, so that the fuzzer
 * gets past the check. */
static void fix_checksums(uint8_t *data, size_t size)
{
    size_t at = 0;
    orr_header h;

    while (size - at >= ORR_HEADER_SIZE &&
           orr_header_decode(&h, data + at, size - at) == ORR_OK &&
           h.length <= size - at - ORR_HEADER_SIZE) {
        if (h.checksum == 0) {
            h.checksum = orr_header_checksum(
                data + at, data + at + ORR_HEADER_SIZE, h.length);
            orr_header_encode(&h, data + at);
        }
        at += ORR_HEADER_SIZE + h.length;
    }
}

static void feed(fixture *f, const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t n = 1 + orr_chance_below(&f->chance, 200);

        if (n > size - at)
            n = size - at;
        if (f->conn->state != ORR_CONN_CLOSED || f->conn->stream != NULL)
            fix_input(f, data + at, n);
        at += n;
        assert(f->conn->in.cap <= 2 * (ORR_HEADER_SIZE + 64 * 1024));
        assert(f->conn->out.len <= 512 * 1024);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fixture f;
    uint8_t *copy;

    if (size < 1 || size > 1 << 20)
        return 0;
    orr_log_set_level(ORR_LOG_OFF);
    fix_init(&f, "alpha", data[0]);
    if (data[0] & 1) {
        int opened = fix_open(&f, 1);
        assert(opened);
    } else {
        int made = fix_new(&f, 1);
        assert(made);
        orr__conn_connected(f.conn, f.now);
    }
    copy = orr_alloc(size);
    assert(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    fix_checksums(copy, size - 1);
    feed(&f, copy, size - 1);
    assert(f.received == 0 || f.ups == 1);
    if (f.conn->state == ORR_CONN_CLOSED)
        assert(f.downs == f.ups && f.env.info.connections == 0);
    orr__conn_tick(f.conn, f.now + 10000u * (uint64_t)FIX_MS);
    fix_fini(&f);
    assert(f.downs == f.ups);
    orr_free(copy);
    return 0;
}
