/* The inputs of the lease machine, and what may be asked of it.
 *
 * Each input moves the clock and ends what is overdue, notes what has come, and
 * settles; see machine.c.
 */
#include <string.h>

#include "lease/lease_private.h"

static void enter(orr_lease *l, const orr_lease_now *now)
{
    if (now->mono_ns > l->now_ns)
        l->now_ns = now->mono_ns;
    l->wall_ms = now->wall_ms;
    orr__expire_requests(l);
    if (l->state == ORR_LEASE_LEADING && l->now_ns >= l->deadline_ns)
        orr__suspend(l, ORR_LEASE_DEADLINE);
}

void orr_lease_tick(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    orr__settle(l);
}

void orr_lease_start(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    l->is_stopping = false;
    if (l->state == ORR_LEASE_STOPPED) {
        l->has_observed = false;
        l->poll_at_ns = l->now_ns;
        orr__go(l, ORR_LEASE_CANDIDATE);
    }
    orr__settle(l);
}

void orr_lease_stop(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    if (l->state != ORR_LEASE_STOPPED)
        l->is_stopping = true;
    orr__settle(l);
}

void orr_lease_handover(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    if (l->state != ORR_LEASE_STOPPED && l->state != ORR_LEASE_CANDIDATE &&
        l->state != ORR_LEASE_REVOKED)
        l->is_handing_over = true;
    orr__settle(l);
}

void orr_lease_hint(orr_lease *l, const orr_lease_now *now, int kind,
                    const uint8_t *session)
{
    enter(l, now);
    if (kind == ORR_HINT_GONE && session) {
        memcpy(l->gone_session, session, 16);
        l->has_gone = true;
    }
    /* A storm of hints costs a look each tenth of a poll at most. */
    uint64_t early = l->looked_ns + orr__ns(l->o.poll_ms) / 10;
    if (early < l->now_ns)
        early = l->now_ns;
    if (early < l->poll_at_ns)
        l->poll_at_ns = early;
    orr__settle(l);
}

void orr_lease_link(orr_lease *l, const orr_lease_now *now, int is_up)
{
    enter(l, now);
    if (l->is_up)
        orr__drop_requests(l);
    l->is_up = is_up;
    l->poll_at_ns = l->renew_at_ns = l->retry_at_ns = l->now_ns;
    orr__settle(l);
}

static void on_read(orr_lease *l, const orr_lease_answer *a)
{
    if (a->outcome == ORR_LEASE_APPLIED && a->has_record)
        orr__observe(l, &a->record);
    else if (a->reason == ORR_LEASE_NOT_PRIMARY)
        orr__reconnect(l, ORR_LEASE_NOT_PRIMARY);
}

static void on_snapshot(orr_lease *l, const orr_lease_answer *a)
{
    if (l->state != ORR_LEASE_READING)
        return;
    if (a->outcome == ORR_LEASE_APPLIED)
        l->is_read = true;
    else if (a->reason == ORR_LEASE_LOST)
        orr__lose(l, a->has_record ? &a->record : NULL);
    else
        orr__reconnect(l, a->reason);
}

static int slot_of(const orr_lease *l, uint64_t request)
{
    for (int slot = 0; request != 0 && slot < ORR__SLOTS; slot++) {
        if (l->slots[slot].request == request)
            return slot;
    }
    return -1;
}

static void on_answer(orr_lease *l, int slot, const orr_lease_answer *a)
{
    if (a->outcome == ORR_LEASE_UNKNOWN) {
        orr__reconnect(l, a->reason);
        return;
    }
    switch (slot) {
    case ORR__SLOT_ACQUIRE: orr__on_acquire(l, a); return;
    case ORR__SLOT_RENEW: orr__on_renew(l, a); return;
    }
    l->slots[slot] = (orr__slot){0};
    switch (slot) {
    case ORR__SLOT_READ: on_read(l, a); break;
    case ORR__SLOT_SNAPSHOT: on_snapshot(l, a); break;
    case ORR__SLOT_FORMAT: l->poll_at_ns = l->now_ns; break;
    case ORR__SLOT_RESIGN: l->poll_at_ns = l->now_ns; break;
    }
}

void orr_lease_answered(orr_lease *l, const orr_lease_now *now,
                        const orr_lease_answer *a)
{
    enter(l, now);
    int slot = slot_of(l, a->request);
    if (slot < 0)
        orr__write_answered(l, a);
    else if (l->slots[slot].is_applied)
        l->late_answers++;
    else
        on_answer(l, slot, a);
    orr__settle(l);
}

