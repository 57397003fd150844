/* The MessagePack writers: golden bytes at every border, full buffers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pack_values.h"

/* The first bytes of buf in hex, and its length; then it is emptied. */
static void bytes_are(orr_buf *b, const char *hex, size_t len)
{
    char text[64] = "";
    size_t n = strlen(hex) / 2;
    assert_int_equal(b->len, len);
    assert_true(n <= len);
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", b->data[i]);
    assert_string_equal(text, hex);
    orr_buf_reset(b);
}

static void nil_and_booleans(void **state)
{
    (void)state;
    orr_buf b = {0};
    assert_int_equal(orr_pack_nil(&b), ORR_OK);
    assert_int_equal(orr_pack_bool(&b, 0), ORR_OK);
    assert_int_equal(orr_pack_bool(&b, 1), ORR_OK);
    assert_int_equal(orr_pack_bool(&b, -256), ORR_OK);
    bytes_are(&b, "c0c2c3c3", 4);
    orr_buf_free(&b);
}

static const struct {
    int64_t value;
    const char *hex;
} ints[] = {
    {0, "00"},
    {1, "01"},
    {127, "7f"},
    {128, "cc80"},
    {255, "ccff"},
    {256, "cd0100"},
    {65535, "cdffff"},
    {65536, "ce00010000"},
    {UINT32_MAX, "ceffffffff"},
    {(int64_t)UINT32_MAX + 1, "cf0000000100000000"},
    {((int64_t)1 << 53) - 1, "cf001fffffffffffff"},
    {INT64_MAX, "cf7fffffffffffffff"},
    {-1, "ff"},
    {-32, "e0"},
    {-33, "d0df"},
    {-128, "d080"},
    {-129, "d1ff7f"},
    {-32768, "d18000"},
    {-32769, "d2ffff7fff"},
    {INT32_MIN, "d280000000"},
    {(int64_t)INT32_MIN - 1, "d3ffffffff7fffffff"},
    {-(((int64_t)1 << 53) - 1), "d3ffe0000000000001"},
    {INT64_MIN, "d38000000000000000"},
};

static void integers_take_their_shortest_form(void **state)
{
    (void)state;
    orr_buf b = {0};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        size_t len = strlen(ints[i].hex) / 2;
        assert_int_equal(orr_pack_int(&b, ints[i].value), ORR_OK);
        bytes_are(&b, ints[i].hex, len);
        if (ints[i].value < 0)
            continue;
        assert_int_equal(orr_pack_uint(&b, (uint64_t)ints[i].value), ORR_OK);
        bytes_are(&b, ints[i].hex, len);
    }
    orr_pack_uint(&b, (uint64_t)INT64_MAX + 1);
    bytes_are(&b, "cf8000000000000000", 9);
    orr_pack_uint(&b, UINT64_MAX);
    bytes_are(&b, "cfffffffffffffffff", 9);
    orr_buf_free(&b);
}

static void whole_numbers_of_lua_are_integers(void **state)
{
    (void)state;
    orr_buf b = {0};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t v = ints[i].value;
        if (v <= -((int64_t)1 << 53) || v >= ((int64_t)1 << 53))
            continue;
        assert_int_equal(orr_pack_number(&b, (double)v), ORR_OK);
        bytes_are(&b, ints[i].hex, strlen(ints[i].hex) / 2);
    }
    orr_buf_free(&b);
}

static void other_numbers_of_lua_are_doubles(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *hex;
    } all[] = {
        {0.5, "cb3fe0000000000000"},
        {-1.5, "cbbff8000000000000"},
        {-0.0, "cb8000000000000000"},
        {0x1p53, "cb4340000000000000"},
        {-0x1p53, "cbc340000000000000"},
        {1e300, "cb7e37e43c8800759c"},
        {0x1p-1074, "cb0000000000000001"},
        {INFINITY, "cb7ff0000000000000"},
        {-INFINITY, "cbfff0000000000000"},
        {4503599627370495.5, "cb432fffffffffffff"},
    };
    orr_buf b = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(orr_pack_number(&b, all[i].value), ORR_OK);
        bytes_are(&b, all[i].hex, 9);
        assert_int_equal(orr_pack_double(&b, all[i].value), ORR_OK);
        bytes_are(&b, all[i].hex, 9);
    }
    orr_pack_number(&b, NAN);
    bytes_are(&b, "cb", 9);
    orr_pack_double(&b, 1);
    bytes_are(&b, "cb3ff0000000000000", 9);
    orr_buf_free(&b);
}

static void strings_and_blobs_take_their_shortest_head(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        const char *str, *bin;
    } all[] = {
        {0, "a0", "c400"},
        {1, "a178", "c40178"},
        {31, "bf78", "c41f78"},
        {32, "d92078", "c42078"},
        {255, "d9ff78", "c4ff78"},
        {256, "da010078", "c5010078"},
        {65535, "daffff78", "c5ffff78"},
        {65536, "db0001000078", "c60001000078"},
    };
    static char text[65536];
    memset(text, 'x', sizeof text);
    orr_buf b = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t size = all[i].size, some = size > 0;
        assert_int_equal(orr_pack_str(&b, text, size), ORR_OK);
        bytes_are(&b, all[i].str, strlen(all[i].str) / 2 - some + size);
        assert_int_equal(orr_pack_bin(&b, text, size), ORR_OK);
        bytes_are(&b, all[i].bin, strlen(all[i].bin) / 2 - some + size);
    }
    assert_int_equal(orr_pack_str(&b, NULL, 0), ORR_OK);
    assert_int_equal(orr_pack_bin(&b, NULL, 0), ORR_OK);
    bytes_are(&b, "a0c400", 3);
    orr_buf_free(&b);
}

