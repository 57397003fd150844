/* Chunked bodies over the pure connection: two of them that talk to each other,
 * and one with a peer that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "conn_fixture.h"

typedef struct pair {
    fixture a, b;
} pair;

enum { BIG = 200 * 1000 };

static int setup(void **state)
{
    pair *p = malloc(sizeof *p);

    orr_log_set_level(ORR_LOG_OFF);
    fix_init(&p->a, "alpha", 1);
    fix_init(&p->b, "alpha", 2);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    pair *p = *state;
    int clean;

    fix_fini(&p->a);
    fix_fini(&p->b);
    clean = p->a.env.info.connections == 0 && p->b.env.info.connections == 0 &&
            p->a.env.info.sending == 0 && p->b.env.info.assembling == 0 &&
            p->b.env.info.sending == 0 && p->a.env.info.assembling == 0;
    free(p);
    return clean ? 0 : -1;
}

/* Moves what one wrote to the other, until both are still or n rounds are over.
 * Answers the rounds. */
static int talk(pair *p, int n)
{
    int rounds = 0;

    while (rounds < n && (p->a.wrote.len > 0 || p->b.wrote.len > 0)) {
        orr_buf a = p->a.wrote, b = p->b.wrote;

        memset(&p->a.wrote, 0, sizeof a);
        memset(&p->b.wrote, 0, sizeof b);
        if (p->b.conn->state != ORR_CONN_CLOSED)
            fix_input(&p->b, a.data, a.len);
        if (p->a.conn->state != ORR_CONN_CLOSED)
            fix_input(&p->a, b.data, b.len);
        orr_buf_free(&a);
        orr_buf_free(&b);
        rounds++;
    }
    return rounds;
}

static void flush(fixture *f)
{
    fix_current = f;
    f->conn->link.ops->flush(&f->conn->link);
}

static void connect(pair *p)
{
    assert_true(fix_new(&p->a, 0) && fix_new(&p->b, 1));
    orr__conn_connected(p->a.conn, p->a.now);
    orr__conn_connected(p->b.conn, p->b.now);
    talk(p, 10);
    assert_int_equal(p->a.conn->state, ORR_CONN_OPEN);
    assert_int_equal(p->b.conn->state, ORR_CONN_OPEN);
}

static void pattern(orr_buf *b, size_t len, uint8_t seed)
{
    memset(b, 0, sizeof *b);
    b->max = len;
    assert_int_equal(orr_buf_reserve(b, len), ORR_OK);
    for (size_t i = 0; i < len; i++)
        b->data[i] = (uint8_t)(i * 31 + i / 251 + seed);
    b->len = len;
}

static int send_big(fixture *f, orr_header h, size_t len, uint8_t seed)
{
    orr_buf body;
    int rc;

    fix_current = f;
    pattern(&body, len, seed);
    rc = f->conn->link.ops->send_body(&f->conn->link, &h, &body);
    if (rc == ORR_OK)
        assert_null(body.data);
    orr_buf_free(&body);
    return rc;
}

static int send_small(fixture *f, orr_header h, const char *text)
{
    fix_current = f;
    h.length = (uint32_t)strlen(text);
    return f->conn->link.ops->send(&f->conn->link, &h, (const uint8_t *)text);
}

static void assert_pattern(const uint8_t *data, size_t len, uint8_t seed)
{
    orr_buf want;

    pattern(&want, len, seed);
    assert_memory_equal(data, want.data, len);
    orr_buf_free(&want);
}

static orr_header tell_to(uint32_t endpoint)
{
    return (orr_header){.kind = ORR_FRAME_TELL, .endpoint = endpoint};
}

static orr_header ask_to(uint32_t endpoint, uint32_t slot)
{
    return (orr_header){
        .kind = ORR_FRAME_ASK, .endpoint = endpoint, .call_slot = slot};
}

