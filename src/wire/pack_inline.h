/* The MessagePack writers and reader, inline: for the public functions, and
 * for the codec of the host, where a call per value is too slow.
 *
 * Writers. Each has a put form that writes to memory which has room, and a
 * pack form that appends to a buffer: the usual case, enough room for the
 * longest form, is one compare; near the end of the buffer the value is put
 * aside first, so that a buffer can be filled to its last byte.
 *
 * Reader. Nothing is trusted before it is checked against the bytes left. On
 * failure the reader stays where it was.
 */
#ifndef ORRERY_WIRE_PACK_INLINE_H
#define ORRERY_WIRE_PACK_INLINE_H

#include <math.h>
#include <string.h>

#include "orrery/wire.h"

enum {
    ORR__PACK_SCALAR_MAX = 9, /* longest form of a number */
    ORR__PACK_PREFIX_MAX = 5  /* longest prefix of a string or container */
};

#define ORR__LIKELY(x) __builtin_expect(!!(x), 1)

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ORR__BE16(x) __builtin_bswap16(x)
#define ORR__BE32(x) __builtin_bswap32(x)
#define ORR__BE64(x) __builtin_bswap64(x)
#else
#define ORR__BE16(x) (x)
#define ORR__BE32(x) (x)
#define ORR__BE64(x) (x)
#endif

static inline size_t orr__put8(uint8_t *p, uint8_t tag, uint8_t x)
{
    p[0] = tag;
    p[1] = x;
    return 2;
}

static inline size_t orr__put16(uint8_t *p, uint8_t tag, uint16_t x)
{
    x = ORR__BE16(x);
    p[0] = tag;
    memcpy(p + 1, &x, 2);
    return 3;
}

static inline size_t orr__put32(uint8_t *p, uint8_t tag, uint32_t x)
{
    x = ORR__BE32(x);
    p[0] = tag;
    memcpy(p + 1, &x, 4);
    return 5;
}

static inline size_t orr__put64(uint8_t *p, uint8_t tag, uint64_t x)
{
    x = ORR__BE64(x);
    p[0] = tag;
    memcpy(p + 1, &x, 8);
    return 9;
}

static inline size_t orr__put_uint(uint8_t *p, uint64_t v)
{
    if (v <= 0x7f) {
        p[0] = (uint8_t)v;
        return 1;
    }
    if (v <= UINT8_MAX)
        return orr__put8(p, 0xcc, (uint8_t)v);
    if (v <= UINT16_MAX)
        return orr__put16(p, 0xcd, (uint16_t)v);
    if (v <= UINT32_MAX)
        return orr__put32(p, 0xce, (uint32_t)v);
    return orr__put64(p, 0xcf, v);
}

static inline size_t orr__put_int(uint8_t *p, int64_t v)
{
    if (v >= 0)
        return orr__put_uint(p, (uint64_t)v);
    if (v >= -32) {
        p[0] = (uint8_t)v;
        return 1;
    }
    if (v >= INT8_MIN)
        return orr__put8(p, 0xd0, (uint8_t)v);
    if (v >= INT16_MIN)
        return orr__put16(p, 0xd1, (uint16_t)v);
    if (v >= INT32_MIN)
        return orr__put32(p, 0xd2, (uint32_t)v);
    return orr__put64(p, 0xd3, (uint64_t)v);
}

static inline size_t orr__put_double(uint8_t *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return orr__put64(p, 0xcb, bits);
}

/* -0.0 stays a double: as an integer it would lose its sign. */
static inline size_t orr__put_number(uint8_t *p, double v)
{
    if (v > -0x1p53 && v < 0x1p53) {
        int64_t i = (int64_t)v;
        if ((double)i == v && (i != 0 || !signbit(v)))
            return orr__put_int(p, i);
    }
    return orr__put_double(p, v);
}

