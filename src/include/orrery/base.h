/* Errors, memory, buffers, chance, clock and log: what everything else stands
 * on. Nothing here knows of loops, executors or Lua.
 *
 * Ownership words, used in every header: a function takes (the callee owns it
 * now), borrows (until it returns) or gives (the caller owns it now). On
 * failure nothing was taken.
 */
#ifndef ORRERY_BASE_H
#define ORRERY_BASE_H

#include <stddef.h>
#include <stdint.h>

/* ffi:begin */
/* Changes with every change of a shared declaration; see orr_abi(). */
enum { ORR_ABI_VERSION = 7 };

/* Result of a call. Codes from ORR_NOT_STARTED on are the outcomes of a remote
 * call: they travel in frames, so their numbers never change. */
typedef enum orr_code {
    ORR_OK = 0,
    ORR_ENOMEM = -1,     /* an allocation failed */
    ORR_EINVAL = -2,     /* an argument is out of range */
    ORR_EPROTO = -3,     /* bytes from outside break the format */
    ORR_EIO = -4,        /* the operating system failed; see the text */
    ORR_ENOENT = -5,     /* no such thing */
    ORR_EEXIST = -6,     /* the name is taken */
    ORR_EADDRINUSE = -7, /* somebody listens there already */
    ORR_EACCES = -8,     /* no permission */
    ORR_ENOSPC = -9,     /* the disk is full */
    ORR_ECLOSED = -10,   /* used after close */
    ORR_EAGAIN = -11,    /* not now; nothing was done */
    ORR_EMORE = -12,     /* more bytes are needed */

    ORR_NOT_STARTED = -32,        /* the endpoint exists but is not started */
    ORR_UNREACHABLE = -33,        /* no such endpoint, or no way to its host */
    ORR_FENCED = -34,             /* wrong or missing fencing token */
    ORR_NO_METHOD = -35,          /* the endpoint lacks the method */
    ORR_BAD_ARGUMENT = -36,       /* the arguments cannot be used */
    ORR_TOO_LARGE = -37,          /* body above the limit; both sizes told */
    ORR_OVERLOADED = -38,         /* the mailbox or the link is full */
    ORR_EXPIRED_IN_QUEUE = -39,   /* deadline passed in the mailbox */
    ORR_EXPIRED_IN_HANDLER = -40, /* deadline passed in the handler */
    ORR_CANCELLED = -41,          /* the caller gave up */
    ORR_CALLEE_DIED = -42,        /* the endpoint ended unanswered */
    ORR_VERSION_MISMATCH = -43,   /* protocol, cluster or gateway */
    ORR_REMOTE = -44,             /* the handler failed; see the cause */
    ORR_EXPIRED_UNSENT = -45,     /* deadline passed, no connection */
    ORR_EXPIRED_UNKNOWN = -46,    /* deadline passed, nobody knows where */
    ORR_ACCESS_DENIED = -47       /* the caller's certificate lacks the role */
} orr_code;

/* A sentence for people beside a code: what, on what, why. */
typedef struct orr_error {
    int32_t code;
    char text[252];
} orr_error;

/* A growable byte buffer; len <= cap <= max. Zeroed is a valid empty buffer
 * whose max is ORR_BUF_MAX_DEFAULT (64 MiB). */
typedef struct orr_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
} orr_buf;

/* Seeded chance: xoshiro256**. One seed decides all of it. */
typedef struct orr_chance {
    uint64_t s[4];
} orr_chance;

/* The text of the shared declarations, for ffi.cdef, and its version.
 * Thread: any. */
const char *orr_cdef(void);
int orr_abi(void);

/* Name of a code in lower case, as Lua sees it: "not_started". Thread: any. */
const char *orr_code_name(int code);

/* Fills err (may be NULL) by a printf format and answers code. Text that does
 * not fit is cut. Thread: any. */
