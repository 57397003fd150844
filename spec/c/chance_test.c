/* Seeded chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/base.h"

static void the_seed_is_spread_by_splitmix64(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
        4593380528125082431u};
    orr_chance c;
    orr_chance_seed(&c, 1234567);
    assert_memory_equal(c.s, expected, sizeof expected);
}

static void the_sequence_is_that_of_xoshiro256_star_star(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        11520u,
        0u,
        1509978240u,
        1215971899390074240u,
        1216172134540287360u,
        607988272756665600u,
        16172922978634559625u,
        8476171486693032832u,
        10595114339597558777u,
        2904607092377533576u,
    };
    orr_chance c = {{1, 2, 3, 4}};
    for (int i = 0; i < 10; i++)
        assert_true(orr_chance_next(&c) == expected[i]);
}

static void one_seed_gives_one_sequence(void **state)
{
    (void)state;
    orr_chance a, b, other;
    orr_chance_seed(&a, 42);
    orr_chance_seed(&b, 42);
    orr_chance_seed(&other, 43);
    int differ = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = orr_chance_next(&a);
        assert_true(x == orr_chance_next(&b));
        differ += x != orr_chance_next(&other);
    }
    assert_int_equal(differ, 1000);
}

static void below_stays_below_and_reaches_every_value(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, 1);
    for (uint64_t bound = 1; bound <= 17; bound++) {
        int seen[17] = {0};
        for (int i = 0; i < 4000; i++) {
            uint64_t x = orr_chance_below(&c, bound);
            assert_true(x < bound);
            seen[x]++;
        }
        for (uint64_t x = 0; x < bound; x++)
            assert_in_range(seen[x], 4000 / bound * 7 / 10,
                            4000 / bound * 13 / 10);
    }
    assert_int_equal(orr_chance_below(&c, 0), 0);
    assert_int_equal(orr_chance_below(&c, 1), 0);
}

/* With a bound of 3/4 of 2^64 one draw a result would give every third result
 * twice as often as the others. */
static void below_favours_nobody_at_huge_bounds(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, 7);
    uint64_t bound = 3u * ((uint64_t)1 << 62);
    int thirds[3] = {0};
    for (int i = 0; i < 30000; i++) {
        uint64_t x = orr_chance_below(&c, bound);
        assert_true(x < bound);
        thirds[x % 3]++;
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(thirds[i], 9500, 10500);
    for (int i = 0; i < 1000; i++)
        assert_true(orr_chance_below(&c, UINT64_MAX) < UINT64_MAX);
}

static void real_is_from_zero_to_below_one(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, 3);
    double sum = 0, low = 1, high = 0;
    for (int i = 0; i < 100000; i++) {
        double x = orr_chance_real(&c);
        assert_true(x >= 0 && x < 1);
        sum += x;
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    assert_true(sum > 49500 && sum < 50500);
    assert_true(low < 0.001 && high > 0.999);
    /* The smallest draw there is. */
    orr_chance zeroes = {{0, 0, 0, 0}};
    assert_true(orr_chance_real(&zeroes) == 0);
}

static void a_child_does_not_touch_its_parent(void **state)
{
    (void)state;
    orr_chance a, b, child, twin;
    orr_chance_seed(&a, 9);
    orr_chance_seed(&b, 9);
    orr_chance_fork(&a, &child);
    orr_chance_fork(&b, &twin);
    for (int i = 0; i < 100; i++)
        orr_chance_next(&child);
    for (int i = 0; i < 100; i++)
        assert_true(orr_chance_next(&a) == orr_chance_next(&b));
    for (int i = 0; i < 100; i++)
        orr_chance_next(&twin);
    assert_true(orr_chance_next(&child) == orr_chance_next(&twin));
    assert_true(orr_chance_next(&child) != orr_chance_next(&a));
}

static void bytes_are_the_draws_in_little_endian(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 33; len++) {
        orr_chance a, b;
        orr_chance_seed(&a, 5);
        orr_chance_seed(&b, 5);
        uint8_t out[40];
        memset(out, 0xee, sizeof out);
        orr_chance_bytes(&a, out, len);
        for (size_t i = 0; i < len; i += 8) {
            uint64_t x = orr_chance_next(&b);
            for (size_t k = i; k < i + 8 && k < len; k++)
                assert_int_equal(out[k], (x >> 8 * (k - i)) & 0xff);
        }
        for (size_t i = len; i < sizeof out; i++)
            assert_int_equal(out[i], 0xee);
        assert_true(orr_chance_next(&a) == orr_chance_next(&b));
    }
}

static void the_system_seeds_differently_each_time(void **state)
{
    (void)state;
    orr_chance a = {0}, b = {0};
    assert_int_equal(orr_chance_seed_os(&a), ORR_OK);
    assert_int_equal(orr_chance_seed_os(&b), ORR_OK);
    assert_memory_not_equal(&a, &b, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_seed_is_spread_by_splitmix64),
        cmocka_unit_test(the_sequence_is_that_of_xoshiro256_star_star),
        cmocka_unit_test(one_seed_gives_one_sequence),
        cmocka_unit_test(below_stays_below_and_reaches_every_value),
        cmocka_unit_test(below_favours_nobody_at_huge_bounds),
        cmocka_unit_test(real_is_from_zero_to_below_one),
        cmocka_unit_test(a_child_does_not_touch_its_parent),
        cmocka_unit_test(bytes_are_the_draws_in_little_endian),
        cmocka_unit_test(the_system_seeds_differently_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
