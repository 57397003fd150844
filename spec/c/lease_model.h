/* A world for the lease machine: three machines, a store of up to three servers
 * with replication, two receivers, one queue of events, faults by seed. After
 * every event the promises are checked by means of the world's own; see
 * lease_check_test.c for them. Included by that file alone, after the sources
 * of the machine.
 */
#include <stdio.h>
#include <stdlib.h>

enum {
    MACHINES = 3,
    SERVERS = 3,
    KEYS = 2,
    LOG = 64,
    EVENTS = 512,
    OPS = 1024,
    T_MS = 1000
};
#define MS UINT64_C(1000000)

/* Bugs of the store, beside those of the machine. */
enum {
    BUG_SEQ_BY_STORE = ORR__BUGS, /* renew: seq + 1, not the leader's number */
    BUG_DUP_UNTOUCHED,            /* DUP writes nothing: WAIT covers nothing */
    ALL_BUGS
};

typedef struct world_state {
    orr_lease_record record;
    uint64_t grant_max; /* highest epoch ever granted in this history */
    struct {
        uint64_t version;
        uint8_t op_id[16];
    } keys[KEYS];
} world_state;

typedef struct server {
    world_state state;
    world_state log[LOG]; /* by offset */
    uint64_t offset;
    uint64_t life;    /* connections of an earlier life are dead */
    bool is_attached; /* a replica that follows the primary */
} server;

typedef struct machine {
    orr_lease *lease;
    uint64_t boots;
    bool is_alive;
    bool is_linked;
    uint64_t link;     /* number of the connection */
    uint64_t heard_at; /* its last answer */
    uint32_t server;
    uint64_t life; /* of that server */
    uint64_t woff; /* what this connection has written */
    uint64_t paused_until;
    int64_t rate_ppm;
    int64_t wall_step;
    uint64_t timer_ns; /* by its own clock */
    uint64_t floor_saved;
    /* The world's own reckoning. */
    uint8_t session[16]; /* of the acquisition */
    uint64_t first_sent;
    uint64_t deadline;
    uint64_t confirmed; /* renewals and acquisitions, for coverage */
    uint64_t snapshot[KEYS];
    uint64_t read[KEYS]; /* of the snapshot on its way */
    uint64_t known[KEYS];
    bool is_writing[KEYS];
    bool is_blocked[KEYS]; /* unknown: not before the next grant */
} machine;

typedef struct op {
    uint32_t key;
    uint64_t expected;
    uint32_t applied;
} op;

typedef enum event_kind {
    EV_REQUEST,
    EV_WAIT,
    EV_ANSWER,
    EV_DURABLE,
    EV_TIMER,
    EV_LINK,
    EV_RELEASED,
    EV_SAVED,
    EV_START,
    EV_CALL,
    EV_REFUSED,
    EV_REPLICATE
} event_kind;

typedef struct event {
    uint64_t at;
    uint64_t order;
    event_kind kind;
    uint32_t machine;
    uint64_t link;
    uint32_t server;
    uint64_t life;
    uint64_t request;
    uint64_t sent_own; /* by the machine's clock */
    uint64_t woff;
    uint64_t until; /* of WAIT */
    int32_t replicas;
    int32_t verdict;
    uint32_t receiver;
    bool is_copy;     /* the network doubled it: nobody hears the answer */
    bool is_combined; /* one answer with the replicas in it */
    orr_token token;
    orr_token highest;
    orr_lease_action action;
    orr_lease_answer answer;
} event;

typedef enum profile {
    KEEPS_DATA, /* failovers lose only what was not confirmed */
    LOSES_DATA, /* one server, which comes back with less; clocks are right */
    LOSES_ALL   /* the same, and clocks and floors are no help */
} profile;

typedef struct counters {
    uint64_t grants, suspends, resumes, lost, dups, repairs, unknown_writes,
        confirmed_writes, conflicts, stale, failovers, regressions, pauses,
        unconfirmed, formats, alarms;
} counters;

typedef struct world {
    orr_chance chance;
    uint64_t seed;
    profile profile;
    uint32_t replicas;
    bool is_tight; /* clocks run alike, nothing is watched above T */
    uint64_t now;
    uint64_t order;
    uint32_t heap[EVENTS];
    uint32_t free[EVENTS];
    uint32_t count;
    uint32_t free_count;
    event events[EVENTS];
    server servers[SERVERS];
    uint32_t primary;
    uint64_t frozen_until; /* the store answers nobody */
    uint64_t failover_at;
    uint64_t lags_until; /* replicas are attached and get nothing */
    machine machines[MACHINES];
    uint64_t links;
    orr_receiver *receivers[2];
    orr_token accepted[2];
    orr_token granted; /* the highest that was granted */
    orr_token grants[256];
    uint32_t grant_count;
    uint64_t acked[KEYS];
    op ops[OPS];
    uint32_t op_count;
    bool is_calm; /* no more faults */
    const char *violation;
    counters seen;
} world;

