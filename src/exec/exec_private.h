/* What the files of exec share. See exec.h for the story. */
#ifndef ORRERY_EXEC_PRIVATE_H
#define ORRERY_EXEC_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "orrery/exec.h"

/* Kinds of messages beyond those of frames; they never leave the process. */
enum {
    ORR__MSG_RUN = 32,      /* owner-side job */
    ORR__MSG_REPLY_OUT = 33 /* a reply on its way to the executor of a link */
};

enum {
    ORR__NAME_MAX = 128,
    ORR__CHUNK = 1024,        /* endpoints a chunk */
    ORR__CHUNKS = 256,        /* 262,144 endpoints a service */
    ORR__BUCKETS = 4096,      /* of the name table */
    ORR__CALLS_MAX = 1 << 20, /* waiting calls an executor */
    ORR__INDEX_BITS = 20,     /* of handles: index below, generation above */
    ORR__INDEX_MASK = (1 << ORR__INDEX_BITS) - 1,
    ORR__BODY_KEEP = 4096, /* larger bodies are not kept for reuse */
    ORR__BODY_FIRST = 192
};

/* Of any message, also those that stay here: what a header can say. */
#define ORR__BODY_MAX UINT32_MAX

#define ORR__NONE UINT32_MAX

/* Who sent a message: a bit in the sets of orr__description.permissions. */
typedef enum orr__role {
    ORR__ROLE_LOCAL = 0,  /* this process */
    ORR__ROLE_PLAIN = 1,  /* a peer without TLS */
    ORR__ROLE_NOBODY = 2, /* TLS, no role in the certificate */
    ORR__ROLE_FIRST = 3,  /* those with names: roles[] of the service */
    ORR__ROLES = 64
} orr__role;

typedef struct orr__endpoint orr__endpoint;
typedef struct orr__stats orr__stats;
typedef struct orr__method_stats orr__method_stats;

/* What endpoints of one class have in common; shared, counted, under the
 * service's lock. Its content never changes. */
typedef struct orr__description {
    struct orr__description *next;
    uint32_t users;
    uint32_t method_count;
    uint8_t *methods;
    size_t methods_len;
    char *gateways;
    uint8_t *control;      /* a byte a method, or NULL */
    uint64_t *permissions; /* a set of roles a method, 0 = anybody; or NULL */
} orr__description;

/* A message on its way or waiting. Owned by exactly one list or holder. */
struct orr_msg {
    orr_msg *next;
    uint8_t kind;
    uint8_t lane;
    uint16_t flags; /* orr_frame_flag */
    uint8_t role;   /* of who sent it: orr__role */
    uint32_t endpoint;
    uint32_t incarnation;
    uint32_t method; /* ORR__MSG_RUN: the id */
    int32_t status;  /* replies */
    /* Where the answer goes: a call of origin, or a link of origin. */
    uint32_t call_slot;
    uint32_t call_generation;
    uint32_t link; /* number, 0 = origin made the call itself */
    orr_executor *origin;
    orr_service *service;
    uint64_t deadline_ns; /* 0 = none */
    uint64_t enqueued_ns; /* when it was posted, or came to the mailbox */
    uint64_t trace;       /* 0 = not traced */
    uint64_t parent_span; /* of the handler that sent it, 0 = none */
    uint64_t span;        /* of the handler that has it */
    orr_token token;
    orr_buf body;
};

typedef struct orr__queue {
    orr_msg *head;
    orr_msg *tail;
} orr__queue;

/* Type-stable: its memory stays for the life of the service, so that any thread
 * may look at the atomics. Everything else is the owner's, or under the
 * service's lock where it says so. */
