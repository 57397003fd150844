/* The MessagePack reader: every format, every border, every limit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pack_values.h"

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    return n;
}

/* Reads the one value of a text of hex. The input lies at the end of a block
 * of its own, so that a sanitizer sees a read beyond it. */
static int read_hex(const char *hex, orr_pack_token *t)
{
    uint8_t all[64];
    size_t n = from_hex(hex, all);
    uint8_t *data = malloc(n == 0 ? 1 : n);
    assert_non_null(data);
    memcpy(data, all, n);
    orr_unpacker u;
    orr_unpack_init(&u, data, n);
    memset(t, 0xee, sizeof *t);
    int rc = orr_unpack_next(&u, t);
    assert_int_equal(u.pos != 0, rc == ORR_OK);
    assert_int_equal(u.nodes_left,
                     ORR_PACK_NODES_DEFAULT - (rc == ORR_OK ? 1 : 0));
    t->data = NULL;
    free(data);
    return rc;
}

static void every_format_of_an_integer(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        int64_t value;
    } all[] = {
        {"00", 0},
        {"7f", 127},
        {"e0", -32},
        {"ff", -1},
        {"cc00", 0}, /* longer than needed is valid */
        {"ccff", 255},
        {"cd0001", 1},
        {"cdffff", 65535},
        {"ce00000001", 1},
        {"ceffffffff", 4294967295},
        {"cf0000000000000001", 1},
        {"cf7fffffffffffffff", INT64_MAX},
        {"d000", 0},
        {"d07f", 127},
        {"d080", -128},
        {"d17fff", 32767},
        {"d18000", -32768},
        {"d1ffff", -1},
        {"d27fffffff", INT32_MAX},
        {"d280000000", INT32_MIN},
        {"d37fffffffffffffff", INT64_MAX},
        {"d38000000000000000", INT64_MIN},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        orr_pack_token t;
        assert_int_equal(read_hex(all[i].hex, &t), ORR_OK);
        assert_int_equal(t.type, ORR_PACK_INT);
        assert_true(t.i == all[i].value);
    }
    for (int i = 0; i <= 127; i++) {
        char hex[3];
        orr_pack_token t;
        snprintf(hex, sizeof hex, "%02x", i);
        assert_int_equal(read_hex(hex, &t), ORR_OK);
        assert_true(t.type == ORR_PACK_INT && t.i == i);
    }
    for (int i = -32; i < 0; i++) {
        char hex[3];
        orr_pack_token t;
        snprintf(hex, sizeof hex, "%02x", i & 0xff);
        assert_int_equal(read_hex(hex, &t), ORR_OK);
        assert_true(t.type == ORR_PACK_INT && t.i == i);
    }
}

