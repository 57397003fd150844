/* Large blocks, kept for the next who wants one.
 *
 * A fresh block of 100 MiB costs more in page faults and zeroing than all that
 * is then done with it. So large blocks are asked for in huge pages, and a few
 * that were freed are kept. Those that wait are marked as free to the system
 * (MADV_FREE): it takes their pages back when it needs them, not before.
 *
 * Under a sanitizer nothing is kept: it would not see a use after free.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "orrery/base.h"

enum { KEPT_MAX = 4, HUGE_PAGE = 2 << 20 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const size_t kept_bytes_max = 0;
#else
static const size_t kept_bytes_max = (size_t)256 << 20;
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *kept[KEPT_MAX];
static size_t kept_bytes;

/* The whole huge pages of a block get an advice; it may be refused. */
static void advise(void *p, size_t size, int advice)
{
    uintptr_t mask = HUGE_PAGE - 1;
    uintptr_t from = ((uintptr_t)p + mask) & ~mask;
    uintptr_t to = ((uintptr_t)p + size) & ~mask;

    if (to > from)
        (void)madvise((void *)from, to - from, advice);
}

static void *take(size_t size)
{
    void *p = NULL;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < KEPT_MAX && p == NULL; i++) {
        size_t have = kept[i] == NULL ? 0 : malloc_usable_size(kept[i]);

        if (have < size || have / 2 > size)
            continue;
        p = kept[i];
        kept[i] = NULL;
        kept_bytes -= have;
    }
    pthread_mutex_unlock(&lock);
    return p;
}

static int keep(void *p, size_t have)
{
    int is_kept = 0;

    if (have > kept_bytes_max)
        return 0;
    advise(p, have, MADV_FREE);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < KEPT_MAX && !is_kept; i++) {
        if (kept[i] != NULL || kept_bytes + have > kept_bytes_max)
            continue;
        kept[i] = p;
        kept_bytes += have;
        is_kept = 1;
    }
    pthread_mutex_unlock(&lock);
    return is_kept;
}

void *orr_large_realloc(void *p, size_t size)
{
    size_t have = p == NULL ? 0 : malloc_usable_size(p);
    void *q = NULL;

    if (have >= size)
        return p;
    if (have < ORR_LARGE_MIN)
        q = take(size);
    if (q == NULL) {
        q = realloc(p, size);
        if (q != NULL)
            advise(q, size, MADV_HUGEPAGE);
        return q;
    }
    if (p != NULL)
        memcpy(q, p, have);
    free(p);
    return q;
}

void orr_large_free(void *p)
{
    size_t have = malloc_usable_size(p);

    if (have < ORR_LARGE_MIN || !keep(p, have))
        free(p);
}
