/* The simulated network: the transport of nets on simulated executors.
 *
 * A connection is a pipe with two ends and two paths. What an end sends becomes
 * segments on its path; each arrives by an event of its own, in order, after a
 * latency drawn for it. Writes are split at chance so that frames arrive in
 * parts. A path takes WINDOW bytes, then writers wait as on a real socket.
 *
 *   connect   OPEN segment - ACCEPT or RESET comes back
 *   close     END segment behind the data, or RESET
 *   cut path  arrivals wait; joined again, they are scheduled anew
 *
 * Nothing of a connection is told to its owner from inside one of the five
 * functions: everything comes by an event.
 */
#include "sim/sim_private.h"

#include <stdio.h>
#include <string.h>

enum {
    WINDOW = 256 * 1024,
    SEGMENT_MAX = 64 * 1024,
    PIECES_MAX = 4,   /* random pieces of one write */
    LOCAL_NS = 20000, /* latency inside a node */
    PORTS_MAX = 65535
};

typedef enum segment_kind {
    OPEN = 1,
    ACCEPT = 2,
    DATA = 3,
    END = 4,
    RESET = 5
} segment_kind;

typedef struct segment {
    struct segment *next;
    segment_kind kind;
    size_t len;
    uint8_t data[];
} segment;

typedef struct path {
    struct orr__sim_pipe *pipe;
    uint32_t side; /* of the end that sends */
    segment *first;
    segment *last;
    uint32_t held;    /* arrivals that wait for the cut to end */
    uint64_t last_ns; /* arrival of the youngest segment */
    size_t in_flight;
    const uint8_t *borrowed; /* what did not fit */
    size_t borrowed_len;
} path;

typedef struct end {
    struct orr__sim_pipe *pipe;
    uint32_t side;
    uint32_t node;
    orr__sim_exec *exec;
    orr_conn *conn; /* NULL when let go, or not accepted yet */
} end;

typedef struct orr__sim_pipe {
    struct orr__sim_pipe *next;
    uint64_t number;
    uint16_t port;
    int is_reset;    /* nothing is sent any more */
    uint32_t events; /* that point here */
    end ends[2];
    path paths[2];
} pipe_;

/* --- segments ------------------------------------------------------------- */

static int is_cut(const orr_sim *sim, uint32_t from, uint32_t to)
{
    return (sim->nodes[from]->cut >> to & 1) != 0;
}

static uint64_t latency(orr_sim *sim, uint32_t from, uint32_t to)
{
    uint64_t min = sim->latency_min_ns, max = sim->latency_max_ns;

    if (from == to)
        return LOCAL_NS;
    if (sim->nodes[from]->latency_max_ns[to] != 0) {
        min = sim->nodes[from]->latency_min_ns[to];
        max = sim->nodes[from]->latency_max_ns[to];
    }
    return min + orr_chance_below(&sim->net_chance, max - min + 1);
}

static void arrive_later(orr_sim *sim, path *p)
{
    pipe_ *pipe = p->pipe;
    uint64_t at = sim->now_ns + latency(sim, pipe->ends[p->side].node,
                                        pipe->ends[1 - p->side].node);

    if (at < p->last_ns)
        at = p->last_ns;
    p->last_ns = at;
    pipe->events++;
    orr__sim_schedule(sim, at, ORR__SIM_ARRIVE, p);
}

static void send_segment(orr_sim *sim, path *p, segment_kind kind,
                         const uint8_t *data, size_t len)
{
    segment *s = orr_alloc(sizeof *s + len);

    if (s == NULL) {
        sim->failed = 1;
        return;
    }
    s->next = NULL;
    s->kind = kind;
    s->len = len;
    if (len > 0)
        memcpy(s->data, data, len);
    if (p->last != NULL)
        p->last->next = s;
    else
        p->first = s;
    p->last = s;
    p->in_flight += len;
    arrive_later(sim, p);
}

static segment *take_segment(path *p)
{
    segment *s = p->first;

    if (s == NULL)
        return NULL;
    p->first = s->next;
    if (p->first == NULL)
        p->last = NULL;
    p->in_flight -= s->len;
    return s;
}

static void drop_segments(path *p)
{
    segment *s;

    while ((s = take_segment(p)) != NULL)
        orr_free(s);
}

/* Answers how much it took. */
static size_t send_data(orr_sim *sim, path *p, const uint8_t *data, size_t len)
{
    size_t room = WINDOW - p->in_flight, sent = 0;
    int pieces = 0;

    if (len > room)
        len = room;
    while (sent < len) {
        size_t n = len - sent;

        if (n > SEGMENT_MAX)
            n = SEGMENT_MAX;
        if (n > 1 && pieces++ < PIECES_MAX &&
            orr_chance_below(&sim->net_chance, 2) == 0)
            n = 1 + orr_chance_below(&sim->net_chance, n - 1);
        send_segment(sim, p, DATA, data + sent, n);
        sent += n;
    }
    return sent;
}