struct orr__endpoint {
    orr_service *service;
    uint32_t slot;
    _Atomic(orr_executor *) executor;
    _Atomic uint32_t incarnation;
    _Atomic int state;
    char *name;                    /* lock */
    uint32_t hash_next;            /* lock */
    orr__description *description; /* lock */
    uint32_t ref;
    bool fenced;
    orr_token token;
    orr__queue lanes[ORR_LANES];
    uint32_t capacity[ORR_LANES];
    _Atomic uint32_t depth[ORR_LANES];
    _Atomic uint64_t oldest_ns; /* when the oldest message came; 0 = none */
    _Atomic uint64_t handled;
    _Atomic uint64_t refused;
    _Atomic uint64_t expired;
    _Atomic uint64_t running_since_ns;
    _Atomic uint32_t running_method;
    /* On their way through the inbox of the executor: posted by any thread,
     * received by the owner; posted_ns is when the first one since the inbox
     * was last taken (posted_turn) came. */
    _Atomic uint64_t posted;
    _Atomic uint64_t received;
    _Atomic uint64_t posted_ns;
    _Atomic uint64_t posted_turn;
    _Atomic(orr__stats *) stats; /* by the owner; replaced under the lock */
    orr__method_stats *retired;  /* lock; see orr_service_method_reset */
    uint32_t active;             /* head of the calls taken and not answered */
    bool is_ready;
    uint32_t quota;
    orr__endpoint *ready_next;
};

struct orr_service {
    char name[ORR__NAME_MAX];
    char cluster_id[ORR__NAME_MAX];
    char address[ORR__NAME_MAX]; /* lock */
    uint64_t incarnation;
    pthread_mutex_t lock;
    _Atomic(orr__endpoint **) chunks[ORR__CHUNKS];
    _Atomic uint32_t count;
    orr__description *descriptions; /* lock */
    char *roles[ORR__ROLES];        /* lock; NULL below ORR__ROLE_FIRST */
    _Atomic int requires_tls;
    uint32_t stats_tables;  /* lock */
    _Atomic int stats_full; /* no table can be made now */
    uint32_t free_head;     /* lock; chained by hash_next */
    uint32_t next_incarnation;
    uint32_t buckets[ORR__BUCKETS];
};

typedef enum orr__call_state {
    ORR__CALL_FREE = 0,
    ORR__CALL_WAITING,
    ORR__CALL_PROBING, /* expired; the callee was asked where it is */
    ORR__CALL_DONE     /* its event waits in the done queue */
} orr__call_state;

/* One call of ours that waits for its answer. */
typedef struct orr__call {
    uint32_t generation;
    uint32_t next; /* free list, or list of its link */
    uint32_t prev;
    uint32_t heap_pos; /* ORR__NONE = no deadline */
    int32_t status;    /* of a call that ended without memory for a message */
    uint8_t state;
    bool is_resolve;
    bool is_external; /* answered by orr_executor_external_finish */
    orr_link *link;   /* NULL = same process */
    orr_service *service;
    uint32_t endpoint;
    uint32_t incarnation;
    uint32_t method;
    uint64_t started_ns;
    uint64_t inherited_ns; /* its time limit when that is the parent's rest */
    uint32_t parent;       /* index of the active call that made it, 0 = none */
    uint32_t kin_next;     /* others of the same parent */
    uint32_t kin_prev;
    char *address;   /* of a resolve; owned */
    orr_token token; /* of a resolve */
    bool has_token;
} orr__call;

/* One call of somebody that was taken here and is not answered. */
typedef struct orr__active {
    uint32_t generation;
    uint32_t next; /* free list, or list of its endpoint */
    uint32_t prev;
    orr_msg *msg;
    orr__endpoint *endpoint;
    uint64_t taken_ns;
    uint32_t children; /* head of the calls that it made and that wait */
    bool is_abandoned;
    bool is_expired; /* abandoned because the caller's time was over */
} orr__active;

typedef struct orr__timer {
    uint32_t generation;
    uint32_t next;
    uint32_t heap_pos;
    bool is_fired; /* its event waits */
    bool is_used;
} orr__timer;

typedef struct orr__target {
    uint32_t generation;
    uint32_t next;
    bool is_used;
    bool is_remote;
    bool has_token;
    orr_service *service;
    orr_link *link;
    char *address;
    uint32_t endpoint;
    uint32_t incarnation;
    orr_token token;
} orr__target;

