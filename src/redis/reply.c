/* What a reply means; see reply.h.
 *
 * An error as the direct answer to a plain command proves that the command did
 * nothing: Redis looks before it writes. With a script it depends on where the
 * error came from. Before the script ran (NOSCRIPT, NOAUTH, a full memory that
 * the script is not allowed to use): nothing was done. From inside: writes that
 * came before it stay, so the outcome is unknown, unless the error is one that
 * every write of that server would have met.
 */
#include "redis/reply.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

void orr__redis_error_word(const char *text, size_t len,
                           char out[ORR_REDIS_WORD_MAX + 1])
{
    size_t n = 0;

    while (n < len && n < ORR_REDIS_WORD_MAX &&
           ((text[n] >= 'A' && text[n] <= 'Z') ||
            (n > 0 && text[n] >= '0' && text[n] <= '9') || text[n] == '_')) {
        out[n] = text[n];
        n++;
    }
    /* A sentence that begins with a capital letter is no code. */
    if (n < 2 || (n < len && text[n] != ' '))
        n = 0;
    out[n] = '\0';
}

static int is_one_of(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

static int contains(const char *text, size_t len, const char *part)
{
    size_t n = strlen(part);

    for (size_t i = 0; i + n <= len; i++)
        if (memcmp(text + i, part, n) == 0)
            return 1;
    return 0;
}

/* The server ran the script and tells where in it. */
static int is_from_inside(const char *text, size_t len)
{
    return contains(text, len, " script: ") || contains(text, len, "@user_") ||
           contains(text, len, "Error running script");
}

/* ERR is also the word of errors that a script makes itself. These are the ones
 * of the server before it runs one. */
static int is_refused_call(const char *text, size_t len)
{
    static const char *const beginnings[] = {"ERR unknown command",
                                             "ERR wrong number of arguments",
                                             "ERR Number of keys",
                                             "ERR value is not an integer",
                                             "ERR Error compiling script",
                                             "ERR Function not found",
                                             NULL};

    for (const char *const *b = beginnings; *b != NULL; b++)
        if (len >= strlen(*b) && memcmp(text, *b, strlen(*b)) == 0)
            return 1;
    return 0;
}

orr_redis_outcome orr__redis_error_outcome(const char *text, size_t len,
                                           int is_script)
{
    /* Met by every write of a server in that state. */
    static const char *const every_write[] = {"READONLY", "MISCONF",
                                              "NOREPLICAS", "MASTERDOWN", NULL};
    /* Of the server itself, never of a script, when not from inside. */
    static const char *const before_script[] = {
        "OOM",      "LOADING",   "BUSY",        "NOSCRIPT", "NOAUTH",
        "NOPERM",   "WRONGPASS", "CLUSTERDOWN", "MOVED",    "ASK",
        "TRYAGAIN", "CROSSSLOT", "DENIED",      NULL};
    char word[ORR_REDIS_WORD_MAX + 1];

    if (!is_script)
        return ORR_REDIS_NOT_APPLIED;
    orr__redis_error_word(text, len, word);
    if (is_one_of(word, every_write) || is_refused_call(text, len))
        return ORR_REDIS_NOT_APPLIED;
    if (is_from_inside(text, len))
        return ORR_REDIS_UNKNOWN;
    return is_one_of(word, before_script) ? ORR_REDIS_NOT_APPLIED
                                          : ORR_REDIS_UNKNOWN;
}

static int pack_error_value(orr_buf *b, const redisReply *reply)
{
    int rc = orr_pack_map(b, 1);

    if (rc == ORR_OK)
        rc = orr_pack_str(b, "error", 5);
    return rc == ORR_OK ? orr_pack_str(b, reply->str, reply->len) : rc;
}

static int pack_array(orr_buf *b, const redisReply *reply)
{
    int rc = orr_pack_array(b, (uint32_t)reply->elements);

    for (size_t i = 0; i < reply->elements && rc == ORR_OK; i++) {
        const redisReply *item = reply->element[i];
        rc = item->type == REDIS_REPLY_NIL ? orr_pack_bool(b, 0)
                                           : orr__redis_pack_reply(b, item);
    }
    return rc;
}

/* The scanner bounds the depth. */
int orr__redis_pack_reply(orr_buf *b, const redisReply *reply)
{
    switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS: return orr_pack_str(b, reply->str, reply->len);
    case REDIS_REPLY_INTEGER: return orr_pack_int(b, reply->integer);
    case REDIS_REPLY_ARRAY: return pack_array(b, reply);
    case REDIS_REPLY_ERROR: return pack_error_value(b, reply);
    default: return orr_pack_nil(b);
    }
}

static int pack_pair(orr_buf *b, const char *key, const char *value, size_t len)
{
    int rc = orr_pack_str(b, key, strlen(key));

    return rc == ORR_OK ? orr_pack_str(b, value, len) : rc;
}

const char *orr_redis_outcome_name(int outcome)
{
    switch (outcome) {
    case ORR_REDIS_APPLIED: return "applied";
    case ORR_REDIS_NOT_APPLIED: return "not_applied";
    default: return "unknown";
    }
}

int orr__redis_pack_failure(orr_buf *b, int code, const char *text, size_t len,
                            int outcome, const char *word)
{
    const char *name = orr_code_name(code);
    const char *shown = orr_redis_outcome_name(outcome);
    int rc = orr_pack_map(b, 3);

    if (rc == ORR_OK)
        rc = pack_pair(b, "code", name, strlen(name));
    if (rc == ORR_OK)
        rc = pack_pair(b, "message", text, len);
    if (rc == ORR_OK)
        rc = orr_pack_str(b, "context", 7);
    if (rc == ORR_OK)
        rc = orr_pack_map(b, word[0] != '\0' ? 2 : 1);
    if (rc == ORR_OK)
        rc = pack_pair(b, "outcome", shown, strlen(shown));
    if (rc == ORR_OK && word[0] != '\0')
        rc = pack_pair(b, "error", word, strlen(word));
    return rc;
}