int orr_error_set(orr_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* All memory of the core comes from here. orr_alloc_fail_at(n) makes the n-th
 * allocation from now on fail once (0: none); for tests. A block of no bytes
 * is a block: NULL always means failure. Thread: any; the n of fail_at counts
 * the allocations of all threads. */
void *orr_alloc(size_t size);
void *orr_calloc(size_t count, size_t size);
void *orr_realloc(void *p, size_t size);
void orr_free(void *p);
void orr_alloc_fail_at(uint64_t n);
uint64_t orr_alloc_count(void); /* allocations so far, failed ones too */
uint64_t orr_alloc_live(void);  /* blocks alive now; a leak check for tests */

/* Buffers. Answers ORR_OK, ORR_ENOMEM, or ORR_TOO_LARGE above max; on failure
 * the buffer is as it was. append borrows data, which must not be the buffer's
 * own. Thread: owner. */
int orr_buf_reserve(orr_buf *b, size_t more);
int orr_buf_append(orr_buf *b, const void *data, size_t len);
void orr_buf_reset(orr_buf *b); /* keeps the memory */
void orr_buf_free(orr_buf *b);  /* zeroes b */

/* fork takes one draw from c; what the child draws later does not touch c.
 * Thread: owner. */
void orr_chance_seed(orr_chance *c, uint64_t seed);
int orr_chance_seed_os(orr_chance *c); /* ORR_OK or ORR_EIO */
uint64_t orr_chance_next(orr_chance *c);
/* 0 .. bound-1, each as likely; 0 when bound is 0. */
uint64_t orr_chance_below(orr_chance *c, uint64_t bound);
double orr_chance_real(orr_chance *c); /* 0 <= x < 1 */
void orr_chance_fork(orr_chance *c, orr_chance *child);
void orr_chance_bytes(orr_chance *c, uint8_t *out, size_t len);

/* The system's clocks. Only real drivers call them. Thread: any. */
uint64_t orr_clock_mono_ns(void);
uint64_t orr_clock_wall_ms(void);

/* crc is 0, or the result for the bytes before these. Thread: any. */
uint32_t orr_crc32c(uint32_t crc, const void *data, size_t len);
/* out: 32 bytes. Answers ORR_OK or ORR_EIO. Thread: any. */
int orr_sha256(const void *data, size_t len, uint8_t *out);
/* What OpenSSL calls itself. Thread: any. */
const char *orr_crypto_version(void);

/* Log lines: time, level, component, text; control characters are escaped, a
 * line above 4096 bytes is cut. At first level WARN, to standard error.
 * Thread: any. */
typedef enum orr_log_level {
    ORR_LOG_DEBUG = 0,
    ORR_LOG_INFO = 1,
    ORR_LOG_WARN = 2,
    ORR_LOG_ERROR = 3,
    ORR_LOG_OFF = 4
} orr_log_level;
void orr_log_set_level(int level);
int orr_log_level_get(void);
/* Appends to the file from now on, NULL: to standard error. The same path again
 * opens it anew, for rotation; back to NULL only when no other thread logs.
 * Answers ORR_OK, ORR_ENOENT, ORR_EACCES, ORR_EINVAL, ORR_ENOSPC, ORR_ENOMEM
 * or ORR_EIO. */
int orr_log_set_file(const char *path);
void orr_log_write(int level, const char *component, const char *text);
/* ffi:end */

/* printf form for C callers. */
void orr_logf(int level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

enum { ORR_BUF_MAX_DEFAULT = 64 << 20 };

/* Blocks of malloc from ORR_LARGE_MIN bytes on; see base/large.c. realloc gives
 * a larger one (p may be NULL, or small), NULL without memory. orr_realloc and
 * orr_free use them; this is for who counts memory of its own. Thread: any. */
enum { ORR_LARGE_MIN = 4 << 20 };
void *orr_large_realloc(void *p, size_t size);
void orr_large_free(void *p);

#endif
