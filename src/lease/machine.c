/* The states of the lease machine; lease.h tells what they mean.
 *
 * Every input does three things: it moves the clock and ends what is overdue,
 * it notes what has come, and it settles: the state's own function decides what
 * is to be done now, again until the state stays. So no input has to know what
 * follows from it, and a late one finds the deadlines already applied.
 */
#include <assert.h>
#include <string.h>

#include "lease/lease_private.h"

typedef struct state_row {
    const char *name;
    uint32_t next; /* states that may follow, as bits */
    void (*settle)(orr_lease *l);
    uint64_t (*wanted_ns)(const orr_lease *l); /* when to settle again */
} state_row;

static const state_row rows[ORR_LEASE_RESIGNING + 1];

#define BIT(state) (1u << ORR_LEASE_##state)

void orr__go(orr_lease *l, int state)
{
    assert(rows[l->state].next & (1u << state));
    l->state = state;
}

static uint64_t lease_ns(const orr_lease *l)
{
    return orr__ns(l->o.ttl_ms - l->o.margin_ms);
}

/* How long a record of that T must stay unchanged: T (1 + rate) + slack. */
static uint64_t watch_ns(const orr_lease *l, uint64_t ttl_ms)
{
    if (ORR__PLANTED(ORR__BUG_STEAL_EARLY))
        return ttl_ms * 500000;
    return ttl_ms * (1000000 + l->o.rate_ppm) + orr__ns(l->o.slack_ms);
}

static uint64_t min_ns(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void orr__note_floor(orr_lease *l, uint64_t epoch)
{
    if (epoch <= l->floor)
        return;
    if (epoch > ORR__FLOOR_MAX) {
        orr__alarm(l, ORR_LEASE_BAD_RECORD);
        return;
    }
    l->floor = epoch;
    if (l->o.save_floor)
        orr__push(l, ORR_LEASE_SAVE_FLOOR)->floor = epoch;
}

/* Observing ----------------------------------------------------------------*/

bool orr__is_same_id(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, 16) == 0;
}

static bool is_sane(orr_lease *l, const orr_lease_record *r)
{
    bool is_ok =
        !r->exists || (r->token.epoch > 0 && r->token.epoch <= ORR__FLOOR_MAX &&
                       orr__session_is_set(r->token.session) && r->ttl_ms > 0 &&
                       r->ttl_ms <= ORR__TTL_MAX_MS);
    if (!is_ok)
        orr__alarm(l, ORR_LEASE_BAD_RECORD);
    return is_ok;
}

/* Whether it is the store we know; the first one met is learnt, unless the
 * options name one. */
static bool is_our_store(orr_lease *l, const uint8_t *id)
{
    bool is_known = orr__session_is_set(l->store_id);
    l->is_foreign = false;
    if (orr__is_same_id(l->store_id, id))
        return true;
    if (!orr__session_is_set(id)) {
        if (is_known)
            orr__alarm(l, ORR_LEASE_STORE_COLD);
        return true; /* empty: the cold-store rule decides */
    }
    if (is_known) {
        orr__alarm(l, ORR_LEASE_STORE_FOREIGN);
        if (!l->o.auto_format || orr__session_is_set(l->o.store_id)) {
            l->is_foreign = true;
            memcpy(l->foreign_id, id, 16);
            return false;
        }
        l->has_observed = false; /* watched from now on */
    }
    memcpy(l->store_id, id, 16);
    return true;
}

/* The pair counts as unchanged from when it was first seen, by our clock. */
void orr__observe(orr_lease *l, const orr_lease_record *r)
{
    if (!is_sane(l, r))
        return;
    if (!is_our_store(l, r->store_id)) {
        l->has_observed = false;
        return;
    }
    if (r->exists)
        orr__note_floor(l, r->token.epoch);
    const orr_lease_record *o = &l->observed;
    bool is_same =
        l->has_observed && o->exists == r->exists && o->held == r->held &&
        (!r->exists ||
         (o->seq == r->seq && orr_token_equal(&o->token, &r->token)));
    if (!is_same)
        l->seen_ns = l->now_ns;
    l->observed = *r;
    l->has_observed = true;
    if (r->exists && l->state == ORR_LEASE_CANDIDATE)
        l->last_alarm = ORR_LEASE_NONE;
}

