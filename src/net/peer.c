/* A net: the connections of one service on one executor. See peer.h and net.h;
 * owner: the executor's thread.
 *
 * After a dialled connection ended its address is gated for retry_gate_ns: who
 * dials it gets a link whose connection begins only then, so that many callers
 * of a peer that went away do not hammer it. Calls made meanwhile wait.
 *
 * Dialled links are shared: one for each address, counted by its users. When
 * the last one lets go it stays open for the next, for keepalive_ns. After it
 * closed for whatever reason the next dial makes a new one. Accepted links
 * belong to who dialled them and are not dialled over.
 *
 * One tick serves all connections of the net: the transport is asked for the
 * earliest deadline of them; ends happen at once, but the memory of a
 * connection goes only in the tick, when nobody can be on its stack.
 */
#include "net/peer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_NS = 10000000,
    FRAME_MAX_MAX = 256 << 20,
    CHUNK_DEFAULT = 256 << 10,
    CHUNK_MIN = 1024,
    BODY_MAX_DEFAULT = 256 << 20,
    WINDOW_DEFAULT = 512 << 10,
    WINDOW_MIN = 4096,
    GATES = 64 /* addresses that are gated at a time; the oldest gives way */
};

/* By the hash of the address: a collision costs one pause. */
typedef struct gate {
    uint64_t hash;
    uint64_t until_ns;
} gate;

struct orr_net {
    orr_conn_env env; /* first: soon() gets it */
    orr_nets *nets;   /* NULL when detached */
    orr_net *next;
    orr_conn *first;
    orr_conn *last;
    void *listener;
    orr_tls_context *tls; /* NULL: not encrypted */
    uint64_t armed_ns;
    int closed;
    uint32_t next_gate;
    gate gates[GATES];
};

static void net_link_down(orr_executor *ex, orr_link *l, int code,
                          const char *text);

static const orr_conn_sink executor_sink = {
    .up = orr_executor_link_up,
    .receive = orr_executor_receive,
    .receive_body = orr_executor_receive_body,
    .down = net_link_down,
};

static void net_soon(orr_conn_env *env, uint64_t at_ns)
{
    orr_net *net = (orr_net *)env;

    if (net->nets == NULL || at_ns >= net->armed_ns)
        return;
    net->armed_ns = at_ns;
    env->transport.arm(env->transport.ctx, at_ns);
}

/* --- gates ---------------------------------------------------------------- */

static uint64_t address_hash(const char *address)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */

    for (; *address != '\0'; address++)
        hash = (hash ^ (uint8_t)*address) * 1099511628211u;
    return hash;
}

static void gate_close(orr_net *net, const char *address, uint64_t now_ns)
{
    uint64_t hash = address_hash(address);
    uint32_t i = 0;

    while (i < GATES && net->gates[i].hash != hash)
        i++;
    if (i == GATES) {
        i = net->next_gate;
        net->next_gate = (i + 1) % GATES;
    }
    net->gates[i].hash = hash;
    net->gates[i].until_ns = now_ns + net->env.options.retry_gate_ns;
}

/* When the address may be dialled; 0 = now. */
static uint64_t gate_until(const orr_net *net, const char *address,
                           uint64_t now_ns)
{
    uint64_t hash = address_hash(address);

    for (uint32_t i = 0; i < GATES; i++) {
        if (net->gates[i].hash == hash && net->gates[i].until_ns > now_ns)
            return net->gates[i].until_ns;
    }
    return 0;
}

static void net_link_down(orr_executor *ex, orr_link *l, int code,
                          const char *text)
{
    orr_conn *c = (orr_conn *)l;
    orr_net *net = (orr_net *)c->env;

    if (!c->accepted && !net->closed)
        gate_close(net, c->peer, orr_executor_now_ns(ex));
    orr_executor_link_down(ex, l, code, text);
}

/* --- options -------------------------------------------------------------- */

static void or_default(uint64_t *value, uint64_t instead)
{
    if (*value == 0)
        *value = instead;
}

static void u32_default(uint32_t *value, uint32_t instead)
{
    if (*value == 0)
        *value = instead;
}

