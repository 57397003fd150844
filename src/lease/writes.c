/* Writes of the leader: one operation id for all attempts of a write, and one
 * of three results.
 *
 *   QUEUED -> SENT -> APPLIED -> DONE confirmed
 *     ^         |        |
 *     +- RESTING <-------+   unknown: again, same id, when the lease is valid
 *
 * Refused as FENCED or CONFLICT after an attempt whose outcome is unknown means
 * unknown: that attempt may have been applied. Ended by a deadline or with the
 * lease: unknown when it was ever sent, else not applied.
 */
#include <assert.h>
#include <string.h>

#include "lease/lease_private.h"

enum { INDEX_BITS = 16, INDEX_MASK = (1 << INDEX_BITS) - 1 };

static void append(orr_lease *l, orr__fifo *f, uint32_t i)
{
    l->writes[i].next = ORR__NONE;
    if (f->head == ORR__NONE)
        f->head = i;
    else
        l->writes[f->tail].next = i;
    f->tail = i;
}

static uint32_t take(orr_lease *l, orr__fifo *f)
{
    uint32_t i = f->head;
    if (i != ORR__NONE)
        f->head = l->writes[i].next;
    return i;
}

int orr__writes_init(orr_lease *l)
{
    l->write_cap = l->o.writes_max + ORR__SEAT_WINDOW;
    l->writes = orr_calloc(l->write_cap, sizeof *l->writes);
    if (!l->writes)
        return ORR_ENOMEM;
    l->write_queue = l->write_done = (orr__fifo){ORR__NONE, ORR__NONE};
    l->writes_due_ns = ORR__NEVER;
    l->write_free = ORR__NONE;
    for (uint32_t i = l->write_cap; i > 0; i--) {
        l->writes[i - 1].next = l->write_free;
        l->write_free = i - 1;
    }
    return ORR_OK;
}

static void note_due(orr_lease *l, uint64_t at)
{
    if (at < l->writes_due_ns)
        l->writes_due_ns = at;
}

/* Unique among all processes: the incarnation, with a counter in it. */
static void new_op_id(orr_lease *l, uint8_t *op_id)
{
    memcpy(op_id, l->o.incarnation, 16);
    l->op_serial++;
    for (int i = 0; i < 8; i++)
        op_id[8 + i] ^= (uint8_t)(l->op_serial >> (8 * i));
}

int orr__write_begin(orr_lease *l, uint64_t user, uint64_t deadline_ns,
                     uint32_t seat, uint32_t *index)
{
    uint32_t limit = seat == ORR__NONE ? l->o.writes_max : ORR__SEAT_WINDOW;
    uint32_t *count = seat == ORR__NONE ? &l->user_writes : &l->seat_writes;
    if (*count >= limit)
        return ORR_OVERLOADED;
    uint32_t i = l->write_free;
    assert(i != ORR__NONE);
    orr__write *w = &l->writes[i];
    l->write_free = w->next;
    ++*count;
    *w = (orr__write){
        .user = user,
        .deadline_ns = deadline_ns ? deadline_ns : ORR__NEVER,
        .due_ns = ORR__NEVER,
        .seat = seat,
        .generation = (uint16_t)(w->generation + 1),
        .state = ORR__WRITE_QUEUED,
    };
    new_op_id(l, w->op_id);
    append(l, &l->write_queue, i);
    note_due(l, w->deadline_ns);
    *index = (uint32_t)w->generation << INDEX_BITS | i;
    return ORR_OK;
}

/* Not while it is in the queue: the queue would still lead there. */
static void finish(orr_lease *l, uint32_t i, int result, int reason)
{
    orr__write *w = &l->writes[i];
    w->state = ORR__WRITE_DONE;
    w->result = result;
    w->reason = reason;
    w->request = 0;
    w->due_ns = w->deadline_ns = ORR__NEVER;
    append(l, &l->write_done, i);
}

static void end_write(orr_lease *l, uint32_t i, int reason)
{
    const orr__write *w = &l->writes[i];
    bool is_unknown = w->is_doubtful || w->state == ORR__WRITE_SENT ||
                      w->state == ORR__WRITE_APPLIED;
    if (ORR__PLANTED(ORR__BUG_UNKNOWN_IS_FAILED))
        is_unknown = false;
    finish(l, i, is_unknown ? ORR_WRITE_UNKNOWN : ORR_WRITE_NOT_APPLIED,
           reason);
}

