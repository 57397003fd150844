/* A light scanner of RESP2 in front of the reader of hiredis.
 *
 * The reader trusts what a server declares: a header of 13 bytes makes it
 * reserve gigabytes, a line without an end is kept without end. The scanner
 * sees every byte first and holds each declared size to a limit before the
 * reader hears of it; it also tells where a reply ends, so that the reader
 * parses each reply once.
 *
 * Pure, allocates nothing, may be interrupted at any byte. States: see
 * scanner.c. Once it has refused a byte it refuses all that follow.
 */
#ifndef ORRERY_REDIS_SCANNER_H
#define ORRERY_REDIS_SCANNER_H

#include "orrery/base.h"

enum {
    ORR_REDIS_ARRAY_MAX = 65536,      /* declared elements of one array */
    ORR_REDIS_BULK_MAX = 64 << 20,    /* bytes of one bulk string */
    ORR_REDIS_LINE_MAX = 64 << 10,    /* bytes of a line, without its end */
    ORR_REDIS_DEPTH_MAX = 7,          /* arrays in arrays; the reader's own */
    ORR_REDIS_TOTAL_MAX = 128 << 20,  /* bytes of one reply */
    ORR_REDIS_NODES_MAX = 1024 * 1024 /* values of one reply: the reader
                                            needs 60 bytes for each of 4 */
};

typedef struct orr__redis_scanner {
    uint64_t total;  /* bytes of this reply so far */
    uint64_t number; /* the digits of a header so far */
    uint64_t bulk_left;
    uint32_t line; /* bytes of this line so far */
    uint32_t nodes;
    uint32_t left[ORR_REDIS_DEPTH_MAX]; /* elements to come in each array */
    uint8_t state;
    uint8_t type; /* of the value at hand: one of + - : $ * */
    uint8_t depth;
    uint8_t negative;
} orr__redis_scanner;

/* Zeroed is a fresh scanner. used tells how many bytes were found good: feed
 * the reader with these, also after a refusal. Answers ORR_OK: a reply ends
 * after them, and the scanner is ready for the next; ORR_EMORE: all were good;
 * with err ORR_EPROTO: no RESP2; ORR_TOO_LARGE: a limit. */
int orr__redis_scan(orr__redis_scanner *s, const uint8_t *data, size_t len,
                    size_t *used, orr_error *err);

#endif