/* Of chunked bodies; frame_max is resolved. */
static int bodies_resolve(orr_net_options *o, orr_error *err)
{
    u32_default(&o->chunk_size,
                o->frame_max < CHUNK_DEFAULT ? o->frame_max : CHUNK_DEFAULT);
    u32_default(&o->body_max, BODY_MAX_DEFAULT);
    u32_default(&o->bodies_max, 64);
    u32_default(&o->assembly_max, o->body_max);
    u32_default(&o->sending_max,
                o->body_max < UINT32_MAX / 2 ? 2 * o->body_max : UINT32_MAX);
    u32_default(&o->window, WINDOW_DEFAULT);
    o->features &= ORR_FEATURE_SPILL;
    o->features |= ORR_FEATURE_TRACE;
    if (o->body_max > o->frame_max)
        o->features |= ORR_FEATURE_CHUNKS;
    if (o->chunk_size < CHUNK_MIN || o->chunk_size > o->frame_max)
        return orr_error_set(err, ORR_EINVAL,
                             "chunk_size is %u, must be %d to %u (frame_max) "
                             "bytes",
                             o->chunk_size, CHUNK_MIN, o->frame_max);
    if (o->window < WINDOW_MIN)
        return orr_error_set(err, ORR_EINVAL,
                             "window is %u, must be at least %d bytes",
                             o->window, WINDOW_MIN);
    if (o->assembly_max < o->body_max)
        return orr_error_set(err, ORR_EINVAL,
                             "assembly_max is %u, a body may have %u bytes",
                             o->assembly_max, o->body_max);
    return ORR_OK;
}

static int options_resolve(orr_net_options *o, const orr_net_options *given,
                           orr_error *err)
{
    static const uint64_t second = 1000000000u;

    if (given != NULL)
        *o = *given;
    else
        memset(o, 0, sizeof *o);
    if (o->frame_max == 0)
        o->frame_max = ORR_FRAME_MAX_DEFAULT;
    if (o->queue_max == 0)
        o->queue_max = 64u << 20;
    if (o->connections_max == 0)
        o->connections_max = 1024;
    or_default(&o->connect_timeout_ns, 10 * second);
    or_default(&o->handshake_timeout_ns, 10 * second);
    or_default(&o->keepalive_ns, 15 * second);
    or_default(&o->retry_gate_ns, second / 20);
    if (o->frame_max < ORR_HELLO_BODY_MAX || o->frame_max > FRAME_MAX_MAX)
        return orr_error_set(err, ORR_EINVAL,
                             "frame_max is %u, must be %d to %d bytes",
                             o->frame_max, ORR_HELLO_BODY_MAX, FRAME_MAX_MAX);
    if (o->queue_max > 1u << 30)
        return orr_error_set(err, ORR_EINVAL,
                             "queue_max is %u, must be at most %u bytes",
                             o->queue_max, 1u << 30);
    if (o->queue_max < o->frame_max + ORR_HEADER_SIZE) {
        if (given->queue_max != 0)
            return orr_error_set(err, ORR_EINVAL,
                                 "queue_max is %u, a frame may have %u bytes",
                                 o->queue_max, o->frame_max + ORR_HEADER_SIZE);
        o->queue_max = o->frame_max + ORR_HEADER_SIZE;
    }
    return bodies_resolve(o, err);
}

/* --- making and finding --------------------------------------------------- */

static orr_net *net_find(orr_nets *nets, const orr_service *s)
{
    orr_net *net = nets->first;

    while (net != NULL && net->env.service != s)
        net = net->next;
    return net;
}

orr_net *orr__net_new(orr_nets *nets, const orr_transport *transport,
                      orr_executor *ex, orr_service *s,
                      const orr_net_options *options, orr_error *err)
{
    orr_net_options resolved;
    orr_net *net, **at;

    if (options_resolve(&resolved, options, err) != ORR_OK)
        return NULL;
    if (strlen(orr_service_cluster_id(s)) > ORR_HELLO_TEXT_MAX) {
        orr_error_set(err, ORR_EINVAL, "the cluster id is longer than %d bytes",
                      ORR_HELLO_TEXT_MAX);
        return NULL;
    }
    if (net_find(nets, s) != NULL) {
        orr_error_set(err, ORR_EEXIST,
                      "the executor has a net for this service already");
        return NULL;
    }
    net = orr_calloc(1, sizeof *net);
    if (net == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory for a net");
        return NULL;
    }
    net->env.transport = *transport;
    net->env.sink = &executor_sink;
    net->env.executor = ex;
    net->env.service = s;
    net->env.chance = orr_executor_chance(ex);
    net->env.options = resolved;
    net->env.soon = net_soon;
    net->armed_ns = UINT64_MAX;
    net->nets = nets;
    for (at = &nets->first; *at != NULL; at = &(*at)->next)
        ;
    *at = net;
    return net;
}

static orr_conn *conn_new(orr_net *net, const char *peer, int accepted)
{
    orr_conn_env *env = &net->env;
    orr_hello self = {.protocol = ORR_PROTOCOL,
                      .incarnation = orr_service_incarnation(env->service),
                      .wire_min = ORR_WIRE_MIN,
                      .wire_max = ORR_WIRE_MAX,
                      .frame_max = env->options.frame_max,
                      .features = env->options.features,
                      .body_max = env->options.body_max,
                      .bodies_max = env->options.bodies_max,
                      .window = env->options.window,
                      .body_first = ORR_BODY_FIRST};
    orr_conn *c;

    snprintf(self.cluster, sizeof self.cluster, "%s",
             orr_service_cluster_id(env->service));
    snprintf(self.address, sizeof self.address, "%s",
             orr_service_address(env->service));
    c = orr__conn_new(env, peer, accepted, &self,
                      orr_executor_now_ns(env->executor));
    if (c == NULL)
        return NULL;
    if (net->last != NULL)
        net->last->next = c;
    else
        net->first = c;
    net->last = c;
    return c;
}

