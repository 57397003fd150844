/* Seats: what this process leads below its one lease. Only their addresses are
 * written, when they change and after a grant; renewals know nothing of them.
 *
 * At most one write of a seat is under way, so a later address is never
 * overtaken by an earlier one.
 */
#include <string.h>

#include "lease/lease_private.h"

int orr__seats_init(orr_lease *l)
{
    l->seat_queue = (orr__fifo){ORR__NONE, ORR__NONE};
    l->seats = orr_calloc(l->o.seats_max, sizeof *l->seats);
    if (!l->seats)
        return ORR_ENOMEM;
    return orr__names_init(&l->seat_names, l->o.seats_max);
}

static void make_dirty(orr_lease *l, uint32_t i)
{
    orr__seat *s = &l->seats[i];
    s->is_confirmed = false;
    if (s->is_dirty)
        return;
    s->is_dirty = true;
    s->next = ORR__NONE;
    if (l->seat_queue.head == ORR__NONE)
        l->seat_queue.head = i;
    else
        l->seats[l->seat_queue.tail].next = i;
    l->seat_queue.tail = i;
}

void orr__seats_dirty(orr_lease *l)
{
    for (uint32_t i = 0; i < l->seat_names.cap; i++) {
        l->seats[i].is_written = false;
        if (l->seat_names.entries[i].is_used)
            make_dirty(l, i);
    }
}

/* A seat whose write is under way keeps its place and waits for the end. */
void orr__seats_pump(orr_lease *l)
{
    while (l->seat_queue.head != ORR__NONE) {
        uint32_t i = l->seat_queue.head, write;
        orr__seat *s = &l->seats[i];
        bool is_nothing = s->address[0] == '\0' && !s->is_written;
        if (s->is_writing)
            return;
        if (!is_nothing && orr__write_begin(l, 0, 0, i, &write) != ORR_OK)
            return;
        l->seat_queue.head = s->next;
        s->is_dirty = false;
        if (is_nothing) {
            orr__names_remove(&l->seat_names, i);
            continue;
        }
        s->is_writing = s->is_written = true;
    }
}

void orr__seat_written(orr_lease *l, uint32_t i, bool is_confirmed)
{
    orr__seat *s = &l->seats[i];
    s->is_writing = false;
    if (s->is_dirty)
        return;
    if (!is_confirmed) {
        make_dirty(l, i);
        return;
    }
    s->is_confirmed = true;
    if (s->address[0] == '\0')
        orr__names_remove(&l->seat_names, i);
}

int orr_lease_seat_set(orr_lease *l, const orr_lease_now *now, const char *name,
                       const char *address, uint32_t *seat)
{
    if (!orr__name_is_valid(name) || !orr__name_is_valid(address))
        return ORR_EINVAL;
    uint32_t i = orr__names_find(&l->seat_names, name);
    if (i == ORR__NONE) {
        i = orr__names_add(&l->seat_names, name);
        if (i == ORR__NONE)
            return ORR_ENOSPC;
        l->seats[i] = (orr__seat){.next = ORR__NONE};
    }
    orr__seat *s = &l->seats[i];
    *seat = i;
    if (strcmp(s->address, address) != 0) {
        memcpy(s->address, address, strlen(address) + 1);
        make_dirty(l, i);
    }
    orr_lease_tick(l, now);
    return ORR_OK;
}

int orr_lease_seat_drop(orr_lease *l, const orr_lease_now *now, uint32_t seat)
{
    if (!orr_lease_seat_name(l, seat) || l->seats[seat].address[0] == '\0')
        return ORR_ENOENT;
    orr__seat *s = &l->seats[seat];
    s->address[0] = '\0';
    make_dirty(l, seat);
    orr_lease_tick(l, now);
    return ORR_OK;
}

const char *orr_lease_seat_name(const orr_lease *l, uint32_t seat)
{
    if (seat >= l->seat_names.cap || !l->seat_names.entries[seat].is_used)
        return NULL;
    return l->seat_names.entries[seat].text;
}

const char *orr_lease_seat_address(const orr_lease *l, uint32_t seat)
{
    if (!orr_lease_seat_name(l, seat) || l->seats[seat].address[0] == '\0')
        return NULL;
    return l->seats[seat].address;
}

int orr_lease_seat_is_confirmed(const orr_lease *l, uint32_t seat)
{
    return orr_lease_seat_address(l, seat) && l->has_grant &&
           l->seats[seat].is_confirmed;
}
