/* One Redis connection against scripted servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "redis/reply.h"
#include "redis_fixture.h"

static const uint64_t ms = 1000000u;

static void open_with(redis_fix *f, const orr_redis_options *o)
{
    orr_error err;

    if (fix_init(f, o, &err) != ORR_OK)
        fail_msg("%s", err.text);
    orr__redis_client_connected(&f->client, f->now_ns);
}

static void open_ready(redis_fix *f)
{
    const orr_redis_options o = {.address = "h:1", .requests_max = 40};

    open_with(f, &o);
    fix_say(f, FIX_MASTER);
    assert_int_equal(f->client.state, ORR_REDIS_READY);
    assert_int_equal(f->ready, 1);
    orr_buf_reset(&f->sent);
}

static void assert_sent(redis_fix *f, const char *text)
{
    assert_int_equal(f->sent.len, strlen(text));
    assert_memory_equal(f->sent.data, text, f->sent.len);
}

static void assert_result(const redis_fix *f, int n, int status, int outcome,
                          const char *part)
{
    const fix_result *r = &f->result[n];

    if (r->status != status || r->outcome != outcome ||
        strstr(r->text, part) == NULL)
        fail_msg("result %d: status %d, outcome %d: %s", n, r->status,
                 r->outcome, r->text);
}

static void the_handshake_goes_out_in_one_piece(void **state)
{
    const orr_redis_options o = {.address = "h:1",
                                 .user = "me",
                                 .password = "secret",
                                 .name = "orrery",
                                 .role = ORR_REDIS_ROLE_MASTER};
    redis_fix f;

    (void)state;
    open_with(&f, &o);
    assert_sent(&f, "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n"
                    "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$6\r\norrery\r\n"
                    "*1\r\n$4\r\nROLE\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_AUTH);
    fix_say(&f, "+OK\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_SETNAME);
    fix_say(&f, "+OK\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_ROLE);
    fix_say(&f, "*3\r\n$6\r\nmaster\r\n:9\r\n*2\r\n*0\r\n*0\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_READY);
    assert_int_equal(f.client.role, ORR_REDIS_ROLE_MASTER);
    assert_int_equal(f.client.replicas, 2);
    /* The password is gone. */
    for (size_t i = 0; i + 6 <= f.client.writing.cap; i++)
        assert_memory_not_equal(f.client.writing.data + i, "secret", 6);
    fix_fini(&f);
    assert_int_equal(f.released, 1);
    assert_int_equal(f.closed, 0);
}

static void assert_handshake_ends(const orr_redis_options *o, const char *said,
                                  int code, const char *part)
{
    redis_fix f;

    open_with(&f, o);
    assert_int_equal(fix_request(&f, "PING", 0, 1), ORR_OK);
    fix_say(&f, said);
    if (f.closed != 1 || f.close_code != code ||
        strstr(f.close_text, part) == NULL)
        fail_msg("%s: closed %d with %d: %s", said, f.closed, f.close_code,
                 f.close_text);
    assert_int_equal(f.ready, 0);
    assert_int_equal(f.results, 1);
    assert_result(&f, 0, ORR_UNREACHABLE, ORR_REDIS_NOT_APPLIED, "h:1: ");
    assert_int_equal(fix_request(&f, "PING", 0, 1), ORR_ECLOSED);
    fix_fini(&f);
}

