/* A real Redis over real sockets: every class of reply, every way to end. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "orrery/redis.h"
#include "redis_server.h"

static const uint64_t ms = 1000000u;

enum { TEXT_MAX = 4096, NOTES_MAX = 16384 };

/* The last reply of each slot, as text. */
typedef struct note {
    int seen;
    int32_t status;
    char *text;
} note;

typedef struct world {
    orr_loop *loop;
    orr_executor *ex;
    note notes[NOTES_MAX];
} world;

static redis_server server;

/* --- replies as text ------------------------------------------------------ */

static void add(char *out, const char *format, ...)
{
    size_t len = strlen(out);
    va_list args;

    va_start(args, format);
    vsnprintf(out + len, TEXT_MAX - len, format, args);
    va_end(args);
}

static void render(orr_unpacker *u, char *out)
{
    orr_pack_token t;

    if (orr_unpack_next(u, &t) != ORR_OK) {
        add(out, "?");
        return;
    }
    switch (t.type) {
    case ORR_PACK_NIL: add(out, "nil"); break;
    case ORR_PACK_FALSE: add(out, "false"); break;
    case ORR_PACK_INT: add(out, "%lld", (long long)t.i); break;
    case ORR_PACK_STR: add(out, "%.*s", (int)t.size, (char *)t.data); break;
    case ORR_PACK_ARRAY:
    case ORR_PACK_MAP:
        add(out, t.type == ORR_PACK_MAP ? "{" : "[");
        for (uint32_t i = 0; i < t.size; i++) {
            add(out, i > 0 ? " " : "");
            render(u, out);
            if (t.type == ORR_PACK_MAP) {
                add(out, "=");
                render(u, out);
            }
        }
        add(out, t.type == ORR_PACK_MAP ? "}" : "]");
        break;
    default: add(out, "?"); break;
    }
}

/* --- the loop ------------------------------------------------------------- */

static void on_reply(world *w, const orr_event *e)
{
    note *n = &w->notes[e->call % NOTES_MAX];
    char text[TEXT_MAX] = "";
    orr_unpacker u;

    orr_unpack_init(&u, e->body, e->body_len);
    render(&u, text);
    n->seen++;
    n->status = e->status;
    free(n->text);
    n->text = strdup(text);
}

static void drain(world *w)
{
    orr_event e;

    orr_executor_turn(w->ex);
    for (orr_executor_next(w->ex, &e); e.kind != ORR_EVENT_NONE;
         orr_executor_next(w->ex, &e))
        if (e.kind == ORR_EVENT_REPLY)
            on_reply(w, &e);
    orr_executor_flush(w->ex);
}

static void pump(world *w)
{
    drain(w);
    orr_loop_turn(w->loop, 0);
}

static void on_guard(world *w, uint32_t slot)
{
    uint64_t begin = orr_clock_mono_ns();

    for (drain(w); w->notes[slot].seen == 0; drain(w)) {
        uint32_t timer;
        /* The loop may sleep without end otherwise. */
        assert_int_equal(orr_executor_timer(w->ex, 1000 * ms, &timer), ORR_OK);
        orr_executor_flush(w->ex);
        orr_loop_turn(w->loop, 1);
        orr_executor_timer_cancel(w->ex, timer);
        if (orr_clock_mono_ns() - begin > 20000 * ms)
            fail_msg("20 s without a reply");
    }
}

/* Waits for the slot's reply and forgets it; its text is lent until the next.
 */
static const char *await(world *w, uint32_t slot, int *status)
{
    static char text[TEXT_MAX];
    note *n = &w->notes[slot];

    on_guard(w, slot);
    assert_int_equal(n->seen, 1);
    snprintf(text, sizeof text, "%s", n->text);
    *status = n->status;
    n->seen = 0;
    return text;
}

static void assert_reply(world *w, uint32_t slot, int status, const char *part)
{
    int got;
    const char *text = await(w, slot, &got);

    if (got != status || strstr(text, part) == NULL)
        fail_msg("status %d, wanted %d with \"%s\": %s", got, status, part,
                 text);
}

