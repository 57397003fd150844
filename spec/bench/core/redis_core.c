/* The fenced write of raw/redis_evalsha.c by orr_redis, without Lua: one at a
 * time, then `window` at once. */
#include "orrery/redis.h"

#include "../raw/raw.h"

static const char usage[] =
    "--port N [--rounds N] [--window N]\n"
    "  --port    of a Redis on the loopback; what it holds under bench: goes\n"
    "  --rounds  writes to measure, each way (20000)\n"
    "  --window  writes under way when pipelined (128)\n"
    "prints redis_core_p50, _p99 in ns, redis_core_rate and\n"
    "redis_core_pipelined_rate in 1/s";

static const char script[] =
    "local r = redis.call('HMGET', KEYS[1], 'epoch', 'session', 'state')\n"
    "if r[1] ~= ARGV[1] or r[2] ~= ARGV[2] or r[3] ~= 'held' then\n"
    "  return {'FENCED', r[1], r[2]}\n"
    "end\n"
    "local v = redis.call('HINCRBY', KEYS[2], 'version', 1)\n"
    "redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'op', ARGV[3], 'data', "
    "ARGV[4])\n"
    "return {'OK', v}\n";

static orr_loop *loop;
static orr_redis *redis;
static size_t ended;

static void drain(void)
{
    orr_executor *ex = orr_loop_executor(loop);
    orr_event e;

    orr_executor_turn(ex);
    for (orr_executor_next(ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(ex, &e)) {
        if (e.kind != ORR_EVENT_REPLY)
            continue;
        if (e.status != ORR_OK)
            raw_fail("redis", orr_code_name(e.status));
        ended++;
    }
    orr_executor_flush(ex);
}

static void wait_for(size_t count)
{
    for (drain(); ended < count; drain())
        orr_loop_turn(loop, 1);
}

static void evaluate(uint32_t id)
{
    static const char data[65] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    static const char *const args[] = {"{bench}:el",       "{bench}:job", "7",
                                       "0123456789abcdef", "op",          data};
    const orr_redis_eval e = {.script = id,
                              .keys = 2,
                              .count = 6,
                              .args = args,
                              .timeout_ns = 1000000000u};
    uint32_t slot;
    int rc = orr_redis_evaluate(redis, &e, &slot);

    if (rc != ORR_OK)
        raw_fail("redis", orr_code_name(rc));
}

static void command(uint32_t count, const char *const *args)
{
    uint32_t slot;
    size_t before = ended;

    if (orr_redis_command(redis, count, args, NULL, 0, &slot) != ORR_OK)
        raw_fail("redis", "a command was not taken");
    wait_for(before + 1);
}

int main(int argc, char **argv)
{
    static const char *const known[] = {"--port", "--rounds", "--window", NULL};
    static const char *const record[] = {
        "HSET",    "{bench}:el",       "epoch", "7",
        "session", "0123456789abcdef", "state", "held"};
    static const char *const gone[] = {"DEL", "{bench}:el", "{bench}:job"};
    char address[32];
    orr_redis_options o = {.address = address};
    orr_error err;
    uint32_t slot, id;

    raw_usage(argc, argv, usage, known);
    size_t rounds = raw_option(argc, argv, "--rounds", 20000, 1, 10000000);
    size_t window = raw_option(argc, argv, "--window", 128, 1, 4096);
    int port = (int)raw_option(argc, argv, "--port", 0, 1, 65535);
    if (port == 0) {
        fprintf(stderr, "usage: %s %s\n", argv[0], usage);
        return 2;
    }
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    loop = orr_loop_new(1, &err);
    if (loop == NULL)
        raw_fail("loop", err.text);
    redis = orr_redis_open(loop, &o, &slot, &err);
    if (redis == NULL)
        raw_fail("redis", err.text);
    wait_for(1);
    if (orr_redis_script(redis, script, sizeof script - 1, &id) != ORR_OK)
        raw_fail("redis", "the script was not taken");
    command(8, record);
    uint64_t *samples = raw_alloc(rounds, sizeof *samples);
    for (size_t i = 0; i < rounds / 10; i++) {
        evaluate(id);
        wait_for(ended + 1);
    }
    uint64_t begin = raw_now_ns();
    for (size_t i = 0; i < rounds; i++) {
        uint64_t at = raw_now_ns();
        evaluate(id);
        wait_for(ended + 1);
        samples[i] = raw_now_ns() - at;
    }
    raw_print("redis_core", samples, rounds, raw_now_ns() - begin);
    begin = raw_now_ns();
    size_t sent = 0, first = ended;
    while (ended - first < rounds) {
        while (sent < rounds && sent - (ended - first) < window) {
            evaluate(id);
            sent++;
        }
        wait_for(ended + 1);
    }
    printf("redis_core_pipelined_rate %.0f 1/s\n",
           (double)rounds * 1e9 / (double)(raw_now_ns() - begin));
    command(3, gone);
    orr_redis_free(redis);
    orr_loop_free(loop);
    free(samples);
    return 0;
}