/* Deadlines of calls and timers, a 4-ary heap by (time, sequence). */
typedef struct orr__heap_entry {
    uint64_t at_ns;
    uint64_t sequence;
    uint32_t index;
    bool is_timer;
} orr__heap_entry;

/* A growable table of slots with a free list; element 0 is never used. */
typedef struct orr__table {
    void *items;
    uint32_t count;
    uint32_t capacity;
    uint32_t free_head;
    uint32_t used;
} orr__table;

/* Counts of times by size: four buckets an octave from 64 ns on, so a value is
 * known to 12.5 %. One thread writes, any reads. */
enum { ORR__HISTOGRAM = 128 };
typedef struct orr__histogram {
    _Atomic uint64_t max_ns;
    _Atomic uint64_t counts[ORR__HISTOGRAM];
} orr__histogram;

/* What runs between two orr_executor_next, for the statistics. */
typedef struct orr__slice {
    orr__method_stats *stats; /* NULL = nothing that is measured */
    uint64_t started_ns;
    uint64_t taken_ns; /* of the call; handler time counts from here */
    bool is_done;      /* answered, or a tell */
} orr__slice;

/* Tables of an executor as of its last flush. */
typedef struct orr__seen {
    _Atomic uint32_t endpoints, calls, active, timers, links;
    _Atomic uint64_t dropped;
} orr__seen;

struct orr_executor {
    orr_driver driver;
    uint32_t number;
    orr_chance chance;
    orr_executor *pool_next;

    /* any thread */
    _Atomic(orr_msg *) inbox;
    _Atomic int sleeping;
    _Atomic uint64_t wakeups;
    pthread_mutex_t wake_lock; /* guards is_closed against a wake */
    bool is_closed;

    /* by the owner, for any thread */
    _Atomic uint64_t turns;
    _Atomic uint64_t turn_ns; /* when the last one began */
    _Atomic(orr__endpoint *) running;
    orr__seen seen;
    orr__histogram lag;       /* from when a turn was wanted to when it began */
    orr_executor *alive_next; /* alive_lock */

    /* owner */
    uint64_t now_ns;
    bool now_is_fresh;
    uint64_t base_ns; /* of orr__clock: this time was at that tick */
    uint64_t base_tick;
    uint64_t tick_scale; /* 2^32 ns a tick; 0 = ticks are not used */
    orr__slice slice;
    orr_msg *current; /* what runs now was caused by this message, or NULL */
    uint32_t current_call; /* its handle when it is an ask */
    uint64_t batch_end_ns;
    uint32_t batch_left;
    orr__table calls;
    orr__table actives;
    orr__table timers;
    orr__table targets;
    orr__table links; /* of orr__link_slot */
    orr__heap_entry *heap;
    uint32_t heap_len;
    uint32_t heap_cap;
    uint64_t heap_sequence;
    uint64_t armed_ns;
    orr__queue done;    /* replies to give out */
    uint32_t failed;    /* calls to end without a message, by next */
    orr__queue cancels; /* cancel events to give out; method = active handle */
    uint32_t *fired;    /* timers to give out, a ring */
    uint32_t fired_len, fired_pos, fired_cap;
    orr__endpoint *ready_head;
    orr__endpoint *ready_tail;
    orr_msg *lent; /* body of the last event */
    orr_link *dirty;
    orr_msg *free_msgs;
    uint32_t free_count;
    uint32_t endpoints;
    _Atomic uint64_t events;
    uint64_t dropped;
};

typedef struct orr__link_slot {
    uint32_t generation;
    uint32_t next;
    orr_link *link;
} orr__link_slot;

/* table.c: slots with generations */
uint32_t orr__table_take(orr__table *t, size_t item, uint32_t max);
uint32_t *orr__table_next(orr__table *t, size_t item, uint32_t index);
void orr__table_give(orr__table *t, size_t item, uint32_t index);
static inline uint32_t orr__handle(uint32_t index, uint32_t generation)
{
    return index | (generation << ORR__INDEX_BITS);
}

