/* The MessagePack reader: one token, one whole value, one whole body.
 *
 * Whole values are walked without recursion. Per open container a bounded
 * stack keeps how many values it still waits for; `owed` is their sum.
 */
#include "pack_inline.h"

void orr_unpack_init(orr_unpacker *u, const void *data, size_t len)
{
    u->data = data;
    u->len = len;
    u->pos = 0;
    u->nodes_left = ORR_PACK_NODES_DEFAULT;
}

int orr_unpack_next(orr_unpacker *u, orr_pack_token *token)
{
    return orr__unpack_next(u, token);
}

/* Walks one value. On failure u may stand anywhere. */
static int walk(orr_unpacker *u, uint32_t depth_max)
{
    uint32_t waits[ORR_PACK_DEPTH_CAP];
    uint32_t depth = 0;
    uint64_t owed = 1;
    if (depth_max > ORR_PACK_DEPTH_CAP)
        depth_max = ORR_PACK_DEPTH_CAP;
    while (owed > 0) {
        orr_pack_token t;
        int rc = orr__unpack_next(u, &t);
        if (rc != ORR_OK)
            return rc;
        owed--;
        while (depth > 0 && waits[depth - 1] == 0)
            depth--;
        if (depth > 0)
            waits[depth - 1]--;
        if (t.type < ORR_PACK_ARRAY)
            continue;
        /* Fits: the reader held the values to the nodes left. */
        uint32_t count = t.type == ORR_PACK_MAP ? t.size * 2 : t.size;
        owed += count;
        if (depth == depth_max)
            return ORR_EPROTO;
        waits[depth++] = count;
    }
    return ORR_OK;
}

int orr_unpack_skip(orr_unpacker *u, uint32_t depth_max)
{
    if (u->pos >= u->len)
        return ORR_ENOENT;
    orr_unpacker at = *u;
    int rc = walk(&at, depth_max);
    if (rc != ORR_OK)
        return ORR_EPROTO;
    *u = at;
    return ORR_OK;
}

int orr_pack_check(const void *data, size_t len, const orr_pack_limits *limits,
                   uint32_t *values)
{
    orr_unpacker u;
    orr_unpack_init(&u, data, len);
    uint32_t depth_max = ORR_PACK_DEPTH_DEFAULT;
    if (limits != NULL) {
        depth_max = limits->depth_max;
        u.nodes_left = limits->nodes_max;
    }
    uint32_t n = 0;
    for (; u.pos < u.len; n++)
        if (walk(&u, depth_max) != ORR_OK)
            return ORR_EPROTO;
    if (values != NULL)
        *values = n;
    return ORR_OK;
}
