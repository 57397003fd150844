/* The scanner of RESP2: every split, every border, every lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hiredis/hiredis.h>

#include "redis/scanner.h"

/* Scans text in pieces of n bytes; answers the last code and the bytes found
 * good. Stops at the end of a reply. */
static int scan_in(const char *text, size_t len, size_t n, size_t *good,
                   orr_error *err)
{
    orr__redis_scanner s = {0};
    int rc = ORR_EMORE;

    *good = 0;
    while (*good < len && rc == ORR_EMORE) {
        size_t piece = len - *good < n ? len - *good : n, used;
        rc = orr__redis_scan(&s, (const uint8_t *)text + *good, piece, &used,
                             err);
        *good += used;
        if (rc == ORR_EMORE)
            assert_int_equal(used, piece);
    }
    return rc;
}

#define assert_whole(text) check_whole(text, sizeof(text) - 1)
static void check_whole(const char *text, size_t len)
{
    orr_error err;
    size_t good;

    for (size_t n = 1; n <= len; n++) {
        assert_int_equal(scan_in(text, len, n, &good, &err), ORR_OK);
        assert_int_equal(good, len);
    }
    /* No part of it is whole. */
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(scan_in(text, n, 3, &good, &err), ORR_EMORE);
        assert_int_equal(good, n);
    }
}

/* Refused at byte `at`, however it is cut. */
#define assert_refused(text, code, at, part)                                   \
    check_refused(text, sizeof(text) - 1, code, at, part)
static void check_refused(const char *text, size_t len, int code, size_t at,
                          const char *part)
{
    for (size_t n = 1; n <= len; n++) {
        orr_error err = {0};
        size_t good;
        int rc = scan_in(text, len, n, &good, &err);

        if (rc != code || good != at || strstr(err.text, part) == NULL)
            fail_msg("%s in pieces of %zu: %d at %zu: %s", text, n, rc, good,
                     err.text);
    }
}

static void replies_are_whole_at_their_last_byte_only(void **state)
{
    (void)state;
    assert_whole("+OK\r\n");
    assert_whole("+\r\n");
    assert_whole("-ERR no\r\n");
    assert_whole(":0\r\n");
    assert_whole(":-1\r\n");
    assert_whole(":9223372036854775807\r\n");
    assert_whole(":-9223372036854775808\r\n");
    assert_whole("$0\r\n\r\n");
    assert_whole("$-1\r\n");
    assert_whole("*-1\r\n");
    assert_whole("*0\r\n");
    assert_whole("$5\r\na\r\nb\n\r\n");
    assert_whole("*3\r\n$1\r\nx\r\n:7\r\n*2\r\n$-1\r\n-ERR in\r\n");
    assert_whole("*2\r\n*0\r\n*1\r\n*-1\r\n");
}

static void what_follows_a_reply_is_left_alone(void **state)
{
    const uint8_t text[] = "+a\r\n:1\r\n";
    orr__redis_scanner s = {0};
    orr_error err;
    size_t used;

    (void)state;
    assert_int_equal(orr__redis_scan(&s, text, 8, &used, &err), ORR_OK);
    assert_int_equal(used, 4);
    assert_int_equal(orr__redis_scan(&s, text + 4, 4, &used, &err), ORR_OK);
    assert_int_equal(used, 4);
    assert_int_equal(orr__redis_scan(&s, text, 0, &used, &err), ORR_EMORE);
    assert_int_equal(used, 0);
}

static void lies_are_refused_at_their_byte(void **state)
{
    (void)state;
    assert_refused("HTTP/1.1", ORR_EPROTO, 0, "0x48 at 0");
    assert_refused("\r\n", ORR_EPROTO, 0, "type is expected");
    assert_refused("+a\nb", ORR_EPROTO, 2, "CR LF");
    assert_refused("+a\rb", ORR_EPROTO, 3, "LF must follow");
    assert_refused(":\r\n", ORR_EPROTO, 1, "whole number");
    assert_refused(":+1\r\n", ORR_EPROTO, 1, "whole number");
    assert_refused(":--1\r\n", ORR_EPROTO, 2, "whole number");
    assert_refused(":-0\r\n", ORR_EPROTO, 2, "whole number");
    assert_refused(":01\r\n", ORR_EPROTO, 2, "whole number");
    assert_refused(":1 \r\n", ORR_EPROTO, 2, "whole number");
    assert_refused(":9223372036854775808\r\n", ORR_EPROTO, 19, "64 bits");
    assert_refused(":-9223372036854775809\r\n", ORR_EPROTO, 20, "64 bits");
    assert_refused("$-2\r\n", ORR_EPROTO, 4, "size of -2");
    assert_refused("*-2\r\n", ORR_EPROTO, 4, "size of -2");
    assert_refused("$1\r\nab\r\n", ORR_EPROTO, 5, "CR must follow");
    assert_refused("$1\r\na\rb", ORR_EPROTO, 6, "LF must follow");
    assert_refused("$0\r\nab", ORR_EPROTO, 4, "CR must follow");
    assert_refused("*1\r\n\r\n", ORR_EPROTO, 4, "type is expected");
}