/* Commands of up to 8 words. */
static uint32_t send_within(orr_redis *r, uint64_t timeout_ns,
                            const char *words)
{
    char copy[256], *save = NULL;
    const char *args[8];
    uint32_t n = 0, slot = 0;
    int rc;

    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save))
        args[n++] = word;
    rc = orr_redis_command(r, n, args, NULL, timeout_ns, &slot);
    assert_int_equal(rc, ORR_OK);
    return slot;
}

static uint32_t send_words(orr_redis *r, const char *words)
{
    return send_within(r, 10000 * ms, words);
}

#define assert_says(w, r, words, part)                                         \
    assert_reply(w, send_words(r, words), ORR_OK, part)

static orr_redis *begin_with(world *w, const orr_redis_options *o,
                             uint32_t *slot)
{
    orr_error err = {0};
    orr_redis *r = orr_redis_open(w->loop, o, slot, &err);

    if (r == NULL)
        fail_msg("%s", err.text);
    return r;
}

static orr_redis *open_with(world *w, const orr_redis_options *o)
{
    uint32_t slot;
    orr_redis *r = begin_with(w, o, &slot);

    assert_reply(w, slot, ORR_OK, "role");
    return r;
}

static orr_redis *open_at(world *w, const char *address)
{
    const orr_redis_options o = {.address = address, .name = "spec"};

    return open_with(w, &o);
}

static void assert_open_fails(world *w, const orr_redis_options *o, int status,
                              const char *part)
{
    uint32_t slot;
    orr_redis *r = begin_with(w, o, &slot);
    orr_redis_info info;

    assert_reply(w, slot, status, part);
    orr_redis_info_get(r, &info);
    assert_int_equal(info.state, ORR_REDIS_CLOSED);
    orr_redis_free(r);
}

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    orr_error err;

    orr_log_set_level(ORR_LOG_OFF);
    if (server.pid == 0) {
        fail_msg("no redis-server could be started");
        return -1;
    }
    w->loop = orr_loop_new(1, &err);
    w->ex = orr_loop_executor(w->loop);
    orr_redis *r = open_at(w, server.address);
    assert_says(w, r, "FLUSHALL", "OK");
    assert_says(w, r, "SCRIPT FLUSH", "OK");
    assert_says(w, r, "CONFIG SET maxmemory 0", "OK");
    orr_redis_free(r);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    uint32_t left = w->loop != NULL ? orr_loop_free(w->loop) : 0;

    for (int i = 0; i < NOTES_MAX; i++)
        free(w->notes[i].text);
    free(w);
    return left == 0 && orr_alloc_live() == 0 ? 0 : -1;
}

/* --- tests ---------------------------------------------------------------- */

static void values_of_every_type_come_back(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    const char *args[] = {"SET", "k", "a\0b\r\n"};
    const size_t lengths[] = {3, 1, 5};
    uint32_t slot;

    assert_int_equal(orr_redis_command(r, 3, args, lengths, 0, &slot), ORR_OK);
    assert_reply(w, slot, ORR_OK, "OK");
    assert_says(w, r, "STRLEN k", "5");
    assert_says(w, r, "GET nothing", "nil");
    assert_says(w, r, "HSET h a 1", "1");
    assert_says(w, r, "HMGET h a b", "[1 false]");
    assert_says(w, r, "CLIENT GETNAME", "spec");
    assert_says(w, r, "LRANGE nothing 0 -1", "[]");
    assert_int_equal(orr_redis_command(r, 0, args, NULL, 0, &slot), ORR_EINVAL);
    orr_redis_free(r);
}