static bool is_formatted(const orr_lease *l)
{
    return orr__session_is_set(l->observed.store_id);
}

/* From when on the observed record may be taken over. */
static uint64_t contend_at(const orr_lease *l)
{
    const orr_lease_record *r = &l->observed;
    if (!l->has_observed || l->is_foreign)
        return ORR__NEVER;
    if (!r->exists && !is_formatted(l))
        return ORR__NEVER;
    uint64_t at = l->seen_ns + watch_ns(l, r->exists ? r->ttl_ms : l->o.ttl_ms);
    bool is_own = orr__is_same_id(r->token.session, l->token.session);
    bool is_gone =
        l->has_gone && orr__is_same_id(r->token.session, l->gone_session);
    if (l->o.is_exclusive || (r->exists && (!r->held || is_own || is_gone)))
        at = 0;
    return at > l->hold_until_ns ? at : l->hold_until_ns;
}

static void format_if_cold(orr_lease *l)
{
    if (!l->has_observed || l->observed.exists || is_formatted(l) ||
        l->slots[ORR__SLOT_FORMAT].request != 0)
        return;
    if (!l->o.auto_format && !l->is_agreed) {
        orr__alarm(l, ORR_LEASE_STORE_COLD);
        return;
    }
    orr_lease_action *a = orr__send(l, ORR__SLOT_FORMAT, ORR_LEASE_FORMAT);
    if (orr__session_is_set(l->o.store_id))
        memcpy(a->op_id, l->o.store_id, 16);
    else
        orr_chance_bytes(&l->chance, a->op_id, 16);
    memset(l->store_id, 0, 16); /* whoever is first gives the id */
    l->is_agreed = false;
}

static void look(orr_lease *l)
{
    if (l->slots[ORR__SLOT_READ].request != 0 || l->now_ns < l->poll_at_ns)
        return;
    orr__send(l, ORR__SLOT_READ, ORR_LEASE_READ);
    l->looked_ns = l->now_ns;
    l->poll_at_ns = l->now_ns + orr__jitter(l, l->o.poll_ms);
}

/* Acquiring ----------------------------------------------------------------*/

/* Where a process without a valid lease belongs. */
static void fall_back(orr_lease *l)
{
    if (l->is_unreleased)
        orr__go(l, ORR_LEASE_REVOKED);
    else
        orr__go(l, l->has_grant ? ORR_LEASE_SUSPENDED : ORR_LEASE_CANDIDATE);
}

static void back_off(orr_lease *l)
{
    uint64_t rest = orr__ns(l->o.renew_ms);
    rest += orr_chance_below(&l->chance, rest);
    l->hold_until_ns = l->now_ns + rest;
}

/* One acquire: its session is its operation id. What it has seen is checked by
 * the store, so a late copy finds another pair and does nothing. */
static void send_acquire(orr_lease *l)
{
    orr_lease_action *a = orr__send(l, ORR__SLOT_ACQUIRE, ORR_LEASE_ACQUIRE);
    memcpy(a->observed_session, l->attempt_session, 16);
    a->observed_seq = l->attempt_seq;
    if (ORR__PLANTED(ORR__BUG_RETRY_UNWATCHED)) {
        memcpy(a->observed_session, l->observed.token.session, 16);
        a->observed_seq = l->observed.seq;
    }
    a->floor = l->attempt_floor;
    a->wall_ms = l->wall_ms;
    a->ttl_ms = l->o.ttl_ms;
    l->retry_at_ns = l->now_ns + orr__ns(l->o.request_ms);
    if (ORR__PLANTED(ORR__BUG_RETRY_RENEWS_START))
        l->first_sent_ns = l->now_ns;
}

