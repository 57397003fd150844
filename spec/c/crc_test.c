/* CRC-32C, by both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "orrery/base.h"

/* Vectors of RFC 3720, B.4, and the usual check value. */
static void vectors(orr__crc32c_fn *crc)
{
    uint8_t b[32];
    assert_int_equal(crc(0, (const uint8_t *)"123456789", 9), 0xe3069283);
    assert_int_equal(crc(0, b, 0), 0);
    memset(b, 0, sizeof b);
    assert_int_equal(crc(0, b, sizeof b), 0x8a9136aa);
    memset(b, 0xff, sizeof b);
    assert_int_equal(crc(0, b, sizeof b), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        b[i] = i;
    assert_int_equal(crc(0, b, sizeof b), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(crc(0, b, sizeof b), 0x113fdb5c);
}

static void the_table_meets_the_vectors(void **state)
{
    (void)state;
    vectors(orr__crc32c_table);
}

static void the_instruction_meets_the_vectors(void **state)
{
    (void)state;
    if (orr__crc32c_hardware() == NULL)
        skip();
    vectors(orr__crc32c_hardware());
}

static uint32_t chosen(uint32_t crc, const uint8_t *p, size_t len)
{
    return orr_crc32c(crc, p, len);
}

static void the_chosen_way_meets_the_vectors(void **state)
{
    (void)state;
    vectors(chosen);
}

static void both_ways_agree_at_every_length_and_offset(void **state)
{
    (void)state;
    uint8_t data[300];
    orr_chance c;
    orr_chance_seed(&c, 11);
    orr_chance_bytes(&c, data, sizeof data);
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t len = 0; len <= sizeof data - offset; len++) {
            uint32_t start = (uint32_t)orr_chance_next(&c);
            assert_int_equal(orr_crc32c(start, data + offset, len),
                             orr__crc32c_table(start, data + offset, len));
        }
}

static void parts_make_the_whole(void **state)
{
    (void)state;
    uint8_t data[200];
    orr_chance c;
    orr_chance_seed(&c, 12);
    orr_chance_bytes(&c, data, sizeof data);
    uint32_t whole = orr_crc32c(0, data, sizeof data);
    for (size_t at = 0; at <= sizeof data; at++) {
        uint32_t part = orr_crc32c(0, data, at);
        assert_int_equal(orr_crc32c(part, data + at, sizeof data - at), whole);
    }
}

static void every_changed_bit_changes_it(void **state)
{
    (void)state;
    uint8_t data[128] = {1, 2, 3};
    uint32_t whole = orr_crc32c(0, data, sizeof data);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(orr_crc32c(0, data, sizeof data), whole);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_meets_the_vectors),
        cmocka_unit_test(the_instruction_meets_the_vectors),
        cmocka_unit_test(the_chosen_way_meets_the_vectors),
        cmocka_unit_test(both_ways_agree_at_every_length_and_offset),
        cmocka_unit_test(parts_make_the_whole),
        cmocka_unit_test(every_changed_bit_changes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
