/* The pure connection: bytes and time that the test makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "conn_fixture.h"

static int setup(void **state)
{
    fixture *f = malloc(sizeof *f);

    orr_log_set_level(ORR_LOG_OFF);
    fix_init(f, "alpha", 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    int balanced;

    fix_fini(f);
    balanced = f->env.info.connections == 0 && f->env.accepted_open == 0;
    free(f);
    return balanced ? 0 : -1;
}

static void assert_down(const fixture *f, int code, const char *part)
{
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
    assert_int_equal(f->downs, 1);
    assert_int_equal(f->down_code, code);
    if (strstr(f->down_text, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, f->down_text);
}

/* The n-th frame that the connection wrote. */
static orr_header wrote(const fixture *f, int n, const uint8_t **body)
{
    orr_header h;
    size_t at = 0;

    for (;; n--) {
        assert_int_equal(
            orr_header_decode(&h, f->wrote.data + at, f->wrote.len - at),
            ORR_OK);
        assert_true(f->wrote.len - at >= ORR_HEADER_SIZE + h.length);
        assert_int_equal(orr_header_checksum(f->wrote.data + at,
                                             f->wrote.data + at + 64, h.length),
                         h.checksum);
        if (n == 0)
            break;
        at += ORR_HEADER_SIZE + h.length;
    }
    if (body != NULL)
        *body = f->wrote.data + at + ORR_HEADER_SIZE;
    return h;
}

static int frames_wrote(const fixture *f)
{
    orr_header h;
    size_t at = 0;
    int n = 0;

    while (at < f->wrote.len &&
           orr_header_decode(&h, f->wrote.data + at, f->wrote.len - at) ==
               ORR_OK) {
        at += ORR_HEADER_SIZE + h.length;
        n++;
    }
    assert_int_equal(at, f->wrote.len);
    return n;
}

static int send_tell(fixture *f, const void *body, uint32_t len)
{
    orr_header h = {.kind = ORR_FRAME_TELL, .length = len};
    return f->conn->link.ops->send(&f->conn->link, &h, body);
}

static void tick_at(fixture *f, uint64_t at)
{
    f->now = at;
    orr__conn_tick(f->conn, at);
}

/* --- handshake ------------------------------------------------------------ */

static void both_say_hello_and_open(void **state)
{
    fixture *a = *state, *b = malloc(sizeof *b);
    orr_buf hello = {0};
    const uint8_t *body;
    orr_hello h;

    fix_init(b, "alpha", 2);
    assert_true(fix_new(a, 0) && fix_new(b, 1));
    orr__conn_connected(a->conn, a->now);
    orr__conn_connected(b->conn, b->now);
    assert_int_equal(wrote(a, 0, &body).kind, ORR_FRAME_HELLO);
    assert_int_equal(orr__hello_read(&h, body, wrote(a, 0, NULL).length, NULL),
                     ORR_OK);
    assert_string_equal(h.cluster, "alpha");
    assert_int_equal(h.incarnation, 7);
    b->env.options.frame_max = 8192;
    orr_buf_append(&hello, b->wrote.data, b->wrote.len);
    fix_input(b, a->wrote.data, a->wrote.len);
    assert_int_equal(b->ups, 1);
    fix_input(a, hello.data, hello.len);
    assert_int_equal(a->conn->state, ORR_CONN_OPEN);
    assert_int_equal(b->conn->state, ORR_CONN_OPEN);
    assert_true(a->conn->link.ops->is_open(&a->conn->link));
    orr_buf_free(&hello);
    fix_fini(b);
    free(b);
}

static void the_smaller_limit_of_both_counts(void **state)
{
    fixture *f = *state;
    orr_buf hello = {0};
    uint8_t body[5000] = {0};

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    fix_hello(&hello, ORR_PROTOCOL, "alpha", 4096);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_int_equal(f->conn->link.body_max, 4096);
    assert_int_equal(send_tell(f, body, 4096), ORR_OK);
    assert_int_equal(send_tell(f, body, 4097), ORR_TOO_LARGE);
}