/* heap.c */
int orr__heap_push(orr_executor *ex, uint64_t at_ns, uint32_t index,
                   bool is_timer);
void orr__heap_remove(orr_executor *ex, uint32_t pos);

/* msg.c */
orr_msg *orr__msg_new(orr_executor *ex);
void orr__msg_free(orr_executor *ex, orr_msg *m);
void orr__msgs_release(orr_executor *ex);
void orr__depot_clear(void);
static inline void orr__queue_push(orr__queue *q, orr_msg *m)
{
    m->next = NULL;
    if (q->tail == NULL)
        q->head = m;
    else
        q->tail->next = m;
    q->tail = m;
}
static inline orr_msg *orr__queue_pop(orr__queue *q)
{
    orr_msg *m = q->head;
    if (m != NULL) {
        q->head = m->next;
        if (q->head == NULL)
            q->tail = NULL;
    }
    return m;
}
/* The inbox of an executor that has ended. */
#define ORR__INBOX_CLOSED ((orr_msg *)1)
/* Takes m, unless it answers false: that executor has ended. Thread: any. */
bool orr__post(orr_executor *to, orr_msg *m);

/* service.c */
orr__endpoint *orr__endpoint_at(orr_service *s, uint32_t slot);
/* Writes the resolve answer or an error map into body; answers its status. */
int orr__resolve(orr_service *s, const char *name, size_t name_len,
                 const char *gateway, size_t gateway_len, orr_buf *body,
                 uint32_t *slot, uint32_t *incarnation);

/* role.c */
/* The number of a role, new or known; lock held. */
uint8_t orr__role_number(orr_service *s, const char *name, size_t len);
/* The sets of options->permissions, NULL when nothing is asked for; lock held.
 * Answers ORR_OK, ORR_EINVAL, ORR_ENOMEM. Gives. */
int orr__permissions(orr_service *s, const char *const *texts, uint32_t count,
                     uint64_t **out);
/* Answers a call whose sender lacks the role. Takes m. */
void orr__refuse(orr_executor *ex, orr__endpoint *ep, orr_msg *m);
static inline bool orr__may_call(const orr__endpoint *ep, const orr_msg *m)
{
    const uint64_t *sets = ep->description->permissions;
    if (sets == NULL || sets[m->method] == 0)
        return true;
    if (m->role == ORR__ROLE_LOCAL && m->link == 0)
        return true;
    if (m->role == ORR__ROLE_PLAIN)
        return !atomic_load_explicit(&ep->service->requires_tls,
                                     memory_order_relaxed);
    return (sets[m->method] >> m->role & 1) != 0;
}