static void integers_above_63_bits_are_unsigned(void **state)
{
    (void)state;
    orr_pack_token t;
    assert_int_equal(read_hex("cf8000000000000000", &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_UINT);
    assert_true(t.u == (uint64_t)INT64_MAX + 1);
    assert_int_equal(read_hex("cfffffffffffffffff", &t), ORR_OK);
    assert_true(t.type == ORR_PACK_UINT && t.u == UINT64_MAX);
}

static void floats_of_both_sizes_are_doubles(void **state)
{
    (void)state;
    orr_pack_token t;
    assert_int_equal(read_hex("ca3fc00000", &t), ORR_OK);
    assert_true(t.type == ORR_PACK_DOUBLE && t.d == 1.5);
    assert_int_equal(read_hex("cb3ff8000000000000", &t), ORR_OK);
    assert_true(t.type == ORR_PACK_DOUBLE && t.d == 1.5);
    assert_int_equal(read_hex("cb8000000000000000", &t), ORR_OK);
    assert_true(t.d == 0 && signbit(t.d));
    assert_int_equal(read_hex("ca7f800000", &t), ORR_OK);
    assert_true(isinf(t.d));
    assert_int_equal(read_hex("cb7ff8000000000000", &t), ORR_OK);
    assert_true(isnan(t.d));
}

static void nil_and_booleans(void **state)
{
    (void)state;
    orr_pack_token t;
    assert_int_equal(read_hex("c0", &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_NIL);
    assert_int_equal(read_hex("c2", &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_FALSE);
    assert_int_equal(read_hex("c3", &t), ORR_OK);
    assert_int_equal(t.type, ORR_PACK_TRUE);
}

static void bytes_point_into_the_input(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        size_t size;
        int32_t type;
    } all[] = {
        {"a0", 0, ORR_PACK_STR},
        {"a3", 3, ORR_PACK_STR},
        {"bf", 31, ORR_PACK_STR},
        {"d900", 0, ORR_PACK_STR},
        {"d9ff", 255, ORR_PACK_STR},
        {"da0003", 3, ORR_PACK_STR},
        {"daffff", 65535, ORR_PACK_STR},
        {"db00000003", 3, ORR_PACK_STR},
        {"db00010000", 65536, ORR_PACK_STR},
        {"c400", 0, ORR_PACK_BIN},
        {"c4ff", 255, ORR_PACK_BIN},
        {"c50003", 3, ORR_PACK_BIN},
        {"c5ffff", 65535, ORR_PACK_BIN},
        {"c600000003", 3, ORR_PACK_BIN},
        {"c600010000", 65536, ORR_PACK_BIN},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t *data = calloc(1, 70000);
        assert_non_null(data);
        size_t head = from_hex(all[i].head, data), len = head + all[i].size;
        uint8_t *exact = realloc(data, len);
        assert_non_null(exact);
        orr_unpacker u;
        orr_pack_token t;
        orr_unpack_init(&u, exact, len);
        assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
        assert_int_equal(t.type, all[i].type);
        assert_int_equal(t.size, all[i].size);
        assert_ptr_equal(t.data, exact + head);
        assert_int_equal(u.pos, len);
        assert_int_equal(orr_unpack_next(&u, &t), ORR_ENOENT);
        if (all[i].size > 0) {
            orr_unpack_init(&u, exact, len - 1);
            assert_int_equal(orr_unpack_next(&u, &t), ORR_EPROTO);
            assert_int_equal(u.pos, 0);
        }
        free(exact);
    }
}

static void counts_must_fit_into_the_bytes_left(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        uint32_t count;
        int32_t type;
    } all[] = {
        {"90", 0, ORR_PACK_ARRAY},
        {"91", 1, ORR_PACK_ARRAY},
        {"9f", 15, ORR_PACK_ARRAY},
        {"dc0000", 0, ORR_PACK_ARRAY},
        {"dc0010", 16, ORR_PACK_ARRAY},
        {"dcffff", 65535, ORR_PACK_ARRAY},
        {"dd00000001", 1, ORR_PACK_ARRAY},
        {"dd00010000", 65536, ORR_PACK_ARRAY},
        {"80", 0, ORR_PACK_MAP},
        {"81", 1, ORR_PACK_MAP},
        {"8f", 15, ORR_PACK_MAP},
        {"de0010", 16, ORR_PACK_MAP},
        {"deffff", 65535, ORR_PACK_MAP},
        {"df00000000", 0, ORR_PACK_MAP},
        {"df00010000", 65536, ORR_PACK_MAP},
    };
    static uint8_t data[140000];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t head = from_hex(all[i].head, data);
        size_t need = all[i].count * (all[i].type == ORR_PACK_MAP ? 2u : 1u);
        orr_unpacker u;
        orr_pack_token t;
        orr_unpack_init(&u, data, head + need);
        assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
        assert_int_equal(t.type, all[i].type);
        assert_int_equal(t.size, all[i].count);
        assert_int_equal(u.pos, head);
        orr_unpack_init(&u, data, head + need - 1);
        int rc = u.len == 0 ? ORR_ENOENT : ORR_EPROTO;
        assert_int_equal(orr_unpack_next(&u, &t), rc);
        assert_int_equal(u.pos, 0);
    }
}

