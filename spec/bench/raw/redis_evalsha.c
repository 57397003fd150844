/* Baseline of a fenced write: EVALSHA of a script through hiredis' own blocking
 * connection. One at a time, then `window` at once. The server must run.
 *
 * The script does what a fenced write does: it compares the record's epoch and
 * session, then writes fields and a version.
 */
#include <hiredis/hiredis.h>

#include "raw.h"

static const char usage[] =
    "--port N [--rounds N] [--window N] [--size BYTES]\n"
    "  --port    of a Redis on the loopback; what it holds under bench: goes\n"
    "  --rounds  writes to measure, each way (20000)\n"
    "  --window  writes under way when pipelined (128)\n"
    "  --size    bytes of the field that is written (64)\n"
    "prints redis_evalsha_p50, _p99 in ns, redis_evalsha_rate and\n"
    "redis_evalsha_pipelined_rate in 1/s";

static const char script[] =
    "local r = redis.call('HMGET', KEYS[1], 'epoch', 'session', 'state')\n"
    "if r[1] ~= ARGV[1] or r[2] ~= ARGV[2] or r[3] ~= 'held' then\n"
    "  return {'FENCED', r[1], r[2]}\n"
    "end\n"
    "local v = redis.call('HINCRBY', KEYS[2], 'version', 1)\n"
    "redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'op', ARGV[3], 'data', "
    "ARGV[4])\n"
    "return {'OK', v}\n";

static redisReply *checked(redisContext *c, redisReply *reply)
{
    if (reply == NULL)
        raw_fail("redis", c->errstr);
    if (reply->type == REDIS_REPLY_ERROR)
        raw_fail("redis", reply->str);
    return reply;
}

typedef struct command {
    const char *argv[9];
    size_t lens[9];
} command;

static void command_fill(command *m, const char *digest, char *data,
                         size_t size)
{
    static const char *const fixed[] = {
        "EVALSHA",          "",   "2", "{bench}:el", "{bench}:job", "7",
        "0123456789abcdef", "op", ""};

    memset(data, 'x', size);
    for (int i = 0; i < 9; i++) {
        m->argv[i] = fixed[i];
        m->lens[i] = strlen(fixed[i]);
    }
    m->argv[1] = digest;
    m->lens[1] = strlen(digest);
    m->argv[8] = data;
    m->lens[8] = size;
}

static void one_by_one(redisContext *c, command *m, uint64_t *samples,
                       size_t rounds)
{
    uint64_t begin = raw_now_ns();

    for (size_t i = 0; i < rounds; i++) {
        uint64_t at = raw_now_ns();
        freeReplyObject(checked(c, redisCommandArgv(c, 9, m->argv, m->lens)));
        samples[i] = raw_now_ns() - at;
    }
    raw_print("redis_evalsha", samples, rounds, raw_now_ns() - begin);
}

static void pipelined(redisContext *c, command *m, size_t rounds, size_t window)
{
    uint64_t begin = raw_now_ns();
    size_t sent = 0, got = 0;
    void *reply;

    while (got < rounds) {
        while (sent < rounds && sent - got < window) {
            redisAppendCommandArgv(c, 9, m->argv, m->lens);
            sent++;
        }
        for (size_t half = (sent - got + 1) / 2; half > 0; half--, got++) {
            if (redisGetReply(c, &reply) != REDIS_OK)
                raw_fail("redis", c->errstr);
            freeReplyObject(checked(c, reply));
        }
    }
    printf("redis_evalsha_pipelined_rate %.0f 1/s\n",
           (double)rounds * 1e9 / (double)(raw_now_ns() - begin));
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--port", "--rounds", "--window",
                                        "--size", NULL};
    char digest[64];
    command m;

    raw_usage(argc, argv, usage, known);
    int port = (int)raw_option(argc, argv, "--port", 0, 1, 65535);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 10000000);
    size_t window = raw_option(argc, argv, "--window", 128, 1, 4096);
    size_t size = raw_option(argc, argv, "--size", 64, 1, 1 << 20);
    if (port == 0) {
        fprintf(stderr, "usage: %s %s\n", argv[0], usage);
        return 2;
    }
    redisContext *c = redisConnect("127.0.0.1", port);
    if (c == NULL || c->err)
        raw_fail("cannot connect", c != NULL ? c->errstr : "no memory");
    redisReply *reply = checked(c, redisCommand(c, "SCRIPT LOAD %s", script));
    snprintf(digest, sizeof digest, "%s", reply->str);
    freeReplyObject(reply);
    freeReplyObject(checked(
        c, redisCommand(c, "HSET {bench}:el epoch 7 session 0123456789abcdef "
                           "state held")));
    char *data = raw_alloc(size, 1);
    uint64_t *samples = raw_alloc(rounds, sizeof *samples);
    command_fill(&m, digest, data, size);
    for (size_t i = 0; i < rounds / 10; i++)
        freeReplyObject(checked(c, redisCommandArgv(c, 9, m.argv, m.lens)));
    one_by_one(c, &m, samples, rounds);
    pipelined(c, &m, rounds, window);
    freeReplyObject(checked(c, redisCommand(c, "DEL {bench}:el {bench}:job")));
    redisFree(c);
    free(samples);
    free(data);
    return 0;
}