static void a_handshake_that_fails_says_why(void **state)
{
    const orr_redis_options with = {.address = "h:1",
                                    .password = "p",
                                    .name = "n",
                                    .role = ORR_REDIS_ROLE_MASTER};
    const orr_redis_options without = {.address = "h:1", .name = "n"};
    const orr_redis_options master = {.address = "h:1",
                                      .role = ORR_REDIS_ROLE_MASTER};

    (void)state;
    assert_handshake_ends(&with, "-WRONGPASS invalid\r\n", ORR_EACCES,
                          "refused user and password: WRONGPASS");
    assert_handshake_ends(&without, "-NOAUTH Authentication required.\r\n",
                          ORR_EACCES, "wants a password");
    assert_handshake_ends(&master, "-NOAUTH Authentication required.\r\n",
                          ORR_EACCES, "NOAUTH");
    assert_handshake_ends(&master, "-NOPERM no\r\n", ORR_REMOTE, "its role");
    assert_handshake_ends(
        &master,
        "*5\r\n$5\r\nslave\r\n$1\r\na\r\n:1\r\n$9\r\nconnected\r\n:0\r\n",
        ORR_EINVAL, "it is a replica, a primary is needed");
    assert_handshake_ends(&master, "*2\r\n$8\r\nsentinel\r\n*0\r\n", ORR_EINVAL,
                          "it is a sentinel");
    assert_handshake_ends(&master, "+HELLO\r\n", ORR_EINVAL, "unknown role");
    assert_handshake_ends(&master, "HTTP/1.1 400 Bad Request\r\n", ORR_EPROTO,
                          "no RESP2");
    assert_handshake_ends(&master, "*999999999\r\n", ORR_TOO_LARGE, "array");
}

