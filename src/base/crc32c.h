/* The two ways to a CRC-32C, apart for tests. Both answer the same. */
#ifndef ORRERY_BASE_CRC32C_H
#define ORRERY_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t orr__crc32c_fn(uint32_t crc, const uint8_t *p, size_t len);

orr__crc32c_fn orr__crc32c_table;

/* By the instruction of the processor; NULL when it has none. */
orr__crc32c_fn *orr__crc32c_hardware(void);

#endif
