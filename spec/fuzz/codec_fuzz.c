/* MessagePack from outside: check, skip and the reader agree, and what was read
 * is, written again, read as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "orrery/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x))                                                              \
            abort();                                                           \
    } while (0)

static int token_pack(orr_buf *b, const orr_pack_token *t)
{
    switch (t->type) {
    case ORR_PACK_NIL: return orr_pack_nil(b);
    case ORR_PACK_FALSE: return orr_pack_bool(b, 0);
    case ORR_PACK_TRUE: return orr_pack_bool(b, 1);
    case ORR_PACK_INT: return orr_pack_int(b, t->i);
    case ORR_PACK_UINT: return orr_pack_uint(b, t->u);
    case ORR_PACK_DOUBLE: return orr_pack_double(b, t->d);
    case ORR_PACK_STR: return orr_pack_str(b, t->data, t->size);
    case ORR_PACK_BIN: return orr_pack_bin(b, t->data, t->size);
    case ORR_PACK_ARRAY: return orr_pack_array(b, t->size);
    case ORR_PACK_MAP: return orr_pack_map(b, t->size);
    default: abort();
    }
}

static int is_same(const orr_pack_token *a, const orr_pack_token *b)
{
    if (a->type != b->type)
        return 0;
    switch (a->type) {
    case ORR_PACK_INT: return a->i == b->i;
    case ORR_PACK_UINT: return a->u == b->u && a->u > INT64_MAX;
    case ORR_PACK_DOUBLE: return memcmp(&a->d, &b->d, sizeof a->d) == 0;
    case ORR_PACK_STR:
    case ORR_PACK_BIN:
        return a->size == b->size &&
               (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
    case ORR_PACK_ARRAY:
    case ORR_PACK_MAP: return a->size == b->size;
    default: return 1;
    }
}

/* Answers ORR_ENOENT when the input was read to its end. */
static int rewrite(const uint8_t *data, size_t len, orr_buf *out)
{
    orr_unpacker u;
    orr_pack_token t;
    int rc;
    orr_unpack_init(&u, data, len);
    for (;;) {
        size_t at = u.pos;
        rc = orr_unpack_next(&u, &t);
        if (rc != ORR_OK) {
            MUST(u.pos == at);
            return rc;
        }
        MUST(u.pos > at && u.pos <= len);
        MUST(token_pack(out, &t) == ORR_OK);
    }
}

static void compare(const uint8_t *data, size_t len, const orr_buf *out)
{
    orr_unpacker a, b;
    orr_pack_token ta, tb;
    MUST(out->len <= 2 * len); /* a float becomes a double */
    orr_unpack_init(&a, data, len);
    orr_unpack_init(&b, out->data, out->len);
    while (orr_unpack_next(&a, &ta) == ORR_OK) {
        MUST(orr_unpack_next(&b, &tb) == ORR_OK);
        MUST(is_same(&ta, &tb));
    }
    MUST(b.pos == b.len);
    /* The shortest form of the shortest form is itself. */
    orr_buf again = {0};
    MUST(rewrite(out->data, out->len, &again) == ORR_ENOENT);
    MUST(again.len == out->len);
    MUST(out->len == 0 || memcmp(again.data, out->data, out->len) == 0);
    orr_buf_free(&again);
}

static int skip_all(const uint8_t *data, size_t len, uint32_t *values)
{
    orr_unpacker u;
    int rc;
    orr_unpack_init(&u, data, len);
    for (*values = 0; (rc = orr_unpack_skip(&u, 64)) == ORR_OK;)
        ++*values;
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint32_t values = 0, skipped = 0, again = 0;
    orr_buf out = {0};
    int rc = orr_pack_check(data, len, NULL, &values);
    int skip_rc = skip_all(data, len, &skipped);
    int read_rc = rewrite(data, len, &out);
    MUST(rc == ORR_OK || rc == ORR_EPROTO);
    MUST(skip_rc == (rc == ORR_OK ? ORR_ENOENT : ORR_EPROTO));
    if (rc == ORR_OK) {
        MUST(skipped == values && read_rc == ORR_ENOENT);
        compare(data, len, &out);
        MUST(orr_pack_check(out.data, out.len, NULL, &again) == ORR_OK);
        MUST(again == values);
    }
    orr_buf_free(&out);
    return 0;
}
