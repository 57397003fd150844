/* Log lines. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "orrery/base.h"

enum { TIME_LEN = 24 }; /* 2026-11-21T03:53:40.123Z */

static char folder[64];
static char path[80];
static char content[1 << 20];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/orrery_log_XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/log", folder);
    return orr_log_set_file(path);
}

static int teardown(void **state)
{
    (void)state;
    orr_log_set_level(ORR_LOG_WARN);
    int rc = orr_log_set_file(NULL);
    unlink(path);
    return rc != ORR_OK || rmdir(folder) != 0;
}

static const char *read_file(const char *name)
{
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    size_t n = fread(content, 1, sizeof content - 1, f);
    fclose(f);
    content[n] = 0;
    return content;
}

/* The only line of the log without its time. */
static const char *only_line(void)
{
    const char *line = read_file(path);
    const char *end = strchr(line, '\n');
    assert_non_null(end);
    assert_int_equal(end[1], 0);
    assert_true(strlen(line) > TIME_LEN);
    return line + TIME_LEN;
}

/* In place of standard error from here on; answers the old one. */
static int stderr_to(const char *name)
{
    int old = dup(STDERR_FILENO);
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(old >= 0 && fd >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
    return old;
}

static void stderr_back(int old)
{
    dup2(old, STDERR_FILENO);
    close(old);
}

static void a_line_has_time_level_component_and_text(void **state)
{
    (void)state;
    orr_log_write(ORR_LOG_ERROR, "net", "lost b:1");
    assert_string_equal(only_line(), " ERROR net lost b:1\n");
    const char *shape = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (int i = 0; i < TIME_LEN; i++) {
        if (shape[i] == 'd')
            assert_in_range(content[i], '0', '9');
        else
            assert_int_equal(content[i], shape[i]);
    }
}

static void each_level_passes_itself_and_what_is_above(void **state)
{
    (void)state;
    static const char *names[] = {"DEBUG ", "INFO  ", "WARN  ", "ERROR "};
    for (int limit = ORR_LOG_DEBUG; limit <= ORR_LOG_OFF; limit++) {
        orr_log_set_level(limit);
        assert_int_equal(orr_log_level_get(), limit);
        for (int level = ORR_LOG_DEBUG; level <= ORR_LOG_OFF + 1; level++) {
            assert_int_equal(truncate(path, 0), 0);
            if (level % 2 == 0)
                orr_log_write(level, "c", "t");
            else
                orr_logf(level, "c", "%s", "t");
            if (level < limit || level >= ORR_LOG_OFF)
                assert_string_equal(read_file(path), "");
            else
                assert_memory_equal(only_line() + 1, names[level], 6);
        }
    }
}

static void levels_out_of_range_are_the_nearest(void **state)
{
    (void)state;
    orr_log_set_level(-5);
    assert_int_equal(orr_log_level_get(), ORR_LOG_DEBUG);
    orr_log_set_level(99);
    assert_int_equal(orr_log_level_get(), ORR_LOG_OFF);
    orr_log_set_level(ORR_LOG_DEBUG);
    orr_log_write(-1, "c", "t");
    assert_string_equal(only_line(), " DEBUG c t\n");
}

static void missing_parts_do_no_harm(void **state)
{
    (void)state;
    orr_log_write(ORR_LOG_WARN, NULL, NULL);
    assert_string_equal(only_line(), " WARN  - \n");
}

static void control_characters_are_escaped(void **state)
{
    (void)state;
    orr_log_write(ORR_LOG_WARN, "a\nb",
                  "1\n2\r3\t4\x1b[31m5\x7f"
                  "6\x01"
                  "7 \xc2\x9b"
                  "8");
    assert_string_equal(only_line(),
                        " WARN  a\\nb 1\\n2\\r3\\t4\\x1b[31m5\\x7f6\\x017 "
                        "\\u009b8\n");
}

static void other_text_stays_as_it_is(void **state)
{
    (void)state;
    const char *text = "\\ \" ~ \xc3\xa9 \xc2\xa0 \xe2\x86\x92 \xc2";
    char expected[64];
    snprintf(expected, sizeof expected, " WARN  c %s\n", text);
    orr_log_write(ORR_LOG_WARN, "c", text);
    assert_string_equal(only_line(), expected);
}

static void a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    enum { BEFORE = TIME_LEN + 9, LINE = 4096, ROOM = LINE - 7 - BEFORE };
    char text[LINE + 2];
    memset(text, 'x', sizeof text);
    text[ROOM] = 0;
    for (int above = 0; above <= 1; above++) {
        assert_int_equal(truncate(path, 0), 0);
        orr_log_write(ORR_LOG_WARN, "c", text);
        const char *line = only_line() - TIME_LEN;
        assert_int_equal(strlen(line), above ? LINE : LINE - 6);
        assert_int_equal(strstr(line, "x [cut]\n") != NULL, above);
        text[ROOM] = 'x';
        text[ROOM + 1] = 0;
    }
    memset(text, '\n', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(truncate(path, 0), 0);
    orr_logf(ORR_LOG_WARN, "c", "%s", text);
    assert_in_range(strlen(only_line()), LINE - 8 - TIME_LEN, LINE - TIME_LEN);
    assert_non_null(strstr(content, "\\n [cut]\n"));
}

static void a_long_component_is_cut(void **state)
{
    (void)state;
    char component[200];
    memset(component, 'c', sizeof component);
    component[sizeof component - 1] = 0;
    orr_log_write(ORR_LOG_WARN, component, "t");
    assert_int_equal(strlen(only_line()), strlen(" WARN  ") + 64 + 3);
}

static void the_same_path_again_follows_a_rotation(void **state)
{
    (void)state;
    char moved[96];
    snprintf(moved, sizeof moved, "%s.1", path);
    orr_log_write(ORR_LOG_WARN, "c", "one");
    assert_int_equal(rename(path, moved), 0);
    orr_log_write(ORR_LOG_WARN, "c", "two");
    assert_int_equal(orr_log_set_file(path), ORR_OK);
    orr_log_write(ORR_LOG_WARN, "c", "three");
    assert_string_equal(only_line(), " WARN  c three\n");
    /* Appends: what is there stays. */
    assert_int_equal(orr_log_set_file(path), ORR_OK);
    orr_log_write(ORR_LOG_WARN, "c", "four");
    assert_non_null(strstr(read_file(path), "three\n"));
    assert_non_null(strstr(content, "four\n"));
    read_file(moved);
    assert_non_null(strstr(content, "one\n"));
    assert_non_null(strstr(content, "two\n"));
    assert_int_equal(unlink(moved), 0);
}

static void a_file_that_cannot_be_opened_changes_nothing(void **state)
{
    (void)state;
    char bad[400];
    snprintf(bad, sizeof bad, "%s/none/log", folder);
    assert_int_equal(orr_log_set_file(bad), ORR_ENOENT);
    snprintf(bad, sizeof bad, "%s/x", path);
    assert_int_equal(orr_log_set_file(bad), ORR_ENOENT);
    assert_int_equal(orr_log_set_file(folder), ORR_EINVAL);
    memset(bad, 'n', sizeof bad - 1);
    bad[sizeof bad - 1] = 0;
    assert_int_equal(orr_log_set_file(bad), ORR_EINVAL);
    orr_log_write(ORR_LOG_WARN, "c", "still here");
    assert_string_equal(only_line(), " WARN  c still here\n");
}

static void a_forbidden_file_is_an_access_error(void **state)
{
    (void)state;
    if (geteuid() == 0)
        skip();
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(orr_log_set_file(path), ORR_EACCES);
}

static void a_full_disk_sends_lines_to_standard_error(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(orr_log_set_file("/dev/full"), ORR_OK);
    int old = stderr_to(path);
    orr_log_write(ORR_LOG_WARN, "c", "kept");
    stderr_back(old);
    assert_string_equal(only_line(), " WARN  c kept\n");
}

static void lines_that_reach_nobody_are_counted_and_told(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(orr_log_set_file("/dev/full"), ORR_OK);
    int old = stderr_to("/dev/full");
    orr_log_write(ORR_LOG_WARN, "c", "gone");
    orr_log_write(ORR_LOG_WARN, "c", "gone as well");
    stderr_back(old);
    assert_int_equal(orr_log_set_file(path), ORR_OK);
    orr_log_write(ORR_LOG_WARN, "c", "back");
    orr_log_write(ORR_LOG_WARN, "c", "and on");
    read_file(path);
    assert_non_null(strstr(content, " WARN  c back\n"));
    assert_non_null(
        strstr(content, " ERROR log lines that could not be written: 2\n"));
    assert_non_null(strstr(content, "and on\n"));
    assert_null(strstr(strstr(content, "written: 2") + 1, "written"));
}

enum { THREADS = 4, LINES = 1000 };

static void *write_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        orr_logf(ORR_LOG_WARN, "thread", "%s line %d of many", (char *)arg, i);
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    static char *names[THREADS] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int next[THREADS] = {0};
    read_file(path);
    char *rest = content;
    for (int n = 0; n < THREADS * LINES; n++) {
        char name, tail[8];
        int number;
        assert_int_equal(sscanf(rest + TIME_LEN,
                                " WARN  thread %c line %d of %5s", &name,
                                &number, tail),
                         3);
        assert_string_equal(tail, "many");
        assert_int_equal(number, next[name - 'a']++);
        rest = strchr(rest, '\n') + 1;
    }
    assert_string_equal(rest, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_line_has_time_level_component_and_text),
        TEST(each_level_passes_itself_and_what_is_above),
        TEST(levels_out_of_range_are_the_nearest),
        TEST(missing_parts_do_no_harm),
        TEST(control_characters_are_escaped),
        TEST(other_text_stays_as_it_is),
        TEST(a_long_line_is_cut_and_says_so),
        TEST(a_long_component_is_cut),
        TEST(the_same_path_again_follows_a_rotation),
        TEST(a_file_that_cannot_be_opened_changes_nothing),
        TEST(a_forbidden_file_is_an_access_error),
        TEST(a_full_disk_sends_lines_to_standard_error),
        TEST(lines_that_reach_nobody_are_counted_and_told),
        TEST(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