static void a_large_body_arrives_whole(void **state)
{
    pair *p = *state;
    orr_header h = ask_to(3, 77);

    connect(p);
    h.budget_us = 5000000;
    h.token.epoch = 9;
    h.flags = ORR_FLAG_TOKEN;
    assert_int_equal(send_big(&p->a, h, BIG, 1), ORR_OK);
    flush(&p->a);
    assert_true(talk(p, 100) > 3); /* the window makes it wait for credit */
    assert_int_equal(p->b.received_bodies, 1);
    assert_int_equal(p->b.headers[0].kind, ORR_FRAME_ASK);
    assert_int_equal(p->b.headers[0].call_slot, 77);
    assert_int_equal(p->b.headers[0].flags, ORR_FLAG_TOKEN);
    assert_int_equal(p->b.headers[0].token.epoch, 9);
    assert_int_equal(p->b.headers[0].length, BIG);
    assert_int_equal(p->b.headers[0].budget_us, 5000000);
    assert_int_equal(p->b.bodies.len, BIG);
    assert_pattern(p->b.bodies.data, BIG, 1);
    assert_int_equal(p->a.env.info.chunked_out, 1);
    assert_int_equal(p->b.env.info.chunked_in, 1);
    assert_int_equal(p->a.env.info.body_out_max, BIG);
    assert_int_equal(p->b.env.info.body_in_max, BIG);
    assert_int_equal(p->a.env.info.sending, 0);
    assert_int_equal(p->b.env.info.assembling, 0);
}

static void any_cut_of_the_stream_is_the_same(void **state)
{
    pair *p = *state;
    static const size_t cuts[] = {1, 7, 63, 64, 65, 1000, 16 * 1024};

    connect(p);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        orr_buf_reset(&p->b.bodies);
        assert_int_equal(send_big(&p->a, tell_to(1), 40000, (uint8_t)i),
                         ORR_OK);
        flush(&p->a);
        for (int round = 0; round < 20; round++) {
            orr_buf bytes = p->a.wrote;

            memset(&p->a.wrote, 0, sizeof bytes);
            for (size_t at = 0; at < bytes.len; at += cuts[i])
                fix_input(&p->b, bytes.data + at,
                          bytes.len - at < cuts[i] ? bytes.len - at : cuts[i]);
            orr_buf_free(&bytes);
            bytes = p->b.wrote;
            memset(&p->b.wrote, 0, sizeof bytes);
            fix_input(&p->a, bytes.data, bytes.len);
            orr_buf_free(&bytes);
        }
        assert_int_equal(p->b.received_bodies, i + 1);
        assert_pattern(p->b.bodies.data, 40000, (uint8_t)i);
    }
}

static void bytes_may_be_read_into_their_place(void **state)
{
    pair *p = *state;
    orr_buf bytes;
    size_t at = 0, direct = 0;

    connect(p);
    assert_int_equal(send_big(&p->a, tell_to(1), 40000, 5), ORR_OK);
    flush(&p->a);
    bytes = p->a.wrote;
    memset(&p->a.wrote, 0, sizeof bytes);
    while (at < bytes.len) {
        size_t n = bytes.len - at < 100 ? bytes.len - at : 100, room = 0;
        uint8_t *space = orr__conn_space(p->b.conn, &room);

        if (space != NULL) {
            n = bytes.len - at < room ? bytes.len - at : room;
            memcpy(space, bytes.data + at, n);
            fix_input(&p->b, space, n);
            direct += n;
        } else {
            fix_input(&p->b, bytes.data + at, n);
        }
        at += n;
    }
    orr_buf_free(&bytes);
    talk(p, 100);
    assert_true(direct > 30000);
    assert_int_equal(p->b.received_bodies, 1);
    assert_pattern(p->b.bodies.data, 40000, 5);
}

static void small_frames_pass_large_bodies(void **state)
{
    pair *p = *state;

    connect(p);
    p->a.room = 1000; /* the stream is slow: the first pieces wait */
    assert_int_equal(send_big(&p->a, tell_to(1), BIG, 1), ORR_OK);
    flush(&p->a);
    assert_int_equal(send_small(&p->a, tell_to(2), "small"), ORR_OK);
    flush(&p->a);
    fix_current = &p->a;
    fix_drain(&p->a);
    talk(p, 1);
    assert_int_equal(p->b.received, 1);
    assert_int_equal(p->b.headers[0].endpoint, 2);
    talk(p, 100);
    assert_int_equal(p->b.received, 2);
    assert_int_equal(p->b.headers[1].length, BIG);
}

