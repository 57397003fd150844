/* Virtual time, nodes and executors of a simulation. See sim.h.
 *
 * An executor turns only by a TURN event: asked for by its driver's wake, by
 * its deadline, by what the network brought it, or because somebody gave it
 * work between two steps. Which one comes first is decided by (time, sequence)
 * alone.
 */
#include "sim/sim_private.h"

#include <string.h>

static const uint64_t start_ns = 1000000000u;
static const uint64_t epoch_ms = 1577836800000u; /* 2020-01-01 */

enum { NS_PER_MS = 1000000 };

/* --- events and their trace ----------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

void orr__sim_trace(orr_sim *sim, uint64_t kind, uint64_t a, uint64_t b,
                    const void *data, size_t len)
{
    uint64_t hash = mix(mix(sim->hash, sim->now_ns), kind);

    hash = mix(mix(hash, a), b);
    sim->hash = mix(mix(hash, len), len > 0 ? orr_crc32c(0, data, len) : 0);
}

void orr__sim_schedule(orr_sim *sim, uint64_t at_ns, orr__sim_kind kind,
                       void *what)
{
    if (at_ns < sim->now_ns)
        at_ns = sim->now_ns;
    if (orr__sim_queue_push(&sim->queue, at_ns, kind, what) != ORR_OK)
        sim->failed = 1;
}

void orr__sim_turn_soon(orr__sim_exec *e)
{
    if (e->is_dead || e->turn_pending)
        return;
    e->turn_pending = 1;
    orr__sim_schedule(e->sim, e->sim->now_ns, ORR__SIM_TURN, e);
}

void orr__sim_alarm_set(orr_sim *sim, orr__sim_alarm *alarm, uint64_t at_ns,
                        orr__sim_kind kind, void *what)
{
    if (at_ns < sim->now_ns)
        at_ns = sim->now_ns;
    alarm->wanted_ns = at_ns;
    if (at_ns >= alarm->armed_ns)
        return;
    alarm->armed_ns = at_ns;
    orr__sim_schedule(sim, at_ns, kind, what);
}

int orr__sim_alarm_due(orr_sim *sim, orr__sim_alarm *alarm, orr__sim_kind kind,
                       void *what)
{
    uint64_t wanted = alarm->wanted_ns;

    if (alarm->armed_ns != sim->now_ns)
        return 0; /* stale */
    alarm->armed_ns = UINT64_MAX;
    alarm->wanted_ns = UINT64_MAX;
    if (wanted <= sim->now_ns)
        return 1;
    if (wanted != UINT64_MAX)
        orr__sim_alarm_set(sim, alarm, wanted, kind, what);
    return 0;
}

/* --- the driver ----------------------------------------------------------- */

static uint64_t driver_now_ns(void *ctx)
{
    orr__sim_exec *e = ctx;
    return e->sim->now_ns;
}

static uint64_t driver_wall_ms(void *ctx)
{
    orr__sim_exec *e = ctx;
    return orr_sim_wall_ms(e->sim);
}

static void driver_wake(void *ctx)
{
    orr__sim_turn_soon(ctx);
}

static void driver_arm(void *ctx, uint64_t at_ns)
{
    orr__sim_exec *e = ctx;

    if (!e->is_dead)
        orr__sim_alarm_set(e->sim, &e->alarm, at_ns, ORR__SIM_TIMER, e);
}

static orr_link *driver_dial(void *ctx, orr_executor *ex, orr_service *s,
                             const char *address, orr_error *err)
{
    orr__sim_exec *e = ctx;

    if (e->is_dead) {
        orr_error_set(err, ORR_UNREACHABLE,
                      "cannot connect to %s: node %s crashed", address,
                      e->sim->nodes[e->node]->name);
        return NULL;
    }
    return orr__nets_dial(&e->nets, ex, s, address, err);
}

/* --- making --------------------------------------------------------------- */

orr_sim *orr_sim_new(uint64_t seed)
{
    orr_sim *sim = orr_calloc(1, sizeof *sim);

    if (sim == NULL)
        return NULL;
    sim->now_ns = start_ns;
    sim->latency_min_ns = NS_PER_MS;
    sim->latency_max_ns = 5 * NS_PER_MS;
    orr_chance_seed(&sim->chance, seed);
    orr_chance_fork(&sim->chance, &sim->net_chance);
    orr_chance_fork(&sim->chance, &sim->user_chance);
    sim->hash = mix(0xcbf29ce484222325u, seed);
    return sim;
}

static void exec_end(orr__sim_exec *e)
{
    if (e->executor == NULL)
        return;
    orr__nets_detach(&e->nets);
    orr_executor_free(e->executor);
    e->executor = NULL;
    e->is_dead = 1;
}

