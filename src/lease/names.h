/* A table of names of fixed size: name to index, all memory taken at once. */
#ifndef ORRERY_LEASE_NAMES_H
#define ORRERY_LEASE_NAMES_H

#include <stdbool.h>

#include "orrery/lease.h"

#define ORR__NONE UINT32_MAX

typedef struct orr__name {
    char text[ORR_LEASE_NAME_MAX + 1];
    uint32_t next; /* of the same bucket, or of the free list */
    bool is_used;
} orr__name;

typedef struct orr__names {
    uint32_t cap;
    uint32_t count;
    uint32_t free;
    uint32_t mask; /* buckets - 1 */
    uint32_t *buckets;
    orr__name *entries;
} orr__names;

/* ORR_OK or ORR_ENOMEM. */
int orr__names_init(orr__names *t, uint32_t cap);
void orr__names_fini(orr__names *t);
/* 1 = a name that may be used: 1 .. 127 bytes. */
bool orr__name_is_valid(const char *name);
/* The index, or ORR__NONE: not there; no room. */
uint32_t orr__names_find(const orr__names *t, const char *name);
uint32_t orr__names_add(orr__names *t, const char *name);
void orr__names_remove(orr__names *t, uint32_t index);

#endif