#define IS_PLANTED(bug) (planted == (bug))

static bool is_tracing; /* one seed is replayed */

static void trace(const world *w, const char *what, uint32_t i, int kind,
                  const orr_token *t, uint64_t n)
{
    if (is_tracing)
        printf("%10.3f ms  %u %-9s %2d  token %llu/%02x  %llu\n",
               (double)w->now / 1e6, i, what, kind,
               (unsigned long long)t->epoch, t->session[0],
               (unsigned long long)n);
}

static uint64_t below(world *w, uint64_t n)
{
    return orr_chance_below(&w->chance, n);
}

static bool one_in(world *w, uint64_t n)
{
    return below(w, n) == 0;
}

static void violate(world *w, const char *what)
{
    if (!w->violation)
        w->violation = what;
}

/* Clocks -------------------------------------------------------------------*/

static uint64_t own_clock(const machine *m, uint64_t t)
{
    int64_t s = (int64_t)(t / 1000000) * m->rate_ppm;
    return (uint64_t)((int64_t)t + s);
}

static uint64_t true_clock(const machine *m, uint64_t own)
{
    uint64_t t = (uint64_t)((double)own * 1e6 / (1e6 + (double)m->rate_ppm));
    while (own_clock(m, t) < own)
        t += 1000000;
    return t;
}

static orr_lease_now clock_of(const world *w, const machine *m)
{
    orr_lease_now now = {.mono_ns = own_clock(m, w->now)};
    /* Fine enough that two of them are hardly ever alike. */
    if (w->profile == LOSES_DATA)
        now.wall_ms = UINT64_C(1000000) + w->now / 100;
    else if (w->profile == KEEPS_DATA)
        now.wall_ms = (uint64_t)(INT64_C(100000000) + (int64_t)(w->now / MS) +
                                 m->wall_step);
    return now;
}

/* The queue ----------------------------------------------------------------*/

static bool is_before(const world *w, uint32_t a, uint32_t b)
{
    const event *x = &w->events[a], *y = &w->events[b];
    return x->at != y->at ? x->at < y->at : x->order < y->order;
}

