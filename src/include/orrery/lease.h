/* The leader lease: who leads, with which token, and until when. Pure: time
 * and answers in, actions out. A driver (embedded, Redis) owns a connection to
 * a store, carries the actions out and brings the answers back; nothing here
 * opens, sends, sleeps or looks at a clock.
 *
 * Safety rests on the token (epoch and session), which the store and every
 * receiver check; time only decides who may try. The lease of a process is
 * shared by all its seats (dispatcher, resource manager, job-<id>, ...), so
 * renewing costs the same however many there are.
 *
 * States
 *   CANDIDATE   watches (session, seq) of the record on its own clock
 *   ACQUIRING   acquire is sent, or waits for a connection to be sent again
 *   CONFIRMING  granted; waits to hear that enough replicas have it
 *   READING     confirmed; the snapshot is read before anybody leads
 *   LEADING     may act until the deadline: sent + T - margin of the last
 *               confirmed renewal
 *   SUSPENDED   deadline passed, or the store is not to be trusted; loss is
 *               not proven. Starts nothing, keeps trying.
 *   REVOKED     the token is gone; waits until the contender has let go
 *   RESIGNING   gives the lease back: contender first, record second
 *   STOPPED     wants nothing
 *
 * The happy path: start, link up; READ, answer; ACQUIRE, answer; the replicas'
 * answer; SNAPSHOT, answer; GRANT; then RENEW every T/4.
 * When it goes wrong:
 *   no answer in time, connection lost    the outcome is unknown: RECONNECT;
 *                                         same operation id again
 *   too few replicas                      not confirmed: does not count
 *   LOST, FENCED                          REVOKE
 *   the record is older than our own      ALARM, SUSPEND, acquire above our
 *   epoch, or has gone                    epoch, REPAIR, REVOKE old, GRANT new
 *   a receiver knows a higher token       floor raised; renew; if the store
 *                                         still says us, acquire above it
 *
 * What the store must do, each step atomic, checks before the first write:
 *   acquire  If the stored session is the new one and held: answer APPLIED with
 *            the stored epoch, and write something: WAIT covers only what the
 *            same connection has written. If (session, seq) is not the observed
 *            pair (none: all zero): NOT_APPLIED, BUSY, record. Else epoch =
 *            orr_epoch_next(stored, floor, wall), seq 1, held.
 *   renew    token matches and held: seq = max(stored, given), APPLIED with the
 *            record as it was; else NOT_APPLIED, LOST, record. The leader gives
 *            seq, so that one pair never stands for two renewals, not even on
 *            two servers after a failover.
 *   resign, confirm, write: same check. resign keeps epoch, session and seq and
 *            clears held. write: same operation id: APPLIED (and writes
 *            something); other version: NOT_APPLIED, CONFLICT.
 *
 * Ownership: new gives, free takes; everything else borrows. All memory is
 * taken by new. Thread: owner, for everything on one object.
 */
#ifndef ORRERY_LEASE_H
#define ORRERY_LEASE_H

#include "orrery/wire.h"

/* ffi:begin */
typedef struct orr_lease orr_lease;
typedef struct orr_receiver orr_receiver;

enum {
    ORR_LEASE_NAME_MAX = 127, /* bytes of a name, of an address */
    ORR_LEASE_SEATS_MAX = 65536,
    ORR_LEASE_WRITES_MAX = 32768,
    ORR_RECEIVER_NAMES_MAX = 65536
};

/* Tokens. An epoch is 1 .. 2^53-1; a session of zeros is none. */
int orr_token_equal(const orr_token *a, const orr_token *b);
/* max(stored + 1, floor + 1, wall_ms); 0 when that is no epoch any more. */
uint64_t orr_epoch_next(uint64_t stored, uint64_t floor, uint64_t wall_ms);

/* The receiver's rule: the highest token seen, per name. */
typedef enum orr_verdict {
    ORR_VERDICT_ADOPTED = 0,  /* higher epoch: remembered, run the call */
    ORR_VERDICT_ACCEPTED = 1, /* the known token: run the call */
    ORR_VERDICT_CONFLICT = 2, /* known epoch, other session: refuse */
    ORR_VERDICT_STALE = 3     /* lower epoch: refuse */
} orr_verdict;
/* NULL: no memory, or names_max not 1 .. ORR_RECEIVER_NAMES_MAX. */
orr_receiver *orr_receiver_new(uint32_t names_max);
void orr_receiver_free(orr_receiver *r);
/* Answers a verdict; highest (may be NULL) is the highest token afterwards.
 * ORR_EINVAL (name or token is none), ORR_ENOSPC (too many names). */
int orr_receiver_check(orr_receiver *r, const char *name,
                       const orr_token *token, orr_token *highest);