static void reserved_and_ext_types_are_refused(void **state)
{
    (void)state;
    static const uint8_t refused[] = {0xc1, 0xc7, 0xc8, 0xc9, 0xd4,
                                      0xd5, 0xd6, 0xd7, 0xd8};
    uint8_t data[64] = {0};
    int count = 0;
    for (int tag = 0; tag < 256; tag++) {
        orr_unpacker u;
        orr_pack_token t;
        data[0] = (uint8_t)tag;
        orr_unpack_init(&u, data, sizeof data);
        int is_refused = memchr(refused, tag, sizeof refused) != NULL;
        int rc = is_refused ? ORR_EPROTO : ORR_OK;
        assert_int_equal(orr_unpack_next(&u, &t), rc);
        count += is_refused;
    }
    assert_int_equal(count, sizeof refused);
}

static void an_empty_input_has_no_values(void **state)
{
    (void)state;
    orr_pack_token t;
    assert_int_equal(read_hex("", &t), ORR_ENOENT);
    orr_unpacker u;
    orr_unpack_init(&u, NULL, 0);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_ENOENT);
    assert_int_equal(orr_unpack_skip(&u, 64), ORR_ENOENT);
    uint32_t values = 9;
    assert_int_equal(orr_pack_check(NULL, 0, NULL, &values), ORR_OK);
    assert_int_equal(values, 0);
}

static void nodes_are_counted_down(void **state)
{
    (void)state;
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, "\x01\x02\x03", 3);
    u.nodes_left = 2;
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_int_equal(u.nodes_left, 0);
    assert_int_equal(orr_unpack_next(&u, &t), ORR_EPROTO);
    assert_int_equal(orr_unpack_skip(&u, 64), ORR_EPROTO);
    assert_int_equal(u.pos, 2);
}

static void a_count_above_the_nodes_left_is_refused_at_its_head(void **state)
{
    (void)state;
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, "\x93\x01\x02\x03", 4);
    u.nodes_left = 3;
    assert_int_equal(orr_unpack_next(&u, &t), ORR_EPROTO);
    u.nodes_left = 4;
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    orr_unpack_init(&u, "\x82\x01\x02\x03\x04", 5);
    u.nodes_left = 4;
    assert_int_equal(orr_unpack_next(&u, &t), ORR_EPROTO);
    u.nodes_left = 5;
    assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
}

static int check(const char *text, uint32_t depth, uint32_t nodes)
{
    orr_buf b = {0};
    orr_pack_limits limits = {depth, nodes};
    assert_int_equal(values_pack(&b, text), ORR_OK);
    int rc = orr_pack_check(b.data, b.len, &limits, NULL);
    orr_buf_free(&b);
    return rc;
}

static void check_holds_the_node_limit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t nodes;
    } all[] = {
        {"n", 1},          {"[0", 1},
        {"i1 i2 i3", 3},   {"{2 i1 i2 i3 [2 i4 i5 n", 8},
        {"[1 [1 [1 n", 4},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(check(all[i].text, 64, all[i].nodes), ORR_OK);
        assert_int_equal(check(all[i].text, 64, all[i].nodes - 1), ORR_EPROTO);
    }
}

static void check_holds_the_depth_limit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t depth;
    } all[] = {
        {"[0", 1},
        {"{0", 1},
        {"[1 i1", 1},
        {"[2 [0 [0", 2},
        {"[2 [1 [0 [0", 3},
        {"[3 [1 i1 [1 i2 [1 i3", 2},
        {"{1 s:a {1 s:b {1 s:c [0", 4},
        {"[2 [2 i1 i2 [2 i1 [1 {1 n n", 4},
        {"[1 n [1 [1 n", 2},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(check(all[i].text, all[i].depth, 100), ORR_OK);
        assert_int_equal(check(all[i].text, all[i].depth - 1, 100), ORR_EPROTO);
    }
    assert_int_equal(check("i1 s:abc n", 0, 100), ORR_OK);
}