static void a_server_without_a_name_or_a_role_will_do(void **state)
{
    const orr_redis_options o = {.address = "h:1", .name = "n"};
    redis_fix f;

    (void)state;
    open_with(&f, &o);
    fix_say(&f, "-NOPERM no client|setname\r\n-NOPERM no role\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_READY);
    assert_int_equal(f.client.role, ORR_REDIS_ROLE_ANY);
    fix_fini(&f);
}

static void requests_before_ready_wait_for_it(void **state)
{
    const orr_redis_options o = {.address = "h:1"};
    redis_fix f;

    (void)state;
    open_with(&f, &o);
    assert_int_equal(fix_request(&f, "A", 0, 1), ORR_OK);
    fix_flush(&f);
    assert_sent(&f, "*1\r\n$4\r\nROLE\r\n");
    orr_buf_reset(&f.sent);
    fix_say(&f, FIX_MASTER);
    assert_int_equal(f.soon, 1);
    fix_flush(&f);
    assert_sent(&f, "*1\r\n$1\r\nA\r\n");
    fix_say(&f, "+fine\r\n");
    assert_result(&f, 0, ORR_OK, ORR_REDIS_APPLIED, "fine");
    fix_fini(&f);
}

static void replies_come_in_the_order_of_requests(void **state)
{
    static const char said[] = "+a\r\n:5\r\n$-1\r\n-ERR no\r\n$1\r\nx\r\n";
    redis_fix f;

    (void)state;
    for (size_t n = 1; n < sizeof said; n++) {
        open_ready(&f);
        for (uint64_t i = 0; i < 5; i++)
            assert_int_equal(fix_request(&f, "A", 0, i), ORR_OK);
        fix_flush(&f);
        for (size_t at = 0; at < sizeof said - 1; at += n)
            fix_feed(&f, said + at,
                     sizeof said - 1 - at < n ? sizeof said - 1 - at : n);
        assert_int_equal(f.results, 5);
        for (int i = 0; i < 5; i++)
            assert_int_equal(f.result[i].tag, i);
        assert_int_equal(f.result[1].integer, 5);
        assert_int_equal(f.result[2].type, REDIS_REPLY_NIL);
        assert_result(&f, 3, ORR_REMOTE, ORR_REDIS_NOT_APPLIED, "ERR no");
        assert_result(&f, 4, ORR_OK, ORR_REDIS_APPLIED, "x");
        fix_fini(&f);
    }
}

/* Three requests: answered, sent, not sent. The connection ends at every byte
 * of the two replies. */
static void an_end_at_any_byte_tells_what_is_unknown(void **state)
{
    static const char said[] = "$2\r\nok\r\n:1\r\n";

    (void)state;
    for (size_t n = 0; n < sizeof said; n++) {
        redis_fix f;
        int answered = n >= 8, both = n >= 12;

        open_ready(&f);
        fix_request(&f, "A", 0, 0);
        fix_request(&f, "B", 0, 1);
        fix_flush(&f);
        fix_feed(&f, said, n);
        fix_request(&f, "C", 0, 2);
        orr__redis_client_lost(&f.client, "cut");
        assert_int_equal(f.results, 3);
        assert_result(&f, 0, answered ? ORR_OK : ORR_UNREACHABLE,
                      answered ? ORR_REDIS_APPLIED : ORR_REDIS_UNKNOWN, "");
        assert_result(&f, 1, both ? ORR_OK : ORR_UNREACHABLE,
                      both ? ORR_REDIS_APPLIED : ORR_REDIS_UNKNOWN, "");
        assert_result(&f, 2, ORR_UNREACHABLE, ORR_REDIS_NOT_APPLIED, "cut");
        assert_int_equal(f.closed, 1);
        assert_int_equal(f.armed_ns, UINT64_MAX);
        orr__redis_client_lost(&f.client, "again");
        assert_int_equal(f.closed, 1);
        fix_fini(&f);
    }
}

static void what_a_slow_stream_borrows_counts_as_sent(void **state)
{
    redis_fix f;

    (void)state;
    open_ready(&f);
    f.take_max = 3;
    fix_request(&f, "A", 0, 0);
    fix_flush(&f);
    fix_request(&f, "B", 0, 1);
    fix_flush(&f); /* not while it borrows */
    assert_int_equal(f.sent.len, 3);
    fix_drain(&f);
    assert_int_equal(f.borrowed_len, 8);
    fix_request(&f, "C", 0, 2);
    orr__redis_client_lost(&f.client, "cut");
    assert_result(&f, 0, ORR_UNREACHABLE, ORR_REDIS_UNKNOWN, "cut");
    assert_result(&f, 1, ORR_UNREACHABLE, ORR_REDIS_UNKNOWN, "cut");
    assert_result(&f, 2, ORR_UNREACHABLE, ORR_REDIS_NOT_APPLIED, "cut");
    fix_fini(&f);
}

static void garbage_between_replies_ends_what_is_under_way(void **state)
{
    redis_fix f;

    (void)state;
    open_ready(&f);
    fix_request(&f, "A", 0, 0);
    fix_request(&f, "B", 0, 1);
    fix_flush(&f);
    fix_say(&f, "+a\r\n%1\r\n");
    assert_result(&f, 0, ORR_OK, ORR_REDIS_APPLIED, "a");
    assert_result(&f, 1, ORR_EPROTO, ORR_REDIS_UNKNOWN, "RESP3");
    fix_fini(&f);

    open_ready(&f);
    fix_say(&f, "+a\r\n");
    assert_int_equal(f.close_code, ORR_EPROTO);
    assert_non_null(strstr(f.close_text, "nobody asked for"));
    fix_fini(&f);

    open_ready(&f);
    fix_say(&f, "-ERR max number of clients reached\r\n");
    assert_int_equal(f.close_code, ORR_REMOTE);
    assert_non_null(strstr(f.close_text, "max number of clients"));
    fix_fini(&f);
}

static void a_request_out_of_time_ends_the_connection(void **state)
{
    redis_fix f;

    (void)state;
    open_ready(&f);
    fix_request(&f, "SLOW", 100 * ms, 0);
    fix_request(&f, "B", 500 * ms, 1);
    fix_flush(&f);
    fix_request(&f, "C", 50 * ms, 2);
    assert_int_equal(f.armed_ns, f.now_ns + 50 * ms);
    f.now_ns += 50 * ms - 1;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.results, 0);
    f.now_ns += 50 * ms + 1;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.results, 3);
    assert_result(&f, 0, ORR_EXPIRED_UNKNOWN, ORR_REDIS_UNKNOWN, "in time");
    assert_result(&f, 1, ORR_UNREACHABLE, ORR_REDIS_UNKNOWN, "in time");
    assert_result(&f, 2, ORR_EXPIRED_UNSENT, ORR_REDIS_NOT_APPLIED, "in time");
    fix_fini(&f);
}

