/* What the raw baselines share: arguments, the clock, the figures. */
#ifndef ORRERY_BENCH_RAW_H
#define ORRERY_BENCH_RAW_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t raw_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline _Noreturn void raw_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* The value of --name N within min..max, or otherwise. */
static inline uint64_t raw_option(int argc, char **argv, const char *name,
                                  uint64_t otherwise, uint64_t min,
                                  uint64_t max)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], name) != 0)
            continue;
        char *end;
        uint64_t value = strtoull(argv[i + 1], &end, 10);
        if (*end || end == argv[i + 1] || value < min || value > max) {
            fprintf(stderr, "%s must be a number from %llu to %llu\n", name,
                    (unsigned long long)min, (unsigned long long)max);
            exit(2);
        }
        return value;
    }
    return otherwise;
}

/* Exits with the usage unless the arguments are pairs of known options. */
static inline void raw_usage(int argc, char **argv, const char *usage,
                             const char *const *known)
{
    for (int i = 1; i < argc; i += 2) {
        int found = i + 1 < argc;
        if (found) {
            found = 0;
            for (size_t k = 0; known[k]; k++)
                found |= !strcmp(argv[i], known[k]);
        }
        if (!found) {
            fprintf(stderr, "usage: %s %s\n", argv[0], usage);
            exit(2);
        }
    }
}

static inline void *raw_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p)
        raw_fail("memory", "not enough");
    return p;
}

static inline int raw_compare(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

/* Prints `<name>_p50 V ns`, `<name>_p99 V ns` and `<name>_rate V 1/s`. Sorts
 * the samples. */
static inline void raw_print(const char *name, uint64_t *samples, size_t count,
                             uint64_t total_ns)
{
    if (!count)
        raw_fail(name, "no samples");
    qsort(samples, count, sizeof *samples, raw_compare);
    printf("%s_p50 %llu ns\n", name, (unsigned long long)samples[count / 2]);
    printf("%s_p99 %llu ns\n", name,
           (unsigned long long)samples[count - 1 - count / 100]);
    printf("%s_rate %.0f 1/s\n", name,
           (double)count * 1e9 / (double)(total_ns ? total_ns : 1));
}

#endif