static void contend(orr_lease *l)
{
    orr_chance_bytes(&l->chance, l->token.session, 16);
    for (int i = 0; i < 16; i++)
        l->token.session[i] ^= l->o.incarnation[i];
    l->token.epoch = 0;
    l->first_sent_ns = l->now_ns;
    l->attempt_floor = l->floor;
    /* Kept for all its sendings: a later look shows what was not watched. */
    const orr_lease_record *r = &l->observed;
    memset(l->attempt_session, 0, 16);
    if (r->exists)
        memcpy(l->attempt_session, r->token.session, 16);
    l->attempt_seq = r->exists ? r->seq : 0;
    orr__go(l, ORR_LEASE_ACQUIRING);
    send_acquire(l);
}

/* Granted and not confirmed: nobody leads by that. */
static void abandon(orr_lease *l)
{
    l->unconfirmed++;
    if (l->is_up && l->slots[ORR__SLOT_RESIGN].request == 0)
        orr__send(l, ORR__SLOT_RESIGN, ORR_LEASE_RESIGN);
    back_off(l);
    l->has_observed = false;
    fall_back(l);
}

void orr__acquire_durable(orr_lease *l, int32_t replicas)
{
    l->slots[ORR__SLOT_ACQUIRE] = (orr__slot){0};
    if (replicas == ORR_LEASE_UNHEARD) {
        orr__go(l, ORR_LEASE_ACQUIRING);
        orr__reconnect(l, ORR_LEASE_NOT_DURABLE);
        return;
    }
    uint64_t from = l->first_sent_ns;
    if (ORR__PLANTED(ORR__BUG_RECEIPT_TIME))
        from = l->now_ns;
    if (!orr__is_confirmed(l, replicas) || l->now_ns >= from + lease_ns(l)) {
        abandon(l);
        return;
    }
    l->deadline_ns = from + lease_ns(l);
    l->seq = l->confirmed_seq = 1;
    l->misses = 0;
    l->is_validated = true;
    l->is_read = ORR__PLANTED(ORR__BUG_GRANT_UNREAD);
    l->renew_at_ns = l->first_sent_ns + orr__jitter(l, l->o.renew_ms);
    orr__note_floor(l, l->token.epoch);
    orr__go(l, ORR_LEASE_READING);
}

void orr__on_acquire(orr_lease *l, const orr_lease_answer *a)
{
    orr__slot *s = &l->slots[ORR__SLOT_ACQUIRE];
    if (a->outcome == ORR_LEASE_APPLIED) {
        l->token.epoch = a->epoch;
        if (a->epoch <= l->attempt_floor || a->epoch > ORR__FLOOR_MAX) {
            orr__alarm(l, ORR_LEASE_BAD_RECORD);
            *s = (orr__slot){0};
            abandon(l);
            return;
        }
        s->is_applied = true;
        s->due_ns = l->now_ns + orr__ns(l->o.wait_ms + l->o.request_ms);
        orr__go(l, ORR_LEASE_CONFIRMING);
        if (a->replicas != ORR_LEASE_AWAITED)
            orr__acquire_durable(l, a->replicas);
        return;
    }
    *s = (orr__slot){0};
    if (a->reason == ORR_LEASE_BUSY && a->has_record)
        orr__observe(l, &a->record);
    else
        back_off(l);
    fall_back(l);
    if (a->reason == ORR_LEASE_NOT_PRIMARY)
        orr__reconnect(l, ORR_LEASE_NOT_PRIMARY);
}

/* Losing -------------------------------------------------------------------*/

void orr__suspend(orr_lease *l, int reason)
{
    if (l->state != ORR_LEASE_LEADING)
        return;
    orr_lease_action *a = orr__push(l, ORR_LEASE_SUSPEND);
    a->token = l->granted;
    a->reason = reason;
    orr__go(l, ORR_LEASE_SUSPENDED);
}

static void take_grant(orr_lease *l, int reason)
{
    orr__writes_end(l);
    if (!l->has_grant)
        return;
    orr_lease_action *a = orr__push(l, ORR_LEASE_REVOKE);
    a->token = l->granted;
    a->reason = reason;
    l->has_grant = false;
    l->is_unreleased = true;
    l->is_regaining = l->is_outranked = false;
    l->revocations++;
}

static void revoke(orr_lease *l, int reason)
{
    take_grant(l, reason);
    l->poll_at_ns = l->now_ns;
    fall_back(l);
}