static void bodies_take_turns(void **state)
{
    pair *p = *state;

    connect(p);
    assert_int_equal(send_big(&p->a, tell_to(1), 500000, 1), ORR_OK);
    assert_int_equal(send_big(&p->a, tell_to(2), 40000, 2), ORR_OK);
    flush(&p->a);
    talk(p, 1000);
    assert_int_equal(p->b.received_bodies, 2);
    assert_int_equal(p->b.headers[0].endpoint, 2); /* the shorter is through */
    assert_pattern(p->b.bodies.data, 40000, 2);
    assert_pattern(p->b.bodies.data + 40000, 500000, 1);
}

static void one_endpoint_gets_everything_in_order(void **state)
{
    pair *p = *state;
    orr_header control = tell_to(1);
    uint32_t methods[8];

    control.flags = ORR_FLAG_CONTROL;
    connect(p);
    for (uint32_t i = 0; i < 6; i++) {
        orr_header h = tell_to(1);

        h.method = i;
        if (i == 1 || i == 3)
            assert_int_equal(send_big(&p->a, h, 100000, (uint8_t)i), ORR_OK);
        else
            assert_int_equal(send_small(&p->a, h, "x"), ORR_OK);
    }
    control.method = 99;
    assert_int_equal(send_small(&p->a, control, "c"), ORR_OK);
    flush(&p->a);
    talk(p, 1000);
    assert_int_equal(p->b.received, 7);
    for (int i = 0; i < 7; i++)
        methods[i] = p->b.headers[i].method;
    assert_int_equal(methods[0], 0);
    assert_int_equal(methods[1], 99); /* another lane: it passes */
    for (uint32_t i = 1; i < 6; i++)
        assert_int_equal(methods[i + 1], i);
}

static void a_caller_that_gives_up_frees_both_sides(void **state)
{
    pair *p = *state;
    orr_header cancel = {.kind = ORR_FRAME_CANCEL, .call_slot = 5};

    connect(p);
    assert_int_equal(send_big(&p->a, ask_to(1, 5), BIG, 1), ORR_OK);
    assert_int_equal(send_small(&p->a, tell_to(1), "behind"), ORR_OK);
    flush(&p->a);
    talk(p, 1);
    assert_true(p->b.env.info.assembling > 0);
    assert_int_equal(send_small(&p->a, cancel, ""), ORR_OK);
    flush(&p->a);
    assert_int_equal(p->a.env.info.sending, 0);
    talk(p, 100);
    assert_int_equal(p->b.env.info.assembling, 0);
    assert_int_equal(p->a.env.info.chunked_dropped, 1);
    assert_int_equal(p->b.env.info.chunked_dropped, 1);
    assert_int_equal(p->b.received, 1); /* what waited behind it came */
    assert_int_equal(p->a.received, 0); /* nothing was asked about it */
    assert_int_equal(send_big(&p->a, tell_to(1), BIG, 2), ORR_OK);
    flush(&p->a);
    talk(p, 100);
    assert_int_equal(p->b.received_bodies, 1);
}

static void a_body_that_expires_on_its_way_says_so(void **state)
{
    pair *p = *state;
    orr_header probe = {
        .kind = ORR_FRAME_CANCEL, .flags = ORR_FLAG_PROBE, .call_slot = 5};

    connect(p);
    assert_int_equal(send_big(&p->a, ask_to(1, 5), BIG, 1), ORR_OK);
    assert_int_equal(send_small(&p->a, ask_to(1, 6), "behind"), ORR_OK);
    flush(&p->a);
    assert_int_equal(send_small(&p->a, probe, ""), ORR_OK);
    assert_int_equal(p->a.received, 1);
    assert_int_equal(p->a.headers[0].kind, ORR_FRAME_REPLY);
    assert_int_equal(p->a.headers[0].call_slot, 5);
    assert_int_equal((int32_t)p->a.headers[0].method, ORR_EXPIRED_UNSENT);
    flush(&p->a);
    talk(p, 100);
    assert_int_equal(p->b.received, 1);
}

