/* The fixed frame header. The struct has the layout of the wire, so on a
 * little-endian host both ways are one copy. */
#include "header.h"

#include <string.h>

#define IS_AT(field, at)                                                       \
    _Static_assert(offsetof(orr_header, field) == (at), #field " moved")

IS_AT(length, 0);
IS_AT(version, 4);
IS_AT(kind, 5);
IS_AT(flags, 6);
IS_AT(call_slot, 8);
IS_AT(call_generation, 12);
IS_AT(budget_us, 16);
IS_AT(endpoint, 24);
IS_AT(incarnation, 28);
IS_AT(method, 32);
IS_AT(checksum, 36);
IS_AT(token.epoch, 40);
IS_AT(token.session, 48);
_Static_assert(sizeof(orr_header) == ORR_HEADER_SIZE, "header has padding");

static void put(uint8_t *p, uint64_t x, int size)
{
    for (int i = 0; i < size; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

static uint64_t get(const uint8_t *p, int size)
{
    uint64_t x = 0;
    for (int i = 0; i < size; i++)
        x |= (uint64_t)p[i] << 8 * i;
    return x;
}

void orr__header_encode_bytes(const orr_header *h, uint8_t *out)
{
    put(out, h->length, 4);
    out[4] = h->version;
    out[5] = h->kind;
    put(out + 6, h->flags, 2);
    put(out + 8, h->call_slot, 4);
    put(out + 12, h->call_generation, 4);
    put(out + 16, h->budget_us, 8);
    put(out + 24, h->endpoint, 4);
    put(out + 28, h->incarnation, 4);
    put(out + 32, h->method, 4);
    put(out + 36, h->checksum, 4);
    put(out + 40, h->token.epoch, 8);
    memcpy(out + 48, h->token.session, 16);
}

void orr__header_decode_bytes(orr_header *h, const uint8_t *data)
{
    h->length = (uint32_t)get(data, 4);
    h->version = data[4];
    h->kind = data[5];
    h->flags = (uint16_t)get(data + 6, 2);
    h->call_slot = (uint32_t)get(data + 8, 4);
    h->call_generation = (uint32_t)get(data + 12, 4);
    h->budget_us = get(data + 16, 8);
    h->endpoint = (uint32_t)get(data + 24, 4);
    h->incarnation = (uint32_t)get(data + 28, 4);
    h->method = (uint32_t)get(data + 32, 4);
    h->checksum = (uint32_t)get(data + 36, 4);
    h->token.epoch = get(data + 40, 8);
    memcpy(h->token.session, data + 48, 16);
}

void orr_header_encode(const orr_header *h, uint8_t *out)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(out, h, ORR_HEADER_SIZE);
#else
    orr__header_encode_bytes(h, out);
#endif
}

int orr_header_decode(orr_header *h, const uint8_t *data, size_t len)
{
    if (len < ORR_HEADER_SIZE)
        return ORR_EMORE;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(h, data, ORR_HEADER_SIZE);
#else
    orr__header_decode_bytes(h, data);
#endif
    if (h->version != ORR_WIRE_VERSION)
        return ORR_EPROTO;
    if ((h->kind < ORR_FRAME_HELLO || h->kind > ORR_FRAME_ABORT) &&
        (h->flags & ORR_FLAG_OPTIONAL) == 0)
        return ORR_EPROTO;
    return ORR_OK;
}

uint32_t orr_header_checksum(const uint8_t *header, const uint8_t *body,
                             size_t len)
{
    uint8_t clean[ORR_HEADER_SIZE];
    memcpy(clean, header, sizeof clean);
    memset(clean + offsetof(orr_header, checksum), 0, 4);
    uint32_t crc = orr_crc32c(0, clean, sizeof clean);
    return len == 0 ? crc : orr_crc32c(crc, body, len);
}