static void passwords_and_rights_are_told_apart(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address), *limited;
    orr_redis_options o = {.address = server.address,
                           .user = "me",
                           .password = "secret",
                           .name = "spec"};

    assert_says(w, r, "ACL SETUSER me on >secret ~mine:* +@all -flushall",
                "OK");
    limited = open_with(w, &o);
    assert_says(w, limited, "SET mine:a 1", "OK");
    assert_reply(w, send_words(limited, "SET other 1"), ORR_REMOTE,
                 "outcome=not_applied error=NOPERM");
    assert_reply(w, send_words(limited, "FLUSHALL"), ORR_REMOTE, "NOPERM");
    assert_says(w, r, "ACL SETUSER me -role", "OK");
    o.password = "wrong";
    assert_open_fails(w, &o, ORR_EACCES, "WRONGPASS");
    o.user = "nobody";
    assert_open_fails(w, &o, ORR_EACCES, "WRONGPASS");
    o.user = "me";
    o.password = "secret";
    orr_redis_free(limited);
    limited = open_with(w, &o); /* without a role it will do */
    orr_redis_free(limited);
    o.role = ORR_REDIS_ROLE_MASTER;
    assert_open_fails(w, &o, ORR_REMOTE, "does not tell its role: NOPERM");
    assert_says(w, r, "ACL DELUSER me", "1");
    orr_redis_free(r);
}

static void ten_thousand_commands_keep_their_order(void **state)
{
    enum { COUNT = 10000 };
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    uint32_t *slots = calloc(COUNT, sizeof *slots);

    for (int i = 0; i < COUNT; i++)
        slots[i] = send_words(r, "INCR n");
    for (int i = 0; i < COUNT; i++) {
        char expected[16];
        int status;
        snprintf(expected, sizeof expected, "%d", i + 1);
        assert_string_equal(await(w, slots[i], &status), expected);
        assert_int_equal(status, ORR_OK);
    }
    free(slots);
    orr_redis_free(r);
}

static const char counting[] = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

static uint32_t evaluate(orr_redis *r, uint32_t script, int confirm,
                         uint64_t timeout_ns)
{
    static const char *const args[] = {"count", "2"};
    const orr_redis_eval e = {.script = script,
                              .keys = 1,
                              .confirm = confirm,
                              .replicas = 0,
                              .wait_ms = 100,
                              .count = 2,
                              .args = args,
                              .timeout_ns = timeout_ns};
    uint32_t slot = 0;

    assert_int_equal(orr_redis_evaluate(r, &e, &slot), ORR_OK);
    return slot;
}

static void a_script_that_the_server_lost_is_sent_again(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    orr_redis *other = open_at(w, server.address);
    orr_redis_info info;
    uint32_t script, slot;

    assert_int_equal(
        orr_redis_script(r, counting, sizeof counting - 1, &script), ORR_OK);
    assert_reply(w, evaluate(r, script, 0, 0), ORR_OK, "2");
    assert_reply(w, evaluate(r, script, 1, 0), ORR_OK, "[4 0]");
    assert_says(w, other, "SCRIPT FLUSH", "OK");
    assert_reply(w, evaluate(r, script, 1, 0), ORR_OK, "[6 0]");
    orr_redis_info_get(r, &info);
    assert_int_equal(info.scripts_reloaded, 1);
    assert_says(w, other, "SCRIPT FLUSH", "OK");
    assert_reply(w, evaluate(r, script, 0, 1000 * ms), ORR_OK, "8");
    assert_reply(w, evaluate(r, script, 0, 0), ORR_OK, "10");
    orr_redis_info_get(r, &info);
    assert_int_equal(info.scripts_reloaded, 2);
    assert_int_equal(info.in_flight, 0);
    /* WAITAOF is newer than this server: written, not confirmed. */
    slot = evaluate(r, script, 2, 0);
    assert_reply(w, slot, ORR_REMOTE, "outcome=unknown");
    assert_says(w, r, "GET count", "12");
    orr_redis_free(other);
    orr_redis_free(r);
}

static void scripts_that_fail_tell_what_is_known(void **state)
{
    static const char half[] = "redis.call('SET', KEYS[1], ARGV[1])\n"
                               "return redis.call('LPUSH', KEYS[1], 'x')";
    static const char broken[] = "return return";
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    const orr_redis_eval unknown = {.script = 7};
    uint32_t script, slot;

    assert_int_equal(orr_redis_script(r, half, sizeof half - 1, &script),
                     ORR_OK);
    assert_reply(w, evaluate(r, script, 1, 0), ORR_REMOTE,
                 "outcome=unknown error=WRONGTYPE");
    assert_int_equal(orr_redis_script(r, broken, sizeof broken - 1, &script),
                     ORR_OK);
    assert_reply(w, evaluate(r, script, 0, 0), ORR_REMOTE,
                 "outcome=not_applied");
    assert_int_equal(orr_redis_evaluate(r, &unknown, &slot), ORR_EINVAL);
    assert_int_equal(orr_redis_script(r, "", 0, &script), ORR_EINVAL);
    orr_redis_free(r);
}