/* ORR_OK or ORR_ENOENT. forget is for names that never come back. */
int orr_receiver_highest(const orr_receiver *r, const char *name,
                         orr_token *highest);
int orr_receiver_forget(orr_receiver *r, const char *name);

typedef struct orr_lease_options {
    uint32_t ttl_ms;         /* T: how long the lease stands unrenewed */
    uint32_t margin_ms;      /* m: the leader stops so much earlier */
    uint32_t renew_ms;       /* between renewals */
    uint32_t jitter_percent; /* of renewals and polls, to both sides */
    uint32_t request_ms;     /* an answer must be there by then */
    uint32_t wait_ms;        /* and the replicas' answer so much later */
    uint32_t poll_ms;        /* between a candidate's looks */
    uint32_t slack_ms;       /* a candidate watches so much above T(1+rate) */
    uint32_t stall_ms;       /* longest stall of the loop that m allows for */
    uint32_t grace_ms;       /* longest time suspended */
    uint32_t rate_ppm;       /* how far the rates of two clocks may differ */
    uint32_t failover_ms;    /* measured failover of the store; 0 = none */
    uint32_t replicas;       /* R, declared: so many must confirm */
    uint32_t seats_max;
    uint32_t writes_max;     /* writes under way at a time */
    int32_t auto_format;     /* 1 = an empty store is formatted unasked */
    int32_t is_exclusive;    /* 1 = no other process uses the store: no record
                             means nobody leads */
    int32_t save_floor;      /* 1 = SAVE_FLOOR is answered by floor_saved, and
                             a grant waits for it */
    uint64_t floor;          /* highest epoch known from before; 0 = none */
    uint64_t seed;           /* of jitter and, with incarnation, of sessions */
    uint8_t incarnation[16]; /* random, new for every start of a process */
    uint8_t store_id[16];    /* the store must have it; zeros = any */
} orr_lease_options;

/* The defaults for a T: m T/5, renewal T/4 +- 10 %, answers T/10, replicas
 * T/10 but at most 500 ms, poll and slack T/10, stall T/20, grace 5 T, rate
 * 2 %, 64 seats, 1024 writes. */
void orr_lease_options_init(orr_lease_options *o, uint32_t ttl_ms);
/* ORR_OK, or ORR_EINVAL with the rule that is broken. */
int orr_lease_options_check(const orr_lease_options *o, orr_error *err);

typedef enum orr_lease_state {
    ORR_LEASE_STOPPED = 0,
    ORR_LEASE_CANDIDATE = 1,
    ORR_LEASE_ACQUIRING = 2,
    ORR_LEASE_CONFIRMING = 3,
    ORR_LEASE_READING = 4,
    ORR_LEASE_LEADING = 5,
    ORR_LEASE_SUSPENDED = 6,
    ORR_LEASE_REVOKED = 7,
    ORR_LEASE_RESIGNING = 8
} orr_lease_state;

/* Why; of answers, revocations, reconnections, alarms and finished writes. */
typedef enum orr_lease_reason {
    ORR_LEASE_NONE = 0,
    /* why an operation was not applied */
    ORR_LEASE_BUSY = 1,        /* acquire: the record is not the observed one */
    ORR_LEASE_LOST = 2,        /* another token, or not held: also FENCED */
    ORR_LEASE_CONFLICT = 3,    /* write: another version */
    ORR_LEASE_REFUSED = 4,     /* the store would not: OOM, MISCONF, ... */
    ORR_LEASE_NOT_PRIMARY = 5, /* READONLY, LOADING: look for another */
    ORR_LEASE_EXPIRED = 6,     /* write: its deadline passed, never sent */
    /* of unknown outcomes and reconnections */
    ORR_LEASE_TIMEOUT = 7,
    ORR_LEASE_DISCONNECTED = 8,
    ORR_LEASE_NOT_DURABLE = 9, /* too few replicas */
    /* of revocations and suspensions */
    ORR_LEASE_DEADLINE = 10,
    ORR_LEASE_GRACE = 11,    /* suspended for too long */
    ORR_LEASE_REPLACED = 12, /* by a higher token of our own */
    ORR_LEASE_HANDOVER = 13,
    ORR_LEASE_STOP = 14,
    ORR_LEASE_UNFIT = 15, /* the driver's checks failed */
    /* of alarms */
    ORR_LEASE_STORE_COLD = 16,      /* empty, and nobody agreed to format */
    ORR_LEASE_STORE_FOREIGN = 17,   /* not the store we know */
    ORR_LEASE_STORE_REGRESSED = 18, /* older than what was confirmed */
    ORR_LEASE_BAD_RECORD = 19,      /* a field is out of range */
    ORR_LEASE_OUTRANKED = 20,       /* a receiver knows a token above ours */
    ORR_LEASE_FLOOR_UNSAVED = 21    /* the floor could not be written */
} orr_lease_reason;