static void a_frame_held_behind_a_body_can_be_given_up(void **state)
{
    pair *p = *state;
    orr_header probe = {
        .kind = ORR_FRAME_CANCEL, .flags = ORR_FLAG_PROBE, .call_slot = 6};

    connect(p);
    assert_int_equal(send_big(&p->a, ask_to(1, 5), BIG, 1), ORR_OK);
    assert_int_equal(send_small(&p->a, ask_to(1, 6), "six"), ORR_OK);
    assert_int_equal(send_small(&p->a, ask_to(1, 7), "seven"), ORR_OK);
    assert_int_equal(send_small(&p->a, probe, ""), ORR_OK);
    assert_int_equal((int32_t)p->a.headers[0].method, ORR_EXPIRED_UNSENT);
    flush(&p->a);
    talk(p, 100);
    assert_int_equal(p->b.received, 2);
    assert_int_equal(p->b.headers[0].call_slot, 5);
    assert_int_equal(p->b.headers[1].call_slot, 7);
}

static void an_answer_nobody_waits_for_is_given_up(void **state)
{
    pair *p = *state;
    orr_header answer = {.kind = ORR_FRAME_REPLY, .call_slot = 5};
    orr_header cancel = {.kind = ORR_FRAME_CANCEL, .call_slot = 5};

    connect(p);
    assert_int_equal(send_big(&p->b, answer, BIG, 1), ORR_OK);
    flush(&p->b);
    talk(p, 1);
    assert_int_equal(send_small(&p->a, cancel, ""), ORR_OK);
    flush(&p->a);
    talk(p, 100);
    assert_int_equal(p->b.env.info.sending, 0);
    assert_int_equal(p->a.env.info.assembling, 0);
    assert_int_equal(p->a.received, 0);
}

static void the_end_of_the_stream_frees_what_is_borrowed(void **state)
{
    pair *p = *state;

    connect(p);
    p->a.room = 40000; /* in the midst of a piece written in its place */
    assert_int_equal(send_big(&p->a, tell_to(1), BIG, 1), ORR_OK);
    flush(&p->a);
    assert_true(p->a.borrowed_len > 0);
    talk(p, 1);
    assert_true(p->b.env.info.assembling > 0);
    fix_current = &p->a;
    orr__conn_lost(p->a.conn, "closed by the peer");
    fix_current = &p->b;
    orr__conn_lost(p->b.conn, "closed by the peer");
    assert_int_equal(p->a.env.info.sending, 0);
    assert_int_equal(p->b.env.info.assembling, 0);
}

static void a_goodbye_comes_behind_the_piece_under_way(void **state)
{
    pair *p = *state;

    connect(p);
    p->a.room = 40000;
    assert_int_equal(send_big(&p->a, tell_to(1), BIG, 1), ORR_OK);
    flush(&p->a);
    fix_current = &p->a;
    orr__conn_goodbye(p->a.conn, "the service stops", p->a.now);
    assert_int_equal(p->a.closes, 0);
    fix_drain(&p->a);
    assert_int_equal(p->a.closes, 1);
    talk(p, 1);
    assert_int_equal(p->b.downs, 1);
    assert_non_null(strstr(p->b.down_text, "the service stops"));
}

static void limits_are_told_at_the_call(void **state)
{
    pair *p = *state;
    int sent = 0;

    connect(p);
    assert_int_equal(p->a.conn->link.body_max, 1024 * 1024);
    assert_int_equal(p->a.conn->link.frame_max, 16 * 1024);
    assert_int_equal(send_big(&p->a, tell_to(1), 1024 * 1024 + 1, 1),
                     ORR_TOO_LARGE);
    assert_int_equal(p->a.env.info.too_large, 1);
    while (send_big(&p->a, tell_to(1), 300000, 1) == ORR_OK)
        sent++;
    assert_int_equal(sent, 2 * 1024 * 1024 / 300000);
    flush(&p->a);
    talk(p, 1000);
    assert_int_equal(p->b.received_bodies, sent);
}