void orr_lease_durable(orr_lease *l, const orr_lease_now *now, uint64_t request,
                       int32_t replicas)
{
    enter(l, now);
    int slot = slot_of(l, request);
    if (slot < 0)
        orr__write_durable(l, request, replicas);
    else if (!l->slots[slot].is_applied || replicas == ORR_LEASE_AWAITED)
        l->late_answers++;
    else if (slot == ORR__SLOT_ACQUIRE)
        orr__acquire_durable(l, replicas);
    else
        orr__renew_durable(l, replicas);
    orr__settle(l);
}

void orr_lease_rejected(orr_lease *l, const orr_lease_now *now, int verdict,
                        const orr_token *mine, const orr_token *highest)
{
    enter(l, now);
    bool is_ours = l->has_grant && orr_token_equal(mine, &l->granted);
    bool is_above =
        highest->epoch > mine->epoch ||
        (verdict == ORR_VERDICT_CONFLICT && highest->epoch == mine->epoch);
    orr__note_floor(l, highest->epoch);
    if (is_ours && is_above && highest->epoch <= ORR__FLOOR_MAX) {
        l->is_outranked = true;
        l->renew_at_ns = l->now_ns; /* does the store still say us? */
    }
    orr__settle(l);
}

void orr_lease_released(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    l->is_unreleased = false;
    orr__settle(l);
}

void orr_lease_floor_saved(orr_lease *l, const orr_lease_now *now,
                           uint64_t floor, int status)
{
    enter(l, now);
    if (status != ORR_OK)
        orr__alarm(l, ORR_LEASE_FLOOR_UNSAVED);
    if (floor > l->saved_floor)
        l->saved_floor = floor;
    orr__settle(l);
}

void orr_lease_set_fit(orr_lease *l, const orr_lease_now *now, int is_fit)
{
    enter(l, now);
    l->is_fit = is_fit;
    orr__settle(l);
}

void orr_lease_agree(orr_lease *l, const orr_lease_now *now)
{
    enter(l, now);
    l->is_agreed = true;
    if (l->is_foreign) {
        memcpy(l->store_id, l->foreign_id, 16);
        l->is_foreign = false;
        l->has_observed = false;
    }
    l->last_alarm = ORR_LEASE_NONE;
    l->poll_at_ns = l->now_ns;
    orr__settle(l);
}

/* Asking -------------------------------------------------------------------*/

int orr_lease_may_act(const orr_lease *l, uint64_t mono_ns, orr_token *token)
{
    bool is_leading = l->state == ORR_LEASE_LEADING;
    bool is_early = mono_ns < l->deadline_ns;
    if (ORR__PLANTED(ORR__BUG_SUSPENDED_ACTS)) {
        is_leading = l->has_grant;
        is_early = true;
    }
    if (!is_leading || !is_early)
        return 0;
    if (token)
        *token = l->granted;
    return 1;
}

void orr_lease_get_status(const orr_lease *l, orr_lease_status *out)
{
    *out = (orr_lease_status){
        .state = l->state,
        .is_linked = l->is_up,
        .is_validated = l->is_validated,
        .last_alarm = l->last_alarm,
        .floor = l->floor,
        .renewals = l->renewals,
        .unconfirmed = l->unconfirmed,
        .late_answers = l->late_answers,
        .grants = l->grants,
        .revocations = l->revocations,
        .writes = l->user_writes,
        .seats = l->seat_names.count,
    };
    if (l->has_grant) {
        out->token = l->granted;
        out->deadline_ns = l->deadline_ns;
    }
    if (l->has_observed)
        out->record = l->observed;
}

orr_lease *orr_lease_new(const orr_lease_options *o, orr_error *err)
{
    if (orr_lease_options_check(o, err) != ORR_OK)
        return NULL;
    orr_lease *l = orr_calloc(1, sizeof *l);
    if (!l || (l->o = *o, orr__writes_init(l) != ORR_OK) ||
        orr__seats_init(l) != ORR_OK) {
        orr_lease_free(l);
        orr_error_set(err, ORR_ENOMEM,
                      "lease: no memory for %u seats and %u "
                      "writes",
                      o->seats_max, o->writes_max);
        return NULL;
    }
    orr_chance_seed(&l->chance, o->seed);
    memcpy(l->store_id, o->store_id, 16);
    l->state = ORR_LEASE_STOPPED;
    l->is_fit = true;
    l->floor = l->saved_floor = o->floor;
    l->timer_told_ns = ORR__NEVER;
    return l;
}

void orr_lease_free(orr_lease *l)
{
    if (!l)
        return;
    orr__names_fini(&l->seat_names);
    orr_free(l->seats);
    orr_free(l->writes);
    orr_free(l);
}