static void the_bytes_of_a_string_are_copied_at_every_size(void **state)
{
    (void)state;
    uint8_t text[80];
    for (uint8_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 3 + 1);
    for (size_t size = 0; size <= sizeof text; size++) {
        orr_buf b = {0};
        assert_int_equal(orr_pack_str(&b, text, size), ORR_OK);
        if (size > 0)
            assert_memory_equal(b.data + b.len - size, text, size);
        assert_int_equal(orr_pack_bin(&b, text, size), ORR_OK);
        if (size > 0)
            assert_memory_equal(b.data + b.len - size, text, size);
        orr_buf_free(&b);
    }
}

static void heads_of_containers_take_their_shortest_form(void **state)
{
    (void)state;
    static const struct {
        uint32_t count;
        const char *array, *map;
    } all[] = {
        {0, "90", "80"},
        {15, "9f", "8f"},
        {16, "dc0010", "de0010"},
        {65535, "dcffff", "deffff"},
        {65536, "dd00010000", "df00010000"},
        {UINT32_MAX, "ddffffffff", "dfffffffff"},
    };
    orr_buf b = {0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(orr_pack_array(&b, all[i].count), ORR_OK);
        bytes_are(&b, all[i].array, strlen(all[i].array) / 2);
        assert_int_equal(orr_pack_map(&b, all[i].count), ORR_OK);
        bytes_are(&b, all[i].map, strlen(all[i].map) / 2);
    }
    orr_buf_free(&b);
}

static void a_string_above_32_bits_is_too_large(void **state)
{
    (void)state;
    orr_buf b = {.max = SIZE_MAX};
    size_t size = (size_t)UINT32_MAX + 1;
    assert_int_equal(orr_pack_str(&b, "", size), ORR_TOO_LARGE);
    assert_int_equal(orr_pack_bin(&b, "", size), ORR_TOO_LARGE);
    assert_null(b.data);
}

/* One of each form. */
static const char *const forms[] = {
    "n",     "t",           "i1",    "i200", "i60000", "i-5",
    "i-100", "u5000000000", "d.5",   "s:",   "s:ab",   "s:abcdefgh",
    "s*31",  "s*40",        "s*300", "b:",   "b*20",   "b*300",
    "[3",    "[30",         "{3",    "{30",  "[70000",
};

static void a_value_fits_to_the_last_byte_or_leaves_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        orr_buf free_size = {0};
        assert_int_equal(values_pack(&free_size, forms[i]), ORR_OK);
        size_t size = free_size.len;
        for (size_t before = 0; before < 70; before += 23) {
            orr_buf b = {.max = before + size};
            assert_int_equal(orr_buf_reserve(&b, before), ORR_OK);
            b.len = before;
            assert_int_equal(values_pack(&b, forms[i]), ORR_OK);
            assert_int_equal(b.len, b.max);
            assert_memory_equal(b.data + before, free_size.data, size);
            assert_int_equal(values_pack(&b, forms[i]), ORR_TOO_LARGE);
            assert_int_equal(b.len, b.max);
            orr_buf_free(&b);
            b.max = before + size - 1;
            if (b.max == 0)
                continue;
            assert_int_equal(orr_buf_reserve(&b, before), ORR_OK);
            b.len = before;
            assert_int_equal(values_pack(&b, forms[i]), ORR_TOO_LARGE);
            assert_int_equal(b.len, before);
            orr_buf_free(&b);
        }
        orr_buf_free(&free_size);
    }
}

static void a_failed_allocation_leaves_nothing(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        orr_buf b = {0};
        orr_alloc_fail_at(1);
        assert_int_equal(values_pack(&b, forms[i]), ORR_ENOMEM);
        assert_int_equal(b.len, 0);
        assert_int_equal(values_pack(&b, forms[i]), ORR_OK);
        orr_buf_free(&b);
    }
    assert_int_equal(orr_alloc_live(), live);
}

static void every_allocation_of_a_long_body_may_fail(void **state)
{
    (void)state;
    orr_buf whole = {0};
    for (int i = 0; i < 200; i++)
        assert_int_equal(values_pack(&whole, values_corpus[12]), ORR_OK);
    for (uint64_t n = 1;; n++) {
        orr_buf b = {0};
        int rc = ORR_OK;
        orr_alloc_fail_at(n);
        for (int i = 0; rc == ORR_OK && i < 200; i++)
            rc = values_pack(&b, values_corpus[12]);
        orr_alloc_fail_at(0);
        assert_true(b.len <= whole.len);
        assert_true(b.len == 0 || memcmp(b.data, whole.data, b.len) == 0);
        assert_true(rc == (b.len == whole.len ? ORR_OK : ORR_ENOMEM));
        orr_buf_free(&b);
        if (rc == ORR_OK) {
            assert_true(n > 5);
            break;
        }
    }
    orr_buf_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nil_and_booleans),
        cmocka_unit_test(integers_take_their_shortest_form),
        cmocka_unit_test(whole_numbers_of_lua_are_integers),
        cmocka_unit_test(other_numbers_of_lua_are_doubles),
        cmocka_unit_test(strings_and_blobs_take_their_shortest_head),
        cmocka_unit_test(the_bytes_of_a_string_are_copied_at_every_size),
        cmocka_unit_test(heads_of_containers_take_their_shortest_form),
        cmocka_unit_test(a_string_above_32_bits_is_too_large),
        cmocka_unit_test(a_value_fits_to_the_last_byte_or_leaves_nothing),
        cmocka_unit_test(a_failed_allocation_leaves_nothing),
        cmocka_unit_test(every_allocation_of_a_long_body_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
