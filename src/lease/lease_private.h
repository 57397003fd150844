/* What the files of lease share; see lease.h for the story.
 *
 *   machine.c  states                  inputs.c   inputs and questions
 *   request.c  actions, requests, timeouts
 *   writes.c   writes and their ids    seats.c    seats
 *   token.c    tokens, receivers       options.c  parameters
 */
#ifndef ORRERY_LEASE_PRIVATE_H
#define ORRERY_LEASE_PRIVATE_H

#include <stdbool.h>

#include "lease/names.h"

/* The model checker proves that it finds faults by planting some. It compiles
 * these files itself with a definition of its own; elsewhere there are none. */
#ifndef ORR__PLANTED
#define ORR__PLANTED(bug) 0
#endif
enum {
    ORR__BUG_NONE = 0,
    ORR__BUG_RECEIPT_TIME,        /* deadline from receipt, not from sending */
    ORR__BUG_EPOCH_WITHOUT_CLOCK, /* epoch is a plain counter */
    ORR__BUG_RECEIVER_EPOCH_ONLY, /* a receiver looks at the epoch only */
    ORR__BUG_NO_WAIT_CHECK,       /* applied counts as confirmed */
    ORR__BUG_ANY_REPLICA,         /* one of several replicas is enough */
    ORR__BUG_STEAL_EARLY,         /* half a T watched */
    ORR__BUG_OP_ID_IGNORED,       /* a retry is a write of its own */
    ORR__BUG_RENEW_AFTER_LOST,    /* LOST is overheard */
    ORR__BUG_SUSPENDED_ACTS,      /* the deadline is not asked */
    ORR__BUG_RETRY_RENEWS_START,  /* acquire counts from its last sending */
    ORR__BUG_UNKNOWN_IS_FAILED,   /* an unknown write is reported as none */
    ORR__BUG_RETRY_UNWATCHED,     /* a retry of acquire takes what it sees */
    ORR__BUG_GRANT_UNREAD,        /* leads before the snapshot */
    ORR__BUGS
};

enum {
    ORR__TTL_MAX_MS = 24 * 3600 * 1000,
    ORR__SLOT_BITS = 17,   /* of a request: slot below, serial above */
    ORR__SEAT_WINDOW = 32, /* seats being written at a time */
    ORR__FIRST_WRITE = 16  /* slot of the first write */
};

#define ORR__NEVER UINT64_MAX
/* A floor above this is nobody's honest epoch and would use them up. */
#define ORR__FLOOR_MAX (UINT64_C(1) << 52)

/* Requests of which one at a time is under way. */
enum {
    ORR__SLOT_READ,
    ORR__SLOT_ACQUIRE,
    ORR__SLOT_RENEW,
    ORR__SLOT_RESIGN,
    ORR__SLOT_SNAPSHOT,
    ORR__SLOT_FORMAT,
    ORR__SLOTS
};

typedef struct orr__slot {
    uint64_t request; /* 0 = none */
    uint64_t sent_ns;
    uint64_t due_ns;
    uint64_t seq;    /* of a renewal */
    bool is_applied; /* the replicas' answer is awaited */
} orr__slot;

typedef enum orr__write_state {
    ORR__WRITE_FREE = 0,
    ORR__WRITE_QUEUED,  /* to be sent */
    ORR__WRITE_SENT,    /* its answer is awaited */
    ORR__WRITE_APPLIED, /* the replicas' answer is awaited */
    ORR__WRITE_RESTING, /* to be queued again later */
    ORR__WRITE_DONE     /* to be told */
} orr__write_state;

typedef struct orr__write {
    uint64_t user;
    uint64_t deadline_ns;
    uint64_t due_ns;  /* of the answer; of the end of a rest */
    uint64_t request; /* of the attempt under way */
    uint32_t next;    /* of its queue or the free list */
    uint32_t seat;    /* ORR__NONE = a write of the user */
    uint16_t generation;
    uint8_t state;
    bool is_doubtful; /* an attempt ended unknown */
    int32_t result;
    int32_t reason;
    uint8_t op_id[16];
} orr__write;

typedef struct orr__fifo {
    uint32_t head;
    uint32_t tail;
} orr__fifo;

typedef struct orr__seat {
    char address[ORR_LEASE_NAME_MAX + 1]; /* empty = dropped */
    uint32_t next;
    bool is_dirty;     /* in the queue */
    bool is_writing;   /* a write is under way */
    bool is_written;   /* at least tried, under the present token */
    bool is_confirmed; /* under the present token */
} orr__seat;

struct orr_lease {
    orr_lease_options o;
    orr_chance chance;
    int state;
    uint64_t now_ns; /* of the input that is handled */
    uint64_t wall_ms;

    bool is_up;
    bool is_validated; /* a renewal was confirmed on this connection */
    bool is_fit;
    bool is_stopping;
    bool is_handing_over;
    bool has_grant;     /* the contender holds `granted` */
    bool is_unreleased; /* it was told to let go and has not yet */
    bool is_regaining;  /* suspended: acquire above our own epoch */
    bool is_outranked;  /* a receiver knows more than the store */
    bool is_read;       /* the snapshot is there */
    bool has_resigned;  /* RESIGNING: the request was sent */