static void frames_sent_early_wait_behind_hello(void **state)
{
    fixture *f = *state;
    orr_buf hello = {0};

    fix_new(f, 0);
    assert_int_equal(send_tell(f, "early", 5), ORR_OK);
    f->conn->link.ops->flush(&f->conn->link);
    assert_int_equal(f->wrote.len, 0);
    orr__conn_connected(f->conn, f->now);
    f->conn->link.ops->flush(&f->conn->link);
    assert_int_equal(frames_wrote(f), 1);
    fix_hello(&hello, ORR_PROTOCOL, "alpha", 4096);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_int_equal(frames_wrote(f), 2);
    assert_int_equal(wrote(f, 1, NULL).kind, ORR_FRAME_TELL);
}

static void an_early_frame_too_large_for_the_peer_ends_the_link(void **state)
{
    fixture *f = *state;
    orr_buf hello = {0};
    uint8_t body[5000] = {0};

    fix_new(f, 0);
    assert_int_equal(send_tell(f, body, 5000), ORR_OK);
    orr__conn_connected(f->conn, f->now);
    fix_hello(&hello, ORR_PROTOCOL, "alpha", 4096);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_down(f, ORR_TOO_LARGE, "4096 bytes at most, 5000");
}

static void mismatch(fixture *f, int64_t protocol, const char *cluster,
                     const char *part)
{
    orr_buf hello = {0};
    orr_header h;

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    fix_hello(&hello, protocol, cluster, 4096);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_down(f, ORR_VERSION_MISMATCH, part);
    h = wrote(f, 1, NULL);
    assert_int_equal(h.kind, ORR_FRAME_GOODBYE);
    assert_int_equal((int32_t)h.method, ORR_VERSION_MISMATCH);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->aborts, 0);
    assert_int_equal(f->env.info.handshake_failures, 1);
}

static void another_protocol_is_named_with_both_values(void **state)
{
    mismatch(*state, 2, "alpha", "its protocol is 2, ours is 1");
}

static void another_cluster_is_named_with_both_values(void **state)
{
    mismatch(*state, 1, "beta", "its cluster id is beta, ours is alpha");
}

static void another_wire_version_is_named_with_both_values(void **state)
{
    fixture *f = *state;
    orr_buf hello = {0};

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    fix_hello(&hello, 1, "alpha", 4096);
    hello.data[4] = 3;
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_down(f, ORR_VERSION_MISMATCH, "its wire version is 3, ours is 1");
}

static void a_goodbye_of_mismatch_keeps_its_code(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0}, body = {0};

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    orr_pack_str(&body, "its cluster id is x, ours is y\n", 31);
    fix_frame(&bytes, ORR_FRAME_GOODBYE, (uint32_t)ORR_VERSION_MISMATCH,
              body.data, (uint32_t)body.len);
    fix_input(f, bytes.data, bytes.len);
    orr_buf_free(&bytes);
    orr_buf_free(&body);
    assert_down(f, ORR_VERSION_MISMATCH, "its cluster id is x, ours is y?");
}

/* --- a side that is older or newer ---------------------------------------- */

/* A HELLO with the needed fields, and more by hand: pairs already packed. */
static void fix_hello_by_hand(orr_buf *out, uint32_t more, const char *pairs,
                              size_t len)
{
    orr_buf body = {0};

    orr_pack_map(&body, 4 + more);
    orr_buf_append(&body,
                   "\xa8protocol\x01\xa7"
                   "cluster\xa5"
                   "alpha",
                   24);
    orr_buf_append(&body,
                   "\xab"
                   "incarnation\x05",
                   13);
    orr_buf_append(&body,
                   "\xa9"
                   "frame_max\xcd\x10\x00",
                   13);
    orr_buf_append(&body, pairs, len);
    fix_frame(out, ORR_FRAME_HELLO, 0, body.data, (uint32_t)body.len);
    orr_buf_free(&body);
}

static void by_hand(fixture *f, uint32_t more, const char *pairs, size_t len)
{
    orr_buf hello = {0};

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    fix_hello_by_hand(&hello, more, pairs, len);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
}

#define BY_HAND(f, n, pairs) by_hand(f, n, pairs, sizeof pairs - 1)

static void an_older_peer_without_ranges_and_features_is_taken(void **state)
{
    fixture *f = *state;

    BY_HAND(f, 0, "");
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->conn->link.features, 0);
    assert_int_equal(f->conn->link.body_max, 4096);
    assert_int_equal(f->conn->link.frame_max, 4096);
}

