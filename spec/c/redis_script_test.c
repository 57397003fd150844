/* Evaluations and their confirmation against a scripted server: cut at every
 * byte, lost scripts, no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "redis/session.h"
#include "redis_fixture.h"

typedef struct world {
    redis_fix f; /* its client is not used, only its stream */
    orr_loop *loop;
    orr_redis *r;
    uint32_t script;
    int replies;
    int32_t status;
    char body[512];
} world;

static void drain(world *w)
{
    orr_executor *ex = orr_loop_executor(w->loop);
    orr_event e;

    orr_executor_turn(ex);
    for (orr_executor_next(ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(ex, &e)) {
        size_t n = e.body_len < sizeof w->body ? e.body_len : sizeof w->body;
        w->replies++;
        w->status = e.status;
        memset(w->body, 0, sizeof w->body);
        if (n > 0)
            memcpy(w->body, e.body, n);
    }
    orr_executor_flush(ex);
}

static int has(const world *w, const char *part)
{
    size_t n = strlen(part);

    for (size_t i = 0; i + n <= sizeof w->body; i++)
        if (memcmp(w->body + i, part, n) == 0)
            return 1;
    return 0;
}

static void say_n(world *w, const char *text, size_t len)
{
    if (w->f.stream_open)
        orr__redis_client_input(&w->r->client, (const uint8_t *)text, len,
                                orr_clock_mono_ns());
    drain(w);
}

static void say(world *w, const char *text)
{
    say_n(w, text, strlen(text));
}

static int was_sent(const world *w, const char *part)
{
    size_t n = strlen(part);

    for (size_t i = 0; i + n <= w->f.sent.len; i++)
        if (memcmp(w->f.sent.data + i, part, n) == 0)
            return 1;
    return 0;
}

static void flush(world *w)
{
    orr_buf_reset(&w->f.sent);
    orr__redis_client_flush(&w->r->client);
}

static void open_ready(world *w)
{
    const orr_redis_transport transport = {.ctx = &w->f,
                                           .connect = fix_connect,
                                           .write = fix_write,
                                           .close = fix_close,
                                           .arm = fix_arm,
                                           .soon = fix_soon,
                                           .release = fix_release};
    const orr_redis_options o = {.address = "h:1"};
    orr_error err;
    uint32_t ready;

    memset(w, 0, sizeof *w);
    w->f.take_max = SIZE_MAX;
    /* What is sent must not be what fails. */
    assert_int_equal(orr_buf_reserve(&w->f.sent, 4096), ORR_OK);
    orr_log_set_level(ORR_LOG_OFF);
    w->loop = orr_loop_new(1, &err);
    w->r = orr__redis_new(&transport, orr_loop_executor(w->loop), &o, &ready,
                          &err);
    assert_non_null(w->r);
    orr__redis_client_connected(&w->r->client, orr_clock_mono_ns());
    say(w, FIX_MASTER);
    assert_int_equal(w->replies, 1);
    assert_int_equal(orr_redis_script(w->r, "return 1", 8, &w->script), ORR_OK);
    w->replies = 0;
}

static void close_all(world *w)
{
    orr_redis_free(w->r);
    assert_int_equal(w->f.released, 1);
    assert_int_equal(orr_loop_free(w->loop), 0);
    orr_buf_free(&w->f.sent);
    assert_int_equal(orr_alloc_live(), 0);
}

static int evaluate(world *w)
{
    static const char *const args[] = {"key", "value"};
    const orr_redis_eval e = {.script = w->script,
                              .keys = 1,
                              .confirm = 1,
                              .replicas = 2,
                              .wait_ms = 50,
                              .count = 2,
                              .args = args};
    uint32_t slot;

    return orr_redis_evaluate(w->r, &e, &slot);
}

#define LOADED "$40\r\n0123456789012345678901234567890123456789\r\n"
#define NO_SCRIPT "-NOSCRIPT No matching script. Please use EVAL.\r\n"

static void a_unit_is_loaded_sent_and_confirmed(void **state)
{
    world w;

    (void)state;
    open_ready(&w);
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    /* SHA-1 of "return 1" */
    assert_true(was_sent(&w, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"));
    assert_true(was_sent(&w, "$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$8\r\nreturn 1"));
    assert_true(was_sent(&w, "$4\r\nWAIT\r\n$1\r\n2\r\n$2\r\n50\r\n"));
    say(&w, LOADED "$2\r\nOK\r\n");
    assert_int_equal(w.replies, 0);
    say(&w, ":2\r\n");
    assert_int_equal(w.replies, 1);
    assert_int_equal(w.status, ORR_OK);
    assert_memory_equal(w.body, "\x92\xa2OK\x02", 5);
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    assert_false(was_sent(&w, "LOAD"));
    close_all(&w);
}

/* LOAD, value and count, cut at every byte. */
static void a_unit_that_is_cut_is_unknown(void **state)
{
    static const char said[] = LOADED "$2\r\nOK\r\n:2\r\n";

    (void)state;
    for (size_t n = 0; n < sizeof said - 1; n++) {
        world w;

        open_ready(&w);
        assert_int_equal(evaluate(&w), ORR_OK);
        flush(&w);
        say_n(&w, said, n);
        assert_int_equal(w.replies, 0);
        orr__redis_client_lost(&w.r->client, "cut");
        drain(&w);
        assert_int_equal(w.replies, 1);
        assert_int_equal(w.status, ORR_UNREACHABLE);
        assert_true(has(&w, "unknown"));
        assert_int_equal(w.r->kept_bytes, 0);
        close_all(&w);
    }
}

static void a_lost_script_and_its_confirmation_are_sent_again(void **state)
{
    world w;

    (void)state;
    open_ready(&w);
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    say(&w, LOADED NO_SCRIPT);
    assert_int_equal(w.replies, 0);
    say(&w, ":2\r\n"); /* confirms nothing of ours */
    assert_int_equal(w.replies, 0);
    flush(&w);
    assert_true(was_sent(&w, "$4\r\nEVAL\r\n$8\r\nreturn 1\r\n"));
    assert_true(was_sent(&w, "$4\r\nWAIT\r\n"));
    say(&w, "$2\r\nOK\r\n:1\r\n");
    assert_int_equal(w.replies, 1);
    assert_memory_equal(w.body, "\x92\xa2OK\x01", 5);

    /* Once only. */
    w.replies = 0;
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    say(&w, NO_SCRIPT ":2\r\n");
    flush(&w);
    say(&w, NO_SCRIPT ":2\r\n");
    assert_int_equal(w.replies, 1);
    assert_int_equal(w.status, ORR_REMOTE);
    assert_true(has(&w, "not_applied"));

    /* Lost before it could be sent again: certainly not done. */
    w.replies = 0;
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    say(&w, NO_SCRIPT);
    orr__redis_client_lost(&w.r->client, "cut");
    drain(&w);
    assert_int_equal(w.replies, 1);
    assert_true(has(&w, "not_applied"));
    close_all(&w);
}

static void what_is_not_confirmed_is_unknown(void **state)
{
    world w;

    (void)state;
    open_ready(&w);
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    say(&w, LOADED "$2\r\nOK\r\n-NOPERM no wait\r\n");
    assert_int_equal(w.status, ORR_REMOTE);
    assert_true(has(&w, "unknown"));
    assert_true(has(&w, "NOPERM"));
    /* An error is an error, whatever the confirmation. */
    assert_int_equal(evaluate(&w), ORR_OK);
    flush(&w);
    say(&w, "-OOM command not allowed\r\n:2\r\n");
    assert_true(has(&w, "not_applied"));
    close_all(&w);
}

/* Every allocation fails once: no leak, and each call that was taken ends. */
static void without_memory_each_unit_still_ends(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 30; n++) {
        world w;
        int rc;

        open_ready(&w);
        orr_alloc_fail_at(n);
        rc = evaluate(&w);
        flush(&w);
        say(&w, LOADED);
        say(&w, "$2\r\nOK\r\n:2\r\n");
        orr_alloc_fail_at(0);
        orr__redis_client_close(&w.r->client, ORR_ECLOSED, "over");
        drain(&w);
        assert_int_equal(w.replies, rc == ORR_OK ? 1 : 0);
        assert_int_equal(w.r->kept_bytes, 0);
        close_all(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_is_loaded_sent_and_confirmed),
        cmocka_unit_test(a_unit_that_is_cut_is_unknown),
        cmocka_unit_test(a_lost_script_and_its_confirmation_are_sent_again),
        cmocka_unit_test(what_is_not_confirmed_is_unknown),
        cmocka_unit_test(without_memory_each_unit_still_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