orr_conn *orr__net_accept(orr_net *net, void *stream, const char *peer)
{
    orr_conn_env *env = &net->env;
    orr_conn *c;

    if (net->closed || env->accepted_open >= env->options.connections_max) {
        env->info.refused++;
        orr_logf(ORR_LOG_WARN, "net",
                 "refused a connection from %s: %u are "
                 "open, that is the limit",
                 peer, env->accepted_open);
        return NULL;
    }
    c = conn_new(net, peer, 1);
    if (c == NULL)
        return NULL;
    c->stream = stream;
    env->info.accepted++;
    orr__conn_connected(c, orr_executor_now_ns(env->executor));
    return c;
}

static orr_conn *conn_find(orr_net *net, const char *address)
{
    orr_conn *c = net->first;

    while (c != NULL && (c->accepted || c->state == ORR_CONN_CLOSED ||
                         strcmp(c->peer, address) != 0))
        c = c->next;
    return c;
}

static int conn_begin(orr_conn *c, orr_error *err)
{
    orr_conn_env *env = c->env;

    c->start_ns = 0;
    return env->transport.connect(env->transport.ctx, c->peer, c, &c->stream,
                                  err);
}

static orr_conn *net_connect(orr_net *net, const char *address, orr_error *err)
{
    orr_conn_env *env = &net->env;
    orr_conn *c = conn_new(net, address, 0);

    if (c == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory to connect to %s", address);
        return NULL;
    }
    c->start_ns = gate_until(net, address, orr_executor_now_ns(env->executor));
    if (c->start_ns != 0) {
        net_soon(env, c->start_ns);
    } else if (conn_begin(c, err) != ORR_OK) {
        orr__conn_abort(c, ORR_UNREACHABLE, "cannot begin to connect");
        return NULL;
    }
    c->up = 1;
    env->sink->up(env->executor, &c->link);
    return c;
}

orr_link *orr__nets_dial(orr_nets *nets, orr_executor *ex, orr_service *s,
                         const char *address, orr_error *err)
{
    orr_net *net = net_find(nets, s);
    orr_conn *c;

    (void)ex;
    if (net == NULL || net->closed) {
        orr_error_set(err, ORR_UNREACHABLE,
                      "cannot connect to %s: the service %s on this executor",
                      address, net == NULL ? "has no net" : "is closed");
        return NULL;
    }
    if (strlen(address) > ORR_ADDRESS_MAX) {
        orr_error_set(err, ORR_EINVAL,
                      "an address has %zu bytes, at most %d "
                      "are possible",
                      strlen(address), ORR_ADDRESS_MAX);
        return NULL;
    }
    c = conn_find(net, address);
    if (c == NULL)
        c = net_connect(net, address, err);
    if (c == NULL)
        return NULL;
    c->idle_ns = 0;
    c->link.ops->acquire(&c->link);
    return &c->link;
}

/* --- time and ends -------------------------------------------------------- */

/* Frees what is over; answers 1 when something must be looked at again. */
static int sweep(orr_net *net)
{
    orr_conn **at = &net->first, *c;
    int again = 0;

    net->last = NULL;
    while ((c = *at) != NULL) {
        if (orr__conn_is_done(c)) {
            *at = c->next;
            orr__conn_free(c);
            continue;
        }
        if (c->state == ORR_CONN_CLOSED && c->stream == NULL && c->refs == 0)
            again = 1;
        net->last = c;
        at = &c->next;
    }
    return again;
}

/* The gate of a connection that waits for it is open. */
static void conn_check_start(orr_conn *c, uint64_t now_ns)
{
    orr_error err;

    if (c->start_ns == 0 || c->start_ns > now_ns)
        return;
    if (c->state != ORR_CONN_CONNECTING)
        c->start_ns = 0;
    else if (conn_begin(c, &err) != ORR_OK)
        orr__conn_abort(c, ORR_UNREACHABLE, err.text);
}

void orr__net_tick(orr_net *net, uint64_t now_ns)
{
    uint64_t next = UINT64_MAX, at;

    for (orr_conn *c = net->first; c != NULL; c = c->next) {
        conn_check_start(c, now_ns);
        at = orr__conn_tick(c, now_ns);
        if (c->start_ns != 0 && c->start_ns < at)
            at = c->start_ns;
        if (at < next)
            next = at;
    }
    if (sweep(net) && now_ns + RETRY_NS < next)
        next = now_ns + RETRY_NS;
    net->armed_ns = UINT64_MAX;
    net_soon(&net->env, next);
}

