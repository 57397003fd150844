/* Bytes from a Redis, in pieces: scanner, reader, client, value. The first byte
 * says whether it is a subscriber (bit 0) and seeds how the rest is cut.
 * Whatever comes: no crash, nothing that the scanner let through is refused by
 * the reader, each request ends once, and a value that was packed is sound. */
#include <assert.h>
#include <stdlib.h>

#define assert_true assert
#define assert_int_equal(a, b) assert((a) == (b))

#include "orrery/wire.h"
#include "redis/reply.h"
#include "redis_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS = 8 };

static int ends[REQUESTS];

static void on_end(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    orr_buf b = {0};
    uint32_t values = 0;

    (void)ctx;
    ends[tag]++;
    assert(result->status == ORR_OK || result->text[0] != '\0' ||
           result->reply != NULL);
    if (result->reply == NULL)
        return;
    assert(orr__redis_pack_reply(&b, result->reply) == ORR_OK);
    assert(orr_pack_check(b.data, b.len, NULL, &values) == ORR_OK);
    assert(values == 1);
    orr_buf_free(&b);
}

static void feed(redis_fix *f, const uint8_t *data, size_t size,
                 orr_chance *chance)
{
    size_t at = 0;

    while (at < size) {
        size_t n = 1 + orr_chance_below(chance, 60);

        if (n > size - at)
            n = size - at;
        /* A block of its own size: reading beyond it is seen. */
        uint8_t *piece = malloc(n);
        assert(piece != NULL);
        memcpy(piece, data + at, n);
        fix_feed(f, (const char *)piece, n);
        free(piece);
        at += n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const channels[] = {"a"};
    orr_redis_options o = {.address = "h:1"};
    orr_chance chance;
    redis_fix f;
    orr_error err;
    int made;

    if (size < 1 || size > 1 << 20)
        return 0;
    memset(ends, 0, sizeof ends);
    orr_chance_seed(&chance, data[0]);
    if (data[0] & 1) {
        o.channels = channels;
        o.channel_count = 1;
    }
    made = fix_init(&f, &o, &err);
    assert(made == ORR_OK);
    orr__redis_client_connected(&f.client, f.now_ns);
    if (!f.client.subscriber) {
        const orr_redis_arg args[] = {{"EVALSHA", 7}};
        fix_say(&f, FIX_MASTER);
        for (uint64_t i = 0; i < REQUESTS; i++) {
            made = orr__redis_client_request(&f.client, 1, args, 0, f.now_ns,
                                             on_end, NULL, i);
            assert(made == ORR_OK);
        }
        fix_flush(&f);
    }
    feed(&f, data + 1, size - 1, &chance);
    assert(f.close_code != ORR_EPROTO ||
           strstr(f.close_text, "Protocol error") == NULL);
    if (f.client.state != ORR_REDIS_CLOSED)
        orr__redis_client_close(&f.client, ORR_ECLOSED, "over");
    assert(f.closed == 1 && !f.stream_open);
    for (int i = 0; i < REQUESTS && !f.client.subscriber; i++)
        assert(ends[i] == 1);
    fix_fini(&f);
    return 0;
}