static void deadlines_of_answered_requests_mean_nothing(void **state)
{
    redis_fix f;

    (void)state;
    open_ready(&f);
    fix_request(&f, "A", 100 * ms, 0);
    fix_request(&f, "B", 300 * ms, 1);
    fix_flush(&f);
    fix_say(&f, "+a\r\n");
    f.now_ns += 200 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.closed, 0);
    assert_int_equal(f.armed_ns, f.now_ns + 100 * ms);
    fix_say(&f, "+b\r\n");
    f.now_ns += 200 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.closed, 0);
    fix_fini(&f);
}

static void a_server_that_stalls_at_the_start_is_given_up(void **state)
{
    const orr_redis_options o = {.address = "h:1", .ready_timeout_ns = 10 * ms};
    redis_fix f;
    orr_error err;

    (void)state;
    assert_int_equal(fix_init(&f, &o, &err), ORR_OK);
    assert_int_equal(f.armed_ns, f.now_ns + 10 * ms);
    orr__redis_client_tick(&f.client, f.now_ns + 10 * ms);
    assert_non_null(strstr(f.close_text, "no connection stood"));
    assert_int_equal(f.close_code, ORR_UNREACHABLE);
    fix_fini(&f);

    open_with(&f, &o);
    orr__redis_client_tick(&f.client, f.now_ns + 10 * ms);
    assert_non_null(strstr(f.close_text, "first commands"));
    fix_fini(&f);
}

static void a_silent_server_is_asked_and_then_given_up(void **state)
{
    const orr_redis_options o = {.address = "h:1", .keepalive_ns = 20 * ms};
    redis_fix f;

    (void)state;
    open_with(&f, &o);
    fix_say(&f, FIX_MASTER);
    orr_buf_reset(&f.sent);
    f.now_ns += 20 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    fix_flush(&f);
    assert_sent(&f, "*1\r\n$4\r\nPING\r\n");
    fix_say(&f, "+PONG\r\n");
    f.now_ns += 19 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.client.ring_len, 0);
    f.now_ns += 1 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    fix_flush(&f);
    f.now_ns += 20 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.closed, 1);
    fix_fini(&f);
}

static void the_queue_is_bounded(void **state)
{
    const orr_redis_options small = {.address = "h:1", .queue_max = 256};
    char long_word[300];
    redis_fix f;
    int taken = 0;

    (void)state;
    open_ready(&f); /* requests_max 40 */
    while (fix_request(&f, "A", 0, 0) == ORR_OK)
        taken++;
    assert_int_equal(taken, 40);
    assert_int_equal(fix_request(&f, "A", 0, 0), ORR_OVERLOADED);
    fix_flush(&f);
    fix_say(&f, "+a\r\n");
    assert_int_equal(fix_request(&f, "A", 0, 0), ORR_OK);
    fix_fini(&f);

    open_with(&f, &small);
    fix_say(&f, FIX_MASTER);
    memset(long_word, 'a', sizeof long_word);
    long_word[299] = '\0';
    assert_int_equal(fix_request(&f, long_word, 0, 0), ORR_TOO_LARGE);
    long_word[100] = '\0';
    assert_int_equal(fix_request(&f, long_word, 0, 0), ORR_OK);
    assert_int_equal(fix_request(&f, long_word, 0, 0), ORR_OK);
    assert_int_equal(fix_request(&f, long_word, 0, 0), ORR_OVERLOADED);
    fix_flush(&f);
    assert_int_equal(fix_request(&f, long_word, 0, 0), ORR_OK);
    fix_fini(&f);
}