static void memory_of_what_comes_is_bounded(void **state)
{
    pair *p = *state;
    uint64_t most = 0;

    connect(p);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(send_big(&p->a, tell_to(i), 600000, (uint8_t)i),
                         ORR_OK);
    flush(&p->a);
    while (talk(p, 1) > 0)
        if (p->b.env.info.assembling > most)
            most = p->b.env.info.assembling;
    assert_int_equal(p->b.received_bodies, 3);
    assert_true(most <= 1024 * 1024 + 3 * ORR_BODY_FIRST);
    assert_int_equal(p->b.env.info.assembling, 0);
}

static void more_bodies_than_may_be_open_wait(void **state)
{
    pair *p = *state;

    connect(p);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(send_big(&p->a, tell_to(i), 20000, (uint8_t)i),
                         ORR_OK);
    flush(&p->a);
    talk(p, 1000);
    assert_int_equal(p->b.received_bodies, 20);
    assert_int_equal(p->b.conn->state, ORR_CONN_OPEN);
}

static void a_peer_without_pieces_gets_frames_or_nothing(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    orr_buf hello = {0};
    orr_header h;

    assert_true(fix_new(f, 0) && fix_new(&p->b, 1));
    assert_int_equal(send_big(f, ask_to(1, 5), 70000, 1), ORR_OK);
    assert_int_equal(send_big(f, ask_to(1, 6), 30000, 1), ORR_OK);
    orr__conn_connected(f->conn, f->now);
    orr_buf_reset(&f->wrote);
    fix_hello(&hello, ORR_PROTOCOL, "alpha", 64 * 1024);
    fix_input(f, hello.data, hello.len);
    orr_buf_free(&hello);
    assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    assert_int_equal(f->received, 1);
    assert_int_equal(f->headers[0].call_slot, 5);
    assert_int_equal((int32_t)f->headers[0].method, ORR_TOO_LARGE);
    assert_int_equal(f->conn->link.body_max, 64 * 1024);
    assert_int_equal(f->conn->link.frame_max, 64 * 1024);
    assert_int_equal(orr_header_decode(&h, f->wrote.data, 64), ORR_OK);
    assert_int_equal(h.kind, ORR_FRAME_ASK);
    assert_int_equal(h.call_slot, 6);
    assert_int_equal(h.length, 30000);
}

/* --- lies ----------------------------------------------------------------- */

static void put_open(orr_buf *out, uint32_t stream, uint64_t total)
{
    uint8_t body[12];
    orr_header h = {
        .kind = ORR_FRAME_TELL, .flags = ORR_FLAG_MORE, .length = sizeof body};

    for (int i = 0; i < 12; i++)
        body[i] = (uint8_t)(i < 4 ? stream >> 8 * i : total >> 8 * (i - 4));
    fix_put(out, h, body);
}

static void put_data(orr_buf *out, uint32_t stream, uint32_t len)
{
    static uint8_t body[100000];
    orr_header h = {.kind = ORR_FRAME_DATA, .call_slot = stream, .length = len};

    fix_put(out, h, body);
}

static void put_bare(orr_buf *out, int kind, uint32_t stream, uint64_t budget)
{
    orr_header h = {
        .kind = (uint8_t)kind, .call_slot = stream, .budget_us = budget};

    fix_put(out, h, NULL);
}

/* Feeds the bytes and frees them; the connection must end, saying part. */
static void lie(fixture *f, orr_buf *bytes, const char *part)
{
    f->downs = 0;
    assert_true(fix_open_chunks(f, 1));
    fix_input(f, bytes->data, bytes->len);
    orr_buf_free(bytes);
    if (f->downs != 1 || strstr(f->down_text, part) == NULL)
        fail_msg("%d ends, \"%s\" is not in \"%s\"", f->downs, part,
                 f->downs ? f->down_text : "");
    assert_int_equal(f->env.info.assembling, 0);
    orr__conn_abort(f->conn, ORR_UNREACHABLE, "next");
    orr__conn_free(f->conn);
    f->conn = NULL;
    orr_buf_reset(&f->wrote);
}

