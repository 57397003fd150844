/* Discovery of a primary by its sentinels. See redis.h; owner: the loop's
 * thread.
 *
 *   ASKING  every sentinel is asked at once; each answer is a vote
 *   TRYING  the best address that was not tried yet is asked for its role
 *   DONE    the call has its end; everything is closed, then freed
 *
 * A lone sentinel on the wrong side of a cut names the old primary, which still
 * says master of itself: therefore a majority goes first, and what a minority
 * says is tried only when there is no majority to be had.
 *
 *   a sentinel cannot be reached, refuses, or does not know the name: no vote
 *   the address does not answer, or is no primary: the next one
 *   nothing is left, or the time is over: the call fails with all that was said
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "redis/reply.h"
#include "redis/session.h"
#include "redis/stream.h"

enum { SENTINELS_MAX = 16, SAID_MAX = 200, NS_PER_MS = 1000000 };

typedef struct asked {
    orr_redis_client client;
    struct discovery *discovery;
    uint8_t is_used; /* the client is to be freed */
    uint8_t has_answered;
    char address[ORR_REDIS_ADDRESS_MAX + 1]; /* what it said; "" nothing */
    char said[SAID_MAX];                     /* why not */
} asked;

typedef struct discovery {
    orr_loop_guest guest; /* first */
    orr_loop *loop;
    orr_executor *executor;
    orr_external call;
    uv_timer_t timer;
    uint64_t end_ns;
    uint32_t count;
    uint32_t target_count;
    uint8_t is_late; /* half of the time is over */
    uint8_t is_trying;
    uint8_t is_done;
    char *master;
    char *user;
    char *password;
    asked sentinels[SENTINELS_MAX];
    asked targets[SENTINELS_MAX];
} discovery;

/* --- ends ----------------------------------------------------------------- */

static void text_free(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    orr_free(text);
}

static void discovery_free(discovery *d)
{
    for (uint32_t i = 0; i < SENTINELS_MAX; i++) {
        if (d->sentinels[i].is_used)
            orr__redis_client_fini(&d->sentinels[i].client);
        if (d->targets[i].is_used)
            orr__redis_client_fini(&d->targets[i].client);
    }
    text_free(d->master);
    text_free(d->user);
    text_free(d->password);
    orr_free(d);
}

static void on_closed(uv_handle_t *handle)
{
    discovery_free(handle->data);
}

/* The clients may be on the stack: their memory goes when the timer has. */
static void discovery_end(discovery *d)
{
    d->is_done = 1;
    for (uint32_t i = 0; i < SENTINELS_MAX; i++) {
        if (d->sentinels[i].is_used)
            orr__redis_client_close(&d->sentinels[i].client, ORR_ECLOSED,
                                    "the search is over");
        if (d->targets[i].is_used)
            orr__redis_client_close(&d->targets[i].client, ORR_ECLOSED,
                                    "the search is over");
    }
    orr_loop_guest_remove(d->loop, &d->guest);
    uv_close((uv_handle_t *)&d->timer, on_closed);
}

static void append(char *out, size_t size, const char *text)
{
    size_t len = strlen(out);

    snprintf(out + len, size - len, "%s", text);
}

static void discovery_fail(discovery *d, int code, const char *why)
{
    char text[2048];

    if (d->is_done)
        return;
    snprintf(text, sizeof text, "no primary \"%.100s\" was found: %s",
             d->master, why);
    for (uint32_t i = 0; i < d->count; i++) {
        append(text, sizeof text, "; ");
        append(text, sizeof text, d->sentinels[i].said);
    }
    for (uint32_t i = 0; i < d->target_count; i++) {
        append(text, sizeof text, "; ");
        append(text, sizeof text, d->targets[i].said);
    }
    orr__redis_fail(d->executor, &d->call, code, ORR_REDIS_NOT_APPLIED, text);
    discovery_end(d);
}

static int pack_text(orr_buf *b, const char *key, const char *value)
{
    int rc = orr_pack_str(b, key, strlen(key));

    return rc == ORR_OK ? orr_pack_str(b, value, strlen(value)) : rc;
}

static int pack_count(orr_buf *b, const char *key, uint32_t value)
{
    int rc = orr_pack_str(b, key, strlen(key));

    return rc == ORR_OK ? orr_pack_uint(b, value) : rc;
}

static uint32_t votes_for(const discovery *d, const char *address)
{
    uint32_t votes = 0;

    for (uint32_t i = 0; i < d->count; i++)
        votes += strcmp(d->sentinels[i].address, address) == 0;
    return votes;
}