static inline size_t orr__put_str_prefix(uint8_t *p, uint32_t size)
{
    if (size <= 31) {
        p[0] = (uint8_t)(0xa0 | size);
        return 1;
    }
    if (size <= UINT8_MAX)
        return orr__put8(p, 0xd9, (uint8_t)size);
    if (size <= UINT16_MAX)
        return orr__put16(p, 0xda, (uint16_t)size);
    return orr__put32(p, 0xdb, size);
}

static inline size_t orr__put_bin_prefix(uint8_t *p, uint32_t size)
{
    if (size <= UINT8_MAX)
        return orr__put8(p, 0xc4, (uint8_t)size);
    if (size <= UINT16_MAX)
        return orr__put16(p, 0xc5, (uint16_t)size);
    return orr__put32(p, 0xc6, size);
}

static inline size_t orr__put_array(uint8_t *p, uint32_t count)
{
    if (count <= 15) {
        p[0] = (uint8_t)(0x90 | count);
        return 1;
    }
    if (count <= UINT16_MAX)
        return orr__put16(p, 0xdc, (uint16_t)count);
    return orr__put32(p, 0xdd, count);
}

static inline size_t orr__put_map(uint8_t *p, uint32_t count)
{
    if (count <= 15) {
        p[0] = (uint8_t)(0x80 | count);
        return 1;
    }
    if (count <= UINT16_MAX)
        return orr__put16(p, 0xde, (uint16_t)count);
    return orr__put32(p, 0xdf, count);
}

/* The bytes of names are few, and a call of memcpy for them is dear. */
static inline void orr__put_bytes(uint8_t *p, const uint8_t *data, size_t size)
{
    if (size > 16) {
        memcpy(p, data, size);
    } else if (size >= 8) {
        uint64_t a, b;
        memcpy(&a, data, 8);
        memcpy(&b, data + size - 8, 8);
        memcpy(p, &a, 8);
        memcpy(p + size - 8, &b, 8);
    } else if (size >= 4) {
        uint32_t a, b;
        memcpy(&a, data, 4);
        memcpy(&b, data + size - 4, 4);
        memcpy(p, &a, 4);
        memcpy(p + size - 4, &b, 4);
    } else if (size > 0) {
        p[0] = data[0];
        p[size / 2] = data[size / 2];
        p[size - 1] = data[size - 1];
    }
}

#define ORR__PACK(b, put, ...)                                                 \
    do {                                                                       \
        if (ORR__LIKELY((b)->cap - (b)->len >= ORR__PACK_SCALAR_MAX)) {        \
            (b)->len += put((b)->data + (b)->len, __VA_ARGS__);                \
            return ORR_OK;                                                     \
        }                                                                      \
        uint8_t aside[ORR__PACK_SCALAR_MAX];                                   \
        size_t size_aside = put(aside, __VA_ARGS__);                           \
        return orr_buf_append((b), aside, size_aside);                         \
    } while (0)

static inline int orr__pack_byte(orr_buf *b, uint8_t byte)
{
    if (ORR__LIKELY(b->len < b->cap)) {
        b->data[b->len++] = byte;
        return ORR_OK;
    }
    return orr_buf_append(b, &byte, 1);
}

static inline int orr__pack_nil(orr_buf *b)
{
    return orr__pack_byte(b, 0xc0);
}

static inline int orr__pack_bool(orr_buf *b, int value)
{
    return orr__pack_byte(b, value ? 0xc3 : 0xc2);
}

static inline int orr__pack_int(orr_buf *b, int64_t value)
{
    ORR__PACK(b, orr__put_int, value);
}

static inline int orr__pack_uint(orr_buf *b, uint64_t value)
{
    ORR__PACK(b, orr__put_uint, value);
}

static inline int orr__pack_double(orr_buf *b, double value)
{
    ORR__PACK(b, orr__put_double, value);
}

static inline int orr__pack_number(orr_buf *b, double value)
{
    ORR__PACK(b, orr__put_number, value);
}

static inline int orr__pack_array(orr_buf *b, uint32_t count)
{
    ORR__PACK(b, orr__put_array, count);
}

static inline int orr__pack_map(orr_buf *b, uint32_t count)
{
    ORR__PACK(b, orr__put_map, count);
}

