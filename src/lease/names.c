/* Chained buckets over a fixed array; see names.h. */
#include <assert.h>
#include <string.h>

#include "lease/names.h"

/* FNV-1a. The names are the operator's and our own, so no flood of collisions
 * is to be feared. */
static uint32_t hash(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

int orr__names_init(orr__names *t, uint32_t cap)
{
    uint32_t buckets = 1;
    while (buckets < cap)
        buckets *= 2;
    *t = (orr__names){.cap = cap, .mask = buckets - 1, .free = ORR__NONE};
    t->buckets = orr_alloc(buckets * sizeof *t->buckets);
    t->entries = orr_calloc(cap, sizeof *t->entries);
    if (!t->buckets || !t->entries) {
        orr__names_fini(t);
        return ORR_ENOMEM;
    }
    for (uint32_t i = 0; i < buckets; i++)
        t->buckets[i] = ORR__NONE;
    for (uint32_t i = cap; i > 0; i--) {
        t->entries[i - 1].next = t->free;
        t->free = i - 1;
    }
    return ORR_OK;
}

void orr__names_fini(orr__names *t)
{
    orr_free(t->buckets);
    orr_free(t->entries);
    *t = (orr__names){.free = ORR__NONE};
}

bool orr__name_is_valid(const char *name)
{
    if (!name)
        return false;
    size_t len = strnlen(name, ORR_LEASE_NAME_MAX + 1);
    return len > 0 && len <= ORR_LEASE_NAME_MAX;
}

uint32_t orr__names_find(const orr__names *t, const char *name)
{
    uint32_t i = t->buckets[hash(name) & t->mask];
    while (i != ORR__NONE && strcmp(t->entries[i].text, name) != 0)
        i = t->entries[i].next;
    return i;
}

uint32_t orr__names_add(orr__names *t, const char *name)
{
    uint32_t i = t->free;
    if (i == ORR__NONE)
        return i;
    orr__name *e = &t->entries[i];
    uint32_t *bucket = &t->buckets[hash(name) & t->mask];
    t->free = e->next;
    memcpy(e->text, name, strlen(name) + 1);
    e->is_used = true;
    e->next = *bucket;
    *bucket = i;
    t->count++;
    return i;
}

void orr__names_remove(orr__names *t, uint32_t index)
{
    orr__name *e = &t->entries[index];
    assert(index < t->cap && e->is_used);
    uint32_t *link = &t->buckets[hash(e->text) & t->mask];
    while (*link != index)
        link = &t->entries[*link].next;
    *link = e->next;
    e->is_used = false;
    e->next = t->free;
    t->free = index;
    t->count--;
}