static void a_newer_peer_that_knows_our_version_is_taken(void **state)
{
    fixture *f = *state;

    BY_HAND(f, 3,
            "\xa4wire\x92\x01\x02"
            "\xa8"
            "features\x92\xa6teapot\xa6quanta"
            "\xa6"
            "colour\x81\xa1x\xa4"
            "blue");
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->conn->link.features, 0);
}

static void no_common_wire_version_is_named_with_both_ranges(void **state)
{
    fixture *f = *state;

    BY_HAND(f, 1, "\xa4wire\x92\x02\x03");
    assert_down(f, ORR_VERSION_MISMATCH,
                "its wire version is 2 to 3, ours is 1");
    assert_int_equal((int32_t)wrote(f, 1, NULL).method, ORR_VERSION_MISMATCH);
}

static void a_critical_feature_that_is_unknown_is_refused_by_name(void **state)
{
    fixture *f = *state;
    const uint8_t *body;
    char reason[64];

    BY_HAND(f, 1,
            "\xa8"
            "features\x92\xa6teapot\xa7!quanta");
    assert_down(f, ORR_VERSION_MISMATCH,
                "it insists on the feature \"quanta\", which is not known");
    assert_int_equal(wrote(f, 1, &body).kind, ORR_FRAME_GOODBYE);
    orr__printable(reason, sizeof reason, body + 2, 25);
    assert_string_equal(reason, "you insist on the feature");
}

static void a_critical_field_that_is_unknown_is_refused_by_name(void **state)
{
    fixture *f = *state;

    BY_HAND(f, 1, "\xa7!colour\x07");
    assert_down(f, ORR_VERSION_MISMATCH, "insists on the field \"colour\"");
}

static void a_feature_of_ours_may_be_critical_to_the_peer(void **state)
{
    fixture *f = *state;

    BY_HAND(f, 5,
            "\xa8"
            "features\x91\xa7!chunks"
            "\xa8"
            "body_max\xcd\x20\x00"
            "\xaa"
            "bodies_max\x02"
            "\xa6window\xcd\x20\x00"
            "\xaa"
            "body_first\xcd\x04\x00");
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->conn->link.features, ORR_FEATURE_CHUNKS);
    assert_int_equal(f->conn->link.body_max, 8192);
    assert_int_equal(f->conn->link.frame_max, 4096);
}

static void a_frame_of_an_unknown_kind_is_skipped_when_optional(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};
    orr_header h = {.kind = 77, .flags = ORR_FLAG_OPTIONAL, .length = 5};

    assert_true(fix_open(f, 1));
    fix_put(&bytes, h, "extra");
    fix_frame(&bytes, ORR_FRAME_TELL, 4, "x", 1);
    fix_input(f, bytes.data, bytes.len);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->received, 1);
    orr_buf_reset(&bytes);
    h.flags = 0;
    fix_put(&bytes, h, "extra");
    fix_input(f, bytes.data, bytes.len);
    orr_buf_free(&bytes);
    assert_down(f, ORR_UNREACHABLE, "not a frame of ours (version 1, kind 77)");
}

static void an_optional_frame_before_the_handshake_is_refused(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};
    orr_header h = {.kind = 77, .flags = ORR_FLAG_OPTIONAL};

    fix_new(f, 1);
    orr__conn_connected(f->conn, f->now);
    fix_put(&bytes, h, NULL);
    fix_input(f, bytes.data, bytes.len);
    orr_buf_free(&bytes);
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
}

#define TEXT(s) s, sizeof s - 1