/* Asks for a new token above our own, as the store or a receiver is not where
 * we are. The contender keeps its memory meanwhile. */
static void regain(orr_lease *l, int reason)
{
    orr__alarm(l, reason);
    orr__suspend(l, reason);
    l->is_regaining = true;
    l->poll_at_ns = l->now_ns;
    if (l->state != ORR_LEASE_SUSPENDED)
        fall_back(l);
}

void orr__lose(orr_lease *l, const orr_lease_record *r)
{
    bool is_leader = l->state == ORR_LEASE_READING ||
                     l->state == ORR_LEASE_LEADING ||
                     l->state == ORR_LEASE_SUSPENDED;
    if (!is_leader || (l->state == ORR_LEASE_SUSPENDED && l->is_regaining))
        return;
    if (ORR__PLANTED(ORR__BUG_RENEW_AFTER_LOST))
        return;
    uint64_t own = l->token.epoch;
    bool is_known = r && is_sane(l, r);
    if (is_known)
        orr__observe(l, r);
    if (is_known && l->has_grant && (!r->exists || r->token.epoch < own))
        regain(l, ORR_LEASE_STORE_REGRESSED);
    else
        revoke(l, ORR_LEASE_LOST);
}

/* Renewing -----------------------------------------------------------------*/

static void renew_if_due(orr_lease *l)
{
    if (!l->is_up || l->slots[ORR__SLOT_RENEW].request != 0 ||
        l->now_ns < l->renew_at_ns)
        return;
    orr_lease_action *a = orr__send(l, ORR__SLOT_RENEW, ORR_LEASE_RENEW);
    a->seq = l->slots[ORR__SLOT_RENEW].seq = ++l->seq;
}

static void missed(orr_lease *l, int reason)
{
    l->unconfirmed++;
    l->renew_at_ns = l->now_ns + orr__ns(l->o.request_ms);
    if (++l->misses >= 2) {
        l->misses = 0;
        orr__reconnect(l, reason);
    }
}

void orr__renew_durable(orr_lease *l, int32_t replicas)
{
    orr__slot s = l->slots[ORR__SLOT_RENEW];
    l->slots[ORR__SLOT_RENEW] = (orr__slot){0};
    if (replicas == ORR_LEASE_UNHEARD) {
        orr__reconnect(l, ORR_LEASE_NOT_DURABLE);
        return;
    }
    if (!orr__is_confirmed(l, replicas)) {
        missed(l, ORR_LEASE_NOT_DURABLE);
        return;
    }
    uint64_t from = ORR__PLANTED(ORR__BUG_RECEIPT_TIME) ? l->now_ns : s.sent_ns;
    if (from + lease_ns(l) > l->deadline_ns)
        l->deadline_ns = from + lease_ns(l);
    l->confirmed_seq = s.seq;
    l->renew_at_ns = s.sent_ns + orr__jitter(l, l->o.renew_ms);
    l->misses = 0;
    l->is_validated = true;
    l->renewals++;
    if (l->last_alarm != ORR_LEASE_OUTRANKED)
        l->last_alarm = ORR_LEASE_NONE;
    if (l->floor > l->token.epoch)
        l->is_outranked = true;
    if (!l->is_outranked || !l->has_grant)
        return;
    l->observed = (orr_lease_record){.exists = 1,
                                     .held = 1,
                                     .token = l->token,
                                     .seq = s.seq,
                                     .ttl_ms = l->o.ttl_ms};
    memcpy(l->observed.store_id, l->store_id, 16);
    l->seen_ns = l->now_ns;
    l->has_observed = true;
    regain(l, ORR_LEASE_OUTRANKED);
}

