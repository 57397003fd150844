/* Codes and errors, clocks, SHA-256. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "orrery/base.h"

static void every_code_has_a_name_of_its_own(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
    } all[] = {
        {ORR_OK, "ok"},
        {ORR_ENOMEM, "no_memory"},
        {ORR_EINVAL, "invalid"},
        {ORR_EPROTO, "protocol"},
        {ORR_EIO, "io"},
        {ORR_ENOENT, "not_found"},
        {ORR_EEXIST, "exists"},
        {ORR_EADDRINUSE, "address_in_use"},
        {ORR_EACCES, "permission_denied"},
        {ORR_ENOSPC, "disk_full"},
        {ORR_ECLOSED, "closed"},
        {ORR_EAGAIN, "again"},
        {ORR_EMORE, "more"},
        {ORR_NOT_STARTED, "not_started"},
        {ORR_UNREACHABLE, "unreachable"},
        {ORR_FENCED, "fenced"},
        {ORR_NO_METHOD, "no_method"},
        {ORR_BAD_ARGUMENT, "bad_argument"},
        {ORR_TOO_LARGE, "too_large"},
        {ORR_OVERLOADED, "overloaded"},
        {ORR_EXPIRED_IN_QUEUE, "expired_in_queue"},
        {ORR_EXPIRED_IN_HANDLER, "expired_in_handler"},
        {ORR_CANCELLED, "cancelled"},
        {ORR_CALLEE_DIED, "callee_died"},
        {ORR_VERSION_MISMATCH, "version_mismatch"},
        {ORR_REMOTE, "remote"},
        {ORR_EXPIRED_UNSENT, "expired_unsent"},
        {ORR_EXPIRED_UNKNOWN, "expired_unknown"},
        {ORR_ACCESS_DENIED, "access_denied"},
    };
    size_t n = sizeof all / sizeof *all;
    for (size_t i = 0; i < n; i++)
        assert_string_equal(orr_code_name(all[i].code), all[i].name);
    /* No code beside these has a name. */
    size_t named = 0;
    for (int code = -1000; code <= 1000; code++)
        named += strcmp(orr_code_name(code), "unknown") != 0;
    assert_int_equal(named, n);
}

static void outcomes_keep_their_numbers(void **state)
{
    (void)state;
    assert_int_equal(ORR_NOT_STARTED, -32);
    assert_int_equal(ORR_EXPIRED_UNKNOWN, -46);
}

static void an_error_gets_its_code_and_sentence(void **state)
{
    (void)state;
    orr_error err = {0};
    int code = orr_error_set(&err, ORR_EIO, "%s: line %d", "a.lua", 7);
    assert_int_equal(code, ORR_EIO);
    assert_int_equal(err.code, ORR_EIO);
    assert_string_equal(err.text, "a.lua: line 7");
    assert_int_equal(orr_error_set(NULL, ORR_EINVAL, "%d", 1), ORR_EINVAL);
}

static void a_sentence_that_does_not_fit_is_cut(void **state)
{
    (void)state;
    orr_error err;
    int room = (int)sizeof err.text;
    orr_error_set(&err, ORR_EIO, "%*s", room - 1, "x");
    assert_int_equal(strlen(err.text), room - 1);
    assert_int_equal(err.text[room - 2], 'x');
    orr_error_set(&err, ORR_EIO, "%*s", room, "x");
    assert_int_equal(strlen(err.text), room - 1);
    assert_int_equal(err.text[room - 2], ' ');
}

static void the_monotonic_clock_never_goes_back(void **state)
{
    (void)state;
    uint64_t first = orr_clock_mono_ns(), last = first;
    for (int i = 0; i < 100000; i++) {
        uint64_t now = orr_clock_mono_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(last > first);
    assert_true(last - first < 60000000000u);
}

static void the_wall_clock_is_that_of_the_system(void **state)
{
    (void)state;
    uint64_t before = (uint64_t)time(NULL);
    uint64_t now = orr_clock_wall_ms() / 1000;
    assert_true(now + 1 >= before && now <= before + 60);
}

static void sha256_is(const char *hex, const void *data, size_t len)
{
    uint8_t out[32];
    char text[65] = "";
    assert_int_equal(orr_sha256(data, len, out), ORR_OK);
    for (int i = 0; i < 32; i++) {
        text[2 * i] = "0123456789abcdef"[out[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[out[i] & 15];
    }
    assert_string_equal(text, hex);
}

static void sha256_meets_the_vectors_of_fips_180(void **state)
{
    (void)state;
    const char *empty =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    sha256_is(empty, "", 0);
    sha256_is(empty, NULL, 0);
    sha256_is(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "abc", 3);
    sha256_is(
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_of_its_own),
        cmocka_unit_test(outcomes_keep_their_numbers),
        cmocka_unit_test(an_error_gets_its_code_and_sentence),
        cmocka_unit_test(a_sentence_that_does_not_fit_is_cut),
        cmocka_unit_test(the_monotonic_clock_never_goes_back),
        cmocka_unit_test(the_wall_clock_is_that_of_the_system),
        cmocka_unit_test(sha256_meets_the_vectors_of_fips_180),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
