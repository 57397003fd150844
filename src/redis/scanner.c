/* The scanner of RESP2; see scanner.h.
 *
 *   TYPE     the first byte of a value
 *   TEXT     a line of + or -, up to its CR
 *   SIGN     the first byte of a number: a minus or a digit
 *   DIGITS   the rest of it, up to its CR
 *   LINE_LF  the LF of either
 *   BULK     the bytes of a bulk string
 *   BULK_CR, BULK_LF   its end
 *   REFUSED  for ever
 *
 * Numbers are taken only in the form that Redis writes, because the reader is
 * strict about some of the others and careless about the rest.
 */
#include "redis/scanner.h"

#include <string.h>

typedef enum state {
    TYPE = 0,
    TEXT,
    SIGN,
    DIGITS,
    LINE_LF,
    BULK,
    BULK_CR,
    BULK_LF,
    REFUSED
} state;

enum { STEP_OK = 1 }; /* a step's answer beside codes: the byte was good */

static int refuse_byte(const orr__redis_scanner *s, uint8_t byte,
                       const char *wanted, orr_error *err)
{
    return orr_error_set(err, ORR_EPROTO,
                         "byte 0x%02x at %llu of a reply is no RESP2: %s", byte,
                         (unsigned long long)s->total, wanted);
}

static int step_type(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    if (byte == '\0' || strchr("+-:$*", byte) == NULL) {
        if (byte != '\0' && strchr("_,#!=(%~>|.", byte) != NULL)
            return refuse_byte(s, byte, "a type of RESP3, which was not asked",
                               err);
        return refuse_byte(s, byte, "a type is expected, one of + - : $ *",
                           err);
    }
    s->type = byte;
    s->line = 0;
    s->number = 0;
    s->negative = 0;
    s->state = byte == '+' || byte == '-' ? TEXT : SIGN;
    return STEP_OK;
}

static int step_text(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    if (byte == '\r') {
        s->state = LINE_LF;
        return STEP_OK;
    }
    if (byte == '\n')
        return refuse_byte(s, byte, "a line ends with CR LF", err);
    if (++s->line > ORR_REDIS_LINE_MAX)
        return orr_error_set(err, ORR_TOO_LARGE,
                             "a line of a reply has no end within %d bytes",
                             ORR_REDIS_LINE_MAX);
    return STEP_OK;
}

static int step_sign(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    if (byte == '-' && !s->negative) {
        s->negative = 1;
        return STEP_OK;
    }
    if (byte < '0' || byte > '9' || (byte == '0' && s->negative))
        return refuse_byte(s, byte, "a whole number is expected", err);
    s->number = (uint64_t)(byte - '0');
    s->state = DIGITS;
    return STEP_OK;
}

static int step_digits(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    uint64_t limit = (uint64_t)INT64_MAX + s->negative, digit;

    if (byte == '\r') {
        s->state = LINE_LF;
        return STEP_OK;
    }
    if (byte < '0' || byte > '9' || s->number == 0)
        return refuse_byte(s, byte, "a whole number ends with CR LF", err);
    digit = (uint64_t)(byte - '0');
    if (s->number > (limit - digit) / 10)
        return orr_error_set(err, ORR_EPROTO,
                             "a number of a reply is beyond 64 bits");
    s->number = s->number * 10 + digit;
    return STEP_OK;
}

/* A value is whole. Answers ORR_OK when the reply is. */
static int value_end(orr__redis_scanner *s)
{
    s->state = TYPE;
    while (s->depth > 0) {
        if (--s->left[s->depth - 1] > 0)
            return STEP_OK;
        s->depth--;
    }
    return ORR_OK;
}

static int refuse_size(const char *what, uint64_t size, uint64_t max,
                       orr_error *err)
{
    return orr_error_set(err, ORR_TOO_LARGE,
                         "a reply declares %s of %llu, the limit is %llu", what,
                         (unsigned long long)size, (unsigned long long)max);
}