    orr_token token;        /* of the last attempt; epoch 0 until granted */
    orr_token granted;      /* what the contender leads with */
    uint64_t first_sent_ns; /* of the acquisition */
    uint64_t attempt_floor;
    uint8_t attempt_session[16]; /* the pair that was watched */
    uint64_t attempt_seq;
    uint64_t deadline_ns;
    uint64_t seq; /* of the last renewal sent */
    uint64_t confirmed_seq;
    uint64_t renew_at_ns;
    uint64_t retry_at_ns; /* of the acquisition */
    uint64_t hold_until_ns;
    uint64_t poll_at_ns;
    uint64_t looked_ns;
    uint32_t misses; /* renewals in a row that were not confirmed */

    /* What the record said, and since when by our own clock. */
    orr_lease_record observed;
    uint64_t seen_ns;
    bool has_observed;
    bool has_gone; /* the process of gone_session has ended */
    uint8_t gone_session[16];
    uint8_t store_id[16]; /* known; zeros = not yet */
    uint8_t foreign_id[16];
    bool is_foreign;
    bool is_agreed; /* an operator agreed to format */

    uint64_t floor;
    uint64_t saved_floor;

    orr__slot slots[ORR__SLOTS];
    uint64_t serial;
    orr_lease_action actions[ORR_LEASE_ACTIONS_MAX];
    uint32_t action_head;
    uint32_t action_count;
    uint64_t timer_told_ns;

    orr__write *writes;
    uint32_t write_cap;
    uint32_t write_free;
    uint32_t user_writes;
    uint32_t seat_writes;
    uint64_t op_serial;
    uint64_t writes_due_ns; /* nothing of them is due before */
    orr__fifo write_queue;
    orr__fifo write_done;

    orr__names seat_names;
    orr__seat *seats;
    orr__fifo seat_queue; /* dirty ones */

    int32_t last_alarm;
    uint64_t renewals;
    uint64_t unconfirmed;
    uint64_t late_answers;
    uint64_t grants;
    uint64_t revocations;
};

static inline uint64_t orr__ns(uint32_t ms)
{
    return (uint64_t)ms * 1000000u;
}

/* Whether so many replicas confirm. */
static inline bool orr__is_confirmed(const orr_lease *l, int32_t replicas)
{
    if (ORR__PLANTED(ORR__BUG_NO_WAIT_CHECK))
        return true;
    if (ORR__PLANTED(ORR__BUG_ANY_REPLICA) && replicas >= 1)
        return true;
    return replicas >= 0 && (uint32_t)replicas >= l->o.replicas;
}

bool orr__session_is_set(const uint8_t *session);

/* request.c */
orr_lease_action *orr__push(orr_lease *l, int kind);
void orr__alarm(orr_lease *l, int reason);
uint64_t orr__request_new(orr_lease *l, uint32_t slot);
orr_lease_action *orr__send(orr_lease *l, int slot, int kind);
/* base +- the jitter. */
uint64_t orr__jitter(orr_lease *l, uint32_t base_ms);
/* The connection is of no use: all under way is unknown. */
void orr__drop_requests(orr_lease *l);
void orr__reconnect(orr_lease *l, int reason);
/* True when a request was overdue, and the connection therefore dropped. */
bool orr__expire_requests(orr_lease *l);
uint64_t orr__requests_due(const orr_lease *l);
/* machine.c */
void orr__go(orr_lease *l, int state);
/* What the state wants now, until it stays. */
void orr__settle(orr_lease *l);
bool orr__is_same_id(const uint8_t *a, const uint8_t *b);
void orr__note_floor(orr_lease *l, uint64_t epoch);
void orr__observe(orr_lease *l, const orr_lease_record *r);
void orr__suspend(orr_lease *l, int reason);
void orr__on_acquire(orr_lease *l, const orr_lease_answer *a);
void orr__acquire_durable(orr_lease *l, int32_t replicas);
void orr__on_renew(orr_lease *l, const orr_lease_answer *a);
void orr__renew_durable(orr_lease *l, int32_t replicas);
/* What it means that the request of a slot ended unknown. */
void orr__slot_dropped(orr_lease *l, int slot);
uint64_t orr__wanted_ns(const orr_lease *l);
/* The store said LOST to our token. record may be NULL. */
void orr__lose(orr_lease *l, const orr_lease_record *record);

/* writes.c */
int orr__writes_init(orr_lease *l);
int orr__write_begin(orr_lease *l, uint64_t user, uint64_t deadline_ns,
                     uint32_t seat, uint32_t *index);
void orr__write_answered(orr_lease *l, const orr_lease_answer *a);
void orr__write_durable(orr_lease *l, uint64_t request, int32_t replicas);
void orr__writes_dropped(orr_lease *l);
void orr__writes_end(orr_lease *l);
/* True when an answer was overdue. */
bool orr__writes_expire(orr_lease *l);
bool orr__write_next(orr_lease *l, orr_lease_action *out);
bool orr__written_next(orr_lease *l, orr_lease_action *out);

/* seats.c */
int orr__seats_init(orr_lease *l);
void orr__seats_dirty(orr_lease *l); /* a new token: all are to be written */
void orr__seats_pump(orr_lease *l);
void orr__seat_written(orr_lease *l, uint32_t seat, bool is_confirmed);

/* FIFOs are lists over indices; next is a field of the element. */
static inline bool orr__fifo_is_empty(const orr__fifo *f)
{
    return f->head == ORR__NONE;
}

#endif