static void a_killed_connection_leaves_what_is_in_flight_unknown(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    orr_redis *other = open_at(w, server.address);
    uint32_t blocked, after, watch, late;
    const char *const args[] = {"PING"};

    assert_int_equal(orr_redis_watch(r, &watch), ORR_OK);
    assert_int_equal(orr_redis_watch(r, &late), ORR_EEXIST);
    blocked = send_words(r, "BLPOP nothing 0");
    after = send_words(r, "INCR n");
    pump(w);
    assert_says(w, other, "CLIENT KILL TYPE normal SKIPME yes", "1");
    assert_reply(w, blocked, ORR_UNREACHABLE, "outcome=unknown");
    assert_reply(w, after, ORR_UNREACHABLE, "outcome=unknown");
    assert_reply(w, watch, ORR_UNREACHABLE, "the connection was lost");
    assert_int_equal(orr_redis_command(r, 1, args, NULL, 0, &late),
                     ORR_ECLOSED);
    assert_int_equal(orr_redis_watch(r, &late), ORR_ECLOSED);
    orr_redis_free(other);
    orr_redis_free(r);
}

static void a_server_that_sleeps_costs_the_connection(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    uint64_t begin = orr_clock_mono_ns();
    uint32_t slow = send_within(r, 100 * ms, "DEBUG SLEEP 0.5");
    uint32_t next = send_words(r, "INCR n");

    assert_reply(w, slow, ORR_EXPIRED_UNKNOWN, "outcome=unknown");
    assert_reply(w, next, ORR_UNREACHABLE, "did not answer in time");
    assert_true(orr_clock_mono_ns() - begin >= 100 * ms);
    assert_true(orr_clock_mono_ns() - begin < 450 * ms);
    orr_redis_free(r);
}

static void a_unix_socket_will_do(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.unix_address);
    const orr_redis_options missing = {.address = "unix:/nowhere/at/all"};
    orr_redis_options bad = {.address = NULL};
    char address[200] = "unix:/";
    orr_error err;
    uint32_t slot;

    assert_says(w, r, "SET k v", "OK");
    assert_says(w, r, "GET k", "v");
    orr_redis_free(r);
    assert_open_fails(w, &missing, ORR_UNREACHABLE, "no such file");
    memset(address + 6, 'x', 150);
    bad.address = address;
    assert_null(orr_redis_open(w->loop, &bad, &slot, &err));
    assert_non_null(strstr(err.text, "Unix socket has 1 to 107"));
    bad.address = "nonsense";
    assert_null(orr_redis_open(w->loop, &bad, &slot, &err));
    assert_int_equal(err.code, ORR_EINVAL);
}

static void a_port_that_nobody_holds_is_unreachable(void **state)
{
    world *w = *state;
    char address[64];
    const orr_redis_options o = {.address = address};

    snprintf(address, sizeof address, "127.0.0.1:%d", redis_free_port());
    assert_open_fails(w, &o, ORR_UNREACHABLE, "connection refused");
}

/* Sockets that accept and say nothing, or the wrong thing. */
static void servers_that_are_no_redis_are_given_up(void **state)
{
    static const char *const said[] = {"", "HTTP/1.1 200 OK\r\n\r\n",
                                       "*70000\r\n", "-ERR max number\r\n"};
    static const int codes[] = {ORR_UNREACHABLE, ORR_EPROTO, ORR_TOO_LARGE,
                                ORR_REMOTE};
    world *w = *state;

    for (int i = 0; i < 4; i++) {
        char address[64];
        const orr_redis_options o = {.address = address,
                                     .ready_timeout_ns = 200 * ms};
        int port = redis_free_port(), fd = redis_socket(port, 1), peer;
        uint32_t slot;
        orr_redis *r;

        snprintf(address, sizeof address, "127.0.0.1:%d", port);
        assert_int_equal(listen(fd, 1), 0);
        r = begin_with(w, &o, &slot);
        peer = accept(fd, NULL, NULL);
        assert_int_equal(write(peer, said[i], strlen(said[i])),
                         strlen(said[i]));
        assert_reply(w, slot, codes[i], address);
        orr_redis_free(r);
        close(peer);
        close(fd);
    }
}