static void bad_hellos_are_protocol_errors(void **state)
{
    static const struct {
        const char *body;
        uint32_t len;
        const char *part;
    } rows[] = {
        {TEXT("\xc0"), "not a map"},
        {TEXT("\x81\x01\x02"), "not a string"},
        {TEXT("\x81\xa8protocol\xa1x"), "bad \"protocol\""},
        {TEXT("\x81\xa8protocol\x01"), "lacks cluster"},
        {TEXT("\x80"), "lacks protocol"},
        {TEXT("\x82\xa8protocol\x01\xa8protocol\x01"), "bad \"protocol\""},
        {TEXT("\x84\xa8protocol\x01\xa7"
              "cluster\xa5"
              "alpha\xab"
              "incarnation\x01\xa9"
              "frame_max\x10"),
         "frame_max 16"},
        {TEXT("\x81\xa5nonce\xc4\x02xx"), "bad \"nonce\""},
        {TEXT("\x81\xa4wire\x01"), "bad \"wire\""},
        {TEXT("\x81\xa4wire\x92\x02\x01"), "bad \"wire\""},
        {TEXT("\x81\xa4wire\x92\x00\x01"), "bad \"wire\""},
        {TEXT("\x81\xa8"
              "features\x01"),
         "bad \"features\""},
        {TEXT("\x81\xa8"
              "features\x91\x01"),
         "bad \"features\""},
        {TEXT("\x85\xa8protocol\x01\xa7"
              "cluster\xa5"
              "alpha\xab"
              "incarnation\x01\xa9"
              "frame_max\xcd\x10\x00\xa8"
              "features\x91\xa6"
              "chunks"),
         "lacks body_max"},
        {TEXT("\xdf\xff\xff\xff\xff"), "not a map"},
    };
    fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        orr_buf bytes = {0};

        f->downs = 0;
        fix_new(f, 0);
        orr__conn_connected(f->conn, f->now);
        fix_frame(&bytes, ORR_FRAME_HELLO, 0, rows[i].body, rows[i].len);
        fix_input(f, bytes.data, bytes.len);
        orr_buf_free(&bytes);
        assert_down(f, ORR_UNREACHABLE, rows[i].part);
        assert_int_equal(f->env.info.protocol_errors, i + 1);
        orr__conn_free(f->conn);
    }
    f->conn = NULL;
}

static void frames_before_and_hello_after_the_handshake_are_refused(void **s)
{
    fixture *f = *s;
    orr_buf bytes = {0};

    fix_new(f, 1);
    orr__conn_connected(f->conn, f->now);
    fix_frame(&bytes, ORR_FRAME_ASK, 0, "x", 1);
    fix_input(f, bytes.data, bytes.len);
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
    assert_int_equal(f->received, 0);
    assert_int_equal(f->downs, 0); /* the sink never heard of the link */
    orr__conn_free(f->conn);
    assert_true(fix_open(f, 1));
    orr_buf_reset(&bytes);
    fix_hello(&bytes, 1, "alpha", 4096);
    fix_input(f, bytes.data, bytes.len);
    assert_down(f, ORR_UNREACHABLE, "after the handshake");
    orr_buf_free(&bytes);
}

/* --- bytes ---------------------------------------------------------------- */

static void make_stream(orr_buf *bytes)
{
    fix_hello(bytes, 1, "alpha", 64 * 1024);
    fix_frame(bytes, ORR_FRAME_ASK, 1, "first", 5);
    fix_frame(bytes, ORR_FRAME_PING, 0, NULL, 0);
    fix_frame(bytes, ORR_FRAME_TELL, 2, NULL, 0);
    fix_frame(bytes, ORR_FRAME_REPLY, 3, "a longer third one", 18);
}

static void assert_stream(fixture *f)
{
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->received, 3);
    assert_int_equal(f->headers[0].method, 1);
    assert_int_equal(f->headers[1].kind, ORR_FRAME_TELL);
    assert_int_equal(f->headers[2].length, 18);
    assert_int_equal(f->bodies.len, 23);
    assert_memory_equal(f->bodies.data, "firsta longer third one", 23);
    assert_int_equal(wrote(f, 1, NULL).kind, ORR_FRAME_PONG);
    assert_int_equal(f->conn->in.len, 0);
}

static void forget(fixture *f)
{
    orr__conn_abort(f->conn, ORR_UNREACHABLE, "next");
    orr__conn_free(f->conn);
    f->conn = NULL;
    f->received = 0;
    f->downs = 0;
    orr_buf_reset(&f->bodies);
    orr_buf_reset(&f->wrote);
}

static void a_stream_may_be_split_anywhere(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};

    make_stream(&bytes);
    for (size_t split = 0; split <= bytes.len; split++) {
        fix_new(f, 1);
        orr__conn_connected(f->conn, f->now);
        fix_input(f, bytes.data, split);
        fix_input(f, bytes.data + split, bytes.len - split);
        assert_stream(f);
        forget(f);
    }
    orr_buf_free(&bytes);
}