#undef ORR__PACK

/* Appends a prefix and the bytes, or on failure nothing. */
static inline int orr__pack_parts(orr_buf *b, const uint8_t *prefix,
                                  size_t prefix_size, const void *data,
                                  size_t size)
{
    int rc = orr_buf_reserve(b, prefix_size + size);
    if (rc != ORR_OK)
        return rc;
    memcpy(b->data + b->len, prefix, prefix_size);
    orr__put_bytes(b->data + b->len + prefix_size, data, size);
    b->len += prefix_size + size;
    return ORR_OK;
}

static inline int orr__pack_str(orr_buf *b, const void *data, size_t size)
{
    if (ORR__LIKELY(size <= 31 && b->cap - b->len >= 32)) {
        uint8_t *p = b->data + b->len;
        p[0] = (uint8_t)(0xa0 | size);
        orr__put_bytes(p + 1, data, size);
        b->len += 1 + size;
        return ORR_OK;
    }
    if (size > UINT32_MAX)
        return ORR_TOO_LARGE;
    uint8_t prefix[ORR__PACK_PREFIX_MAX];
    size_t n = orr__put_str_prefix(prefix, (uint32_t)size);
    return orr__pack_parts(b, prefix, n, data, size);
}

static inline int orr__pack_bin(orr_buf *b, const void *data, size_t size)
{
    if (size > UINT32_MAX)
        return ORR_TOO_LARGE;
    uint8_t prefix[ORR__PACK_PREFIX_MAX];
    size_t n = orr__put_bin_prefix(prefix, (uint32_t)size);
    return orr__pack_parts(b, prefix, n, data, size);
}

static inline uint16_t orr__get16(const uint8_t *p)
{
    uint16_t x;
    memcpy(&x, p, 2);
    return ORR__BE16(x);
}

static inline uint32_t orr__get32(const uint8_t *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return ORR__BE32(x);
}

static inline uint64_t orr__get64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return ORR__BE64(x);
}

/* What the tokens below take from the input, once their head is read. */
static inline int orr__unpack_take(orr_unpacker *u, size_t head)
{
    u->pos += head;
    u->nodes_left--;
    return ORR_OK;
}

static inline int orr__unpack_int(orr_unpacker *u, orr_pack_token *t,
                                  size_t head, int64_t value)
{
    t->type = ORR_PACK_INT;
    t->i = value;
    return orr__unpack_take(u, head);
}

static inline int orr__unpack_bytes(orr_unpacker *u, orr_pack_token *t,
                                    int32_t type, size_t head, uint32_t size)
{
    if (size > u->len - u->pos - head)
        return ORR_EPROTO;
    t->type = type;
    t->size = size;
    t->data = u->data + u->pos + head;
    return orr__unpack_take(u, head + size);
}

/* Elements need a byte and a node each. The node of the container itself is
 * the one that nodes_left is above zero for. */
static inline int orr__unpack_many(orr_unpacker *u, orr_pack_token *t,
                                   int32_t type, size_t head, uint32_t count)
{
    uint64_t values = (uint64_t)count << (type == ORR_PACK_MAP);
    if (values > u->len - u->pos - head || values > u->nodes_left - 1)
        return ORR_EPROTO;
    t->type = type;
    t->size = count;
    return orr__unpack_take(u, head);
}

/* Bytes of a token before its content, by its first byte from 0xc0 to 0xdf;
 * 0: refused (the reserved byte and the ext types). */
static const uint8_t orr__unpack_heads[32] = {
    1, 0, 1, 1, 2, 3, 5, 0, /* nil - false true bin8 bin16 bin32 ext8 */
    0, 0, 5, 9, 2, 3, 5, 9, /* ext16 ext32 f32 f64 u8 u16 u32 u64 */
    2, 3, 5, 9, 0, 0, 0, 0, /* i8 i16 i32 i64 fixext1 .. fixext8 */
    0, 2, 3, 5, 3, 5, 3, 5, /* fixext16 str8 str16 str32 a16 a32 m16 m32 */
};