/* --- pipes ---------------------------------------------------------------- */

static void pipe_free(orr_sim *sim, pipe_ *pipe)
{
    pipe_ **at = &sim->pipes;

    while (*at != pipe)
        at = &(*at)->next;
    *at = pipe->next;
    drop_segments(&pipe->paths[0]);
    drop_segments(&pipe->paths[1]);
    orr_free(pipe);
}

/* Nobody holds it and no event points to it. */
static void pipe_check(orr_sim *sim, pipe_ *pipe)
{
    if (pipe->ends[0].conn == NULL && pipe->ends[1].conn == NULL &&
        pipe->events == 0)
        pipe_free(sim, pipe);
}

static pipe_ *pipe_new(orr_sim *sim, uint32_t from, uint32_t to, uint16_t port)
{
    pipe_ *pipe = orr_calloc(1, sizeof *pipe), **at = &sim->pipes;

    if (pipe == NULL)
        return NULL;
    pipe->number = ++sim->pipe_number;
    pipe->port = port;
    for (uint32_t i = 0; i < 2; i++) {
        pipe->ends[i].pipe = pipe;
        pipe->ends[i].side = i;
        pipe->ends[i].node = i == 0 ? from : to;
        pipe->paths[i].pipe = pipe;
        pipe->paths[i].side = i;
    }
    while (*at != NULL)
        at = &(*at)->next;
    *at = pipe;
    return pipe;
}

static void end_lost(end *e, const char *reason)
{
    orr__sim_exec *exec = e->exec;

    if (e->conn == NULL)
        return;
    orr__conn_lost(e->conn, reason);
    orr__sim_turn_soon(exec);
}

/* --- arrivals ------------------------------------------------------------- */

static orr__sim_listener *listener_find(orr_sim *sim, uint32_t node,
                                        uint16_t port)
{
    orr__sim_listener *l = sim->listeners;

    while (l != NULL && (l->port != port || l->host->exec->node != node))
        l = l->next;
    return l;
}

static void on_open(orr_sim *sim, pipe_ *pipe)
{
    end *e = &pipe->ends[1];
    orr__sim_listener *l = listener_find(sim, e->node, pipe->port);
    char peer[ORR_SIM_NAME_MAX + 32];

    if (pipe->ends[0].conn == NULL)
        return; /* it gave up */
    if (l == NULL || !sim->nodes[e->node]->is_up) {
        send_segment(sim, &pipe->paths[1], RESET, NULL, 0);
        return;
    }
    snprintf(peer, sizeof peer, "%s:#%llu",
             sim->nodes[pipe->ends[0].node]->name,
             (unsigned long long)pipe->number);
    send_segment(sim, &pipe->paths[1], ACCEPT, NULL, 0);
    e->exec = l->host->exec;
    e->conn = orr__net_accept(l->host->net, e, peer);
    if (e->conn == NULL)
        send_segment(sim, &pipe->paths[1], RESET, NULL, 0);
    orr__sim_turn_soon(e->exec);
}

static void on_segment(orr_sim *sim, end *e, const segment *s)
{
    if (s->kind == OPEN) {
        on_open(sim, e->pipe);
        return;
    }
    if (e->conn == NULL)
        return;
    switch (s->kind) {
    case ACCEPT: orr__conn_connected(e->conn, sim->now_ns); break;
    case DATA: orr__conn_input(e->conn, s->data, s->len, sim->now_ns); break;
    case END: orr__conn_lost(e->conn, "closed by the peer"); break;
    default:
        orr__conn_lost(e->conn, e->conn->state == ORR_CONN_CONNECTING
                                    ? "connection refused"
                                    : "connection reset by peer");
    }
    orr__sim_turn_soon(e->exec);
}

/* Room on the path: what the writer waits with goes on. */
static void path_pump(orr_sim *sim, path *p)
{
    end *e = &p->pipe->ends[p->side];
    size_t sent;

    if (e->conn == NULL || p->borrowed_len == 0)
        return;
    sent = send_data(sim, p, p->borrowed, p->borrowed_len);
    p->borrowed += sent;
    p->borrowed_len -= sent;
    if (p->borrowed_len > 0)
        return;
    p->borrowed = NULL;
    orr__conn_drained(e->conn);
}