static int bulk_begin(orr__redis_scanner *s, orr_error *err)
{
    if (s->number > ORR_REDIS_BULK_MAX)
        return refuse_size("a bulk string", s->number, ORR_REDIS_BULK_MAX, err);
    if (s->total + s->number + 3 > ORR_REDIS_TOTAL_MAX)
        return orr_error_set(err, ORR_TOO_LARGE,
                             "a reply has more than %d bytes in all",
                             ORR_REDIS_TOTAL_MAX);
    s->bulk_left = s->number;
    s->state = s->number > 0 ? BULK : BULK_CR;
    return STEP_OK;
}

static int array_begin(orr__redis_scanner *s, orr_error *err)
{
    if (s->number > ORR_REDIS_ARRAY_MAX)
        return refuse_size("an array", s->number, ORR_REDIS_ARRAY_MAX, err);
    if (s->depth == ORR_REDIS_DEPTH_MAX)
        return orr_error_set(err, ORR_TOO_LARGE,
                             "a reply has arrays deeper than %d",
                             ORR_REDIS_DEPTH_MAX);
    s->nodes += (uint32_t)s->number;
    if (s->nodes > ORR_REDIS_NODES_MAX)
        return orr_error_set(err, ORR_TOO_LARGE,
                             "a reply has more than %d values",
                             ORR_REDIS_NODES_MAX);
    if (s->number == 0)
        return value_end(s);
    s->left[s->depth++] = (uint32_t)s->number;
    s->state = TYPE;
    return STEP_OK;
}

static int step_line_lf(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    if (byte != '\n')
        return refuse_byte(s, byte, "LF must follow CR", err);
    if (s->type != '$' && s->type != '*')
        return value_end(s);
    if (s->negative && s->number != 1)
        return orr_error_set(err, ORR_EPROTO,
                             "a reply declares a size of -%llu",
                             (unsigned long long)s->number);
    if (s->negative)
        return value_end(s); /* nil */
    return s->type == '$' ? bulk_begin(s, err) : array_begin(s, err);
}

static int step(orr__redis_scanner *s, uint8_t byte, orr_error *err)
{
    switch ((state)s->state) {
    case TYPE: return step_type(s, byte, err);
    case TEXT: return step_text(s, byte, err);
    case SIGN: return step_sign(s, byte, err);
    case DIGITS: return step_digits(s, byte, err);
    case LINE_LF: return step_line_lf(s, byte, err);
    case BULK_CR:
        s->state = BULK_LF;
        return byte == '\r'
                   ? STEP_OK
                   : refuse_byte(s, byte, "CR must follow a bulk string", err);
    case BULK_LF:
        return byte == '\n' ? value_end(s)
                            : refuse_byte(s, byte, "LF must follow CR", err);
    case BULK:
    case REFUSED: break;
    }
    return orr_error_set(err, ORR_EPROTO, "the replies before were refused");
}

/* The bytes at data that belong to a bulk string or to the text of a line, as
 * far as they can be taken at once. */
static size_t run(orr__redis_scanner *s, const uint8_t *data, size_t len)
{
    size_t n = 0;

    if (s->state == BULK) {
        n = len < s->bulk_left ? len : (size_t)s->bulk_left;
        s->bulk_left -= n;
        if (s->bulk_left == 0)
            s->state = BULK_CR;
    } else if (s->state == TEXT) {
        size_t room = ORR_REDIS_LINE_MAX - s->line;
        while (n < len && n < room && data[n] != '\r' && data[n] != '\n')
            n++;
        s->line += (uint32_t)n;
    }
    s->total += n;
    return n;
}

int orr__redis_scan(orr__redis_scanner *s, const uint8_t *data, size_t len,
                    size_t *used, orr_error *err)
{
    size_t at = 0;
    int rc;

    for (;;) {
        at += run(s, data + at, len - at);
        *used = at;
        if (at == len)
            return ORR_EMORE;
        if (s->total >= ORR_REDIS_TOTAL_MAX)
            rc = orr_error_set(err, ORR_TOO_LARGE,
                               "a reply has more than %d bytes in all",
                               ORR_REDIS_TOTAL_MAX);
        else
            rc = step(s, data[at], err);
        if (rc < 0) {
            s->state = REFUSED;
            return rc;
        }
        s->total++;
        at++;
        if (rc == ORR_OK) {
            *used = at;
            memset(s, 0, sizeof *s);
            return ORR_OK;
        }
    }
}
