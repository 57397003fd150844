/* A little language for MessagePack bytes in tests: values in text.
 *
 *   n t f        nil, true, false
 *   i-5 u<digits> d1.5 (also dnan dinf)     numbers
 *   s:abc b:abc  a string and a blob, up to the next space
 *   s*300 b*300  of that many 'x'
 *   [3 {2        head of an array or a map
 */
#ifndef ORRERY_SPEC_PACK_VALUES_H
#define ORRERY_SPEC_PACK_VALUES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orrery/wire.h"

static inline int values_bytes(orr_buf *b, const char *at, size_t len)
{
    char kind = at[0];
    if (at[1] == ':')
        return kind == 's' ? orr_pack_str(b, at + 2, len - 2)
                           : orr_pack_bin(b, at + 2, len - 2);
    size_t size = (size_t)strtoul(at + 2, NULL, 10);
    char *text = malloc(size + 1);
    if (text == NULL)
        return ORR_ENOMEM;
    memset(text, 'x', size);
    int rc =
        kind == 's' ? orr_pack_str(b, text, size) : orr_pack_bin(b, text, size);
    free(text);
    return rc;
}

static inline int values_one(orr_buf *b, const char *at, size_t len)
{
    switch (*at) {
    case 'n': return orr_pack_nil(b);
    case 't': return orr_pack_bool(b, 1);
    case 'f': return orr_pack_bool(b, 0);
    case 'i': return orr_pack_int(b, strtoll(at + 1, NULL, 10));
    case 'u': return orr_pack_uint(b, strtoull(at + 1, NULL, 10));
    case 'd': return orr_pack_double(b, strtod(at + 1, NULL));
    case '[': return orr_pack_array(b, (uint32_t)strtoul(at + 1, NULL, 10));
    case '{': return orr_pack_map(b, (uint32_t)strtoul(at + 1, NULL, 10));
    default: return values_bytes(b, at, len);
    }
}

/* Appends the values of a text. Answers the first code that is not ORR_OK. */
static inline int values_pack(orr_buf *b, const char *text)
{
    int rc = ORR_OK;
    while (rc == ORR_OK && *text != 0) {
        size_t len = strcspn(text, " ");
        rc = values_one(b, text, len);
        text += len + strspn(text + len, " ");
    }
    return rc;
}

/* Valid bodies of all shapes, for truncation, mutation and round trips. */
static const char *const values_corpus[] = {
    "n",
    "t f",
    "i0 i127 i128 i255 i256 i65535 i65536 i4294967295 i4294967296",
    "i-1 i-32 i-33 i-128 i-129 i-32768 i-32769 i-2147483648 i-2147483649",
    "i9223372036854775807 i-9223372036854775808",
    "u9223372036854775808 u18446744073709551615",
    "d0 d-0 d1.5 d1e300 dinf d-inf dnan",
    "s: s:a s*31 s*32 s*255 s*256",
    "b: b:a b*255 b*256",
    "s*65535 b*65536",
    "[0 {0",
    "[1 [1 [1 [1 n",
    "{5 s:id i1 s:op s:add s:args [4 i1 i2 d3.5 s:abc s:ok t s:key s:k1",
    "[16 n n n n n n n n n n n n n n n n",
    "{16 n n n n n n n n n n n n n n n n t t t t t t t t t t t t t t t t",
    "[3 {1 s:a [2 i1 i2 {0 [2 {1 s:b {1 s:c d0.25 b:xyz",
    "[2 [0 [2 {0 [0 s:end",
};

enum { VALUES_CORPUS = sizeof values_corpus / sizeof *values_corpus };

#endif