static void a_stream_may_come_byte_by_byte(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};

    make_stream(&bytes);
    fix_new(f, 1);
    orr__conn_connected(f->conn, f->now);
    for (size_t i = 0; i < bytes.len; i++)
        fix_input(f, bytes.data + i, 1);
    assert_stream(f);
    assert_int_equal(f->env.info.bytes_in, bytes.len);
    assert_int_equal(f->env.info.frames_in, 5);
    orr_buf_free(&bytes);
}

static void garbage_from_a_stranger_costs_nothing(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        {TEXT("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: none\r\n"
              "Accept: */*\r\n\r\n")},
        {TEXT("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and what else "
              "may come from somebody who speaks TLS to us")},
        {TEXT("....................................................."
              "...........")},
    };
    fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        uint64_t live;

        fix_new(f, 1);
        orr__conn_connected(f->conn, f->now);
        live = orr_alloc_live();
        fix_input(f, rows[i].bytes, rows[i].len);
        assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
        assert_int_equal(f->aborts, i + 1);
        assert_true(orr_alloc_live() <= live);
        assert_int_equal(f->env.info.protocol_errors, i + 1);
        assert_int_equal(f->env.info.handshake_failures, i + 1);
        orr__conn_free(f->conn);
    }
    f->conn = NULL;
}

static void send_length(fixture *f, int kind, uint32_t length)
{
    orr_header h = {
        .length = length, .version = ORR_WIRE_VERSION, .kind = (uint8_t)kind};
    uint8_t head[ORR_HEADER_SIZE];

    orr_header_encode(&h, head);
    fix_input(f, head, sizeof head);
}

static void a_length_is_checked_before_memory_is_taken(void **state)
{
    fixture *f = *state;

    fix_new(f, 1);
    orr__conn_connected(f->conn, f->now);
    send_length(f, ORR_FRAME_HELLO, ORR_HELLO_BODY_MAX);
    assert_int_equal(f->conn->state, ORR_CONN_HELLO);
    forget(f);
    fix_new(f, 1);
    orr__conn_connected(f->conn, f->now);
    send_length(f, ORR_FRAME_HELLO, ORR_HELLO_BODY_MAX + 1);
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
    assert_true(f->conn->in.cap < ORR_HELLO_BODY_MAX);
    forget(f);
    assert_true(fix_open(f, 1));
    send_length(f, ORR_FRAME_TELL, 64 * 1024);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_true(f->conn->in.cap <= 64 * 1024 + ORR_HEADER_SIZE);
    forget(f);
    assert_true(fix_open(f, 1));
    f->env.info.protocol_errors = 0;
    send_length(f, ORR_FRAME_TELL, 64 * 1024 + 1);
    assert_down(f, ORR_UNREACHABLE, "65537 bytes, at most 65536");
    assert_int_equal(wrote(f, 0, NULL).kind, ORR_FRAME_GOODBYE);
    assert_int_equal(f->env.info.protocol_errors, 1);
    forget(f);
    assert_true(fix_open(f, 1));
    send_length(f, ORR_FRAME_TELL, UINT32_MAX);
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
}

static void a_flipped_bit_never_reaches_the_sink(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};

    fix_frame(&bytes, ORR_FRAME_TELL, 2, "body", 4);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        assert_true(fix_open(f, 1));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        fix_input(f, bytes.data, bytes.len);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(f->received, 0);
        /* Only a length that grew makes it wait for more. */
        assert_true(f->conn->state == ORR_CONN_CLOSED || bit < 32);
        forget(f);
    }
    orr_buf_free(&bytes);
}

static void what_the_sink_refuses_ends_the_connection(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};

    assert_true(fix_open(f, 1));
    f->receive_code = ORR_EPROTO;
    fix_frame(&bytes, ORR_FRAME_REPLY, 0, "x", 1);
    fix_frame(&bytes, ORR_FRAME_REPLY, 0, "x", 1);
    fix_input(f, bytes.data, bytes.len);
    orr_buf_free(&bytes);
    assert_int_equal(f->received, 1);
    assert_down(f, ORR_UNREACHABLE, "makes no sense");
    assert_int_equal(f->env.info.protocol_errors, 1);
}