static void discovery_succeed(discovery *d, const asked *target)
{
    orr_msg *m = orr_executor_message(d->executor);
    orr_buf *b = m != NULL ? orr_msg_body(m) : NULL;
    int rc = m != NULL ? orr_pack_map(b, 5) : ORR_ENOMEM;

    if (rc == ORR_OK)
        rc = pack_text(b, "address", target->address);
    if (rc == ORR_OK)
        rc = pack_text(b, "role", "master");
    if (rc == ORR_OK)
        rc = pack_count(b, "votes", votes_for(d, target->address));
    if (rc == ORR_OK)
        rc = pack_count(b, "asked", d->count);
    if (rc == ORR_OK)
        rc = pack_count(b, "replicas", target->client.replicas);
    if (rc == ORR_OK) {
        orr_executor_external_finish(d->executor, &d->call, ORR_OK, m);
    } else {
        if (m != NULL)
            orr_executor_message_free(d->executor, m);
        orr_executor_external_fail(d->executor, &d->call, rc,
                                   "no memory for the address of the primary");
    }
    discovery_end(d);
}

/* --- trying --------------------------------------------------------------- */

static void consider(discovery *d);

static void on_target_ready(void *ctx)
{
    asked *a = ctx;

    if (!a->discovery->is_done)
        discovery_succeed(a->discovery, a);
}

static void on_target_closed(void *ctx, int code, const char *text)
{
    asked *a = ctx;

    (void)code;
    if (a->discovery->is_done)
        return;
    snprintf(a->said, sizeof a->said, "%s", text);
    a->discovery->is_trying = 0;
    consider(a->discovery);
}

static void on_no_message(void *ctx, const redisReply *channel,
                          const redisReply *payload)
{
    (void)ctx;
    (void)channel;
    (void)payload; /* only subscribers have messages */
}

static int asked_open(discovery *d, asked *a, const orr_redis_owner *owner,
                      const orr_redis_options *o)
{
    orr_redis_transport transport;
    orr_error err;
    int rc = orr__redis_stream_transport(d->loop, &transport);

    a->discovery = d;
    if (rc != ORR_OK) {
        snprintf(a->said, sizeof a->said, "%.100s: no memory", o->address);
        return rc;
    }
    rc = orr__redis_client_init(&a->client, &transport, owner, o,
                                orr_executor_now_ns(d->executor), &err);
    if (rc != ORR_OK) {
        transport.release(transport.ctx);
        snprintf(a->said, sizeof a->said, "%.*s", SAID_MAX - 1, err.text);
        return rc;
    }
    a->is_used = 1;
    return ORR_OK;
}

static void try_target(discovery *d, const char *address)
{
    asked *a = &d->targets[d->target_count++];
    uint64_t now_ns = orr_executor_now_ns(d->executor);
    const orr_redis_owner owner = {.ctx = a,
                                   .ready = on_target_ready,
                                   .closed = on_target_closed,
                                   .message = on_no_message};
    const orr_redis_options o = {
        .address = a->address,
        .user = d->user,
        .password = d->password,
        .role = ORR_REDIS_ROLE_MASTER,
        .ready_timeout_ns =
            d->end_ns > now_ns ? (d->end_ns - now_ns) / 2 + 1 : 1,
    };

    snprintf(a->address, sizeof a->address, "%s", address);
    d->is_trying = asked_open(d, a, &owner, &o) == ORR_OK;
}

static int was_tried(const discovery *d, const char *address)
{
    for (uint32_t i = 0; i < d->target_count; i++)
        if (strcmp(d->targets[i].address, address) == 0)
            return 1;
    return 0;
}

/* What most name of what was not tried; NULL when there is nothing. */
static const char *best_address(const discovery *d, uint32_t *votes)
{
    const char *best = NULL;

    *votes = 0;
    for (uint32_t i = 0; i < d->count; i++) {
        const char *address = d->sentinels[i].address;
        uint32_t n = votes_for(d, address);
        if (*address != '\0' && n > *votes && !was_tried(d, address)) {
            best = address;
            *votes = n;
        }
    }
    return best;
}

static uint32_t answers(const discovery *d)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->count; i++)
        n += d->sentinels[i].has_answered;
    return n;
}

static void consider(discovery *d)
{
    uint32_t votes;

    while (!d->is_done && !d->is_trying) {
        const char *best = best_address(d, &votes);
        int all = answers(d) == d->count;

        if (best != NULL && (votes * 2 > d->count || all || d->is_late))
            try_target(d, best);
        else if (best == NULL && all)
            discovery_fail(d, ORR_UNREACHABLE,
                           d->target_count > 0
                               ? "no address that the sentinels name is one"
                               : "no sentinel named an address");
        else
            return;
    }
}

/* --- asking --------------------------------------------------------------- */

static int is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING && reply->len > 0 &&
           reply->len < 200 && strlen(reply->str) == reply->len;
}

/* Answers 0 for what is no address. */
static int address_of(const redisReply *reply, char *out, size_t size)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        !is_text(reply->element[0]) || !is_text(reply->element[1]))
        return 0;
    snprintf(out, size,
             strchr(reply->element[0]->str, ':') ? "[%s]:%s" : "%s:%s",
             reply->element[0]->str, reply->element[1]->str);
    return 1;
}