static void every_lie_ends_the_connection(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    orr_buf b = {0};
    orr_header h = {.kind = ORR_FRAME_TELL, .flags = ORR_FLAG_MORE};

    put_open(&b, 1, 1024 * 1024 + 1);
    lie(f, &b, "1 to 1048576 may come");
    put_open(&b, 1, 0);
    lie(f, &b, "a body of 0 bytes");
    put_open(&b, 1, UINT64_MAX);
    lie(f, &b, "a body of 18446744073709551615 bytes");
    put_open(&b, 0, 100);
    lie(f, &b, "without a number");
    put_open(&b, 1, 100);
    put_open(&b, 1, 100);
    lie(f, &b, "opened twice");
    for (uint32_t i = 1; i <= 5; i++)
        put_open(&b, i, 100);
    lie(f, &b, "more than 4 bodies");
    h.length = 5;
    fix_put(&b, h, "12345");
    lie(f, &b, "opened in 5 bytes, not 12");
    put_data(&b, 9, 10);
    lie(f, &b, "a piece of body 9, which is not open");
    put_open(&b, 1, 100);
    put_data(&b, 1, 101);
    lie(f, &b, "a piece of 101 bytes for a body of 100");
    put_open(&b, 1, 100);
    put_data(&b, 1, 0);
    lie(f, &b, "a piece of 0 bytes");
    put_open(&b, 1, 100);
    put_data(&b, 1, 100);
    put_data(&b, 1, 1);
    lie(f, &b, "not open");
    put_bare(&b, ORR_FRAME_ABORT, 3, 0);
    lie(f, &b, "body 3 is given up and is not open");
    put_bare(&b, ORR_FRAME_CREDIT, 0, UINT64_MAX);
    lie(f, &b, "more bytes than there can be");
    put_open(&b, 1, 100);
    put_data(&b, 1, 50);
    b.data[b.len - 1] ^= 1;
    lie(f, &b, "wrong checksum in a piece");
}

static void more_than_was_granted_ends_the_connection(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    orr_buf b = {0};

    /* Both are admitted alone, not together. */
    put_open(&b, 1, 600 * 1024);
    put_open(&b, 2, 600 * 1024);
    put_data(&b, 2, 30000);
    put_data(&b, 2, 30000);
    put_data(&b, 2, 30000);
    lie(f, &b, "may have 65536");
    /* The window; it is granted again by the quarter. */
    put_open(&b, 1, 600 * 1024);
    put_data(&b, 1, 10000);
    put_data(&b, 1, 60000);
    lie(f, &b, "a piece of 60000 bytes, 55536 were granted");
}

static void a_frame_for_nobody_who_agreed_ends_the_connection(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    orr_buf b = {0};

    assert_true(fix_open(f, 1)); /* without the feature */
    put_open(&b, 1, 100);
    fix_input(f, b.data, b.len);
    orr_buf_free(&b);
    assert_int_equal(f->downs, 1);
    assert_non_null(strstr(f->down_text, "not agreed on"));
}

static void a_body_left_half_sent_ends_the_connection(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    uint64_t second = 1000u * FIX_MS, begin = f->now;
    orr_buf b = {0}, pong = {0};

    assert_true(fix_open_chunks(f, 1));
    put_open(&b, 1, 600 * 1024);
    put_data(&b, 1, 1000);
    fix_input(f, b.data, b.len);
    orr_buf_free(&b);
    fix_frame(&pong, ORR_FRAME_PONG, 0, NULL, 0);
    for (uint64_t at = begin; at < begin + 3 * second; at += second / 4) {
        f->now = at;
        fix_input(f, pong.data, pong.len);
        orr__conn_tick(f->conn, at);
        assert_int_equal(f->conn->state, ORR_CONN_OPEN);
    }
    f->now = begin + 3 * second;
    orr__conn_tick(f->conn, f->now);
    orr_buf_free(&pong);
    assert_int_equal(f->downs, 1);
    assert_non_null(strstr(f->down_text, "stands still"));
    assert_int_equal(f->env.info.assembling, 0);
}