static void the_types_of_resp3_are_refused_by_name(void **state)
{
    static const char types[] = "_,#!=(%~>|";
    orr__redis_scanner s;
    orr_error err;
    size_t used;

    (void)state;
    for (const char *t = types; *t != '\0'; t++) {
        memset(&s, 0, sizeof s);
        assert_int_equal(
            orr__redis_scan(&s, (const uint8_t *)t, 1, &used, &err),
            ORR_EPROTO);
        assert_non_null(strstr(err.text, "RESP3"));
        /* It stays refused. */
        assert_int_equal(
            orr__redis_scan(&s, (const uint8_t *)"+", 1, &used, &err),
            ORR_EPROTO);
        assert_int_equal(used, 0);
    }
}

static void declared_sizes_are_held_to_the_limits(void **state)
{
    (void)state;
    assert_refused("*65537\r\n", ORR_TOO_LARGE, 7, "array of 65537");
    assert_refused("*4294967296\r\n", ORR_TOO_LARGE, 12, "array of");
    assert_refused("$67108865\r\n", ORR_TOO_LARGE, 10, "bulk string of");
    assert_refused("$9223372036854775807\r\n", ORR_TOO_LARGE, 21, "bulk");
    assert_refused("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
                   ORR_TOO_LARGE, 31, "deeper than 7");
    assert_whole("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n");
}

static void the_largest_array_is_taken(void **state)
{
    size_t len = 8 + 65536 * 4, good;
    char *text = malloc(len);
    orr_error err;

    (void)state;
    memcpy(text, "*65536\r\n", 8);
    for (size_t i = 0; i < 65536; i++)
        memcpy(text + 8 + i * 4, ":1\r\n", 4);
    assert_int_equal(scan_in(text, len, 1000, &good, &err), ORR_OK);
    assert_int_equal(good, len);
    free(text);
}

static void a_line_without_an_end_is_cut_off(void **state)
{
    size_t len = ORR_REDIS_LINE_MAX + 2, good;
    char *text = malloc(len + 1);
    orr_error err;

    (void)state;
    for (size_t n = 1; n <= len; n += 21845) {
        memset(text, 'a', len);
        text[0] = '-';
        assert_int_equal(scan_in(text, len, n, &good, &err), ORR_TOO_LARGE);
        assert_int_equal(good, 1 + ORR_REDIS_LINE_MAX);
        /* One byte less is a line. */
        memcpy(text + 1 + ORR_REDIS_LINE_MAX, "\r\n", 2);
        assert_int_equal(scan_in(text, len + 1, n, &good, &err), ORR_OK);
    }
    free(text);
}

static void the_sum_of_all_values_is_bounded(void **state)
{
    orr__redis_scanner s = {0};
    orr_error err;
    size_t used;
    int rc, arrays = 0;

    (void)state;
    rc = orr__redis_scan(&s, (const uint8_t *)"*65536\r\n", 8, &used, &err);
    while (rc == ORR_EMORE && arrays++ < 100) {
        rc = orr__redis_scan(&s, (const uint8_t *)"*65000\r\n", 8, &used, &err);
        for (int i = 0; i < 65000 && rc == ORR_EMORE; i++)
            rc = orr__redis_scan(&s, (const uint8_t *)":1\r\n", 4, &used, &err);
    }
    assert_int_equal(rc, ORR_TOO_LARGE);
    assert_non_null(strstr(err.text, "values"));
    assert_int_equal(arrays, 16);
}

static void the_sum_of_all_bytes_is_bounded(void **state)
{
    static uint8_t zeros[1 << 16];
    orr__redis_scanner s = {0};
    orr_error err;
    size_t used;
    int rc = orr__redis_scan(&s, (const uint8_t *)"*3\r\n", 4, &used, &err);

    (void)state;
    assert_int_equal(rc, ORR_EMORE);
    rc = orr__redis_scan(&s, (const uint8_t *)"$67108864\r\n", 11, &used, &err);
    for (int i = 0; i < 1024; i++)
        rc = orr__redis_scan(&s, zeros, sizeof zeros, &used, &err);
    assert_int_equal(rc, ORR_EMORE);
    rc = orr__redis_scan(&s, (const uint8_t *)"\r\n$67108864\r\n", 13, &used,
                         &err);
    assert_int_equal(rc, ORR_TOO_LARGE);
    assert_int_equal(used, 12);
}

/* What the scanner lets through the reader takes, and both see the same end. */
static void the_reader_agrees_with_the_scanner(void **state)
{
    static const char *const texts[] = {
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "*2\r\n$-1\r\n*-1\r\n",
        ":-9223372036854775808\r\n",
        "$4\r\n\r\n\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        redisReader *reader = redisReaderCreate();
        size_t good;
        void *reply;
        orr_error err;

        assert_int_equal(scan_in(texts[i], strlen(texts[i]), 1, &good, &err),
                         ORR_OK);
        redisReaderFeed(reader, texts[i], good);
        assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
        assert_non_null(reply);
        freeReplyObject(reply);
        redisReaderFree(reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_whole_at_their_last_byte_only),
        cmocka_unit_test(what_follows_a_reply_is_left_alone),
        cmocka_unit_test(lies_are_refused_at_their_byte),
        cmocka_unit_test(the_types_of_resp3_are_refused_by_name),
        cmocka_unit_test(declared_sizes_are_held_to_the_limits),
        cmocka_unit_test(the_largest_array_is_taken),
        cmocka_unit_test(a_line_without_an_end_is_cut_off),
        cmocka_unit_test(the_sum_of_all_values_is_bounded),
        cmocka_unit_test(the_sum_of_all_bytes_is_bounded),
        cmocka_unit_test(the_reader_agrees_with_the_scanner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