static void a_ping_is_answered_with_its_numbers(void **state)
{
    fixture *f = *state;
    orr_header h = {.version = 1,
                    .kind = ORR_FRAME_PING,
                    .call_slot = 5,
                    .call_generation = 6};
    uint8_t head[ORR_HEADER_SIZE];

    assert_true(fix_open(f, 1));
    orr_header_encode(&h, head);
    h.checksum = orr_header_checksum(head, NULL, 0);
    orr_header_encode(&h, head);
    fix_input(f, head, sizeof head);
    h = wrote(f, 0, NULL);
    assert_int_equal(h.kind, ORR_FRAME_PONG);
    assert_int_equal(h.call_slot, 5);
    assert_int_equal(h.call_generation, 6);
}

static void pings_without_reading_end_it(void **state)
{
    fixture *f = *state;
    orr_buf ping = {0};

    assert_true(fix_open(f, 1));
    f->room = 0;
    fix_frame(&ping, ORR_FRAME_PING, 0, NULL, 0);
    for (int i = 0; i < 10000 && f->conn->state == ORR_CONN_OPEN; i++)
        fix_input(f, ping.data, ping.len);
    orr_buf_free(&ping);
    assert_down(f, ORR_UNREACHABLE, "reads no answers");
}

/* --- the queue ------------------------------------------------------------ */

static void a_full_queue_refuses_and_recovers(void **state)
{
    fixture *f = *state;
    static uint8_t body[1000];
    int queued = 0, rc;
    uint64_t frames;

    assert_true(fix_open(f, 0));
    f->room = 100;
    assert_int_equal(send_tell(f, body, 1000), ORR_OK);
    f->conn->link.ops->flush(&f->conn->link);
    frames = f->env.info.frames_out;
    while ((rc = send_tell(f, body, 1000)) == ORR_OK && queued < 1000)
        queued++;
    assert_int_equal(rc, ORR_OVERLOADED);
    assert_int_equal(queued, 256 * 1024 / 1064 - 1);
    assert_int_equal(f->env.info.frames_out, frames + (uint64_t)queued);
    fix_drain(f);
    assert_int_equal(send_tell(f, body, 1000), ORR_OK);
    f->conn->link.ops->flush(&f->conn->link);
    assert_int_equal(frames_wrote(f), queued + 2);
    assert_int_equal(f->conn->out.len, 0);
}

static void after_the_end_nothing_is_queued(void **state)
{
    fixture *f = *state;

    assert_true(fix_open(f, 0));
    orr__conn_lost(f->conn, "closed by the peer");
    assert_down(f, ORR_UNREACHABLE, "closed by the peer");
    assert_int_equal(send_tell(f, "x", 1), ORR_UNREACHABLE);
    f->conn->link.ops->flush(&f->conn->link);
    assert_int_equal(f->wrote.len, 0);
    assert_int_equal(f->closes, 1);
    assert_false(f->conn->link.ops->is_open(&f->conn->link));
}

static void an_end_within_a_frame_is_told(void **state)
{
    fixture *f = *state;

    assert_true(fix_open(f, 0));
    send_length(f, ORR_FRAME_TELL, 100);
    orr__conn_lost(f->conn, "closed by the peer");
    assert_down(f, ORR_UNREACHABLE, "in the middle of a frame");
}

static void goodbye_comes_after_what_is_queued(void **state)
{
    fixture *f = *state;

    assert_true(fix_open(f, 0));
    f->room = 10;
    send_tell(f, "one", 3);
    f->conn->link.ops->flush(&f->conn->link);
    send_tell(f, "two", 3);
    orr__conn_goodbye(f->conn, "the service stops", f->now);
    assert_down(f, ORR_UNREACHABLE, "the service stops");
    assert_int_equal(f->closes, 0);
    fix_drain(f);
    assert_int_equal(frames_wrote(f), 3);
    assert_int_equal(wrote(f, 2, NULL).kind, ORR_FRAME_GOODBYE);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->aborts, 0);
}

static void a_goodbye_that_nobody_reads_ends_after_two_seconds(void **state)
{
    fixture *f = *state;
    uint64_t begin;

    assert_true(fix_open(f, 0));
    f->room = 0;
    begin = f->now;
    orr__conn_goodbye(f->conn, "the service stops", f->now);
    tick_at(f, begin + 2000u * FIX_MS - 1);
    assert_int_equal(f->closes, 0);
    tick_at(f, begin + 2000u * FIX_MS);
    assert_int_equal(f->aborts, 1);
}

