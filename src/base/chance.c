/* Seeded chance: xoshiro256** (Blackman and Vigna), its state filled by
 * splitmix64 as its authors advise. Every result is the same on every machine,
 * because simulations are replayed by their seed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "orrery/base.h"

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* splitmix64 gives each value once a period, so at most one word is zero, and
 * the generator must not start from four of them. */
void orr_chance_seed(orr_chance *c, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        c->s[i] = splitmix64(&seed);
}

int orr_chance_seed_os(orr_chance *c)
{
    uint64_t s[4];
    ssize_t n;
    do {
        n = getrandom(s, sizeof s, 0);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof s)
        return ORR_EIO;
    if ((s[0] | s[1] | s[2] | s[3]) == 0)
        s[0] = 1;
    memcpy(c->s, s, sizeof s);
    return ORR_OK;
}

uint64_t orr_chance_next(orr_chance *c)
{
    uint64_t *s = c->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* High and low half of a * b. By hand: 128-bit integers are no ISO C. */
static uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t al = (uint32_t)a, ah = a >> 32;
    uint64_t bl = (uint32_t)b, bh = b >> 32;
    uint64_t ll = al * bl;
    uint64_t m1 = ah * bl + (ll >> 32);
    uint64_t m2 = al * bh + (uint32_t)m1;
    *low = (m2 << 32) | (uint32_t)ll;
    return ah * bh + (m1 >> 32) + (m2 >> 32);
}

/* Lemire, "Fast random integer generation in an interval": the high half of
 * the product is the result; a low half below 2^64 mod bound would favour some
 * results and is drawn again. */
uint64_t orr_chance_below(orr_chance *c, uint64_t bound)
{
    uint64_t low;
    uint64_t high = multiply(orr_chance_next(c), bound, &low);
    if (low < bound) {
        uint64_t unfair = (0 - bound) % bound;
        while (low < unfair)
            high = multiply(orr_chance_next(c), bound, &low);
    }
    return high;
}

double orr_chance_real(orr_chance *c)
{
    return (double)(orr_chance_next(c) >> 11) * 0x1.0p-53;
}

void orr_chance_fork(orr_chance *c, orr_chance *child)
{
    orr_chance_seed(child, orr_chance_next(c));
}

void orr_chance_bytes(orr_chance *c, uint8_t *out, size_t len)
{
    uint64_t x = 0;
    for (size_t i = 0; i < len; i++) {
        x = i % 8 == 0 ? orr_chance_next(c) : x >> 8;
        out[i] = (uint8_t)x;
    }
}