static void a_peer_that_stops_reading_is_cut_off(void **state)
{
    pair *p = *state;
    fixture *f = &p->a;
    uint64_t second = 1000u * FIX_MS, begin = f->now;
    orr_buf ping = {0};

    assert_true(fix_open_chunks(f, 1));
    f->room = 100;
    assert_int_equal(send_small(f, tell_to(1), "one"), ORR_OK);
    assert_int_equal(send_small(f, tell_to(1), "two"), ORR_OK);
    flush(f);
    assert_true(f->borrowed_len > 0);
    fix_frame(&ping, ORR_FRAME_PONG, 0, NULL, 0);
    for (uint64_t at = begin; at <= begin + 5 * second && f->downs == 0;
         at += second / 4) {
        f->now = at;
        fix_input(f, ping.data, ping.len); /* it lives */
        orr__conn_tick(f->conn, at);
    }
    orr_buf_free(&ping);
    assert_int_equal(f->downs, 1);
    assert_non_null(strstr(f->down_text, "has not read for"));
    assert_true(f->now >= begin + 3 * second);
}

/* --- memory --------------------------------------------------------------- */

static int whole_life(pair *p)
{
    orr_buf body = {0};
    orr_header h = tell_to(1);

    p->a.conn = p->b.conn = NULL;
    if (!fix_new(&p->a, 0) || !fix_new(&p->b, 1))
        return 0;
    orr__conn_connected(p->a.conn, p->a.now);
    orr__conn_connected(p->b.conn, p->b.now);
    talk(p, 5);
    if (orr_buf_reserve(&body, 50000) == ORR_OK) {
        memset(body.data, 0, 50000);
        body.len = 50000;
        fix_current = &p->a;
        (void)p->a.conn->link.ops->send_body(&p->a.conn->link, &h, &body);
        (void)send_small(&p->a, h, "behind");
        flush(&p->a);
        talk(p, 50);
    }
    orr_buf_free(&body);
    return 1;
}

static void forget(fixture *f)
{
    fix_current = f;
    if (f->conn != NULL) {
        orr__conn_abort(f->conn, ORR_UNREACHABLE, "next");
        orr__conn_free(f->conn);
    }
    f->conn = NULL;
    orr_buf_free(&f->wrote);
    orr_buf_free(&f->bodies);
}

static void every_allocation_may_fail(void **state)
{
    pair *p = *state;
    uint64_t live;
    int whole = 0;

    forget(&p->a);
    forget(&p->b);
    live = orr_alloc_live();
    for (uint64_t n = 1; n < 60; n++) {
        p->b.received_bodies = 0;
        orr_alloc_fail_at(n);
        whole_life(p);
        orr_alloc_fail_at(0);
        whole += p->b.received_bodies;
        forget(&p->a);
        forget(&p->b);
        assert_int_equal(orr_alloc_live(), live);
        assert_int_equal(p->a.env.info.sending, 0);
        assert_int_equal(p->b.env.info.assembling, 0);
    }
    assert_true(whole > 0); /* the last rounds reach no failure */
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_large_body_arrives_whole),
        ROW(any_cut_of_the_stream_is_the_same),
        ROW(bytes_may_be_read_into_their_place),
        ROW(small_frames_pass_large_bodies),
        ROW(bodies_take_turns),
        ROW(one_endpoint_gets_everything_in_order),
        ROW(a_caller_that_gives_up_frees_both_sides),
        ROW(a_body_that_expires_on_its_way_says_so),
        ROW(a_frame_held_behind_a_body_can_be_given_up),
        ROW(an_answer_nobody_waits_for_is_given_up),
        ROW(the_end_of_the_stream_frees_what_is_borrowed),
        ROW(a_goodbye_comes_behind_the_piece_under_way),
        ROW(limits_are_told_at_the_call),
        ROW(memory_of_what_comes_is_bounded),
        ROW(more_bodies_than_may_be_open_wait),
        ROW(a_peer_without_pieces_gets_frames_or_nothing),
        ROW(every_lie_ends_the_connection),
        ROW(more_than_was_granted_ends_the_connection),
        ROW(a_frame_for_nobody_who_agreed_ends_the_connection),
        ROW(a_body_left_half_sent_ends_the_connection),
        ROW(a_peer_that_stops_reading_is_cut_off),
        ROW(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
