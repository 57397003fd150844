/* The MessagePack codec on whole bodies: there and back, every truncation,
 * random values, random damage. A failure tells the seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pack_values.h"

enum { SEED = 20261121, ROUNDS = 20000 };

/* A copy of its exact size, so that a sanitizer sees a read beyond it. */
static uint8_t *exact(const uint8_t *data, size_t len)
{
    uint8_t *p = malloc(len == 0 ? 1 : len);
    assert_non_null(p);
    if (len > 0)
        memcpy(p, data, len);
    return p;
}

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
    default: return ORR_EINVAL;
    }
}

/* Reads all tokens and writes them to out. Answers the code that ended it. */
static int rewrite(const uint8_t *data, size_t len, orr_buf *out)
{
    orr_unpacker u;
    orr_pack_token t;
    int rc;
    orr_unpack_init(&u, data, len);
    while ((rc = orr_unpack_next(&u, &t)) == ORR_OK)
        assert_int_equal(token_pack(out, &t), ORR_OK);
    return rc;
}

static int skip_all(const uint8_t *data, size_t len, uint32_t depth,
                    uint32_t *values)
{
    orr_unpacker u;
    int rc;
    orr_unpack_init(&u, data, len);
    for (*values = 0; (rc = orr_unpack_skip(&u, depth)) == ORR_OK;)
        ++*values;
    return rc;
}

/* What must hold for any bytes: check and skip agree, and what check takes
 * can be read to its end. */
static int agree(const uint8_t *data, size_t len)
{
    uint32_t values = 0, skipped;
    int rc = orr_pack_check(data, len, NULL, &values);
    int skip_rc = skip_all(data, len, ORR_PACK_DEPTH_DEFAULT, &skipped);
    orr_buf out = {0};
    int read_rc = rewrite(data, len, &out);
    orr_buf_free(&out);
    if (rc == ORR_OK) {
        assert_int_equal(skip_rc, ORR_ENOENT);
        assert_int_equal(skipped, values);
        assert_int_equal(read_rc, ORR_ENOENT);
    } else {
        assert_int_equal(rc, ORR_EPROTO);
        assert_int_equal(skip_rc, ORR_EPROTO);
    }
    return rc;
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (int i = 0; i < VALUES_CORPUS; i++) {
        orr_buf b = {0}, again = {0};
        assert_int_equal(values_pack(&b, values_corpus[i]), ORR_OK);
        assert_int_equal(agree(b.data, b.len), ORR_OK);
        assert_int_equal(rewrite(b.data, b.len, &again), ORR_ENOENT);
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
        orr_buf_free(&b);
        orr_buf_free(&again);
    }
}