/* The outcome of the attempt is unknown; another one follows. */
static void rest(orr_lease *l, uint32_t i)
{
    orr__write *w = &l->writes[i];
    w->is_doubtful = true;
    if (ORR__PLANTED(ORR__BUG_OP_ID_IGNORED)) {
        w->is_doubtful = false;
        new_op_id(l, w->op_id);
    }
    w->request = 0;
    w->state = ORR__WRITE_RESTING;
    w->due_ns = l->now_ns + orr__jitter(l, l->o.request_ms);
    note_due(l, w->due_ns);
}

static uint32_t find(const orr_lease *l, uint64_t request)
{
    uint32_t slot = (uint32_t)(request & ((1u << ORR__SLOT_BITS) - 1));
    uint32_t i = slot - ORR__FIRST_WRITE;
    if (slot < ORR__FIRST_WRITE || i >= l->write_cap ||
        l->writes[i].request != request)
        return ORR__NONE;
    return i;
}

static void conclude(orr_lease *l, uint32_t i, int32_t replicas)
{
    if (replicas == ORR_LEASE_AWAITED) {
        orr__write *w = &l->writes[i];
        w->state = ORR__WRITE_APPLIED;
        w->due_ns = l->now_ns + orr__ns(l->o.wait_ms + l->o.request_ms);
        note_due(l, w->due_ns);
    } else if (orr__is_confirmed(l, replicas)) {
        finish(l, i, ORR_WRITE_CONFIRMED, ORR_LEASE_NONE);
    } else {
        rest(l, i);
    }
}

void orr__write_answered(orr_lease *l, const orr_lease_answer *a)
{
    uint32_t i = find(l, a->request);
    if (i == ORR__NONE || l->writes[i].state != ORR__WRITE_SENT) {
        l->late_answers++;
        return;
    }
    orr__write *w = &l->writes[i];
    if (a->outcome == ORR_LEASE_APPLIED) {
        conclude(l, i, a->replicas);
        return;
    }
    if (a->outcome != ORR_LEASE_NOT_APPLIED) {
        orr__reconnect(l, a->reason);
        return;
    }
    if (w->seat != ORR__NONE && a->reason != ORR_LEASE_LOST) {
        rest(l, i); /* wanted as long as we lead */
        return;
    }
    switch (a->reason) {
    case ORR_LEASE_LOST:
        w->state = ORR__WRITE_QUEUED; /* this attempt did nothing */
        end_write(l, i, ORR_LEASE_LOST);
        orr__lose(l, a->has_record ? &a->record : NULL);
        return;
    case ORR_LEASE_CONFLICT:
        w->state = ORR__WRITE_QUEUED;
        end_write(l, i, ORR_LEASE_CONFLICT);
        return;
    case ORR_LEASE_NOT_PRIMARY:
        /* Nothing was done here, so the next attempt is as good as this. */
        w->request = 0;
        w->state = ORR__WRITE_QUEUED;
        append(l, &l->write_queue, i);
        orr__reconnect(l, ORR_LEASE_NOT_PRIMARY);
        return;
    default: w->state = ORR__WRITE_QUEUED; end_write(l, i, ORR_LEASE_REFUSED);
    }
}

void orr__write_durable(orr_lease *l, uint64_t request, int32_t replicas)
{
    uint32_t i = find(l, request);
    if (i == ORR__NONE || l->writes[i].state != ORR__WRITE_APPLIED ||
        replicas == ORR_LEASE_AWAITED) {
        l->late_answers++;
        return;
    }
    conclude(l, i, replicas);
}

void orr__writes_dropped(orr_lease *l)
{
    if (l->user_writes + l->seat_writes == 0)
        return;
    for (uint32_t i = 0; i < l->write_cap; i++) {
        if (l->writes[i].state == ORR__WRITE_SENT ||
            l->writes[i].state == ORR__WRITE_APPLIED)
            rest(l, i);
    }
}

void orr__writes_end(orr_lease *l)
{
    if (l->user_writes + l->seat_writes == 0)
        return;
    l->write_queue = (orr__fifo){ORR__NONE, ORR__NONE};
    for (uint32_t i = 0; i < l->write_cap; i++) {
        int state = l->writes[i].state;
        if (state != ORR__WRITE_FREE && state != ORR__WRITE_DONE)
            end_write(l, i, ORR_LEASE_LOST);
    }
}

