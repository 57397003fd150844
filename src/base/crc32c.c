/* CRC-32C (Castagnoli, reflected polynomial 0x82f63b78): by the instruction of
 * SSE 4.2 where the processor has it, else eight bytes a step by tables.
 *
 * The way is chosen when the library is loaded, before threads exist.
 */
#include "crc32c.h"

#include <string.h>

#include "orrery/base.h"

#define POLYNOMIAL 0x82f63b78u

/* tables[k][b]: the effect of byte b that has k bytes behind it. */
static uint32_t tables[8][256];
static orr__crc32c_fn *chosen = orr__crc32c_table;

static void tables_fill(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t r = b;
        for (int bit = 0; bit < 8; bit++)
            r = (r >> 1) ^ ((r & 1) ? POLYNOMIAL : 0);
        tables[0][b] = r;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++) {
            uint32_t r = tables[k - 1][b];
            tables[k][b] = (r >> 8) ^ tables[0][r & 0xff];
        }
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

uint32_t orr__crc32c_table(uint32_t crc, const uint8_t *p, size_t len)
{
    uint32_t r = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t a = r ^ load32(p), b = load32(p + 4);
        r = tables[7][a & 0xff] ^ tables[6][a >> 8 & 0xff] ^
            tables[5][a >> 16 & 0xff] ^ tables[4][a >> 24] ^
            tables[3][b & 0xff] ^ tables[2][b >> 8 & 0xff] ^
            tables[1][b >> 16 & 0xff] ^ tables[0][b >> 24];
    }
    for (; len > 0; p++, len--)
        r = (r >> 8) ^ tables[0][(r ^ *p) & 0xff];
    return ~r;
}

#if defined(__x86_64__)

#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t len)
{
    uint64_t r = ~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        r = _mm_crc32_u64(r, word);
    }
    uint32_t s = (uint32_t)r;
    if (len >= 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        s = _mm_crc32_u32(s, word);
        p += 4;
        len -= 4;
    }
    for (; len > 0; p++, len--)
        s = _mm_crc32_u8(s, *p);
    return ~s;
}

orr__crc32c_fn *orr__crc32c_hardware(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") ? by_instruction : NULL;
}

#else

orr__crc32c_fn *orr__crc32c_hardware(void)
{
    return NULL;
}

#endif

__attribute__((constructor)) static void choose(void)
{
    tables_fill();
    orr__crc32c_fn *hardware = orr__crc32c_hardware();
    if (hardware != NULL)
        chosen = hardware;
}

uint32_t orr_crc32c(uint32_t crc, const void *data, size_t len)
{
    return chosen(crc, data, len);
}