/* --- time ----------------------------------------------------------------- */

static void connecting_has_a_limit(void **state)
{
    fixture *f = *state;
    uint64_t begin = f->now;

    fix_new(f, 0);
    assert_int_equal(f->soon, begin + 100u * FIX_MS);
    tick_at(f, begin + 100u * FIX_MS - 1);
    assert_int_equal(f->downs, 0);
    tick_at(f, begin + 100u * FIX_MS);
    assert_down(f, ORR_UNREACHABLE,
                "cannot connect to callee:2: no answer within 100 ms");
}

static void the_handshake_has_a_limit(void **state)
{
    fixture *f = *state;
    uint64_t begin = f->now;

    fix_new(f, 0);
    orr__conn_connected(f->conn, f->now);
    fix_input(f, "\x10", 1); /* a byte is no handshake */
    tick_at(f, begin + 50u * FIX_MS - 1);
    assert_int_equal(f->downs, 0);
    tick_at(f, begin + 50u * FIX_MS);
    assert_down(f, ORR_UNREACHABLE, "no handshake from callee:2 within 50 ms");
    assert_int_equal(f->env.info.handshake_failures, 1);
}

static void silence_is_pinged_and_ended_after_three_times(void **state)
{
    fixture *f = *state;
    uint64_t begin, second = 1000u * FIX_MS;

    assert_true(fix_open(f, 1));
    begin = f->now;
    tick_at(f, begin + second - 1);
    assert_int_equal(frames_wrote(f), 0);
    tick_at(f, begin + second);
    assert_int_equal(frames_wrote(f), 1);
    assert_int_equal(wrote(f, 0, NULL).kind, ORR_FRAME_PING);
    tick_at(f, begin + second + 1);
    assert_int_equal(frames_wrote(f), 1);
    tick_at(f, begin + 3 * second - 1);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    tick_at(f, begin + 3 * second);
    assert_down(f, ORR_UNREACHABLE, "no sign of life from peer:9 for 3000 ms");
}

static void any_byte_is_a_sign_of_life(void **state)
{
    fixture *f = *state;
    orr_buf pong = {0};
    uint64_t begin, second = 1000u * FIX_MS;

    assert_true(fix_open(f, 1));
    begin = f->now;
    tick_at(f, begin + 2 * second);
    fix_frame(&pong, ORR_FRAME_PONG, 0, NULL, 0);
    fix_input(f, pong.data, 1);
    orr_buf_free(&pong);
    tick_at(f, begin + 3 * second);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    tick_at(f, begin + 5 * second);
    assert_int_equal(f->conn->state, ORR_CONN_CLOSED);
}

/* Bytes come all the time, so only disuse can end it. */
static void chat(fixture *f, uint64_t from, uint64_t to)
{
    orr_buf pong = {0};

    fix_frame(&pong, ORR_FRAME_PONG, 0, NULL, 0);
    for (uint64_t at = from; at <= to; at += 250u * FIX_MS) {
        f->now = at;
        fix_input(f, pong.data, pong.len);
        orr__conn_tick(f->conn, at);
    }
    orr_buf_free(&pong);
}

static void an_unused_dialled_link_is_kept_then_ended(void **state)
{
    fixture *f = *state;
    uint64_t second = 1000u * FIX_MS, begin;
    orr_link *l;

    assert_true(fix_open(f, 0));
    begin = f->now;
    l = &f->conn->link;
    l->ops->acquire(l);
    chat(f, begin, begin + 5 * second);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    l->ops->release(l);
    l->calls = 1; /* a call waits on it */
    chat(f, begin + 5 * second, begin + 9 * second);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    l->calls = 0;
    chat(f, begin + 10 * second, begin + 11 * second - 1);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    chat(f, begin + 11 * second, begin + 11 * second);
    assert_down(f, ORR_UNREACHABLE, "unused");
    assert_int_equal(f->aborts, 0);
}

/* --- memory --------------------------------------------------------------- */

