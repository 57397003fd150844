/* The allocation hook. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/base.h"

static void blocks_are_counted(void **state)
{
    (void)state;
    uint64_t count = orr_alloc_count(), live = orr_alloc_live();
    void *a = orr_alloc(10);
    void *b = orr_calloc(3, 5);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(orr_alloc_count() - count, 2);
    assert_int_equal(orr_alloc_live() - live, 2);
    void *c = orr_realloc(NULL, 7);
    assert_int_equal(orr_alloc_live() - live, 3);
    c = orr_realloc(c, 7000);
    assert_int_equal(orr_alloc_count() - count, 4);
    assert_int_equal(orr_alloc_live() - live, 3);
    orr_free(a);
    orr_free(b);
    assert_int_equal(orr_alloc_live() - live, 1);
    orr_free(c);
    assert_int_equal(orr_alloc_live(), live);
}

static void freeing_nothing_is_nothing(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    orr_free(NULL);
    assert_int_equal(orr_alloc_live(), live);
}

static void a_block_of_no_bytes_is_a_block(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    void *all[] = {orr_alloc(0), orr_calloc(0, 8), orr_calloc(8, 0),
                   orr_realloc(NULL, 0)};
    for (int i = 0; i < 4; i++)
        assert_non_null(all[i]);
    all[0] = orr_realloc(all[0], 0);
    assert_non_null(all[0]);
    assert_int_equal(orr_alloc_live() - live, 4);
    for (int i = 0; i < 4; i++)
        orr_free(all[i]);
    assert_int_equal(orr_alloc_live(), live);
}

static void calloc_clears_and_refuses_an_overflow(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    uint8_t *p = orr_calloc(100, 3);
    for (int i = 0; i < 300; i++)
        assert_int_equal(p[i], 0);
    orr_free(p);
    volatile size_t huge = SIZE_MAX / 2 + 1;
    assert_null(orr_calloc(huge, 2));
    assert_int_equal(orr_alloc_live(), live);
}

static void the_nth_allocation_fails_once(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 5; n++) {
        uint64_t live = orr_alloc_live();
        void *p[6];
        orr_alloc_fail_at(n);
        for (uint64_t i = 0; i < 6; i++) {
            p[i] = i % 2 == 0 ? orr_alloc(8) : orr_calloc(1, 8);
            assert_int_equal(p[i] == NULL, i + 1 == n);
        }
        assert_int_equal(orr_alloc_live() - live, 5);
        for (int i = 0; i < 6; i++)
            orr_free(p[i]);
        assert_int_equal(orr_alloc_live(), live);
    }
}

static void zero_takes_the_failure_back(void **state)
{
    (void)state;
    orr_alloc_fail_at(1);
    orr_alloc_fail_at(0);
    void *p = orr_alloc(1);
    assert_non_null(p);
    orr_free(p);
}

static void a_failed_realloc_leaves_the_block(void **state)
{
    (void)state;
    uint64_t live = orr_alloc_live();
    char *p = orr_alloc(4);
    memcpy(p, "abc", 4);
    orr_alloc_fail_at(1);
    assert_null(orr_realloc(p, 1000));
    assert_string_equal(p, "abc");
    assert_int_equal(orr_alloc_live() - live, 1);
    orr_free(p);
    assert_int_equal(orr_alloc_live(), live);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *churn(void *arg)
{
    uint64_t *failures = arg;
    for (int i = 0; i < ROUNDS; i++) {
        void *p = orr_alloc(16);
        *failures += p == NULL;
        orr_free(p);
    }
    return NULL;
}

static void threads_share_the_counters(void **state)
{
    (void)state;
    uint64_t count = orr_alloc_count(), live = orr_alloc_live();
    pthread_t threads[THREADS];
    uint64_t failures[THREADS] = {0};
    orr_alloc_fail_at(ROUNDS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &failures[i]),
                         0);
    uint64_t sum = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += failures[i];
    }
    assert_int_equal(sum, 1);
    assert_int_equal(orr_alloc_count() - count, THREADS * ROUNDS);
    assert_int_equal(orr_alloc_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_counted),
        cmocka_unit_test(freeing_nothing_is_nothing),
        cmocka_unit_test(a_block_of_no_bytes_is_a_block),
        cmocka_unit_test(calloc_clears_and_refuses_an_overflow),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(zero_takes_the_failure_back),
        cmocka_unit_test(a_failed_realloc_leaves_the_block),
        cmocka_unit_test(threads_share_the_counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
