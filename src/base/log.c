/* Log lines: `2026-11-21T03:53:40.123Z INFO  component text`.
 *
 * A line is one write(2) of at most LINE_MAX_BYTES. That is PIPE_BUF on Linux:
 * lines of several threads and processes do not mix, in files (O_APPEND) and
 * in pipes. What does not fit is cut, and the line says so.
 *
 * Failures: a file that cannot be written sends the line to standard error; a
 * line that reaches nobody is counted, and the next line that gets through is
 * followed by one that tells how many were lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "orrery/base.h"

enum {
    LINE_MAX_BYTES = 4096,
    COMPONENT_MAX = 64,
    ESCAPE_MAX = 6 /* \u009b */
};

static const char cut_mark[] = " [cut]";

static _Atomic int threshold = ORR_LOG_WARN;
static _Atomic int sink = STDERR_FILENO;
static _Atomic uint64_t lost;

typedef struct line {
    char data[LINE_MAX_BYTES];
    size_t len;
} line;

void orr_log_set_level(int level)
{
    if (level < ORR_LOG_DEBUG)
        level = ORR_LOG_DEBUG;
    if (level > ORR_LOG_OFF)
        level = ORR_LOG_OFF;
    atomic_store_explicit(&threshold, level, memory_order_relaxed);
}

int orr_log_level_get(void)
{
    return atomic_load_explicit(&threshold, memory_order_relaxed);
}

static int code_of_errno(int e)
{
    switch (e) {
    case EACCES:
    case EPERM:
    case EROFS: return ORR_EACCES;
    case ENOENT:
    case ENOTDIR: return ORR_ENOENT;
    case EISDIR:
    case EINVAL:
    case ELOOP:
    case ENAMETOOLONG: return ORR_EINVAL;
    case ENOSPC:
    case EDQUOT: return ORR_ENOSPC;
    case ENOMEM: return ORR_ENOMEM;
    default: return ORR_EIO;
    }
}

/* Replacing a file keeps the number of its descriptor, so a thread that is
 * about to write writes to the old or to the new file, never to a stranger. */
int orr_log_set_file(const char *path)
{
    int old = atomic_load(&sink);
    if (path == NULL) {
        atomic_store(&sink, STDERR_FILENO);
        if (old != STDERR_FILENO)
            close(old);
        return ORR_OK;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return code_of_errno(errno);
    if (old == STDERR_FILENO) {
        atomic_store(&sink, fd);
        return ORR_OK;
    }
    int rc = dup3(fd, old, O_CLOEXEC) < 0 ? code_of_errno(errno) : ORR_OK;
    close(fd);
    return rc;
}

static void line_time(line *l)
{
    uint64_t ms = orr_clock_wall_ms();
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    gmtime_r(&seconds, &t);
    l->len = strftime(l->data, sizeof l->data, "%Y-%m-%dT%H:%M:%S", &t);
    l->len += (size_t)snprintf(l->data + l->len, sizeof l->data - l->len,
                               ".%03uZ ", (unsigned)(ms % 1000));
}

/* Writes the escape of the character at p, if it needs one, and answers how
 * many bytes it took from p; 0: none is needed. Control characters are those
 * of ASCII, and U+0080 to U+009F in UTF-8: terminals obey these as well. */
static size_t escape(const unsigned char *p, char out[ESCAPE_MAX + 1])
{
    if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
        snprintf(out, ESCAPE_MAX + 1, "\\u%04x", p[1]);
        return 2;
    }
    if (*p >= 0x20 && *p != 0x7f)
        return 0;
    const char *short_form = *p == '\n'   ? "\\n"
                             : *p == '\r' ? "\\r"
                             : *p == '\t' ? "\\t"
                                          : NULL;
    if (short_form != NULL)
        snprintf(out, ESCAPE_MAX + 1, "%s", short_form);
    else
        snprintf(out, ESCAPE_MAX + 1, "\\x%02x", *p);
    return 1;
}

/* Appends text escaped, up to the position end. Answers 0 if it was cut. */
static int line_text(line *l, const char *text, size_t end)
{
    const unsigned char *p = (const unsigned char *)text;
    while (*p != 0) {
        char out[ESCAPE_MAX + 1];
        size_t used = escape(p, out);
        size_t n = used == 0 ? 1 : strlen(out);
        if (l->len + n > end)
            return 0;
        memcpy(l->data + l->len, used == 0 ? (const char *)p : out, n);
        l->len += n;
        p += used == 0 ? 1 : used;
    }
    return 1;
}

/* Answers 0 or an errno. A line is almost never written in parts; then the
 * rest follows at once. */
static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int line_send(const line *l)
{
    int fd = atomic_load_explicit(&sink, memory_order_relaxed);
    int e = write_all(fd, l->data, l->len);
    if (e != 0 && fd != STDERR_FILENO)
        e = write_all(STDERR_FILENO, l->data, l->len);
    return e;
}

static void line_make(line *l, int level, const char *component,
                      const char *text)
{
    static const char names[][7] = {"DEBUG ", "INFO  ", "WARN  ", "ERROR "};
    line_time(l);
    memcpy(l->data + l->len, names[level], 6);
    l->len += 6;
    line_text(l, component, l->len + COMPONENT_MAX);
    l->data[l->len++] = ' ';
    if (!line_text(l, text, LINE_MAX_BYTES - sizeof cut_mark)) {
        memcpy(l->data + l->len, cut_mark, sizeof cut_mark - 1);
        l->len += sizeof cut_mark - 1;
    }
    l->data[l->len++] = '\n';
}

static void report_lost(uint64_t n)
{
    char text[64];
    snprintf(text, sizeof text, "lines that could not be written: %llu",
             (unsigned long long)n);
    line l;
    line_make(&l, ORR_LOG_ERROR, "log", text);
    if (line_send(&l) != 0)
        atomic_fetch_add(&lost, n);
}

static int is_wanted(int level)
{
    return level >= orr_log_level_get() && level < ORR_LOG_OFF;
}

void orr_log_write(int level, const char *component, const char *text)
{
    if (level < ORR_LOG_DEBUG)
        level = ORR_LOG_DEBUG;
    if (!is_wanted(level))
        return;
    line l;
    line_make(&l, level, component == NULL ? "-" : component,
              text == NULL ? "" : text);
    if (line_send(&l) != 0) {
        atomic_fetch_add(&lost, 1);
        return;
    }
    uint64_t n = atomic_load_explicit(&lost, memory_order_relaxed);
    if (n != 0 && (n = atomic_exchange(&lost, 0)) != 0)
        report_lost(n);
}

void orr_logf(int level, const char *component, const char *format, ...)
{
    if (!is_wanted(level))
        return;
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    orr_log_write(level, component, n < 0 ? format : text);
}
