/* What a reply means: its kind of outcome, and its value as MessagePack. */
#ifndef ORRERY_REDIS_REPLY_H
#define ORRERY_REDIS_REPLY_H

#include <hiredis/read.h>

#include "orrery/redis.h"

struct redisReply;

enum { ORR_REDIS_WORD_MAX = 31 };

/* The first word of an error, "READONLY"; "" when it has none. */
void orr__redis_error_word(const char *text, size_t len,
                           char out[ORR_REDIS_WORD_MAX + 1]);
/* The outcome that an error reply proves; is_script: it answers EVAL, EVALSHA
 * or FCALL. */
orr_redis_outcome orr__redis_error_outcome(const char *text, size_t len,
                                           int is_script);
/* Appends the value: status and bulk string as str, integer as int, nil as nil,
 * in arrays as false (a Lua table has no nil), an error in an array as the map
 * {error = text}. Answers ORR_OK, ORR_ENOMEM or ORR_TOO_LARGE. */
int orr__redis_pack_reply(orr_buf *b, const struct redisReply *reply);
/* Appends the error map {code, message, context = {outcome, error?}}. word may
 * be "". Answers as above. */
int orr__redis_pack_failure(orr_buf *b, int code, const char *text, size_t len,
                            int outcome, const char *word);

#endif