static int nested(size_t depth, uint32_t depth_max)
{
    uint8_t *data = malloc(depth + 1);
    assert_non_null(data);
    memset(data, 0x91, depth);
    data[depth] = 0xc0;
    orr_pack_limits limits = {depth_max, UINT32_MAX};
    int rc = orr_pack_check(data, depth + 1, &limits, NULL);
    orr_unpacker u;
    orr_unpack_init(&u, data, depth + 1);
    u.nodes_left = UINT32_MAX;
    assert_int_equal(orr_unpack_skip(&u, depth_max), rc);
    free(data);
    return rc;
}

static void depth_has_a_default_and_a_cap(void **state)
{
    (void)state;
    assert_int_equal(nested(64, 64), ORR_OK);
    assert_int_equal(nested(65, 64), ORR_EPROTO);
    assert_int_equal(nested(ORR_PACK_DEPTH_CAP, UINT32_MAX), ORR_OK);
    assert_int_equal(nested(ORR_PACK_DEPTH_CAP + 1, UINT32_MAX), ORR_EPROTO);
    uint8_t data[66];
    memset(data, 0x91, sizeof data);
    data[65] = 0xc0;
    assert_int_equal(orr_pack_check(data + 1, 65, NULL, NULL), ORR_OK);
    assert_int_equal(orr_pack_check(data, 66, NULL, NULL), ORR_EPROTO);
}

static void the_default_of_nodes_is_held(void **state)
{
    (void)state;
    size_t max = ORR_PACK_NODES_DEFAULT;
    uint8_t *data = calloc(1, max + 1);
    assert_non_null(data);
    uint32_t values;
    assert_int_equal(orr_pack_check(data, max, NULL, &values), ORR_OK);
    assert_int_equal(values, max);
    values = 7;
    assert_int_equal(orr_pack_check(data, max + 1, NULL, &values), ORR_EPROTO);
    assert_int_equal(values, 7);
    free(data);
}

static void check_counts_the_values_at_the_top(void **state)
{
    (void)state;
    orr_buf b = {0};
    uint32_t values;
    assert_int_equal(values_pack(&b, "n [2 i1 i2 {1 s:a [0 s:b"), ORR_OK);
    assert_int_equal(orr_pack_check(b.data, b.len, NULL, &values), ORR_OK);
    assert_int_equal(values, 4);
    orr_buf_free(&b);
}

/* Each body of the corpus as one array, between other values. */
static void skip_takes_exactly_one_value(void **state)
{
    (void)state;
    for (int i = 0; i < VALUES_CORPUS; i++) {
        orr_buf b = {0};
        uint32_t values;
        assert_int_equal(values_pack(&b, values_corpus[i]), ORR_OK);
        assert_int_equal(orr_pack_check(b.data, b.len, NULL, &values), ORR_OK);
        orr_buf_reset(&b);
        assert_int_equal(values_pack(&b, "s:before"), ORR_OK);
        size_t from = b.len;
        assert_int_equal(orr_pack_array(&b, values), ORR_OK);
        assert_int_equal(values_pack(&b, values_corpus[i]), ORR_OK);
        size_t to = b.len;
        assert_int_equal(values_pack(&b, "n"), ORR_OK);
        orr_unpacker u;
        orr_unpack_init(&u, b.data, b.len);
        assert_int_equal(orr_unpack_skip(&u, 0), ORR_OK);
        assert_int_equal(u.pos, from);
        assert_int_equal(orr_unpack_skip(&u, 64), ORR_OK);
        assert_int_equal(u.pos, to);
        assert_int_equal(orr_unpack_skip(&u, 0), ORR_OK);
        assert_int_equal(orr_unpack_skip(&u, 0), ORR_ENOENT);
        orr_buf_free(&b);
    }
}