/* mailbox.c */
void orr__deliver(orr_executor *ex, orr_msg *m);
void orr__fail(orr_executor *ex, orr_msg *m, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
orr_msg *orr__mailbox_next(orr_executor *ex, orr__endpoint **from);
void orr__cancel_here(orr_executor *ex, orr_msg *m);

/* call.c */
int orr__call_new(orr_executor *ex, uint64_t timeout_ns, uint32_t *slot);
orr__call *orr__call_at(orr_executor *ex, uint32_t slot);
void orr__call_done(orr_executor *ex, uint32_t slot, orr_msg *reply);
void orr__call_fail(orr_executor *ex, uint32_t slot, int code,
                    const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void orr__call_free(orr_executor *ex, uint32_t slot);
void orr__call_set_link(orr_executor *ex, uint32_t slot, orr_link *l);
void orr__call_expired(orr_executor *ex, uint32_t slot);
void orr__on_reply(orr_executor *ex, orr_msg *m);
uint32_t orr__active_new(orr_executor *ex, orr__endpoint *ep, orr_msg *m);
/* NULL when it was answered. */
orr__active *orr__active_at(orr_executor *ex, uint32_t handle);
/* Cancels the calls that it made. */
void orr__active_cancel_children(orr_executor *ex, uint32_t handle);
/* call made by what runs now. */
void orr__call_set_parent(orr_executor *ex, uint32_t slot);
orr_msg *orr__active_take(orr_executor *ex, uint32_t handle, bool *abandoned);
void orr__route_reply(orr_executor *ex, orr_msg *m);

/* link.c */
orr_link *orr__link_at(orr_executor *ex, uint32_t number);
int orr__link_send(orr_executor *ex, orr_link *l, const orr_header *h,
                   orr_buf *body);

/* executor.c: shows its tables to other threads. */
void orr__executor_see(orr_executor *ex);

/* stats.c */
void orr__histogram_add(orr__histogram *h, uint64_t ns);
void orr__histogram_read(const orr__histogram *h, orr_latency *out);
/* A message of ep is taken: a slice begins. */
void orr__stats_taken(orr_executor *ex, orr__endpoint *ep, const orr_msg *m,
                      uint64_t now_ns);
/* Ends the slice; answers the time, or 0 when there was none. */
uint64_t orr__stats_slice_end(orr_executor *ex);
void orr__stats_answered(orr_executor *ex, uint32_t handle,
                         const orr__active *a, int32_t status);
/* Goes on with a handler that waited. */
void orr__stats_resumed(orr_executor *ex, const orr__active *a,
                        uint64_t now_ns);
void orr__stats_refused(orr__endpoint *ep, uint32_t method);
void orr__stats_expired(orr__endpoint *ep, uint32_t method);
/* Forgets all of an endpoint; lock held. */
void orr__stats_clear(orr_executor *ex, orr__endpoint *ep);
/* Posts a message to the endpoint's executor, counted as waiting there. False:
 * it has ended; m is still the caller's. */
bool orr__post_to(orr_executor *from, orr__endpoint *ep, orr_executor *to,
                  orr_msg *m);
void orr__method_name(const orr__description *d, uint32_t method, char *out,
                      size_t size);
/* Lets ticks tell the time between two readings of the clock. */
void orr__clock_base(orr_executor *ex);

/* trace.c */
extern _Atomic int orr__tracing;
/* Gives m the trace of what runs now, or a new one. */
void orr__trace_send(orr_executor *ex, orr_msg *m);
void orr__trace_taken(orr_executor *ex, orr__endpoint *ep, orr_msg *m);
void orr__trace_ended(orr_executor *ex, const orr__endpoint *ep,
                      const orr_msg *m, uint64_t taken_ns, int32_t status);
/* The bytes in front of a traced body. */
int orr__trace_write(const orr_msg *m, orr_buf *out);
int orr__trace_read(orr_msg *m);

/* Error bodies: {code = name, message = text}. */
int orr__pack_error(orr_buf *body, int code, const char *text);

/* The time, read at most once an event. It never goes back, also when ticks
 * were a little ahead. */
static inline uint64_t orr__now(orr_executor *ex)
{
    if (!ex->now_is_fresh) {
        uint64_t now = ex->driver.now_ns(ex->driver.ctx);
        ex->now_ns = now > ex->now_ns ? now : ex->now_ns;
        ex->now_is_fresh = true;
    }
    return ex->now_ns;
}

/* The time for what happens all the time: ticks since the last turn, less than
 * half the price of the clock and a little behind it. */
static inline uint64_t orr__clock(orr_executor *ex)
{
#if defined(__x86_64__)
    if (ex->tick_scale != 0) {
        uint64_t ticks = __rdtsc() - ex->base_tick;
        if (ticks <= UINT32_MAX) {
            uint64_t now = ex->base_ns + (ticks * ex->tick_scale >> 32);
            return now > ex->now_ns ? now : ex->now_ns;
        }
    }
#endif
    ex->now_is_fresh = false;
    return orr__now(ex);
}

static inline uint64_t orr__since(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

#endif