int orr_net_listen(orr_net *net, const char *address, char *bound, size_t size,
                   orr_error *err)
{
    const orr_transport *t = &net->env.transport;

    if (net->closed)
        return orr_error_set(err, ORR_ECLOSED,
                             "cannot listen on %s: the net is closed", address);
    if (net->listener != NULL)
        return orr_error_set(err, ORR_EEXIST,
                             "cannot listen on %s: the net listens already",
                             address);
    return t->listen(t->ctx, address, &net->listener, bound, size, err);
}

static void net_unlisten(orr_net *net)
{
    if (net->listener != NULL)
        net->env.transport.unlisten(net->env.transport.ctx, net->listener);
    net->listener = NULL;
}

void orr_net_close(orr_net *net, const char *reason)
{
    uint64_t now_ns;

    if (net->closed)
        return;
    net->closed = 1;
    net_unlisten(net);
    now_ns = orr_executor_now_ns(net->env.executor);
    for (orr_conn *c = net->first; c != NULL; c = c->next)
        orr__conn_goodbye(c, reason != NULL ? reason : "the service stops",
                          now_ns);
}

static void net_detach(orr_net *net)
{
    orr_net **at = &net->nets->first;

    net_unlisten(net);
    net->closed = 1;
    for (orr_conn *c = net->first; c != NULL; c = c->next)
        orr__conn_abort(c, ORR_UNREACHABLE, "the executor ended");
    while (*at != net)
        at = &(*at)->next;
    *at = net->next;
    net->nets = NULL;
    net->env.transport.release(net->env.transport.ctx);
}

void orr__nets_detach(orr_nets *nets)
{
    while (nets->first != NULL)
        net_detach(nets->first);
}

void orr_net_free(orr_net *net)
{
    orr_conn *c, *next;

    if (net == NULL)
        return;
    if (net->nets != NULL) {
        orr_net_close(net, NULL);
        net_detach(net);
    }
    for (c = net->first; c != NULL; c = next) {
        next = c->next;
        orr__conn_orphan(c);
    }
    orr__tls_context_free(net->tls);
    orr_free(net);
}

void orr_net_info_get(const orr_net *net, orr_net_info *out)
{
    *out = net->env.info;
}

/* --- TLS ------------------------------------------------------------------ */

int orr_net_secure(orr_net *net, const orr_tls_options *options, orr_error *err)
{
    if (!net->env.transport.can_encrypt)
        return orr_error_set(err, ORR_EINVAL,
                             "there is no TLS on simulated connections");
    if (net->tls != NULL || net->listener != NULL || net->first != NULL)
        return orr_error_set(err, ORR_EEXIST,
                             "TLS is set up once, before the net listens or "
                             "dials");
    net->tls = orr__tls_context_new(options, err);
    return net->tls != NULL ? ORR_OK : err != NULL ? err->code : ORR_EIO;
}

int orr_net_tls_reload(orr_net *net, orr_error *err)
{
    if (net->tls == NULL)
        return orr_error_set(err, ORR_EINVAL,
                             "there is no certificate to read again: the net "
                             "was made without TLS");
    return orr__tls_context_reload(net->tls, err);
}

orr_tls_context *orr__net_tls(orr_net *net)
{
    if (net->tls != NULL)
        orr__tls_context_refresh(net->tls,
                                 orr_executor_now_ns(net->env.executor));
    return net->tls;
}

/* --- addresses ------------------------------------------------------------ */

int orr__address_split(const char *address, char *host, size_t size,
                       uint16_t *port, orr_error *err)
{
    const char *begin = address, *end, *digits;
    unsigned long value = 0;
    size_t len;

    if (*address == '[') {
        begin = address + 1;
        end = strchr(begin, ']');
        digits = end != NULL && end[1] == ':' ? end + 2 : NULL;
    } else {
        end = strchr(address, ':');
        digits = end != NULL ? end + 1 : NULL;
    }
    if (digits == NULL || end == begin || !isdigit((unsigned char)*digits) ||
        strlen(digits) > 5 || strspn(digits, "0123456789") != strlen(digits) ||
        (value = strtoul(digits, NULL, 10)) > 65535)
        return orr_error_set(err, ORR_EINVAL,
                             "\"%.100s\" is not an address: "
                             "host:port or [v6 address]:port is needed",
                             address);
    len = (size_t)(end - begin);
    if (len >= size)
        return orr_error_set(err, ORR_EINVAL,
                             "the host of \"%.100s\" is "
                             "longer than %zu bytes",
                             address, size - 1);
    memcpy(host, begin, len);
    host[len] = '\0';
    *port = (uint16_t)value;
    return ORR_OK;
}
