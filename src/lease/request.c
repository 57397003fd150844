/* Actions on their way out, and the requests that wait for an answer. */
#include <assert.h>
#include <string.h>

#include "lease/lease_private.h"

/* Bounded by the contract: an input yields a dozen at most, and the driver
 * takes them all before the next one. */
orr_lease_action *orr__push(orr_lease *l, int kind)
{
    assert(l->action_count < ORR_LEASE_ACTIONS_MAX);
    uint32_t at = (l->action_head + l->action_count++) % ORR_LEASE_ACTIONS_MAX;
    orr_lease_action *a = &l->actions[at];
    memset(a, 0, sizeof *a);
    a->kind = kind;
    return a;
}

/* Told once until things change: an alarm a poll would drown the others. */
void orr__alarm(orr_lease *l, int reason)
{
    if (l->last_alarm == reason)
        return;
    l->last_alarm = reason;
    orr__push(l, ORR_LEASE_ALARM)->reason = reason;
}

uint64_t orr__request_new(orr_lease *l, uint32_t slot)
{
    return ++l->serial << ORR__SLOT_BITS | slot;
}

orr_lease_action *orr__send(orr_lease *l, int slot, int kind)
{
    orr__slot *s = &l->slots[slot];
    assert(l->is_up && s->request == 0);
    uint64_t due = l->now_ns + orr__ns(l->o.request_ms);
    if (slot == ORR__SLOT_SNAPSHOT)
        due = l->now_ns + orr__ns(l->o.grace_ms); /* of any length */
    *s = (orr__slot){.request = orr__request_new(l, (uint32_t)slot),
                     .sent_ns = l->now_ns,
                     .due_ns = due};
    orr_lease_action *a = orr__push(l, kind);
    a->request = s->request;
    a->token = l->token;
    return a;
}

uint64_t orr__jitter(orr_lease *l, uint32_t base_ms)
{
    uint64_t base = orr__ns(base_ms);
    uint64_t swing = base / 100 * l->o.jitter_percent;
    return base - swing + orr_chance_below(&l->chance, 2 * swing + 1);
}

void orr__drop_requests(orr_lease *l)
{
    l->is_up = false;
    l->is_validated = false;
    l->is_read = false;
    for (int slot = 0; slot < ORR__SLOTS; slot++) {
        if (l->slots[slot].request == 0)
            continue;
        l->slots[slot] = (orr__slot){0};
        orr__slot_dropped(l, slot);
    }
    orr__writes_dropped(l);
}

void orr__reconnect(orr_lease *l, int reason)
{
    if (!l->is_up)
        return;
    orr__drop_requests(l);
    orr__push(l, ORR_LEASE_RECONNECT)->reason = reason;
}

bool orr__expire_requests(orr_lease *l)
{
    bool is_overdue = orr__writes_expire(l);
    for (int slot = 0; slot < ORR__SLOTS; slot++) {
        const orr__slot *s = &l->slots[slot];
        is_overdue |= s->request != 0 && l->now_ns >= s->due_ns;
    }
    if (is_overdue)
        orr__reconnect(l, ORR_LEASE_TIMEOUT);
    return is_overdue;
}

uint64_t orr__requests_due(const orr_lease *l)
{
    uint64_t due = l->writes_due_ns;
    for (int slot = 0; slot < ORR__SLOTS; slot++) {
        const orr__slot *s = &l->slots[slot];
        if (s->request != 0 && s->due_ns < due)
            due = s->due_ns;
    }
    return due;
}

int orr_lease_next(orr_lease *l, orr_lease_action *out)
{
    if (l->action_count > 0) {
        *out = l->actions[l->action_head];
        l->action_head = (l->action_head + 1) % ORR_LEASE_ACTIONS_MAX;
        l->action_count--;
        return 1;
    }
    /* What has ended makes room for what waits. */
    if (orr__written_next(l, out) || orr__write_next(l, out))
        return 1;
    uint64_t wanted = orr__wanted_ns(l);
    if (wanted == l->timer_told_ns)
        return 0;
    l->timer_told_ns = wanted;
    *out = (orr_lease_action){.kind = ORR_LEASE_TIMER, .at_ns = wanted};
    return 1;
}