static orr_redis *subscribe(world *w, uint32_t messages_max)
{
    static const char *const channels[] = {"news", "more"};
    const orr_redis_options o = {.address = server.address,
                                 .channels = channels,
                                 .channel_count = 2,
                                 .messages_max = messages_max};

    return open_with(w, &o);
}

static void messages_come_to_who_watches(void **state)
{
    world *w = *state;
    orr_redis *s = subscribe(w, 0), *r = open_at(w, server.address);
    uint32_t watch, slot;
    const char *const args[] = {"GET", "k"};

    assert_int_equal(orr_redis_watch(s, &watch), ORR_OK);
    assert_says(w, r, "PUBLISH news hello", "1");
    assert_reply(w, watch, ORR_OK, "{messages=[[news hello]] dropped=0}");
    assert_says(w, r, "PUBLISH more a", "1");
    assert_says(w, r, "PUBLISH news b", "1");
    assert_says(w, r, "PUBLISH other c", "0");
    for (int i = 0; i < 5; i++)
        assert_says(w, r, "PING", "PONG");
    assert_int_equal(orr_redis_watch(s, &watch), ORR_OK);
    assert_reply(w, watch, ORR_OK, "{messages=[[more a] [news b]] dropped=0}");
    assert_int_equal(orr_redis_command(s, 2, args, NULL, 0, &slot), ORR_EINVAL);
    assert_int_equal(orr_redis_watch(s, &watch), ORR_OK);
    assert_says(w, r, "CLIENT KILL TYPE pubsub", "1");
    assert_reply(w, watch, ORR_UNREACHABLE, "lost");
    orr_redis_free(r);
    orr_redis_free(s);
}

static void messages_beyond_the_bound_are_counted(void **state)
{
    world *w = *state;
    orr_redis *s = subscribe(w, 2), *r = open_at(w, server.address);
    orr_redis_info info = {0};
    uint32_t watch;

    for (int i = 0; i < 5; i++)
        assert_says(w, r, "PUBLISH news x", "1");
    while (info.messages_dropped < 3) {
        assert_says(w, r, "PING", "PONG");
        orr_redis_info_get(s, &info);
    }
    assert_int_equal(orr_redis_watch(s, &watch), ORR_OK);
    assert_reply(w, watch, ORR_OK, "{messages=[[news x] [news x]] dropped=3}");
    orr_redis_free(r);
    orr_redis_free(s);
}

static void a_full_memory_refuses_and_applies_nothing(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    static const char allowed[] =
        "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])";
    uint32_t plain, tagged;

    assert_int_equal(orr_redis_script(r, counting, sizeof counting - 1, &plain),
                     ORR_OK);
    assert_int_equal(orr_redis_script(r, allowed, sizeof allowed - 1, &tagged),
                     ORR_OK);
    assert_says(w, r, "CONFIG SET maxmemory 1", "OK");
    assert_reply(w, send_words(r, "SET k v"), ORR_REMOTE,
                 "outcome=not_applied error=OOM");
    assert_reply(w, evaluate(r, plain, 0, 0), ORR_REMOTE, "error=OOM");
    assert_reply(w, evaluate(r, tagged, 0, 0), ORR_OK, "OK");
    assert_says(w, r, "CONFIG SET maxmemory 0", "OK");
    assert_says(w, r, "GET k", "nil");
    orr_redis_free(r);
}

