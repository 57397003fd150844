/* Bytes from a peer, in pieces. The first byte says what was before: bit 0 the
 * handshake is done, bit 1 with chunked bodies agreed on, bit 2 we are sending
 * bodies ourselves, bit 3 the peer reads slowly; and all of it seeds how the
 * rest is cut into pieces. Whatever comes: no crash, no frame to the sink
 * before the handshake, bounded memory, and a connection that ended is told
 * once. */
#include <assert.h>

#include "conn_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DONE = 1, CHUNKS = 2, SENDING = 4, SLOW = 8 };

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

/* Both ways of reading: into a buffer of the transport, and into place. */
static void give(fixture *f, const uint8_t *data, size_t n)
{
    size_t room = 0;
    uint8_t *space = orr__conn_space(f->conn, &room);

    if (space != NULL && room >= n && orr_chance_below(&f->chance, 2) == 0) {
        memcpy(space, data, n);
        data = space;
    }
    fix_input(f, data, n);
}

static void feed(fixture *f, const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t n = 1 + orr_chance_below(&f->chance, 200);

        if (n > size - at)
            n = size - at;
        if (f->conn->state != ORR_CONN_CLOSED)
            give(f, data + at, n);
        if (f->borrowed_len > 0 && orr_chance_below(&f->chance, 4) == 0)
            fix_drain(f);
        at += n;
        assert(f->conn->in.cap <= 2 * (ORR_HEADER_SIZE + 64 * 1024));
        assert(f->conn->out.len <= 512 * 1024);
        assert(f->env.info.assembling <=
               f->env.options.assembly_max +
                   (uint64_t)f->env.options.bodies_max * ORR_BODY_FIRST);
    }
}

static void send_bodies(fixture *f)
{
    orr_link *l = &f->conn->link;

    for (uint32_t i = 1; i <= 3; i++) {
        orr_header h = {.kind = i == 3 ? ORR_FRAME_REPLY : ORR_FRAME_ASK,
                        .endpoint = 1,
                        .call_slot = i};
        orr_buf body = {0};
        int rc = orr_buf_reserve(&body, 40000);

        assert(rc == ORR_OK);
        memset(body.data, (int)i, 40000);
        body.len = 40000;
        rc = l->ops->send_body(l, &h, &body);
        assert(rc == ORR_OK);
        h.call_slot = 10 + i;
        h.length = 4;
        (void)l->ops->send(l, &h, (const uint8_t *)"held");
    }
    l->ops->flush(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fixture f;
    uint8_t *copy;

    if (size < 1 || size > 1 << 20)
        return 0;
    orr_log_set_level(ORR_LOG_OFF);
    fix_init(&f, "alpha", data[0]);
    if ((data[0] & DONE) != 0) {
        int opened =
            (data[0] & CHUNKS) != 0 ? fix_open_chunks(&f, 1) : fix_open(&f, 1);
        assert(opened);
    } else {
        int made = fix_new(&f, 1);
        assert(made);
        orr__conn_connected(f.conn, f.now);
    }
    if ((data[0] & SLOW) != 0)
        f.room = 1000;
    if ((data[0] & SENDING) != 0)
        send_bodies(&f);
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
    assert(f.env.info.assembling == 0 && f.env.info.sending == 0);
    orr_free(copy);
    return 0;
}