void orr__on_renew(orr_lease *l, const orr_lease_answer *a)
{
    orr__slot *s = &l->slots[ORR__SLOT_RENEW];
    bool is_leader = l->state == ORR_LEASE_READING ||
                     l->state == ORR_LEASE_LEADING ||
                     (l->state == ORR_LEASE_SUSPENDED && !l->is_regaining);
    bool is_lost =
        a->outcome == ORR_LEASE_NOT_APPLIED && a->reason == ORR_LEASE_LOST;
    if (is_lost && ORR__PLANTED(ORR__BUG_RENEW_AFTER_LOST)) {
        orr__renew_durable(l, (int32_t)l->o.replicas);
        return;
    }
    if (!is_leader || a->outcome != ORR_LEASE_APPLIED) {
        *s = (orr__slot){0};
        if (is_leader && is_lost)
            orr__lose(l, a->has_record ? &a->record : NULL);
        else if (is_leader && a->reason == ORR_LEASE_NOT_PRIMARY)
            orr__reconnect(l, ORR_LEASE_NOT_PRIMARY);
        else if (is_leader)
            missed(l, ORR_LEASE_REFUSED);
        return;
    }
    s->is_applied = true;
    s->due_ns = l->now_ns + orr__ns(l->o.wait_ms + l->o.request_ms);
    /* Our own token, but a renewal that was confirmed is not there: the store
     * went back, and records may be missing too. */
    if (a->has_record && a->record.exists && a->record.seq < l->confirmed_seq &&
        l->has_grant) {
        orr__alarm(l, ORR_LEASE_STORE_REGRESSED);
        orr__suspend(l, ORR_LEASE_STORE_REGRESSED);
        if (l->state == ORR_LEASE_SUSPENDED)
            orr__go(l, ORR_LEASE_READING);
        l->is_read = false;
    }
    if (a->replicas != ORR_LEASE_AWAITED)
        orr__renew_durable(l, a->replicas);
}

/* The states ---------------------------------------------------------------*/

static bool is_leaving(const orr_lease *l)
{
    return l->is_stopping || l->is_handing_over;
}

static void end(orr_lease *l)
{
    orr__go(l, ORR_LEASE_STOPPED);
    l->is_stopping = l->is_handing_over = false;
    orr__push(l, ORR_LEASE_ENDED);
}

/* Contender first, record second: two never act at once. */
static void leave(orr_lease *l)
{
    take_grant(l, l->is_stopping ? ORR_LEASE_STOP : ORR_LEASE_HANDOVER);
    l->has_resigned = false;
    orr__go(l, ORR_LEASE_RESIGNING);
}

static void settle_stopped(orr_lease *l)
{
    (void)l;
}

static void settle_candidate(orr_lease *l)
{
    if (l->is_stopping) {
        end(l);
        return;
    }
    l->is_handing_over = false;
    if (!l->is_up)
        return;
    format_if_cold(l);
    if (l->is_fit && l->now_ns >= contend_at(l) &&
        l->slots[ORR__SLOT_ACQUIRE].request == 0)
        contend(l);
    else
        look(l);
}

static uint64_t candidate_wanted(const orr_lease *l)
{
    if (!l->is_up)
        return ORR__NEVER;
    uint64_t at = l->is_fit ? contend_at(l) : ORR__NEVER;
    if (l->slots[ORR__SLOT_READ].request == 0)
        at = min_ns(at, l->poll_at_ns);
    return at;
}

static void settle_acquiring(orr_lease *l)
{
    bool is_pending = l->slots[ORR__SLOT_ACQUIRE].request != 0;
    if (l->now_ns >= l->first_sent_ns + lease_ns(l) ||
        (!is_pending && is_leaving(l))) {
        l->slots[ORR__SLOT_ACQUIRE] = (orr__slot){0};
        back_off(l);
        fall_back(l);
    } else if (!is_pending && l->is_up && l->is_fit &&
               l->now_ns >= l->retry_at_ns) {
        send_acquire(l);
    }
}

static uint64_t acquiring_wanted(const orr_lease *l)
{
    uint64_t at = l->first_sent_ns + lease_ns(l);
    if (l->is_up && l->is_fit && l->slots[ORR__SLOT_ACQUIRE].request == 0)
        at = min_ns(at, l->retry_at_ns);
    return at;
}

static void settle_confirming(orr_lease *l)
{
    (void)l;
}

static uint64_t never_wanted(const orr_lease *l)
{
    (void)l;
    return ORR__NEVER;
}