void orr_sim_free(orr_sim *sim)
{
    if (sim == NULL)
        return;
    for (uint32_t i = 0; i < sim->exec_count; i++)
        exec_end(sim->execs[i]);
    orr__sim_network_free(sim);
    for (uint32_t i = 0; i < sim->exec_count; i++)
        orr_free(sim->execs[i]);
    for (uint32_t i = 0; i < sim->node_count; i++)
        orr_free(sim->nodes[i]);
    orr_free(sim->execs);
    orr_free(sim->queue.items);
    orr_free(sim);
}

static int is_name(const char *name)
{
    size_t len = strlen(name);

    return len >= 1 && len <= ORR_SIM_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789_.-") == len;
}

int orr_sim_node(orr_sim *sim, const char *name, uint32_t *node)
{
    orr__sim_node *n;

    if (!is_name(name))
        return ORR_EINVAL;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (strcmp(sim->nodes[i]->name, name) == 0) {
            *node = i;
            return ORR_OK;
        }
    }
    if (sim->node_count == ORR_SIM_NODES_MAX)
        return ORR_ENOSPC;
    n = orr_calloc(1, sizeof *n);
    if (n == NULL)
        return ORR_ENOMEM;
    memcpy(n->name, name, strlen(name));
    n->is_up = 1;
    n->port_next = 1;
    *node = sim->node_count;
    sim->nodes[sim->node_count++] = n;
    return ORR_OK;
}

static int execs_grow(orr_sim *sim)
{
    orr__sim_exec **execs;

    if ((sim->exec_count & (sim->exec_count - 1)) != 0)
        return ORR_OK;
    execs = orr_realloc(sim->execs,
                        2 * sizeof *execs *
                            (sim->exec_count == 0 ? 1 : sim->exec_count));
    if (execs == NULL)
        return ORR_ENOMEM;
    sim->execs = execs;
    return ORR_OK;
}

orr_executor *orr_sim_executor(orr_sim *sim, uint32_t node, uint32_t number,
                               orr_error *err)
{
    orr_driver driver = {
        .now_ns = driver_now_ns,
        .wall_ms = driver_wall_ms,
        .wake = driver_wake,
        .arm = driver_arm,
        .dial = driver_dial,
    };
    orr__sim_exec *e;

    if (node >= sim->node_count) {
        orr_error_set(err, ORR_EINVAL, "the simulation has no node %u", node);
        return NULL;
    }
    if (!sim->nodes[node]->is_up) {
        orr_error_set(err, ORR_ECLOSED, "node %s is down",
                      sim->nodes[node]->name);
        return NULL;
    }
    e = orr_calloc(1, sizeof *e);
    if (e != NULL && execs_grow(sim) == ORR_OK) {
        e->sim = sim;
        e->index = sim->exec_count;
        e->node = node;
        e->alarm = (orr__sim_alarm){UINT64_MAX, UINT64_MAX};
        driver.ctx = e;
        e->executor =
            orr_executor_new(&driver, number, orr_chance_next(&sim->chance));
    }
    if (e == NULL || e->executor == NULL) {
        orr_free(e);
        orr_error_set(err, ORR_ENOMEM, "no memory for an executor");
        return NULL;
    }
    sim->execs[sim->exec_count++] = e;
    return e->executor;
}

int orr_sim_executor_free(orr_sim *sim, orr_executor *ex)
{
    for (uint32_t i = 0; i < sim->exec_count; i++) {
        if (ex != NULL && sim->execs[i]->executor == ex) {
            exec_end(sim->execs[i]);
            return ORR_OK;
        }
    }
    return ORR_ENOENT;
}

/* --- time ----------------------------------------------------------------- */

/* What the owner did since the last step: frames to send, work for itself. */
static void execs_settle(orr_sim *sim)
{
    for (uint32_t i = 0; i < sim->exec_count; i++) {
        orr__sim_exec *e = sim->execs[i];

        if (e->is_dead)
            continue;
        orr_executor_flush(e->executor);
        if (!e->turn_pending && !orr_executor_try_sleep(e->executor))
            orr__sim_turn_soon(e);
    }
}

static int turn(orr_sim *sim, orr__sim_exec *e, orr_sim_event *out)
{
    e->turn_pending = 0;
    if (e->is_dead)
        return 0;
    orr__sim_trace(sim, ORR__SIM_TURN, e->index, e->node, NULL, 0);
    orr_executor_awake(e->executor);
    *out = (orr_sim_event){.executor = e->executor,
                           .index = e->index,
                           .node = e->node,
                           .now_ns = sim->now_ns};
    return 1;
}

static void timer(orr_sim *sim, orr__sim_exec *e)
{
    if (!e->is_dead && orr__sim_alarm_due(sim, &e->alarm, ORR__SIM_TIMER, e))
        orr__sim_turn_soon(e);
}

static void tick(orr_sim *sim, orr__sim_host *h)
{
    if (h->net == NULL || h->exec->is_dead ||
        !orr__sim_alarm_due(sim, &h->alarm, ORR__SIM_TICK, h))
        return;
    orr__sim_trace(sim, ORR__SIM_TICK, h->exec->index, 0, NULL, 0);
    orr__net_tick(h->net, sim->now_ns);
    orr__sim_turn_soon(h->exec);
}