static int whole_life(fixture *f, const orr_buf *bytes)
{
    if (!fix_new(f, 1))
        return 0;
    orr__conn_connected(f->conn, f->now);
    for (size_t at = 0; at < bytes->len; at += 50)
        fix_input(f, bytes->data + at,
                  bytes->len - at < 50 ? bytes->len - at : 50);
    (void)send_tell(f, "x", 1);
    orr__conn_goodbye(f->conn, "done", f->now);
    orr__conn_abort(f->conn, ORR_UNREACHABLE, "done");
    orr__conn_free(f->conn);
    f->conn = NULL;
    return 1;
}

static void every_allocation_may_fail(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};
    uint64_t live;

    make_stream(&bytes);
    orr_buf_reserve(&f->wrote, 8192); /* the test's own memory never fails */
    orr_buf_reserve(&f->bodies, 8192);
    live = orr_alloc_live();
    for (uint64_t n = 1; n < 12; n++) {
        f->received = 0;
        orr_buf_reset(&f->wrote);
        orr_buf_reset(&f->bodies);
        orr_alloc_fail_at(n);
        whole_life(f, &bytes);
        orr_alloc_fail_at(0);
        assert_int_equal(orr_alloc_live(), live);
        assert_int_equal(f->env.info.connections, 0);
    }
    f->received = 0;
    assert_true(whole_life(f, &bytes));
    assert_int_equal(f->received, 3);
    orr_buf_free(&bytes);
}

static void a_large_frame_gives_its_memory_back(void **state)
{
    fixture *f = *state;
    orr_buf bytes = {0};
    static uint8_t body[600000];

    f->env.options.frame_max = 1 << 20;
    assert_true(fix_open(f, 1));
    fix_frame(&bytes, ORR_FRAME_TELL, 0, body, sizeof body);
    fix_input(f, bytes.data, 1000);
    assert_true(f->conn->in.cap >= sizeof body);
    fix_input(f, bytes.data + 1000, bytes.len - 1000);
    assert_int_equal(f->received, 1);
    assert_int_equal(f->conn->in.cap, 0);
    orr_buf_free(&bytes);
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(both_say_hello_and_open),
        ROW(the_smaller_limit_of_both_counts),
        ROW(frames_sent_early_wait_behind_hello),
        ROW(an_early_frame_too_large_for_the_peer_ends_the_link),
        ROW(another_protocol_is_named_with_both_values),
        ROW(another_cluster_is_named_with_both_values),
        ROW(another_wire_version_is_named_with_both_values),
        ROW(a_goodbye_of_mismatch_keeps_its_code),
        ROW(an_older_peer_without_ranges_and_features_is_taken),
        ROW(a_newer_peer_that_knows_our_version_is_taken),
        ROW(no_common_wire_version_is_named_with_both_ranges),
        ROW(a_critical_feature_that_is_unknown_is_refused_by_name),
        ROW(a_critical_field_that_is_unknown_is_refused_by_name),
        ROW(a_feature_of_ours_may_be_critical_to_the_peer),
        ROW(a_frame_of_an_unknown_kind_is_skipped_when_optional),
        ROW(an_optional_frame_before_the_handshake_is_refused),
        ROW(bad_hellos_are_protocol_errors),
        ROW(frames_before_and_hello_after_the_handshake_are_refused),
        ROW(a_stream_may_be_split_anywhere),
        ROW(a_stream_may_come_byte_by_byte),
        ROW(garbage_from_a_stranger_costs_nothing),
        ROW(a_length_is_checked_before_memory_is_taken),
        ROW(a_flipped_bit_never_reaches_the_sink),
        ROW(what_the_sink_refuses_ends_the_connection),
        ROW(a_ping_is_answered_with_its_numbers),
        ROW(pings_without_reading_end_it),
        ROW(a_full_queue_refuses_and_recovers),
        ROW(after_the_end_nothing_is_queued),
        ROW(an_end_within_a_frame_is_told),
        ROW(goodbye_comes_after_what_is_queued),
        ROW(a_goodbye_that_nobody_reads_ends_after_two_seconds),
        ROW(connecting_has_a_limit),
        ROW(the_handshake_has_a_limit),
        ROW(silence_is_pinged_and_ended_after_three_times),
        ROW(any_byte_is_a_sign_of_life),
        ROW(an_unused_dialled_link_is_kept_then_ended),
        ROW(every_allocation_may_fail),
        ROW(a_large_frame_gives_its_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
