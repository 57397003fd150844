/* Growable buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/base.h"

static void a_zeroed_buffer_is_empty_and_ready(void **state)
{
    (void)state;
    orr_buf b = {0};
    uint64_t count = orr_alloc_count();
    assert_int_equal(orr_buf_append(&b, NULL, 0), ORR_OK);
    assert_int_equal(orr_buf_reserve(&b, 0), ORR_OK);
    assert_int_equal(orr_alloc_count(), count);
    assert_int_equal(orr_buf_append(&b, "abc", 3), ORR_OK);
    assert_int_equal(b.len, 3);
    assert_int_equal(b.max, ORR_BUF_MAX_DEFAULT);
    assert_true(b.cap >= 3 && b.cap <= b.max);
    assert_memory_equal(b.data, "abc", 3);
    orr_buf_free(&b);
    assert_null(b.data);
    assert_int_equal(b.len + b.cap + b.max, 0);
}

static void appended_bytes_stay_through_growth(void **state)
{
    (void)state;
    orr_buf b = {0};
    uint64_t count = orr_alloc_count();
    for (int i = 0; i < 100000; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        assert_int_equal(orr_buf_append(&b, &byte, 1), ORR_OK);
    }
    assert_int_equal(b.len, 100000);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(b.data[i], (uint8_t)(i * 7));
    /* Doubling: from 64 to 131072. */
    assert_int_equal(orr_alloc_count() - count, 12);
    orr_buf_free(&b);
}

static void a_buffer_fills_to_its_max_and_no_further(void **state)
{
    (void)state;
    static const size_t maxes[] = {1, 63, 64, 65, 100, 128, 1000};
    for (size_t i = 0; i < sizeof maxes / sizeof *maxes; i++) {
        orr_buf b = {.max = maxes[i]};
        for (size_t n = 0; n < maxes[i]; n++) {
            assert_int_equal(orr_buf_append(&b, "x", 1), ORR_OK);
            assert_true(b.cap <= b.max);
        }
        orr_buf before = b;
        assert_int_equal(orr_buf_append(&b, "x", 1), ORR_TOO_LARGE);
        assert_int_equal(orr_buf_reserve(&b, 1), ORR_TOO_LARGE);
        assert_int_equal(orr_buf_reserve(&b, SIZE_MAX), ORR_TOO_LARGE);
        assert_int_equal(orr_buf_reserve(&b, 0), ORR_OK);
        assert_memory_equal(&b, &before, sizeof b);
        orr_buf_free(&b);
    }
}

static void a_reserve_of_max_is_allowed_and_one_above_is_not(void **state)
{
    (void)state;
    orr_buf b = {.max = 5000};
    assert_int_equal(orr_buf_reserve(&b, 5001), ORR_TOO_LARGE);
    assert_null(b.data);
    assert_int_equal(orr_buf_reserve(&b, 5000), ORR_OK);
    assert_int_equal(b.cap, 5000);
    orr_buf_free(&b);
    assert_int_equal(orr_buf_reserve(&b, (size_t)ORR_BUF_MAX_DEFAULT + 1),
                     ORR_TOO_LARGE);
    orr_buf_free(&b);
}

static void a_max_lowered_below_the_content_only_stops_growth(void **state)
{
    (void)state;
    orr_buf b = {0};
    assert_int_equal(orr_buf_reserve(&b, 64), ORR_OK);
    b.len = 64;
    b.max = 10;
    assert_int_equal(orr_buf_append(&b, "x", 1), ORR_TOO_LARGE);
    assert_int_equal(b.len, 64);
    orr_buf_free(&b);
}

static void a_failed_growth_leaves_the_buffer(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    orr_buf b = {0};
    orr_alloc_fail_at(1);
    assert_int_equal(orr_buf_append(&b, "abc", 3), ORR_ENOMEM);
    assert_null(b.data);
    assert_int_equal(b.len, 0);
    assert_int_equal(orr_buf_append(&b, "abc", 3), ORR_OK);
    orr_alloc_fail_at(1);
    assert_int_equal(orr_buf_reserve(&b, 1000), ORR_ENOMEM);
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "abc", 3);
    assert_int_equal(orr_buf_reserve(&b, 1000), ORR_OK);
    orr_buf_free(&b);
    assert_int_equal(orr_alloc_live(), live);
}

static void reset_keeps_the_memory(void **state)
{
    (void)state;
    orr_buf b = {0};
    assert_int_equal(orr_buf_append(&b, "abc", 3), ORR_OK);
    uint8_t *data = b.data;
    uint64_t count = orr_alloc_count();
    orr_buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(orr_buf_append(&b, "de", 2), ORR_OK);
    assert_ptr_equal(b.data, data);
    assert_int_equal(orr_alloc_count(), count);
    orr_buf_free(&b);
    orr_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_zeroed_buffer_is_empty_and_ready),
        cmocka_unit_test(appended_bytes_stay_through_growth),
        cmocka_unit_test(a_buffer_fills_to_its_max_and_no_further),
        cmocka_unit_test(a_reserve_of_max_is_allowed_and_one_above_is_not),
        cmocka_unit_test(a_max_lowered_below_the_content_only_stops_growth),
        cmocka_unit_test(a_failed_growth_leaves_the_buffer),
        cmocka_unit_test(reset_keeps_the_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