static inline int orr__unpack_long(orr_unpacker *u, orr_pack_token *t)
{
    const uint8_t *p = u->data + u->pos;
    size_t head = orr__unpack_heads[*p - 0xc0];
    if (head == 0 || head > u->len - u->pos)
        return ORR_EPROTO;
    switch (*p++) {
    case 0xc0: t->type = ORR_PACK_NIL; return orr__unpack_take(u, head);
    case 0xc2: t->type = ORR_PACK_FALSE; return orr__unpack_take(u, head);
    case 0xc3: t->type = ORR_PACK_TRUE; return orr__unpack_take(u, head);
    case 0xc4: return orr__unpack_bytes(u, t, ORR_PACK_BIN, head, *p);
    case 0xc5:
        return orr__unpack_bytes(u, t, ORR_PACK_BIN, head, orr__get16(p));
    case 0xc6:
        return orr__unpack_bytes(u, t, ORR_PACK_BIN, head, orr__get32(p));
    case 0xca: {
        uint32_t bits = orr__get32(p);
        float f;
        memcpy(&f, &bits, 4);
        t->type = ORR_PACK_DOUBLE;
        t->d = (double)f;
        return orr__unpack_take(u, head);
    }
    case 0xcb: {
        uint64_t bits = orr__get64(p);
        t->type = ORR_PACK_DOUBLE;
        memcpy(&t->d, &bits, 8);
        return orr__unpack_take(u, head);
    }
    case 0xcc: return orr__unpack_int(u, t, head, *p);
    case 0xcd: return orr__unpack_int(u, t, head, orr__get16(p));
    case 0xce: return orr__unpack_int(u, t, head, orr__get32(p));
    case 0xcf: {
        uint64_t value = orr__get64(p);
        if (value <= INT64_MAX)
            return orr__unpack_int(u, t, head, (int64_t)value);
        t->type = ORR_PACK_UINT;
        t->u = value;
        return orr__unpack_take(u, head);
    }
    case 0xd0: return orr__unpack_int(u, t, head, (int8_t)*p);
    case 0xd1: return orr__unpack_int(u, t, head, (int16_t)orr__get16(p));
    case 0xd2: return orr__unpack_int(u, t, head, (int32_t)orr__get32(p));
    case 0xd3: return orr__unpack_int(u, t, head, (int64_t)orr__get64(p));
    case 0xd9: return orr__unpack_bytes(u, t, ORR_PACK_STR, head, *p);
    case 0xda:
        return orr__unpack_bytes(u, t, ORR_PACK_STR, head, orr__get16(p));
    case 0xdb:
        return orr__unpack_bytes(u, t, ORR_PACK_STR, head, orr__get32(p));
    case 0xdc:
        return orr__unpack_many(u, t, ORR_PACK_ARRAY, head, orr__get16(p));
    case 0xdd:
        return orr__unpack_many(u, t, ORR_PACK_ARRAY, head, orr__get32(p));
    case 0xde: return orr__unpack_many(u, t, ORR_PACK_MAP, head, orr__get16(p));
    case 0xdf: return orr__unpack_many(u, t, ORR_PACK_MAP, head, orr__get32(p));
    default: return ORR_EPROTO;
    }
}

/* Sets of the token only the fields of its type. */
static inline int orr__unpack_next(orr_unpacker *u, orr_pack_token *t)
{
    if (u->pos >= u->len)
        return ORR_ENOENT;
    if (u->nodes_left == 0)
        return ORR_EPROTO;
    uint8_t tag = u->data[u->pos];
    if (tag <= 0x7f || tag >= 0xe0)
        return orr__unpack_int(u, t, 1, (int8_t)tag);
    if (tag >= 0xc0)
        return orr__unpack_long(u, t);
    if (tag >= 0xa0)
        return orr__unpack_bytes(u, t, ORR_PACK_STR, 1, tag & 0x1f);
    return orr__unpack_many(u, t, tag >= 0x90 ? ORR_PACK_ARRAY : ORR_PACK_MAP,
                            1, tag & 0x0f);
}

#endif