static void grant(orr_lease *l)
{
    bool is_same = l->has_grant;
    l->granted = l->token;
    l->has_grant = true;
    l->is_regaining = l->is_outranked = false;
    l->last_alarm = ORR_LEASE_NONE;
    orr__go(l, ORR_LEASE_LEADING);
    orr__push(l, is_same ? ORR_LEASE_RESUME : ORR_LEASE_GRANT)->token =
        l->token;
    if (is_same)
        return;
    l->grants++;
    orr__seats_dirty(l);
    orr__push(l, ORR_LEASE_PUBLISH)->token = l->token;
}

static void settle_reading(orr_lease *l)
{
    if (is_leaving(l)) {
        leave(l);
        return;
    }
    if (l->now_ns >= l->deadline_ns + orr__ns(l->o.grace_ms)) {
        revoke(l, ORR_LEASE_GRACE);
        return;
    }
    renew_if_due(l);
    /* The old token is still held when the store was repaired for us. */
    bool is_repair = l->has_grant || l->is_unreleased;
    if (l->is_up && l->is_validated && !l->is_read &&
        l->slots[ORR__SLOT_SNAPSHOT].request == 0)
        orr__send(l, ORR__SLOT_SNAPSHOT,
                  is_repair ? ORR_LEASE_REPAIR : ORR_LEASE_SNAPSHOT);
    if (!l->is_read || !l->is_validated || !l->is_fit ||
        l->now_ns >= l->deadline_ns)
        return;
    if (l->o.save_floor && l->saved_floor < l->token.epoch)
        return;
    if (l->has_grant && !orr_token_equal(&l->granted, &l->token))
        take_grant(l, ORR_LEASE_REPLACED);
    if (!l->is_unreleased)
        grant(l);
}

static uint64_t renewing_wanted(const orr_lease *l)
{
    if (l->is_up && l->slots[ORR__SLOT_RENEW].request == 0)
        return l->renew_at_ns;
    return ORR__NEVER;
}

static uint64_t reading_wanted(const orr_lease *l)
{
    return min_ns(renewing_wanted(l), l->deadline_ns + orr__ns(l->o.grace_ms));
}

static void settle_leading(orr_lease *l)
{
    if (is_leaving(l))
        leave(l);
    else if (!l->is_fit)
        orr__suspend(l, ORR_LEASE_UNFIT);
    else
        renew_if_due(l);
}

static uint64_t leading_wanted(const orr_lease *l)
{
    return min_ns(renewing_wanted(l), l->deadline_ns);
}

/* Suspended while the store is older than we are, or a receiver knows more. */
static void settle_regaining(orr_lease *l)
{
    const orr_lease_record *r = &l->observed;
    if (!l->is_up)
        return;
    look(l);
    format_if_cold(l);
    if (!l->has_observed || !l->is_fit)
        return;
    bool is_attempt = orr__is_same_id(r->token.session, l->token.session);
    bool is_granted = orr_token_equal(&r->token, &l->granted);
    if (r->exists && is_granted && r->held && !l->is_outranked) {
        /* It is ours again, as it was. */
        l->token = l->granted;
        l->is_regaining = false;
        l->renew_at_ns = l->now_ns;
        renew_if_due(l);
    } else if (r->exists && !is_attempt && !is_granted &&
               r->token.epoch >= l->granted.epoch) {
        revoke(l, ORR_LEASE_LOST);
    } else if (l->now_ns >= (r->exists ? l->hold_until_ns : contend_at(l)) &&
               l->slots[ORR__SLOT_ACQUIRE].request == 0) {
        contend(l);
    }
}

static void settle_suspended(orr_lease *l)
{
    if (is_leaving(l)) {
        leave(l);
    } else if (l->now_ns >= l->deadline_ns + orr__ns(l->o.grace_ms)) {
        revoke(l, ORR_LEASE_GRACE);
    } else if (l->is_regaining) {
        settle_regaining(l);
    } else {
        renew_if_due(l);
        if (l->is_validated && l->is_fit && l->now_ns < l->deadline_ns)
            grant(l);
    }
}