void orr__sim_arrive(orr_sim *sim, void *path_)
{
    path *p = path_;
    pipe_ *pipe = p->pipe;
    end *to = &pipe->ends[1 - p->side];
    uint32_t from = pipe->ends[p->side].node;
    segment *s;

    if (is_cut(sim, from, to->node) && p->first != NULL) {
        p->held++;
        pipe->events--;
        pipe_check(sim, pipe);
        return;
    }
    s = take_segment(p);
    if (s != NULL) {
        orr__sim_trace(sim, ORR__SIM_ARRIVE + 16 * (uint64_t)s->kind,
                       pipe->number, (uint64_t)from << 32 | to->node, s->data,
                       s->len);
        on_segment(sim, to, s);
        orr_free(s);
        path_pump(sim, p);
    }
    pipe->events--;
    pipe_check(sim, pipe);
}

void orr__sim_reset(orr_sim *sim, void *pipe__)
{
    pipe_ *pipe = pipe__;

    orr__sim_trace(sim, ORR__SIM_RESET, pipe->number, 0, NULL, 0);
    pipe->is_reset = 1;
    for (uint32_t i = 0; i < 2; i++) {
        drop_segments(&pipe->paths[i]);
        pipe->paths[i].borrowed_len = 0;
    }
    for (uint32_t i = 0; i < 2; i++)
        end_lost(&pipe->ends[i], "connection reset by peer");
    pipe->events--;
    pipe_check(sim, pipe);
}

int orr_sim_reset_connections(orr_sim *sim, uint32_t a, uint32_t b)
{
    int count = 0;

    if (a >= sim->node_count || b >= sim->node_count)
        return ORR_EINVAL;
    for (pipe_ *pipe = sim->pipes; pipe != NULL; pipe = pipe->next) {
        uint32_t x = pipe->ends[0].node, y = pipe->ends[1].node;

        if (!((x == a && y == b) || (x == b && y == a)) ||
            (pipe->ends[0].conn == NULL && pipe->ends[1].conn == NULL))
            continue;
        pipe->events++;
        orr__sim_schedule(sim, sim->now_ns, ORR__SIM_RESET, pipe);
        count++;
    }
    return count;
}

uint32_t orr_sim_connections(const orr_sim *sim)
{
    uint32_t count = 0;

    for (const pipe_ *pipe = sim->pipes; pipe != NULL; pipe = pipe->next)
        if (pipe->ends[0].conn != NULL || pipe->ends[1].conn != NULL)
            count++;
    return count;
}

void orr__sim_resume(orr_sim *sim)
{
    for (pipe_ *pipe = sim->pipes; pipe != NULL; pipe = pipe->next) {
        for (uint32_t i = 0; i < 2; i++) {
            path *p = &pipe->paths[i];

            if (is_cut(sim, pipe->ends[i].node, pipe->ends[1 - i].node))
                continue;
            for (; p->held > 0; p->held--)
                arrive_later(sim, p);
        }
    }
}

/* The owners on the dead node hear of it too, so that they hold nothing; they
 * never turn again. */
void orr__sim_node_lost(orr_sim *sim, uint32_t node)
{
    pipe_ *next;

    for (orr__sim_listener *l = sim->listeners; l != NULL; l = l->next)
        if (l->host->exec->node == node)
            l->port = 0;
    for (pipe_ *pipe = sim->pipes; pipe != NULL; pipe = next) {
        next = pipe->next;
        pipe->events++;
        for (uint32_t i = 0; i < 2; i++)
            if (pipe->ends[i].node == node)
                end_lost(&pipe->ends[i], "this node crashed");
        pipe->events--;
        pipe_check(sim, pipe);
    }
}

/* --- the transport -------------------------------------------------------- */

static int node_find(const orr_sim *sim, const char *name, uint32_t *node)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (strcmp(sim->nodes[i]->name, name) == 0) {
            *node = i;
            return 1;
        }
    }
    return 0;
}

static int sim_connect(void *ctx, const char *address, orr_conn *c,
                       void **stream, orr_error *err)
{
    orr__sim_host *h = ctx;
    orr_sim *sim = h->exec->sim;
    char name[ORR_ADDRESS_MAX + 1];
    uint16_t port;
    uint32_t node;
    pipe_ *pipe;
    int rc = orr__address_split(address, name, sizeof name, &port, err);

    if (rc != ORR_OK)
        return rc;
    if (!node_find(sim, name, &node))
        return orr_error_set(err, ORR_UNREACHABLE,
                             "cannot connect to %s: the "
                             "simulation has no node \"%.63s\"",
                             address, name);
    pipe = pipe_new(sim, h->exec->node, node, port);
    if (pipe == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory to connect to %s",
                             address);
    pipe->ends[0].exec = h->exec;
    pipe->ends[0].conn = c;
    send_segment(sim, &pipe->paths[0], OPEN, NULL, 0);
    *stream = &pipe->ends[0];
    return ORR_OK;
}

static size_t sim_write(void *stream, const uint8_t *data, size_t len)
{
    end *e = stream;
    orr_sim *sim = e->exec->sim;
    path *p = &e->pipe->paths[e->side];
    size_t sent = send_data(sim, p, data, len);

    p->borrowed = data + sent;
    p->borrowed_len = len - sent;
    return sent;
}