static void a_failed_skip_leaves_the_reader(void **state)
{
    (void)state;
    static const char data[] = "\x93\x01\x02\xc1";
    orr_unpacker u;
    orr_unpack_init(&u, data, 4);
    assert_int_equal(orr_unpack_skip(&u, 64), ORR_EPROTO);
    assert_int_equal(u.pos, 0);
    assert_int_equal(u.nodes_left, ORR_PACK_NODES_DEFAULT);
    orr_unpack_init(&u, "\x91\x91\x01", 3);
    assert_int_equal(orr_unpack_skip(&u, 1), ORR_EPROTO);
    assert_int_equal(u.pos, 0);
    assert_int_equal(orr_unpack_skip(&u, 2), ORR_OK);
}

static void bombs_are_refused_and_cost_nothing(void **state)
{
    (void)state;
    static const char *const bombs[] = {
        "ddffffffff",
        "dfffffffff",
        "dbffffffff",
        "c6ffffffff",
        "dd80000000",
        "df80000000",
        "dcffff",
        "deffff",
        "9fddffffffff",
        "df7fffffff",
        "c9ffffffff00",
        "dd00000002dd00000001", /* more is owed than the bytes left */
    };
    uint64_t count = orr_alloc_count();
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        uint8_t data[16];
        size_t n = from_hex(bombs[i], data);
        assert_int_equal(orr_pack_check(data, n, NULL, NULL), ORR_EPROTO);
        orr_unpacker u;
        orr_unpack_init(&u, data, n);
        assert_int_equal(orr_unpack_skip(&u, 64), ORR_EPROTO);
    }
    assert_int_equal(nested(100000, 64), ORR_EPROTO);
    assert_int_equal(nested(100000, UINT32_MAX), ORR_EPROTO);
    assert_int_equal(orr_alloc_count(), count);
}

/* Each array alone fits into the bytes left, all of them together do not. */
static void counts_are_held_to_the_bytes_left_together(void **state)
{
    (void)state;
    uint8_t data[1000] = {0};
    for (int i = 0; i < 60; i++) {
        data[3 * i] = 0xdc;
        data[3 * i + 1] = 800 >> 8;
        data[3 * i + 2] = 800 & 0xff;
    }
    orr_unpacker u;
    orr_pack_token t;
    orr_unpack_init(&u, data, sizeof data);
    for (int i = 0; i < 60; i++)
        assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
    assert_int_equal(orr_pack_check(data, sizeof data, NULL, NULL), ORR_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_of_an_integer),
        cmocka_unit_test(integers_above_63_bits_are_unsigned),
        cmocka_unit_test(floats_of_both_sizes_are_doubles),
        cmocka_unit_test(nil_and_booleans),
        cmocka_unit_test(bytes_point_into_the_input),
        cmocka_unit_test(counts_must_fit_into_the_bytes_left),
        cmocka_unit_test(reserved_and_ext_types_are_refused),
        cmocka_unit_test(an_empty_input_has_no_values),
        cmocka_unit_test(nodes_are_counted_down),
        cmocka_unit_test(a_count_above_the_nodes_left_is_refused_at_its_head),
        cmocka_unit_test(check_holds_the_node_limit),
        cmocka_unit_test(check_holds_the_depth_limit),
        cmocka_unit_test(depth_has_a_default_and_a_cap),
        cmocka_unit_test(the_default_of_nodes_is_held),
        cmocka_unit_test(check_counts_the_values_at_the_top),
        cmocka_unit_test(skip_takes_exactly_one_value),
        cmocka_unit_test(a_failed_skip_leaves_the_reader),
        cmocka_unit_test(bombs_are_refused_and_cost_nothing),
        cmocka_unit_test(counts_are_held_to_the_bytes_left_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