/* "leading"; NULL for no such state. */
const char *orr_lease_state_name(int state);
/* A sentence for people, without a full stop. */
const char *orr_lease_reason_text(int reason);

/* The record as the store has it. No record: exists 0, but store_id is set
 * when the store is formatted. */
typedef struct orr_lease_record {
    int32_t exists;
    int32_t held;
    orr_token token;
    uint64_t seq;
    uint64_t ttl_ms;
    uint8_t store_id[16]; /* zeros = not formatted */
} orr_lease_record;

typedef struct orr_lease_now {
    uint64_t mono_ns; /* the process's monotonic clock */
    uint64_t wall_ms; /* only for the clock's term of the epoch */
} orr_lease_now;

typedef enum orr_lease_action_kind {
    /* To the store; each is answered by orr_lease_answer with its request. */
    ORR_LEASE_READ = 1,
    ORR_LEASE_ACQUIRE = 2, /* token.session, observed, floor, wall_ms, ttl_ms */
    ORR_LEASE_RENEW = 3,   /* token, seq */
    ORR_LEASE_CONFIRM = 4, /* token, index = seat, op_id: write its address,
                               none when the seat has been dropped */
    ORR_LEASE_RESIGN = 5,  /* token */
    ORR_LEASE_SNAPSHOT = 6, /* token; all records, on this connection */
    ORR_LEASE_FORMAT = 7,   /* op_id = the store id, if it has none yet */
    ORR_LEASE_WRITE = 8,    /* token, index = write, user, op_id */
    ORR_LEASE_REPAIR = 9,   /* token; as SNAPSHOT, and whatever confirmed
                               record is known here and missing there is
                               put again, loudly */
    /* To the driver. */
    ORR_LEASE_RECONNECT = 10,  /* reason; drop the connection, find the primary,
                                 check its role, then orr_lease_link(1) */
    ORR_LEASE_TIMER = 11,      /* at_ns: tick then; UINT64_MAX = no need */
    ORR_LEASE_PUBLISH = 12,    /* a hint to all who watch; token */
    ORR_LEASE_SAVE_FLOOR = 13, /* floor: write and sync it */
    /* To the contender. */
    ORR_LEASE_GRANT = 14,   /* token */
    ORR_LEASE_REVOKE = 15,  /* token, reason; answer: orr_lease_released */
    ORR_LEASE_SUSPEND = 16, /* token, reason */
    ORR_LEASE_RESUME = 17,  /* token: the same as before */
    ORR_LEASE_WRITTEN = 18, /* index = write, user, result; it is gone now */
    ORR_LEASE_ENDED = 19,   /* stopped */
    /* To people. */
    ORR_LEASE_ALARM = 20 /* reason */
} orr_lease_action_kind;

typedef enum orr_lease_result {
    ORR_WRITE_CONFIRMED = 0,
    ORR_WRITE_NOT_APPLIED = 1, /* certainly; see reason */
    ORR_WRITE_UNKNOWN = 2      /* nobody knows: keep all data */
} orr_lease_result;

typedef struct orr_lease_action {
    int32_t kind;
    int32_t reason;
    int32_t result;
    uint32_t index;
    uint64_t request; /* below 2^53 */
    orr_token token;
    uint64_t seq;
    uint8_t observed_session[16];
    uint64_t observed_seq;
    uint64_t floor;
    uint64_t wall_ms;
    uint64_t ttl_ms;
    uint64_t at_ns;
    uint64_t user;
    uint8_t op_id[16];
} orr_lease_action;

typedef enum orr_lease_outcome {
    ORR_LEASE_APPLIED = 0,     /* read, snapshot, repair: done */
    ORR_LEASE_NOT_APPLIED = 1, /* certainly; reason says why */
    ORR_LEASE_UNKNOWN = 2
} orr_lease_outcome;

enum { ORR_LEASE_AWAITED = -1, ORR_LEASE_UNHEARD = -2 };

typedef struct orr_lease_answer {
    uint64_t request;
    int32_t outcome;
    int32_t reason;
    int32_t replicas;   /* of a write: so many have it; ORR_LEASE_AWAITED: told
                         later by orr_lease_durable; ORR_LEASE_UNHEARD: nobody
                         will know. Without replicas, 0 = it is on disk. */
    int32_t has_record; /* 1 = record is set */
    uint64_t epoch;     /* acquire */
    orr_lease_record record; /* read; LOST, BUSY; renew: as it was before */
} orr_lease_answer;

typedef enum orr_lease_hint_kind {
    ORR_HINT_CHANGED = 0, /* look early */
    ORR_HINT_GONE = 1     /* the process with this session has ended: contend
                             at once, while the record still names it */
} orr_lease_hint_kind;

