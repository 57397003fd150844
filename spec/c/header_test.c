/* The fixed frame header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/header.h"

static const orr_header sample = {
    .length = 0x04030201,
    .version = ORR_WIRE_VERSION,
    .kind = ORR_FRAME_ASK,
    .flags = 0x0807,
    .call_slot = 0x0c0b0a09,
    .call_generation = 0x100f0e0d,
    .budget_us = 0x1817161514131211,
    .endpoint = 0x1c1b1a19,
    .incarnation = 0x201f1e1d,
    .method = 0x24232221,
    .checksum = 0x28272625,
    .token = {.epoch = 0x302f2e2d2c2b2a29,
              .session = {0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39,
                          0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40}},
};

/* Byte i of the encoded sample is i + 1, but for version and kind. */
static void sample_bytes(uint8_t *out)
{
    for (uint8_t i = 0; i < ORR_HEADER_SIZE; i++)
        out[i] = (uint8_t)(i + 1);
    out[4] = ORR_WIRE_VERSION;
    out[5] = ORR_FRAME_ASK;
}

static void every_field_is_where_the_format_says(void **state)
{
    (void)state;
    uint8_t expected[ORR_HEADER_SIZE], out[ORR_HEADER_SIZE];
    sample_bytes(expected);
    orr_header_encode(&sample, out);
    assert_memory_equal(out, expected, sizeof out);
    memset(out, 0, sizeof out);
    orr__header_encode_bytes(&sample, out);
    assert_memory_equal(out, expected, sizeof out);
}

static void decoding_gives_every_field_back(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE];
    sample_bytes(data);
    orr_header h = {0};
    assert_int_equal(orr_header_decode(&h, data, sizeof data), ORR_OK);
    assert_memory_equal(&h, &sample, sizeof h);
    memset(&h, 0, sizeof h);
    orr__header_decode_bytes(&h, data);
    assert_memory_equal(&h, &sample, sizeof h);
}

static void part_of_a_header_asks_for_more(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE];
    sample_bytes(data);
    for (size_t len = 0; len < ORR_HEADER_SIZE; len++) {
        orr_header h = {.length = 77};
        assert_int_equal(orr_header_decode(&h, data, len), ORR_EMORE);
        assert_int_equal(h.length, 77);
    }
    orr_header h;
    assert_int_equal(orr_header_decode(&h, data, SIZE_MAX), ORR_OK);
}

static void only_our_version_and_known_kinds_are_taken(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE];
    for (int i = 0; i < 256; i++) {
        orr_header h = {0};
        sample_bytes(data);
        data[4] = (uint8_t)i;
        int rc = i == ORR_WIRE_VERSION ? ORR_OK : ORR_EPROTO;
        assert_int_equal(orr_header_decode(&h, data, sizeof data), rc);
        assert_int_equal(h.version, i);
        sample_bytes(data);
        data[5] = (uint8_t)i;
        data[7] &= 0x7f;
        rc = i >= ORR_FRAME_HELLO && i <= ORR_FRAME_ABORT ? ORR_OK : ORR_EPROTO;
        assert_int_equal(orr_header_decode(&h, data, sizeof data), rc);
        assert_int_equal(h.kind, i);
        data[7] |= 0x80; /* optional */
        assert_int_equal(orr_header_decode(&h, data, sizeof data), ORR_OK);
    }
}

static void the_checksum_leaves_its_own_field_out(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE + 5];
    sample_bytes(data);
    memcpy(data + ORR_HEADER_SIZE, "hello", 5);
    uint32_t crc = orr_header_checksum(data, data + ORR_HEADER_SIZE, 5);
    memset(data + 36, 0, 4);
    assert_int_equal(crc, orr_crc32c(0, data, sizeof data));
    memset(data + 36, 0xff, 4);
    assert_int_equal(orr_header_checksum(data, data + ORR_HEADER_SIZE, 5), crc);
}

static void the_checksum_sees_every_other_bit(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE + 5];
    sample_bytes(data);
    memcpy(data + ORR_HEADER_SIZE, "hello", 5);
    const uint8_t *body = data + ORR_HEADER_SIZE;
    uint32_t crc = orr_header_checksum(data, body, 5);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        int is_own = bit / 8 >= 36 && bit / 8 < 40;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(orr_header_checksum(data, body, 5) == crc, is_own);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void a_frame_without_body_has_a_checksum_too(void **state)
{
    (void)state;
    uint8_t data[ORR_HEADER_SIZE];
    sample_bytes(data);
    uint32_t crc = orr_header_checksum(data, NULL, 0);
    memset(data + 36, 0, 4);
    assert_int_equal(crc, orr_crc32c(0, data, sizeof data));
}

static void random_headers_survive_the_way_there_and_back(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, 21);
    for (int i = 0; i < 10000; i++) {
        uint8_t data[ORR_HEADER_SIZE], out[ORR_HEADER_SIZE];
        orr_chance_bytes(&c, data, sizeof data);
        orr_header h;
        (void)orr_header_decode(&h, data, sizeof data);
        orr_header_encode(&h, out);
        assert_memory_equal(out, data, sizeof out);
        orr_header g = {0};
        orr__header_decode_bytes(&g, data);
        assert_memory_equal(&g, &h, sizeof g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_where_the_format_says),
        cmocka_unit_test(decoding_gives_every_field_back),
        cmocka_unit_test(part_of_a_header_asks_for_more),
        cmocka_unit_test(only_our_version_and_known_kinds_are_taken),
        cmocka_unit_test(the_checksum_leaves_its_own_field_out),
        cmocka_unit_test(the_checksum_sees_every_other_bit),
        cmocka_unit_test(a_frame_without_body_has_a_checksum_too),
        cmocka_unit_test(random_headers_survive_the_way_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