static void wait_for_word(world *w, orr_redis *r, const char *words,
                          const char *part)
{
    int status;

    for (int i = 0; i < 3000; i++) {
        struct timespec pause = {.tv_nsec = 5000000};
        if (strstr(await(w, send_words(r, words), &status), part) != NULL)
            return;
        nanosleep(&pause, NULL);
    }
    fail_msg("%s never told %s", words, part);
}

static void a_replica_is_no_primary(void **state)
{
    world *w = *state;
    char lines[100];
    redis_server copy;
    orr_redis *r = open_at(w, server.address), *replica;
    orr_redis_options o = {.address = copy.address,
                           .role = ORR_REDIS_ROLE_MASTER};
    uint32_t script, slot;
    static const char *const args[] = {"count", "2"};
    orr_redis_eval e = {.keys = 1,
                        .confirm = 1,
                        .replicas = 1,
                        .wait_ms = 5000,
                        .count = 2,
                        .args = args};

    snprintf(lines, sizeof lines, "replicaof 127.0.0.1 %d", server.port);
    assert_true(redis_start(&copy, 0, lines));
    assert_open_fails(w, &o, ORR_EINVAL, "it is a replica");
    o.role = ORR_REDIS_ROLE_REPLICA;
    replica = open_with(w, &o);
    wait_for_word(w, replica, "ROLE", "connected");
    assert_reply(w, send_words(replica, "SET k v"), ORR_REMOTE,
                 "outcome=not_applied error=READONLY");
    assert_int_equal(
        orr_redis_script(replica, counting, sizeof counting - 1, &script),
        ORR_OK);
    assert_reply(w, evaluate(replica, script, 1, 0), ORR_REMOTE,
                 "outcome=not_applied error=READONLY");
    /* The primary has one now: a write is confirmed by it. */
    assert_int_equal(
        orr_redis_script(r, counting, sizeof counting - 1, &e.script), ORR_OK);
    wait_for_word(w, r, "WAIT 1 100", "1");
    assert_int_equal(orr_redis_evaluate(r, &e, &slot), ORR_OK);
    assert_reply(w, slot, ORR_OK, "[2 1]");
    orr_redis_free(replica);
    redis_stop(&copy);
    orr_redis_free(r);
}

static void a_killed_server_leaves_what_is_in_flight_unknown(void **state)
{
    world *w = *state;
    redis_server mortal;
    orr_redis *r;
    uint32_t slot;

    assert_true(redis_start(&mortal, 0, ""));
    r = open_at(w, mortal.address);
    slot = send_words(r, "BLPOP nothing 0");
    pump(w);
    redis_kill(&mortal);
    assert_reply(w, slot, ORR_UNREACHABLE, "outcome=unknown");
    orr_redis_free(r);
    redis_stop(&mortal);
}

static void sentinels_lead_to_the_primary(void **state)
{
    world *w = *state;
    redis_server sentinels[2];
    char lines[120], dead[64], wanted[200];
    const char *addresses[3];
    orr_redis_discovery d = {.sentinels = addresses,
                             .sentinel_count = 3,
                             .master = "m",
                             .timeout_ns = 5000 * ms};
    orr_redis_options o = {.role = ORR_REDIS_ROLE_MASTER};
    orr_error err;
    uint32_t slot;

    snprintf(lines, sizeof lines, "sentinel monitor m 127.0.0.1 %d 1",
             server.port);
    for (int i = 0; i < 2; i++) {
        assert_true(redis_start(&sentinels[i], 1, lines));
        addresses[i] = sentinels[i].address;
    }
    snprintf(dead, sizeof dead, "127.0.0.1:%d", redis_free_port());
    addresses[2] = dead;
    snprintf(wanted, sizeof wanted,
             "{address=%s role=master votes=2 asked=3 replicas=0}",
             server.address);
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    assert_reply(w, slot, ORR_OK, wanted);
    /* One of three answers: tried when all have spoken. */
    addresses[1] = dead;
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    assert_reply(w, slot, ORR_OK, "votes=1 asked=3");
    d.master = "other";
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    assert_reply(w, slot, ORR_UNREACHABLE, "does not know that name");
    o.address = addresses[0];
    assert_open_fails(w, &o, ORR_EINVAL, "it is a sentinel");
    d.sentinel_count = 0;
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_EINVAL);
    d.sentinel_count = 3;
    d.master = "m";
    d.password = "wrong";
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    assert_reply(w, slot, ORR_UNREACHABLE, "refused user and password");
    for (int i = 0; i < 2; i++)
        redis_stop(&sentinels[i]);
}