/* Answers 1 when an executor must turn. */
static int process(orr_sim *sim, const orr__sim_item *item, orr_sim_event *out)
{
    sim->events++;
    switch (item->kind) {
    case ORR__SIM_TURN: return turn(sim, item->what, out);
    case ORR__SIM_TIMER: timer(sim, item->what); return 0;
    case ORR__SIM_TICK: tick(sim, item->what); return 0;
    case ORR__SIM_ARRIVE: orr__sim_arrive(sim, item->what); return 0;
    case ORR__SIM_RESET: orr__sim_reset(sim, item->what); return 0;
    case ORR__SIM_NOTE: break;
    }
    return 0;
}

int orr_sim_step(orr_sim *sim, uint64_t until_ns, orr_sim_event *out)
{
    const orr__sim_item *first;

    execs_settle(sim);
    while (!sim->failed) {
        orr__sim_item item;

        first = orr__sim_queue_first(&sim->queue);
        if (first == NULL || first->at_ns > until_ns) {
            if (until_ns != UINT64_MAX && until_ns > sim->now_ns)
                sim->now_ns = until_ns;
            return 0;
        }
        item = orr__sim_queue_pop(&sim->queue);
        sim->now_ns = item.at_ns;
        if (process(sim, &item, out))
            return 1;
    }
    return ORR_ENOMEM;
}

uint64_t orr_sim_now_ns(const orr_sim *sim)
{
    return sim->now_ns;
}

uint64_t orr_sim_wall_ms(const orr_sim *sim)
{
    return epoch_ms + (sim->now_ns - start_ns) / NS_PER_MS;
}

uint64_t orr_sim_next_ns(orr_sim *sim)
{
    const orr__sim_item *first;

    execs_settle(sim);
    first = orr__sim_queue_first(&sim->queue);
    return first != NULL ? first->at_ns : UINT64_MAX;
}

orr_chance *orr_sim_chance(orr_sim *sim)
{
    return &sim->user_chance;
}

/* --- faults --------------------------------------------------------------- */

static int are_nodes(const orr_sim *sim, uint32_t a, uint32_t b)
{
    return a < sim->node_count && b < sim->node_count && a != b;
}

int orr_sim_set_latency(orr_sim *sim, uint64_t min_ns, uint64_t max_ns)
{
    if (max_ns < min_ns)
        return ORR_EINVAL;
    sim->latency_min_ns = min_ns;
    sim->latency_max_ns = max_ns;
    return ORR_OK;
}

int orr_sim_set_path_latency(orr_sim *sim, uint32_t from, uint32_t to,
                             uint64_t min_ns, uint64_t max_ns)
{
    if (!are_nodes(sim, from, to) || max_ns < min_ns)
        return ORR_EINVAL;
    sim->nodes[from]->latency_min_ns[to] = min_ns;
    sim->nodes[from]->latency_max_ns[to] = max_ns;
    return ORR_OK;
}

int orr_sim_cut(orr_sim *sim, uint32_t from, uint32_t to, int cut)
{
    uint64_t bit;

    if (!are_nodes(sim, from, to))
        return ORR_EINVAL;
    bit = (uint64_t)1 << to;
    if (cut) {
        sim->nodes[from]->cut |= bit;
    } else {
        sim->nodes[from]->cut &= ~bit;
        orr__sim_resume(sim);
    }
    return ORR_OK;
}

int orr_sim_partition(orr_sim *sim, uint32_t a, uint32_t b, int cut)
{
    int rc = orr_sim_cut(sim, a, b, cut);
    return rc != ORR_OK ? rc : orr_sim_cut(sim, b, a, cut);
}

void orr_sim_heal(orr_sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        sim->nodes[i]->cut = 0;
    orr__sim_resume(sim);
}

int orr_sim_crash(orr_sim *sim, uint32_t node)
{
    if (node >= sim->node_count)
        return ORR_EINVAL;
    if (!sim->nodes[node]->is_up)
        return ORR_EAGAIN;
    sim->nodes[node]->is_up = 0;
    for (uint32_t i = 0; i < sim->exec_count; i++)
        if (sim->execs[i]->node == node)
            sim->execs[i]->is_dead = 1;
    orr__sim_node_lost(sim, node);
    return ORR_OK;
}

int orr_sim_restart(orr_sim *sim, uint32_t node)
{
    if (node >= sim->node_count)
        return ORR_EINVAL;
    if (sim->nodes[node]->is_up)
        return ORR_EAGAIN;
    sim->nodes[node]->is_up = 1;
    return ORR_OK;
}

/* --- the trace ------------------------------------------------------------ */

uint64_t orr_sim_trace_hash(const orr_sim *sim)
{
    return sim->hash;
}

void orr_sim_trace_note(orr_sim *sim, const void *data, size_t len)
{
    orr__sim_trace(sim, ORR__SIM_NOTE, 0, 0, data, len);
}

uint64_t orr_sim_events(const orr_sim *sim)
{
    return sim->events;
}