/* NULL with err: ORR_EINVAL, ORR_ENOMEM. It is STOPPED, the link is down. */
orr_lease *orr_lease_new(const orr_lease_options *o, orr_error *err);
void orr_lease_free(orr_lease *l);

/* Inputs. After each one the driver takes actions until there are none: at
 * most ORR_LEASE_ACTIONS_MAX wait, besides writes and seats. An answer to a
 * request that was given up changes nothing. */
void orr_lease_start(orr_lease *l, const orr_lease_now *now);
void orr_lease_stop(orr_lease *l, const orr_lease_now *now);
void orr_lease_tick(orr_lease *l, const orr_lease_now *now);
/* session: 16 bytes; may be NULL for CHANGED. */
void orr_lease_hint(orr_lease *l, const orr_lease_now *now, int kind,
                    const uint8_t *session);
/* The connection is there (1) or has ended (0): whatever was under way is
 * unknown, and nothing else is sent before the lease is valid again. */
void orr_lease_link(orr_lease *l, const orr_lease_now *now, int is_up);
void orr_lease_answered(orr_lease *l, const orr_lease_now *now,
                        const orr_lease_answer *a);
void orr_lease_durable(orr_lease *l, const orr_lease_now *now, uint64_t request,
                       int32_t replicas);
/* A receiver refused our token mine: CONFLICT or STALE, with its highest. */
void orr_lease_rejected(orr_lease *l, const orr_lease_now *now, int verdict,
                        const orr_token *mine, const orr_token *highest);
/* Gives the lease up and lets others go first for a T. */
void orr_lease_handover(orr_lease *l, const orr_lease_now *now);
/* What was revoked has stopped. */
void orr_lease_released(orr_lease *l, const orr_lease_now *now);
/* status ORR_OK, or a code: an alarm, and the grant goes on. */
void orr_lease_floor_saved(orr_lease *l, const orr_lease_now *now,
                           uint64_t floor, int status);
/* The checks of the store fail (0) or hold again (1): while they fail nobody
 * here leads or contends. */
void orr_lease_set_fit(orr_lease *l, const orr_lease_now *now, int is_fit);
/* An operator agrees that the store that was alarmed about is used: format it
 * when it is empty, take its id when it is another. */
void orr_lease_agree(orr_lease *l, const orr_lease_now *now);

/* Seats: an address that is written below the lease whenever this process
 * leads. Answer ORR_OK, ORR_EINVAL (name or address: 1 .. 127 bytes),
 * ORR_ENOSPC; drop also ORR_ENOENT. Setting a name again changes its address.
 */
int orr_lease_seat_set(orr_lease *l, const orr_lease_now *now, const char *name,
                       const char *address, uint32_t *seat);
int orr_lease_seat_drop(orr_lease *l, const orr_lease_now *now, uint32_t seat);
/* NULL: no such seat; no address: it has been dropped. */
const char *orr_lease_seat_name(const orr_lease *l, uint32_t seat);
const char *orr_lease_seat_address(const orr_lease *l, uint32_t seat);
/* 1 = the address is confirmed under the token that leads now. */
int orr_lease_seat_is_confirmed(const orr_lease *l, uint32_t seat);

/* A write of the leader: WRITE actions with one op_id until it is confirmed,
 * refused, or its deadline (0 = none) or the lease has ended; then WRITTEN.
 * ORR_OK, ORR_FENCED (does not lead), ORR_EAGAIN (suspended), ORR_OVERLOADED.
 */
int orr_lease_write(orr_lease *l, const orr_lease_now *now, uint64_t user,
                    uint64_t deadline_ns, uint32_t *write);

/* 1 with the next action, 0 when there is none. */
int orr_lease_next(orr_lease *l, orr_lease_action *out);

/* Asked when a handler starts and just before each action outside: 1 = leads
 * and the deadline is not there yet. token may be NULL. */
int orr_lease_may_act(const orr_lease *l, uint64_t mono_ns, orr_token *token);

typedef struct orr_lease_status {
    int32_t state;
    int32_t is_linked;
    int32_t is_validated; /* confirmed since the link is up */
    int32_t last_alarm;   /* ORR_LEASE_NONE = all is well */
    orr_token token;      /* zeros = none */
    uint64_t deadline_ns; /* 0 = none */
    uint64_t floor;
    uint64_t renewals;     /* confirmed */
    uint64_t unconfirmed;  /* renewals and acquisitions that were not */
    uint64_t late_answers; /* for requests given up */
    uint64_t grants;
    uint64_t revocations;
    uint32_t writes; /* under way */
    uint32_t seats;
    orr_lease_record record; /* as last seen */
} orr_lease_status;
void orr_lease_get_status(const orr_lease *l, orr_lease_status *out);
/* ffi:end */

#define ORR_EPOCH_MAX ((UINT64_C(1) << 53) - 1)
enum { ORR_LEASE_ACTIONS_MAX = 64 };

#endif