static event *post(world *w, event_kind kind, uint64_t at)
{
    assert(w->free_count > 0);
    uint32_t id = w->free[--w->free_count];
    event *e = &w->events[id];
    memset(e, 0, offsetof(event, action));
    e->kind = kind;
    e->at = at < w->now ? w->now : at;
    e->order = w->order++;
    uint32_t i = w->count++;
    while (i > 0 && is_before(w, id, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = id;
    return e;
}

static uint32_t pop(world *w)
{
    uint32_t top = w->heap[0], last = w->heap[--w->count], i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= w->count)
            break;
        if (child + 1 < w->count &&
            is_before(w, w->heap[child + 1], w->heap[child]))
            child++;
        if (!is_before(w, w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* The same event once more, later. */
static event *repost(world *w, const event *e, event_kind kind, uint64_t at)
{
    event *copy = post(w, kind, at);
    uint64_t then = copy->at, order = copy->order;
    *copy = *e;
    copy->kind = kind;
    copy->at = then;
    copy->order = order;
    return copy;
}

static uint64_t latency(world *w)
{
    if (w->is_calm || !one_in(w, 20))
        return MS / 10 + below(w, 10 * MS);
    return below(w, 160 * MS);
}

/* The store ----------------------------------------------------------------*/

static void wrote(world *w, server *s, machine *m, uint64_t link)
{
    s->offset++;
    s->log[s->offset % LOG] = s->state;
    if (m->link == link)
        m->woff = s->offset;
    (void)w;
}

static bool holds(const world_state *st, const orr_token *t)
{
    const orr_lease_record *r = &st->record;
    if (!r->exists || !r->held)
        return false;
    return orr_token_equal(&r->token, t);
}

static void refuse(orr_lease_answer *a, const world_state *st, int reason)
{
    a->outcome = ORR_LEASE_NOT_APPLIED;
    a->reason = reason;
    a->has_record = 1;
    a->record = st->record;
}

static bool store_acquire(world *w, world_state *st, const orr_lease_action *x,
                          orr_lease_answer *a)
{
    orr_lease_record *r = &st->record;
    static const uint8_t none[16];
    const uint8_t *session = r->exists ? r->token.session : none;
    if (r->exists && r->held && memcmp(session, x->token.session, 16) == 0) {
        w->seen.dups++;
        a->epoch = r->token.epoch;
        return !IS_PLANTED(BUG_DUP_UNTOUCHED);
    }
    if (memcmp(session, x->observed_session, 16) != 0 ||
        (r->exists ? r->seq : 0) != x->observed_seq) {
        refuse(a, st, ORR_LEASE_BUSY);
        return false;
    }
    uint64_t epoch =
        orr_epoch_next(r->exists ? r->token.epoch : 0, x->floor, x->wall_ms);
    if (w->profile == KEEPS_DATA && epoch <= st->grant_max)
        violate(w, "S2: a grant does not exceed the one before");
    r->exists = r->held = 1;
    r->token = x->token;
    r->token.epoch = epoch;
    r->seq = 1;
    r->ttl_ms = x->ttl_ms;
    st->grant_max = epoch;
    a->epoch = epoch;
    return true;
}

static bool store_write(world *w, world_state *st, const orr_lease_action *x,
                        orr_lease_answer *a)
{
    op *o = &w->ops[x->user];
    if (memcmp(st->keys[o->key].op_id, x->op_id, 16) == 0) {
        w->seen.dups++;
        return !IS_PLANTED(BUG_DUP_UNTOUCHED);
    }
    if (st->keys[o->key].version != o->expected) {
        w->seen.conflicts++;
        refuse(a, st, ORR_LEASE_CONFLICT);
        return false;
    }
    if (st->grant_max > x->token.epoch && w->profile == KEEPS_DATA)
        violate(w, "S3: a write of an old epoch is applied after a grant");
    st->keys[o->key].version++;
    memcpy(st->keys[o->key].op_id, x->op_id, 16);
    o->applied++;
    return true;
}

/* Carries one request out; true when something was written. */
static bool carry_out(world *w, machine *m, server *s,
                      const orr_lease_action *x, orr_lease_answer *a)
{
    world_state *st = &s->state;
    orr_lease_record *r = &st->record;
    switch (x->kind) {
    case ORR_LEASE_READ:
        a->has_record = 1;
        a->record = *r;
        return false;
    case ORR_LEASE_FORMAT:
        if (!orr__session_is_set(r->store_id))
            memcpy(r->store_id, x->op_id, 16);
        w->seen.formats++;
        return false;
    case ORR_LEASE_ACQUIRE: return store_acquire(w, st, x, a);
    }
    if (!holds(st, &x->token)) {
        w->seen.lost++;
        refuse(a, st, ORR_LEASE_LOST);
        return false;
    }
    switch (x->kind) {
    case ORR_LEASE_RENEW:
        a->has_record = !IS_PLANTED(BUG_SEQ_BY_STORE);
        a->record = *r;
        if (IS_PLANTED(BUG_SEQ_BY_STORE))
            r->seq++;
        else if (x->seq > r->seq)
            r->seq = x->seq;
        return true;
    case ORR_LEASE_RESIGN: r->held = 0; return true;
    case ORR_LEASE_CONFIRM: return true;
    case ORR_LEASE_WRITE: return store_write(w, st, x, a);
    default: /* snapshot and repair */
        for (int k = 0; k < KEYS; k++)
            m->read[k] = st->keys[k].version;
        return false;
    }
}

static uint32_t confirmed_by(const world *w, uint32_t at, uint64_t woff)
{
    uint32_t n = 0;
    if (at != w->primary)
        return 0;
    for (uint32_t i = 0; i < SERVERS; i++) {
        const server *s = &w->servers[i];
        n += i != at && i <= w->replicas && s->is_attached && s->offset >= woff;
    }
    return n;
}

static void answer_at(world *w, const event *e, event_kind kind)
{
    if (e->is_copy || (!w->is_calm && one_in(w, 40)))
        return; /* nobody hears it */
    /* A connection keeps the order of its answers. */
    machine *m = &w->machines[e->machine];
    uint64_t at = w->now + latency(w);
    if (e->link == m->link) {
        at = at > m->heard_at ? at : m->heard_at;
        m->heard_at = at;
    }
    event *out = post(w, kind, at);
    out->machine = e->machine;
    out->link = e->link;
    out->request = e->request;
    out->replicas = e->replicas;
    out->sent_own = e->sent_own;
    out->action = e->action;
    out->answer = e->answer;
}

static void on_request(world *w, event *e)
{
    machine *m = &w->machines[e->machine];
    server *s = &w->servers[e->server];
    if (s->life != e->life)
        return;
    if (w->now < w->frozen_until) {
        repost(w, e, EV_REQUEST, w->frozen_until + latency(w));
        return;
    }
    e->request = e->action.request;
    e->answer =
        (orr_lease_answer){.request = e->request, .outcome = ORR_LEASE_APPLIED};
    bool is_write = carry_out(w, m, s, &e->action, &e->answer);
    if (is_write)
        trace(w, "wrote", e->machine, e->action.kind, &s->state.record.token,
              e->server * 1000000 + s->offset + 1);
    if (is_write)
        wrote(w, s, m, e->link);
    bool is_waited = e->answer.outcome == ORR_LEASE_APPLIED &&
                     (e->action.kind == ORR_LEASE_ACQUIRE ||
                      e->action.kind == ORR_LEASE_RENEW ||
                      e->action.kind == ORR_LEASE_WRITE);
    if (!is_waited) {
        answer_at(w, e, EV_ANSWER);
        return;
    }
    e->is_combined = one_in(w, 2);
    if (!e->is_combined) {
        e->answer.replicas = ORR_LEASE_AWAITED;
        answer_at(w, e, EV_ANSWER);
    }
    e->until = w->now + below(w, 90 * MS);
    event *wait = repost(w, e, EV_WAIT, w->now + below(w, 5 * MS));
    wait->woff = m->link == e->link ? m->woff : s->offset;
}

/* WAIT answers as soon as enough replicas have it, or when its time is up. */
static void on_wait(world *w, event *e)
{
    if (w->servers[e->server].life != e->life)
        return;
    e->replicas = (int32_t)confirmed_by(w, e->server, e->woff);
    if ((uint32_t)e->replicas < w->replicas && w->now < e->until) {
        repost(w, e, EV_WAIT, w->now + 8 * MS);
        return;
    }
    trace(w, "waited", e->machine, e->replicas, &e->action.token, e->woff);
    e->answer.replicas = e->replicas;
    answer_at(w, e, e->is_combined ? EV_ANSWER : EV_DURABLE);
}

static void on_replicate(world *w)
{
    const server *p = &w->servers[w->primary];
    for (uint32_t i = 0; i <= w->replicas; i++) {
        server *s = &w->servers[i];
        bool is_late = w->now < w->lags_until && p->offset < s->offset + 40;
        if (is_late || i == w->primary || !s->is_attached ||
            s->offset >= p->offset)
            continue;
        uint64_t lag = p->offset - s->offset;
        uint64_t step = lag >= LOG - 4 ? lag : below(w, lag + 1);
        if (step == 0)
            continue;
        for (uint64_t k = step < LOG ? step : LOG; k > 0; k--) {
            uint64_t at = s->offset + step - k + 1;
            s->log[at % LOG] = p->log[at % LOG];
        }
        s->offset += step;
        s->state = s->log[s->offset % LOG];
    }
    if (w->replicas > 0)
        post(w, EV_REPLICATE, w->now + MS + below(w, 15 * MS));
}

/* The machines' driver -----------------------------------------------------*/

static void relink(world *w, uint32_t i, uint64_t delay)
{
    machine *m = &w->machines[i];
    m->is_linked = false;
    m->link = ++w->links;
    event *e = post(w, EV_LINK, w->now + delay);
    e->machine = i;
    e->link = m->link;
}

static void send(world *w, uint32_t i, const orr_lease_action *a)
{
    machine *m = &w->machines[i];
    uint64_t own = own_clock(m, w->now);
    if (a->kind == ORR_LEASE_ACQUIRE &&
        memcmp(m->session, a->token.session, 16) != 0) {
        memcpy(m->session, a->token.session, 16);
        m->first_sent = own;
    }
    int copies = !w->is_calm && one_in(w, 30) ? 2 : 1;
    if (!w->is_calm && one_in(w, 60))
        copies = 0; /* lost with its connection */
    for (int k = 0; k < copies; k++) {
        event *e = post(w, EV_REQUEST,
                        w->now + latency(w) + (uint64_t)k * latency(w) * 8);
        e->machine = i;
        e->link = m->link;
        e->server = m->server;
        e->life = m->life;
        e->sent_own = a->kind == ORR_LEASE_ACQUIRE ? m->first_sent : own;
        e->is_copy = k > 0;
        e->action = *a;
    }
}

static void on_grant(world *w, machine *m, const orr_token *t)
{
    w->seen.grants++;
    for (uint32_t i = 0; w->profile != LOSES_ALL && i < w->grant_count; i++) {
        if (w->grants[i].epoch == t->epoch &&
            memcmp(w->grants[i].session, t->session, 16) != 0)
            violate(w, "S2: one epoch is granted to two sessions");
    }
    if (w->grant_count < 256)
        w->grants[w->grant_count++] = *t;
    if (w->profile == KEEPS_DATA && t->epoch <= w->granted.epoch)
        violate(w, "S2: the epochs of grants do not grow");
    w->granted = *t;
    for (int k = 0; k < KEYS; k++) {
        if (w->profile == KEEPS_DATA && m->snapshot[k] < w->acked[k])
            violate(w, "S5: a leader does not find an acknowledged write");
        m->known[k] = m->snapshot[k];
        m->is_blocked[k] = m->is_writing[k];
    }
}

static void on_written(world *w, machine *m, const orr_lease_action *a)
{
    const op *o = &w->ops[a->user];
    m->is_writing[o->key] = false;
    if (a->result == ORR_WRITE_CONFIRMED) {
        w->seen.confirmed_writes++;
        m->known[o->key] = o->expected + 1;
        if (w->acked[o->key] < o->expected + 1)
            w->acked[o->key] = o->expected + 1;
        if (o->applied == 0)
            violate(w, "S5: a write that was never applied is confirmed");
    } else if (a->result == ORR_WRITE_NOT_APPLIED) {
        if (o->applied > 0 && w->profile == KEEPS_DATA)
            violate(w, "S8: a write reported as not applied is applied");
        m->is_blocked[o->key] = a->reason == ORR_LEASE_CONFLICT;
    } else {
        w->seen.unknown_writes++;
        m->is_blocked[o->key] = true;
    }
}

static void drive(world *w, uint32_t i)
{
    machine *m = &w->machines[i];
    orr_lease_action a;
    while (orr_lease_next(m->lease, &a) == 1) {
        event *e;
        if (a.kind != ORR_LEASE_TIMER && a.kind != ORR_LEASE_READ)
            trace(w, "action", i, a.kind, &a.token, a.seq);
        switch (a.kind) {
        case ORR_LEASE_RECONNECT: relink(w, i, MS + below(w, 60 * MS)); break;
        case ORR_LEASE_TIMER:
            m->timer_ns = a.at_ns;
            if (a.at_ns == UINT64_MAX)
                break;
            e = post(w, EV_TIMER, true_clock(m, a.at_ns));
            e->machine = i;
            e->request = a.at_ns;
            break;
        case ORR_LEASE_PUBLISH: break;
        case ORR_LEASE_SAVE_FLOOR:
            e = post(w, EV_SAVED, w->now + below(w, 5 * MS));
            e->machine = i;
            e->request = a.floor;
            e->life = m->boots;
            break;
        case ORR_LEASE_GRANT: on_grant(w, m, &a.token); break;
        case ORR_LEASE_REVOKE:
            e = post(w, EV_RELEASED, w->now + below(w, 20 * MS));
            e->machine = i;
            e->life = m->boots;
            break;
        case ORR_LEASE_SUSPEND: w->seen.suspends++; break;
        case ORR_LEASE_RESUME: w->seen.resumes++; break;
        case ORR_LEASE_WRITTEN: on_written(w, m, &a); break;
        case ORR_LEASE_ENDED:
            e = post(w, EV_START, w->now + below(w, 2000 * MS));
            e->machine = i;
            break;
        case ORR_LEASE_ALARM: w->seen.alarms++; break;
        case ORR_LEASE_REPAIR:
            w->seen.repairs++;
            send(w, i, &a);
            break;
        default: send(w, i, &a);
        }
    }
}

static void boot(world *w, uint32_t i)
{
    machine *m = &w->machines[i];
    orr_lease_free(m->lease);
    orr_lease_options o;
    orr_lease_options_init(&o, T_MS);
    if (w->is_tight) {
        o.rate_ppm = o.stall_ms = o.slack_ms = 0;
        o.margin_ms = o.request_ms;
    }
    o.replicas = w->replicas;
    o.writes_max = 4;
    o.seats_max = 4;
    o.auto_format = 1;
    o.save_floor = 1;
    o.seed = orr_chance_next(&w->chance);
    orr_chance_bytes(&w->chance, o.incarnation, 16);
    if (w->profile != LOSES_ALL && one_in(w, 2))
        o.floor = m->floor_saved;
    m->lease = orr_lease_new(&o, NULL);
    assert(m->lease);
    m->is_alive = true;
    m->boots++;
    m->deadline = 0;
    m->timer_ns = UINT64_MAX;
    memset(m->session, 0, 16);
    memset(m->is_writing, 0, sizeof m->is_writing);
    memset(m->snapshot, 0, sizeof m->snapshot);
    orr_lease_now now = clock_of(w, m);
    orr_lease_start(m->lease, &now);
    relink(w, i, below(w, 20 * MS));
    drive(w, i);
}

/* Faults -------------------------------------------------------------------*/

static void failover(world *w)
{
    uint32_t to =
        (w->primary + 1 + (uint32_t)below(w, w->replicas)) % (w->replicas + 1);
    if (!w->servers[to].is_attached)
        return;
    w->seen.failovers++;
    trace(w, "failover", to, 0, &w->servers[to].state.record.token,
          w->servers[to].offset);
    w->servers[w->primary].is_attached = false;
    w->primary = to;
    for (uint32_t i = 0; i <= w->replicas; i++) {
        server *s = &w->servers[i];
        /* A replica that is ahead of the new primary copies it anew. */
        if (i != to && s->is_attached) {
            uint64_t life = s->life;
            *s = w->servers[to];
            s->life = life;
        }
    }
    w->servers[to].is_attached = true;
}

/* The old primary, or one that was cut off, copies the primary. */
static void reattach(world *w)
{
    for (uint32_t i = 0; i <= w->replicas; i++) {
        server *s = &w->servers[i];
        if (i == w->primary || s->is_attached)
            continue;
        uint64_t life = s->life;
        *s = w->servers[w->primary];
        s->life = life + 1;
        s->is_attached = true;
    }
}

static void restart_store(world *w)
{
    server *s = &w->servers[w->primary];
    s->life++;
    if (w->profile == KEEPS_DATA)
        return;
    w->seen.regressions++;
    uint64_t back = below(w, 12);
    if (back > s->offset || one_in(w, 4)) {
        orr_lease_record none = {0};
        if (one_in(w, 2))
            memcpy(none.store_id, s->state.record.store_id, 16);
        memset(&s->state, 0, sizeof s->state);
        s->state.record = none;
    } else {
        s->state = s->log[(s->offset - back) % LOG];
    }
    s->log[++s->offset % LOG] = s->state;
}

static void hint_gone(world *w, const orr_token *t, uint32_t dead)
{
    for (uint32_t k = 0; k < MACHINES; k++) {
        machine *m = &w->machines[k];
        if (k == dead || !m->is_alive || w->now < m->paused_until)
            continue;
        orr_lease_now now = clock_of(w, m);
        orr_lease_hint(m->lease, &now, ORR_HINT_GONE, t->session);
        drive(w, k);
    }
}

static void fault(world *w)
{
    uint32_t i = (uint32_t)below(w, MACHINES);
    machine *m = &w->machines[i];
    orr_lease_now now = clock_of(w, m);
    switch (below(w, 12)) {
    case 0:
    case 1:
        w->seen.pauses++;
        m->paused_until = w->now + below(w, 3 * T_MS * MS);
        break;
    case 2: {
        orr_lease_status st;
        orr_lease_get_status(m->lease, &st);
        boot(w, i);
        m->paused_until = w->now + below(w, T_MS * MS);
        if (st.token.epoch && one_in(w, 2))
            hint_gone(w, &st.token, i);
        break;
    }
    case 3: m->wall_step = (int64_t)below(w, 40000000) - 20000000; break;
    case 4:
    case 5:
        if (w->now < m->paused_until)
            break;
        orr_lease_link(m->lease, &now, 0);
        relink(w, i, below(w, 400 * MS));
        drive(w, i);
        break;
    case 6:
    case 7:
        if (w->replicas == 0)
            restart_store(w);
        else if (one_in(w, 4))
            reattach(w);
        else { /* what the replicas do not get until then is lost */
            w->failover_at = w->now + below(w, 400 * MS);
            if (one_in(w, 2))
                w->lags_until = w->failover_at;
        }
        break;
    case 8: /* replicas lag, one is cut off, or all are back */
        w->lags_until = w->now + below(w, T_MS * MS);
        if (one_in(w, 2))
            break;
        if (w->replicas && one_in(w, 2))
            w->servers[(w->primary + 1) % (w->replicas + 1)].is_attached =
                false;
        else
            reattach(w);
        break;
    case 9: w->frozen_until = w->now + below(w, T_MS * MS); break;
    case 10:
        if (w->now < m->paused_until)
            break;
        if (one_in(w, 2))
            orr_lease_stop(m->lease, &now);
        else
            orr_lease_handover(m->lease, &now);
        drive(w, i);
        break;
    case 11:
        if (w->now < m->paused_until)
            break;
        orr_lease_hint(m->lease, &now, ORR_HINT_CHANGED, NULL);
        drive(w, i);
        break;
    }
}

/* What the leaders do ------------------------------------------------------*/

static void act(world *w, uint32_t i)
{
    machine *m = &w->machines[i];
    orr_token token;
    orr_lease_now now = clock_of(w, m);
    if (w->now < m->paused_until ||
        !orr_lease_may_act(m->lease, now.mono_ns, &token))
        return;
    uint64_t late = one_in(w, 8) ? below(w, 3 * T_MS * MS) : latency(w);
    event *e = post(w, EV_CALL, w->now + late);
    e->machine = i;
    e->receiver = (uint32_t)below(w, 2);
    e->token = token;
    uint32_t key = (uint32_t)below(w, KEYS), write;
    if (m->is_writing[key] || m->is_blocked[key] || w->op_count == OPS)
        return;
    uint64_t until = one_in(w, 4) ? now.mono_ns + below(w, 300 * MS) : 0;
    w->ops[w->op_count] = (op){.key = key, .expected = m->known[key]};
    if (orr_lease_write(m->lease, &now, w->op_count, until, &write) == ORR_OK)
        m->is_writing[key] = true;
    w->op_count++;
    drive(w, i);
}

static void on_call(world *w, const event *e)
{
    orr_token highest;
    uint32_t r = e->receiver;
    int verdict =
        orr_receiver_check(w->receivers[r], "lease", &e->token, &highest);
    if (verdict == ORR_VERDICT_ADOPTED || verdict == ORR_VERDICT_ACCEPTED) {
        orr_token *last = &w->accepted[r];
        if (e->token.epoch < last->epoch)
            violate(w, "S1: a receiver accepts a lower epoch");
        if (e->token.epoch == last->epoch &&
            memcmp(e->token.session, last->session, 16) != 0)
            violate(w, "S1: a receiver accepts one epoch of two sessions");
        *last = e->token;
        return;
    }
    w->seen.stale++;
    event *back = post(w, EV_REFUSED, w->now + latency(w));
    back->machine = e->machine;
    back->verdict = verdict;
    back->token = e->token;
    back->highest = highest;
}

/* One event ----------------------------------------------------------------*/

static void note_confirmed(world *w, machine *m, const event *e)
{
    if (e->action.kind == ORR_LEASE_WRITE || e->replicas < 0 ||
        (uint32_t)e->replicas < w->replicas)
        return;
    bool is_lease = e->action.kind == ORR_LEASE_RENEW ||
                    e->action.kind == ORR_LEASE_ACQUIRE;
    uint64_t margin = w->is_tight ? T_MS / 10 : T_MS / 5;
    uint64_t until = e->sent_own + (T_MS - margin) * MS;
    if (is_lease && e->answer.outcome == ORR_LEASE_APPLIED &&
        until > m->deadline) {
        m->deadline = until;
        m->confirmed++;
    }
}

static void deliver(world *w, event *e)
{
    machine *m = &w->machines[e->machine];
    orr_lease_now now = clock_of(w, m);
    if (w->now < m->paused_until) {
        repost(w, e, e->kind, m->paused_until + below(w, 3 * MS));
        return;
    }
    bool is_current = e->link == m->link && m->is_linked;
    uint64_t self = m->boots;
    switch (e->kind) {
    case EV_ANSWER:
        if (!is_current)
            return;
        if (e->answer.replicas != ORR_LEASE_AWAITED)
            note_confirmed(w, m, e);
        if (e->action.kind == ORR_LEASE_SNAPSHOT ||
            e->action.kind == ORR_LEASE_REPAIR)
            memcpy(m->snapshot, m->read, sizeof m->read);
        orr_lease_answered(m->lease, &now, &e->answer);
        break;
    case EV_DURABLE:
        if (!is_current)
            return;
        note_confirmed(w, m, e);
        orr_lease_durable(m->lease, &now, e->request, e->replicas);
        break;
    case EV_TIMER:
        if (e->request != m->timer_ns)
            return;
        orr_lease_tick(m->lease, &now);
        break;
    case EV_LINK:
        if (e->link != m->link)
            return;
        m->is_linked = true;
        m->woff = m->heard_at = 0;
        /* Now and then it is led to a server that was deposed. */
        m->server = w->primary;
        if (!w->is_calm && w->replicas && one_in(w, 5))
            m->server = (uint32_t)below(w, w->replicas + 1);
        if (w->servers[m->server].is_attached && m->server != w->primary)
            m->server = w->primary; /* a replica tells its role */
        m->life = w->servers[m->server].life;
        orr_lease_link(m->lease, &now, 1);
        break;
    case EV_RELEASED:
        if (e->life != self)
            return;
        orr_lease_released(m->lease, &now);
        break;
    case EV_SAVED:
        if (e->life != self)
            return;
        m->floor_saved = e->request;
        orr_lease_floor_saved(m->lease, &now, e->request, ORR_OK);
        break;
    case EV_START: orr_lease_start(m->lease, &now); break;
    case EV_REFUSED:
        orr_lease_rejected(m->lease, &now, e->verdict, &e->token, &e->highest);
        break;
    default: return;
    }
    drive(w, e->machine);
}

static void check_now(world *w)
{
    uint32_t acting = 0;
    for (uint32_t i = 0; i < MACHINES; i++) {
        const machine *m = &w->machines[i];
        uint64_t own = own_clock(m, w->now);
        if (w->now < m->paused_until || !orr_lease_may_act(m->lease, own, NULL))
            continue;
        acting++;
        if (own >= m->deadline)
            violate(w, "S4: a leader acts after its deadline");
    }
    if (acting > 1 && w->profile == KEEPS_DATA)
        violate(w, "S4: two leaders may act at once");
}

static void step(world *w)
{
    uint32_t id = pop(w);
    event *e = &w->events[id];
    w->now = e->at;
    switch (e->kind) {
    case EV_REQUEST: on_request(w, e); break;
    case EV_WAIT: on_wait(w, e); break;
    case EV_CALL: on_call(w, e); break;
    case EV_REPLICATE: on_replicate(w); break;
    default: deliver(w, e);
    }
    w->free[w->free_count++] = id;
    check_now(w);
    if (one_in(w, 8))
        act(w, (uint32_t)below(w, MACHINES));
    if (w->failover_at && w->now >= w->failover_at) {
        w->failover_at = 0;
        failover(w);
    }
    if (!w->is_calm && one_in(w, 60))
        fault(w);
}

static void world_init(world *w, uint64_t seed)
{
    memset(w, 0, offsetof(world, events));
    memset(&w->servers, 0, sizeof *w - offsetof(world, servers));
    orr_chance_seed(&w->chance, seed);
    w->seed = seed;
    w->now = 1000 * MS;
    for (uint32_t i = 0; i < EVENTS; i++)
        w->free[w->free_count++] = i;
    uint64_t kind = below(w, 10);
    w->profile = kind < 6 ? KEEPS_DATA : kind < 8 ? LOSES_DATA : LOSES_ALL;
    w->replicas = w->profile == KEEPS_DATA ? (uint32_t)below(w, 3) : 0;
    w->is_tight = one_in(w, 2);
    for (int i = 0; i < 2; i++)
        w->receivers[i] = orr_receiver_new(1);
    for (uint32_t i = 0; i <= w->replicas; i++) {
        w->servers[i].is_attached = true;
        w->servers[i].state.record.store_id[0] = 1;
        w->servers[i].log[0] = w->servers[i].state;
    }
    for (uint32_t i = 0; i < MACHINES; i++) {
        if (!w->is_tight)
            w->machines[i].rate_ppm = (int64_t)below(w, 18000) - 9000;
        boot(w, i);
    }
    on_replicate(w);
}

static void world_fini(world *w)
{
    for (int i = 0; i < MACHINES; i++)
        orr_lease_free(w->machines[i].lease);
    for (int i = 0; i < 2; i++)
        orr_receiver_free(w->receivers[i]);
}

static bool has_leader(const world *w)
{
    for (uint32_t i = 0; i < MACHINES; i++) {
        const machine *m = &w->machines[i];
        if (orr_lease_may_act(m->lease, own_clock(m, w->now), NULL))
            return true;
    }
    return false;
}

/* Faults for so many steps, then calm until somebody leads. */
static void world_run(world *w, uint32_t steps)
{
    for (uint32_t i = 0; i < steps && !w->violation; i++)
        step(w);
    w->is_calm = true;
    w->frozen_until = w->lags_until = w->failover_at = 0;
    reattach(w);
    for (uint32_t i = 0; i < MACHINES; i++)
        w->machines[i].paused_until = 0;
    uint64_t until = w->now + UINT64_C(8) * T_MS * MS;
    while (!w->violation && w->now < until)
        step(w);
    if (!has_leader(w))
        violate(w, "L1: nobody leads although all is well");
}