/* Takes those whose deadline has passed out of the queue. */
static void expire_queue(orr_lease *l)
{
    orr__fifo old = l->write_queue;
    l->write_queue = (orr__fifo){ORR__NONE, ORR__NONE};
    uint32_t i;
    while ((i = take(l, &old)) != ORR__NONE) {
        if (l->now_ns >= l->writes[i].deadline_ns)
            end_write(l, i, ORR_LEASE_EXPIRED);
        else
            append(l, &l->write_queue, i);
    }
}

bool orr__writes_expire(orr_lease *l)
{
    if (l->now_ns < l->writes_due_ns)
        return false;
    bool is_overdue = false;
    uint64_t due = ORR__NEVER;
    expire_queue(l);
    for (uint32_t i = 0; i < l->write_cap; i++) {
        orr__write *w = &l->writes[i];
        if (w->state == ORR__WRITE_FREE || w->state == ORR__WRITE_DONE)
            continue;
        if (w->state != ORR__WRITE_QUEUED && l->now_ns >= w->deadline_ns) {
            end_write(l, i, ORR_LEASE_EXPIRED);
            continue;
        }
        if (l->now_ns >= w->due_ns) {
            if (w->state == ORR__WRITE_RESTING) {
                w->state = ORR__WRITE_QUEUED;
                append(l, &l->write_queue, i);
            } else {
                is_overdue = true;
            }
            w->due_ns = ORR__NEVER;
        }
        uint64_t next = w->due_ns < w->deadline_ns ? w->due_ns : w->deadline_ns;
        due = next < due ? next : due;
    }
    l->writes_due_ns = due;
    return is_overdue;
}

bool orr__write_next(orr_lease *l, orr_lease_action *out)
{
    if (!l->is_up || !l->is_validated || l->state != ORR_LEASE_LEADING ||
        l->now_ns >= l->deadline_ns)
        return false;
    orr__seats_pump(l);
    uint32_t i = take(l, &l->write_queue);
    if (i == ORR__NONE)
        return false;
    orr__write *w = &l->writes[i];
    w->state = ORR__WRITE_SENT;
    w->request = orr__request_new(l, i + ORR__FIRST_WRITE);
    w->due_ns = l->now_ns + orr__ns(l->o.request_ms);
    note_due(l, w->due_ns);
    *out = (orr_lease_action){
        .kind = w->seat == ORR__NONE ? ORR_LEASE_WRITE : ORR_LEASE_CONFIRM,
        .index = w->seat == ORR__NONE
                     ? (uint32_t)w->generation << INDEX_BITS | i
                     : w->seat,
        .request = w->request,
        .token = l->granted,
        .user = w->user,
    };
    memcpy(out->op_id, w->op_id, 16);
    return true;
}

bool orr__written_next(orr_lease *l, orr_lease_action *out)
{
    uint32_t i;
    while ((i = take(l, &l->write_done)) != ORR__NONE) {
        orr__write *w = &l->writes[i];
        uint32_t seat = w->seat;
        bool is_confirmed = w->result == ORR_WRITE_CONFIRMED;
        *out = (orr_lease_action){
            .kind = ORR_LEASE_WRITTEN,
            .index = (uint32_t)w->generation << INDEX_BITS | i,
            .user = w->user,
            .result = w->result,
            .reason = w->reason,
        };
        w->state = ORR__WRITE_FREE;
        w->next = l->write_free;
        l->write_free = i;
        if (seat == ORR__NONE) {
            l->user_writes--;
            return true;
        }
        l->seat_writes--;
        orr__seat_written(l, seat, is_confirmed);
    }
    return false;
}

int orr_lease_write(orr_lease *l, const orr_lease_now *now, uint64_t user,
                    uint64_t deadline_ns, uint32_t *write)
{
    orr_lease_tick(l, now);
    if (l->state == ORR_LEASE_SUSPENDED)
        return ORR_EAGAIN;
    if (l->state != ORR_LEASE_LEADING)
        return ORR_FENCED;
    return orr__write_begin(l, user, deadline_ns, ORR__NONE, write);
}