static void sim_close(void *stream, int abort)
{
    end *e = stream;
    orr_sim *sim = e->exec->sim;
    path *p = &e->pipe->paths[e->side];

    e->conn = NULL;
    p->borrowed = NULL;
    p->borrowed_len = 0;
    if (e->pipe->ends[1 - e->side].conn != NULL && !e->pipe->is_reset)
        send_segment(sim, p, abort ? RESET : END, NULL, 0);
    else
        pipe_check(sim, e->pipe);
}

static int sim_listen(void *ctx, const char *address, void **listener,
                      char *bound, size_t size, orr_error *err)
{
    orr__sim_host *h = ctx;
    orr_sim *sim = h->exec->sim;
    orr__sim_node *node = sim->nodes[h->exec->node];
    char name[ORR_ADDRESS_MAX + 1];
    orr__sim_listener *l;
    uint16_t port;
    int rc = orr__address_split(address, name, sizeof name, &port, err);

    if (rc != ORR_OK)
        return rc;
    if (strcmp(name, node->name) != 0)
        return orr_error_set(err, ORR_EIO,
                             "cannot listen on %s: this is node "
                             "%s",
                             address, node->name);
    if (port == 0) {
        while (listener_find(sim, h->exec->node, node->port_next) != NULL)
            node->port_next = node->port_next % PORTS_MAX + 1;
        port = node->port_next;
    } else if (listener_find(sim, h->exec->node, port) != NULL) {
        return orr_error_set(err, ORR_EADDRINUSE,
                             "cannot listen on %s: "
                             "address already in use",
                             address);
    }
    l = orr_calloc(1, sizeof *l);
    if (l == NULL)
        return orr_error_set(err, ORR_ENOMEM, "no memory to listen on %s",
                             address);
    l->host = h;
    l->port = port;
    l->next = sim->listeners;
    sim->listeners = l;
    *listener = l;
    if (size > 0)
        snprintf(bound, size, "%s:%u", name, port);
    return ORR_OK;
}

static void sim_unlisten(void *ctx, void *listener)
{
    orr__sim_host *h = ctx;
    orr__sim_listener **at = &h->exec->sim->listeners;

    while (*at != listener)
        at = &(*at)->next;
    *at = (*at)->next;
    orr_free(listener);
}

static void sim_arm(void *ctx, uint64_t at_ns)
{
    orr__sim_host *h = ctx;

    if (!h->exec->is_dead)
        orr__sim_alarm_set(h->exec->sim, &h->alarm, at_ns, ORR__SIM_TICK, h);
}

/* Events may still point to it: it goes with the simulation. */
static void sim_release(void *ctx)
{
    orr__sim_host *h = ctx;
    h->net = NULL;
}

/* --- nets ----------------------------------------------------------------- */

static orr__sim_exec *exec_find(orr_sim *sim, const orr_executor *ex)
{
    for (uint32_t i = 0; i < sim->exec_count; i++)
        if (ex != NULL && sim->execs[i]->executor == ex)
            return sim->execs[i];
    return NULL;
}

orr_net *orr_sim_net(orr_sim *sim, orr_executor *ex, orr_service *s,
                     const orr_net_options *options, orr_error *err)
{
    orr__sim_exec *e = exec_find(sim, ex);
    orr__sim_host *h;
    orr_transport transport = {
        .connect = sim_connect,
        .listen = sim_listen,
        .unlisten = sim_unlisten,
        .write = sim_write,
        .close = sim_close,
        .arm = sim_arm,
        .release = sim_release,
    };

    if (e == NULL || e->is_dead) {
        orr_error_set(err, e == NULL ? ORR_EINVAL : ORR_ECLOSED,
                      e == NULL ? "not an executor of this simulation"
                                : "the node of this executor crashed");
        return NULL;
    }
    h = orr_calloc(1, sizeof *h);
    if (h == NULL) {
        orr_error_set(err, ORR_ENOMEM, "no memory for a net");
        return NULL;
    }
    h->exec = e;
    h->alarm = (orr__sim_alarm){UINT64_MAX, UINT64_MAX};
    transport.ctx = h;
    h->net = orr__net_new(&e->nets, &transport, ex, s, options, err);
    if (h->net == NULL) {
        orr_free(h);
        return NULL;
    }
    h->next = sim->hosts;
    sim->hosts = h;
    return h->net;
}

void orr__sim_network_free(orr_sim *sim)
{
    orr__sim_host *h;

    while (sim->pipes != NULL)
        pipe_free(sim, sim->pipes);
    while ((h = sim->hosts) != NULL) {
        sim->hosts = h->next;
        orr_free(h);
    }
}