static void a_discovery_that_stalls_ends_in_time(void **state)
{
    world *w = *state;
    int port = redis_free_port(), fd = redis_socket(port, 1);
    char address[64];
    const char *const addresses[] = {address};
    const orr_redis_discovery d = {.sentinels = addresses,
                                   .sentinel_count = 1,
                                   .master = "m",
                                   .timeout_ns = 100 * ms};
    uint64_t begin = orr_clock_mono_ns();
    orr_error err;
    uint32_t slot;

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    on_guard(w, slot);
    assert_int_not_equal(w->notes[slot].status, ORR_OK);
    assert_true(orr_clock_mono_ns() - begin < 2000 * ms);
    close(fd);
}

static void a_loop_may_go_before_its_connections(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address), *opening;
    const orr_redis_options o = {.address = server.address};
    const char *const addresses[] = {server.address};
    const orr_redis_discovery d = {
        .sentinels = addresses, .sentinel_count = 1, .master = "m"};
    const char *const args[] = {"PING"};
    orr_error err;
    uint32_t slot;

    opening = begin_with(w, &o, &slot);
    send_words(r, "BLPOP nothing 0");
    assert_int_equal(orr_redis_discover(w->loop, &d, &slot, &err), ORR_OK);
    assert_int_equal(orr_loop_free(w->loop), 0);
    w->loop = NULL;
    assert_int_equal(orr_redis_command(r, 1, args, NULL, 0, &slot),
                     ORR_ECLOSED);
    orr_redis_free(r);
    orr_redis_free(opening);
    orr_redis_free(NULL);
}

static void a_call_that_was_cancelled_has_one_end(void **state)
{
    world *w = *state;
    orr_redis *r = open_at(w, server.address);
    uint32_t slot = send_words(r, "INCR n");
    orr_executor_info info;

    assert_int_equal(orr_executor_cancel(w->ex, slot), ORR_OK);
    assert_reply(w, slot, ORR_CANCELLED, "gave up");
    assert_says(w, r, "GET n", "1"); /* it was sent all the same */
    orr_executor_info_get(w->ex, &info);
    assert_int_equal(info.dropped, 1);
    assert_int_equal(info.calls, 0);
    orr_redis_free(r);
}

static int server_start(void **state)
{
    (void)state;
    alarm(100);
    return redis_start(&server, 0, "") ? 0 : -1;
}

static int server_stop(void **state)
{
    (void)state;
    redis_stop(&server);
    return 0;
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(values_of_every_type_come_back),
        ROW(passwords_and_rights_are_told_apart),
        ROW(ten_thousand_commands_keep_their_order),
        ROW(a_script_that_the_server_lost_is_sent_again),
        ROW(scripts_that_fail_tell_what_is_known),
        ROW(a_killed_connection_leaves_what_is_in_flight_unknown),
        ROW(a_server_that_sleeps_costs_the_connection),
        ROW(a_unix_socket_will_do),
        ROW(a_port_that_nobody_holds_is_unreachable),
        ROW(servers_that_are_no_redis_are_given_up),
        ROW(messages_come_to_who_watches),
        ROW(messages_beyond_the_bound_are_counted),
        ROW(a_full_memory_refuses_and_applies_nothing),
        ROW(a_replica_is_no_primary),
        ROW(a_killed_server_leaves_what_is_in_flight_unknown),
        ROW(sentinels_lead_to_the_primary),
        ROW(a_discovery_that_stalls_ends_in_time),
        ROW(a_loop_may_go_before_its_connections),
        ROW(a_call_that_was_cancelled_has_one_end),
    };

    if (redis_program() == NULL) {
        printf("1..0 # SKIP no redis-server here (Debian: redis-tools)\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, server_start, server_stop);
}