static uint64_t suspended_wanted(const orr_lease *l)
{
    uint64_t at = l->deadline_ns + orr__ns(l->o.grace_ms);
    if (!l->is_regaining)
        return min_ns(at, renewing_wanted(l));
    uint64_t again = l->observed.exists ? l->hold_until_ns : contend_at(l);
    if (l->is_up && l->has_observed && l->is_fit)
        at = min_ns(at, again);
    if (l->is_up && l->slots[ORR__SLOT_READ].request == 0)
        at = min_ns(at, l->poll_at_ns);
    return at;
}

static void settle_revoked(orr_lease *l)
{
    if (!l->is_unreleased)
        fall_back(l);
}

static void settle_resigning(orr_lease *l)
{
    if (l->is_unreleased)
        return;
    if (!l->has_resigned && l->is_up) {
        l->slots[ORR__SLOT_RESIGN] = (orr__slot){0};
        orr__send(l, ORR__SLOT_RESIGN, ORR_LEASE_RESIGN);
        l->has_resigned = true;
        return;
    }
    if (l->slots[ORR__SLOT_RESIGN].request != 0)
        return;
    if (l->has_resigned)
        orr__push(l, ORR_LEASE_PUBLISH)->token = l->token;
    l->has_observed = false;
    l->poll_at_ns = l->now_ns;
    if (l->is_handing_over)
        l->hold_until_ns = l->now_ns + orr__ns(l->o.ttl_ms);
    orr__go(l, ORR_LEASE_CANDIDATE);
}

static const state_row rows[ORR_LEASE_RESIGNING + 1] = {
    [ORR_LEASE_STOPPED] = {"stopped", BIT(CANDIDATE), settle_stopped,
                           never_wanted},
    [ORR_LEASE_CANDIDATE] = {"candidate", BIT(ACQUIRING) | BIT(STOPPED),
                             settle_candidate, candidate_wanted},
    [ORR_LEASE_ACQUIRING] = {"acquiring",
                             BIT(ACQUIRING) | BIT(CONFIRMING) | BIT(CANDIDATE) |
                                 BIT(SUSPENDED),
                             settle_acquiring, acquiring_wanted},
    [ORR_LEASE_CONFIRMING] = {"confirming",
                              BIT(ACQUIRING) | BIT(READING) | BIT(CANDIDATE) |
                                  BIT(SUSPENDED),
                              settle_confirming, never_wanted},
    [ORR_LEASE_READING] = {"reading",
                           BIT(LEADING) | BIT(CANDIDATE) | BIT(SUSPENDED) |
                               BIT(REVOKED) | BIT(RESIGNING),
                           settle_reading, reading_wanted},
    [ORR_LEASE_LEADING] = {"leading",
                           BIT(SUSPENDED) | BIT(REVOKED) | BIT(RESIGNING),
                           settle_leading, leading_wanted},
    [ORR_LEASE_SUSPENDED] = {"suspended",
                             BIT(LEADING) | BIT(REVOKED) | BIT(RESIGNING) |
                                 BIT(ACQUIRING) | BIT(READING),
                             settle_suspended, suspended_wanted},
    [ORR_LEASE_REVOKED] = {"revoked", BIT(CANDIDATE), settle_revoked,
                           never_wanted},
    [ORR_LEASE_RESIGNING] = {"resigning", BIT(CANDIDATE), settle_resigning,
                             never_wanted},
};
enum { STATES = sizeof rows / sizeof *rows };

void orr__settle(orr_lease *l)
{
    int before;
    do {
        before = l->state;
        rows[before].settle(l);
    } while (l->state != before);
}

uint64_t orr__wanted_ns(const orr_lease *l)
{
    return min_ns(rows[l->state].wanted_ns(l), orr__requests_due(l));
}

void orr__slot_dropped(orr_lease *l, int slot)
{
    if (slot == ORR__SLOT_READ)
        l->poll_at_ns = l->now_ns;
    if (slot == ORR__SLOT_RENEW)
        l->unconfirmed++;
    if (slot == ORR__SLOT_ACQUIRE) {
        l->unconfirmed++;
        l->retry_at_ns = l->now_ns;
        orr__go(l, ORR_LEASE_ACQUIRING);
    }
}

const char *orr_lease_state_name(int state)
{
    return state >= 0 && state < STATES ? rows[state].name : NULL;
}