static void a_subscriber_is_ready_when_every_channel_is(void **state)
{
    static const char *const channels[] = {"a", "b"};
    const orr_redis_options o = {.address = "h:1",
                                 .channels = channels,
                                 .channel_count = 2,
                                 .keepalive_ns = 20 * ms};
    redis_fix f;

    (void)state;
    open_with(&f, &o);
    fix_say(&f, FIX_MASTER);
    fix_say(&f, "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    fix_say(&f, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
    assert_int_equal(f.client.state, ORR_REDIS_SUBSCRIBE);
    assert_int_equal(f.messages, 1);
    fix_say(&f, "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
    assert_int_equal(f.ready, 1);
    assert_int_equal(fix_request(&f, "GET", 0, 0), ORR_EINVAL);
    fix_say(&f, "*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$2\r\nyy\r\n");
    assert_string_equal(f.message, "b=yy");
    /* Silence, a ping, its answer, silence. */
    f.now_ns += 20 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_not_equal(f.client.ping_ns, 0);
    fix_flush(&f);
    fix_say(&f, "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_int_equal(f.client.ping_ns, 0);
    f.now_ns += 20 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    f.now_ns += 20 * ms;
    orr__redis_client_tick(&f.client, f.now_ns);
    assert_int_equal(f.closed, 1);
    assert_non_null(strstr(f.close_text, "PING"));
    fix_fini(&f);

    open_with(&f, &o);
    fix_say(&f, FIX_MASTER "-NOPERM no channels\r\n");
    assert_int_equal(f.close_code, ORR_EACCES);
    fix_fini(&f);
}

static void options_that_cannot_work_are_refused(void **state)
{
    static const orr_redis_options bad[] = {
        {.address = NULL},
        {.address = "h:1", .user = "u"},
        {.address = "h:1", .name = "two words"},
        {.address = "h:1", .name = ""},
        {.address = "h:1", .role = 4},
        {.address = "h:1", .queue_max = 1ull << 40},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        redis_fix f;
        orr_error err = {0};
        assert_int_equal(fix_init(&f, &bad[i], &err), ORR_EINVAL);
        assert_true(strlen(err.text) > 10);
        assert_int_equal(f.opened, 0);
    }
}

static int outcome(const char *text, int is_script)
{
    return (int)orr__redis_error_outcome(text, strlen(text), is_script);
}

static void errors_tell_whether_anything_was_done(void **state)
{
    static const char *const never[] = {
        "NOSCRIPT No matching script. Please use EVAL.",
        "READONLY You can't write against a read only replica.",
        "READONLY You can't write against a read only replica. script: "
        "d8f2fad9f8e86a53d2a6ebd960b33c4972cacc37, on @user_script:1.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "OOM allow-oom flag is not set on the script, can not run it when used "
        "memory > 'maxmemory'",
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or "
        "SHUTDOWN NOSAVE.",
        "MISCONF Redis is configured to save RDB snapshots",
        "NOAUTH Authentication required.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "ERR unknown command 'evalsha'",
        "ERR Error compiling script (new function): user_script:1: '=' exp",
        NULL};
    static const char *const maybe[] = {
        "OOM command not allowed when used memory > 'maxmemory'. script: "
        "d8f2fad9f8e86a53d2a6ebd960b33c4972cacc37, on @user_script:1.",
        "WRONGTYPE Operation against a key script: d8f2, on @user_script:1.",
        "ERR Error running script: Script killed by user",
        "FENCED epoch 7",
        "ERR something of its own",
        "no code at all",
        NULL};

    (void)state;
    for (const char *const *t = never; *t != NULL; t++)
        if (outcome(*t, 1) != ORR_REDIS_NOT_APPLIED)
            fail_msg("%s", *t);
    for (const char *const *t = maybe; *t != NULL; t++) {
        if (outcome(*t, 1) != ORR_REDIS_UNKNOWN)
            fail_msg("%s", *t);
        assert_int_equal(outcome(*t, 0), ORR_REDIS_NOT_APPLIED);
    }
}

static void the_word_of_an_error_is_its_code(void **state)
{
    char word[ORR_REDIS_WORD_MAX + 1];

    (void)state;
    orr__redis_error_word("READONLY You", 12, word);
    assert_string_equal(word, "READONLY");
    orr__redis_error_word("OOM", 3, word);
    assert_string_equal(word, "OOM");
    orr__redis_error_word("The end", 7, word);
    assert_string_equal(word, "");
    orr__redis_error_word("", 0, word);
    assert_string_equal(word, "");
}

/* An error of a script inside of a script's request is classified as such. */
static void requests_know_whether_they_run_a_script(void **state)
{
    const orr_redis_arg args[] = {{"evalSHA", 7}, {"x", 1}, {"0", 1}};
    redis_fix f;

    (void)state;
    open_ready(&f);
    orr__redis_client_request(&f.client, 3, args, 0, f.now_ns, fix_done, &f, 0);
    fix_request(&f, "GET", 0, 1);
    fix_flush(&f);
    fix_say(&f, "-FENCED 7\r\n-FENCED 7\r\n");
    assert_result(&f, 0, ORR_REMOTE, ORR_REDIS_UNKNOWN, "FENCED");
    assert_result(&f, 1, ORR_REMOTE, ORR_REDIS_NOT_APPLIED, "FENCED");
    fix_fini(&f);
}

/* The n-th allocation fails: no crash, no leak, every request has one end. */
static void without_memory_nothing_is_lost(void **state)
{
    const orr_redis_options o = {.address = "h:1", .password = "p"};
    uint64_t live = orr_alloc_live();

    (void)state;
    for (uint64_t n = 1; n < 40; n++) {
        redis_fix f;
        orr_error err;
        int taken = 0;

        orr_alloc_fail_at(n);
        if (fix_init(&f, &o, &err) != ORR_OK) {
            orr_alloc_fail_at(0);
            assert_int_equal(err.code, ORR_ENOMEM);
            assert_int_equal(orr_alloc_live(), live);
            continue;
        }
        for (int i = 0; i < 40; i++)
            taken += fix_request(&f, "A", 0, 0) == ORR_OK;
        orr_alloc_fail_at(0);
        assert_true(taken >= 39);
        orr__redis_client_connected(&f.client, f.now_ns);
        fix_say(&f, "+OK\r\n" FIX_MASTER);
        fix_flush(&f);
        for (int i = 0; i < taken; i++)
            fix_say(&f, "+a\r\n");
        assert_int_equal(f.results, taken);
        assert_int_equal(f.closed, 0);
        fix_fini(&f);
        assert_int_equal(orr_alloc_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_handshake_goes_out_in_one_piece),
        cmocka_unit_test(a_handshake_that_fails_says_why),
        cmocka_unit_test(a_server_without_a_name_or_a_role_will_do),
        cmocka_unit_test(requests_before_ready_wait_for_it),
        cmocka_unit_test(replies_come_in_the_order_of_requests),
        cmocka_unit_test(an_end_at_any_byte_tells_what_is_unknown),
        cmocka_unit_test(what_a_slow_stream_borrows_counts_as_sent),
        cmocka_unit_test(garbage_between_replies_ends_what_is_under_way),
        cmocka_unit_test(a_request_out_of_time_ends_the_connection),
        cmocka_unit_test(deadlines_of_answered_requests_mean_nothing),
        cmocka_unit_test(a_server_that_stalls_at_the_start_is_given_up),
        cmocka_unit_test(a_silent_server_is_asked_and_then_given_up),
        cmocka_unit_test(the_queue_is_bounded),
        cmocka_unit_test(a_subscriber_is_ready_when_every_channel_is),
        cmocka_unit_test(options_that_cannot_work_are_refused),
        cmocka_unit_test(errors_tell_whether_anything_was_done),
        cmocka_unit_test(the_word_of_an_error_is_its_code),
        cmocka_unit_test(requests_know_whether_they_run_a_script),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
