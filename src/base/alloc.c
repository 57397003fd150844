/* The allocation hook: counts, and fails the n-th allocation on demand.
 *
 * An allocation costs one relaxed add and one relaxed load above malloc. The
 * number of an allocation is its place in the total order of that add, so at
 * most one allocation of all threads meets the mark.
 */
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "orrery/base.h"

static _Atomic uint64_t tried;  /* allocations asked for, also failed ones */
static _Atomic uint64_t failed; /* of these, the ones that gave nothing */
static _Atomic uint64_t gone;   /* blocks freed, or replaced by realloc */
static _Atomic uint64_t mark;   /* the number that fails; 0: none */

/* Counts one allocation. Answers 1 when it must fail. */
static int is_marked(void)
{
    uint64_t n = atomic_fetch_add_explicit(&tried, 1, memory_order_relaxed) + 1;
    return atomic_load_explicit(&mark, memory_order_relaxed) == n;
}

static void *checked(void *p)
{
    if (p == NULL)
        atomic_fetch_add_explicit(&failed, 1, memory_order_relaxed);
    return p;
}

/* A block of no bytes is still a block: NULL means failure and nothing else. */
static size_t real_size(size_t size)
{
    return size == 0 ? 1 : size;
}

void *orr_alloc(size_t size)
{
    return checked(is_marked() ? NULL : malloc(real_size(size)));
}

void *orr_calloc(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    int fails = is_marked() || count > SIZE_MAX / size;
    return checked(fails ? NULL : calloc(count, size));
}

void *orr_realloc(void *p, size_t size)
{
    void *q = checked(is_marked()             ? NULL
                      : size >= ORR_LARGE_MIN ? orr_large_realloc(p, size)
                                              : realloc(p, real_size(size)));
    if (p != NULL && q != NULL)
        atomic_fetch_add_explicit(&gone, 1, memory_order_relaxed);
    return q;
}

void orr_free(void *p)
{
    if (p == NULL)
        return;
    atomic_fetch_add_explicit(&gone, 1, memory_order_relaxed);
    if (malloc_usable_size(p) >= ORR_LARGE_MIN)
        orr_large_free(p);
    else
        free(p);
}

void orr_alloc_fail_at(uint64_t n)
{
    uint64_t at = n == 0 ? 0 : orr_alloc_count() + n;
    atomic_store_explicit(&mark, at, memory_order_relaxed);
}

uint64_t orr_alloc_count(void)
{
    return atomic_load_explicit(&tried, memory_order_relaxed);
}

uint64_t orr_alloc_live(void)
{
    uint64_t ended = atomic_load_explicit(&gone, memory_order_relaxed) +
                     atomic_load_explicit(&failed, memory_order_relaxed);
    return orr_alloc_count() - ended;
}