/* The body as one array, so that a part of it is never a body itself. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (int i = 0; i < VALUES_CORPUS; i++) {
        orr_buf body = {0}, b = {0};
        uint32_t values;
        assert_int_equal(values_pack(&body, values_corpus[i]), ORR_OK);
        assert_int_equal(orr_pack_check(body.data, body.len, NULL, &values),
                         ORR_OK);
        assert_int_equal(orr_pack_array(&b, values), ORR_OK);
        assert_int_equal(orr_buf_append(&b, body.data, body.len), ORR_OK);
        assert_int_equal(agree(b.data, b.len), ORR_OK);
        size_t step = b.len > 5000 ? 997 : 1;
        for (size_t len = 1; len < b.len; len += step) {
            uint8_t *part = exact(b.data, len);
            assert_int_equal(agree(part, len), ORR_EPROTO);
            free(part);
        }
        orr_buf_free(&body);
        orr_buf_free(&b);
    }
}

static void some_bytes(orr_buf *b, orr_chance *c, int is_str)
{
    static const uint32_t sizes[] = {0, 1, 7, 15, 16, 17, 31, 32, 255, 256};
    uint8_t data[256];
    uint32_t size = sizes[orr_chance_below(c, 10)];
    orr_chance_bytes(c, data, size);
    assert_int_equal(is_str ? orr_pack_str(b, data, size)
                            : orr_pack_bin(b, data, size),
                     ORR_OK);
}

static void some_value(orr_buf *b, orr_chance *c, int depth)
{
    uint64_t bits = orr_chance_next(c) >> orr_chance_below(c, 64);
    uint32_t n = (uint32_t)orr_chance_below(c, 5);
    switch (orr_chance_below(c, depth < 6 ? 9 : 7)) {
    case 0: orr_pack_nil(b); return;
    case 1: orr_pack_bool(b, (int)(bits & 1)); return;
    case 2: orr_pack_uint(b, bits); return;
    case 3: orr_pack_int(b, -(int64_t)(bits >> 1)); return;
    case 4: orr_pack_number(b, orr_chance_real(c) * (double)bits); return;
    case 5: some_bytes(b, c, 1); return;
    case 6: some_bytes(b, c, 0); return;
    case 7: orr_pack_array(b, n); break;
    default:
        orr_pack_map(b, n);
        n *= 2;
        break;
    }
    while (n-- > 0)
        some_value(b, c, depth + 1);
}

static void random_bodies_survive_the_way_there_and_back(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, SEED);
    for (int i = 0; i < ROUNDS / 10; i++) {
        orr_buf b = {0}, again = {0};
        some_value(&b, &c, 0);
        assert_int_equal(agree(b.data, b.len), ORR_OK);
        assert_int_equal(rewrite(b.data, b.len, &again), ORR_ENOENT);
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
        orr_buf_free(&b);
        orr_buf_free(&again);
    }
}

/* Changes, drops, doubles or inserts a few bytes. */
static size_t damage(uint8_t *data, size_t len, size_t room, orr_chance *c)
{
    for (uint64_t n = 1 + orr_chance_below(c, 4); n > 0 && len > 0; n--) {
        size_t at = (size_t)orr_chance_below(c, len);
        switch (orr_chance_below(c, 4)) {
        case 0: data[at] = (uint8_t)orr_chance_next(c); break;
        case 1: data[at] ^= (uint8_t)(1 << orr_chance_below(c, 8)); break;
        case 2: len = at; break;
        default:
            if (len == room)
                break;
            memmove(data + at + 1, data + at, len - at);
            data[at] = (uint8_t)(0xc0 + orr_chance_below(c, 0x20));
            len++;
        }
    }
    return len;
}

static void damaged_bodies_are_judged_the_same_by_all(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, SEED + 1);
    int refused = 0;
    for (int i = 0; i < ROUNDS; i++) {
        static uint8_t work[4096];
        orr_buf b = {0};
        if (i % 2 == 0)
            some_value(&b, &c, 0);
        else
            values_pack(&b, values_corpus[(size_t)i % VALUES_CORPUS]);
        size_t len = b.len < 4000 ? b.len : 4000;
        memcpy(work, b.data, len);
        len = damage(work, len, sizeof work, &c);
        uint8_t *data = exact(work, len);
        refused += agree(data, len) == ORR_EPROTO;
        free(data);
        orr_buf_free(&b);
    }
    /* Neither all nor none, or the test would show nothing. */
    assert_in_range(refused, ROUNDS / 10, ROUNDS - ROUNDS / 10);
}

static void noise_is_judged_the_same_by_all(void **state)
{
    (void)state;
    orr_chance c;
    orr_chance_seed(&c, SEED + 2);
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t noise[64];
        size_t len = (size_t)orr_chance_below(&c, sizeof noise + 1);
        orr_chance_bytes(&c, noise, len);
        uint8_t *data = exact(noise, len);
        agree(data, len);
        free(data);
    }
}

static void reading_allocates_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < VALUES_CORPUS; i++) {
        orr_buf b = {0};
        uint32_t values;
        values_pack(&b, values_corpus[i]);
        uint64_t count = orr_alloc_count();
        orr_unpacker u;
        orr_pack_token t;
        orr_unpack_init(&u, b.data, b.len);
        while (orr_unpack_next(&u, &t) == ORR_OK)
            ;
        skip_all(b.data, b.len, 64, &values);
        orr_pack_check(b.data, b.len, NULL, &values);
        assert_int_equal(orr_alloc_count(), count);
        orr_buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(random_bodies_survive_the_way_there_and_back),
        cmocka_unit_test(damaged_bodies_are_judged_the_same_by_all),
        cmocka_unit_test(noise_is_judged_the_same_by_all),
        cmocka_unit_test(reading_allocates_nothing),
    };
    print_message("# seed %d\n", SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