static void on_address(void *ctx, uint64_t tag, const orr_redis_result *result)
{
    asked *a = ctx;
    discovery *d = a->discovery;

    (void)tag;
    if (d->is_done)
        return;
    a->has_answered = 1;
    if (result->status != ORR_OK)
        snprintf(a->said, sizeof a->said, "%s", result->text);
    else if (result->reply->type == REDIS_REPLY_NIL)
        snprintf(a->said, sizeof a->said, "%.100s does not know that name",
                 a->client.address);
    else if (!address_of(result->reply, a->address, sizeof a->address))
        snprintf(a->said, sizeof a->said, "%.100s answered with no address",
                 a->client.address);
    else
        snprintf(a->said, sizeof a->said, "%.80s names %.80s",
                 a->client.address, a->address);
    consider(d);
    /* In the end every client is closed; until then an idle one does no
     * harm. */
}

static void on_sentinel_ready(void *ctx)
{
    (void)ctx; /* the question waits in its queue */
}

static void on_sentinel_closed(void *ctx, int code, const char *text)
{
    (void)ctx;
    (void)code;
    (void)text; /* on_address was told before */
}

static void ask(discovery *d, asked *a, const orr_redis_discovery *o,
                const char *address, uint64_t timeout_ns)
{
    const orr_redis_owner owner = {.ctx = a,
                                   .ready = on_sentinel_ready,
                                   .closed = on_sentinel_closed,
                                   .message = on_no_message};
    const orr_redis_options options = {
        .address = address,
        .user = o->sentinel_user,
        .password = o->sentinel_password,
        .ready_timeout_ns = timeout_ns,
    };
    const orr_redis_arg args[] = {{"SENTINEL", 8},
                                  {"GET-MASTER-ADDR-BY-NAME", 23},
                                  {d->master, strlen(d->master)}};

    if (asked_open(d, a, &owner, &options) == ORR_OK &&
        orr__redis_client_request(&a->client, 3, args, timeout_ns,
                                  orr_executor_now_ns(d->executor), on_address,
                                  a, 0) == ORR_OK)
        return;
    if (a->said[0] == '\0')
        snprintf(a->said, sizeof a->said, "%.100s: no memory", address);
    a->has_answered = 1;
}

/* libuv 1.44 would go to sleep on what this gives the executor to do. */
static void on_timer(uv_timer_t *timer)
{
    discovery *d = timer->data;

    uv_stop(timer->loop);
    if (d->is_late) {
        discovery_fail(d, ORR_EXPIRED_UNKNOWN, "the time is over");
        return;
    }
    d->is_late = 1;
    consider(d);
}

static void on_detach(orr_loop_guest *g)
{
    discovery_fail((discovery *)g, ORR_UNREACHABLE, "the executor ended");
}

static int copy(char **out, const char *text)
{
    size_t size;

    if (text == NULL)
        return ORR_OK;
    size = strlen(text) + 1;
    *out = orr_alloc(size);
    if (*out == NULL)
        return ORR_ENOMEM;
    memcpy(*out, text, size);
    return ORR_OK;
}

static discovery *discovery_new(const orr_redis_discovery *o, orr_loop *loop)
{
    discovery *d = orr_calloc(1, sizeof *d);

    if (d == NULL)
        return NULL;
    d->loop = loop;
    d->executor = orr_loop_executor(loop);
    d->count = o->sentinel_count;
    d->guest.detach = on_detach;
    if (copy(&d->master, o->master) == ORR_OK &&
        copy(&d->user, o->user) == ORR_OK &&
        copy(&d->password, o->password) == ORR_OK)
        return d;
    discovery_free(d);
    return NULL;
}

static int options_check(const orr_redis_discovery *o, orr_error *err)
{
    if (o->sentinel_count == 0 || o->sentinel_count > SENTINELS_MAX)
        return orr_error_set(err, ORR_EINVAL,
                             "%u sentinels are given, 1 to %d are possible",
                             o->sentinel_count, SENTINELS_MAX);
    if (o->master == NULL || *o->master == '\0')
        return orr_error_set(err, ORR_EINVAL,
                             "the sentinels know a primary by a name: none is "
                             "given");
    return ORR_OK;
}

int orr_redis_discover(orr_loop *loop, const orr_redis_discovery *o,
                       uint32_t *slot, orr_error *err)
{
    uint64_t timeout_ns = o->timeout_ns != 0 ? o->timeout_ns : 5000000000u;
    uint64_t half_ms = timeout_ns / 2 / NS_PER_MS + 1;
    int rc = options_check(o, err);
    discovery *d;

    if (rc != ORR_OK)
        return rc;
    d = discovery_new(o, loop);
    if (d == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory to ask sentinels");
    rc = orr_executor_external_begin(d->executor, &d->call);
    if (rc != ORR_OK) {
        discovery_free(d);
        return orr_error_set(err, rc, "too many calls wait already");
    }
    *slot = d->call.slot;
    d->end_ns = orr_executor_now_ns(d->executor) + timeout_ns;
    uv_timer_init(orr_loop_uv(loop), &d->timer);
    d->timer.data = d;
    uv_timer_start(&d->timer, on_timer, half_ms, half_ms);
    orr_loop_guest_add(loop, &d->guest);
    for (uint32_t i = 0; i < d->count; i++)
        ask(d, &d->sentinels[i], o, o->sentinels[i], timeout_ns);
    consider(d);
    return ORR_OK;
}
