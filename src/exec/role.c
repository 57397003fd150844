/* Roles: who may call which method.
 *
 * A peer proves its role by its certificate (net/tls.c); the link carries the
 * role's number, every message that comes over it too. A method's permission
 * is a set of numbers, so that the check at delivery is one bit. It is made
 * here in the core, on the executor of the endpoint and before the mailbox:
 * what may not be called costs no queue, wakes no Lua, and endpoints in C are
 * guarded alike.
 *
 * Calls of this process are always allowed. A role that no permission has named
 * yet gets a number all the same, because an endpoint may come that names it.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

enum { TEXT_MAX = 256 };

uint8_t orr__role_number(orr_service *s, const char *name, size_t len)
{
    if (len == 0)
        return ORR__ROLE_NOBODY;
    for (int i = ORR__ROLE_FIRST; i < ORR__ROLES; i++) {
        char *known = s->roles[i];
        if (known == NULL) {
            known = orr_calloc(1, len + 1);
            if (known == NULL)
                return ORR__ROLE_NOBODY;
            memcpy(known, name, len);
            s->roles[i] = known;
            return (uint8_t)i;
        }
        if (strlen(known) == len && memcmp(known, name, len) == 0)
            return (uint8_t)i;
    }
    return ORR__ROLE_NOBODY;
}

void orr_link_set_role(orr_link *l, const char *role)
{
    orr_service *s = l->service;
    pthread_mutex_lock(&s->lock);
    l->role = orr__role_number(s, role, strlen(role));
    l->peer_role = s->roles[l->role] == NULL ? "" : s->roles[l->role];
    pthread_mutex_unlock(&s->lock);
}

void orr_service_require_tls(orr_service *s, int required)
{
    atomic_store(&s->requires_tls, required != 0);
}

/* Answers ORR_OK, or ORR_EINVAL when there is no number left: a set that could
 * not be told apart from "anybody" must not come to be. */
static int set_of(orr_service *s, const char *text, uint64_t *set)
{
    *set = 0;
    for (;;) {
        text += strspn(text, " ");
        size_t len = strcspn(text, " ");
        if (len == 0)
            return ORR_OK;
        uint8_t number = orr__role_number(s, text, len);
        if (number < ORR__ROLE_FIRST)
            return ORR_EINVAL;
        *set |= (uint64_t)1 << number;
        text += len;
    }
}

int orr__permissions(orr_service *s, const char *const *texts, uint32_t count,
                     uint64_t **out)
{
    *out = NULL;
    if (texts == NULL || count == 0)
        return ORR_OK;
    uint64_t *sets = orr_calloc(count, sizeof *sets), any = 0;
    if (sets == NULL)
        return ORR_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        if (texts[i] != NULL && set_of(s, texts[i], &sets[i]) != ORR_OK) {
            orr_free(sets);
            return ORR_EINVAL;
        }
        any |= sets[i];
    }
    if (any == 0) {
        orr_free(sets);
        sets = NULL;
    }
    *out = sets;
    return ORR_OK;
}

/* The name of a method: the first element of its entry, or the entry. */
static void method_name(const orr__description *d, uint32_t method, char *out,
                        size_t size)
{
    orr_unpacker u;
    orr_pack_token t;
    snprintf(out, size, "method %u", method);
    orr_unpack_init(&u, d->methods, d->methods_len);
    if (orr_unpack_next(&u, &t) != ORR_OK)
        return;
    for (uint32_t i = 0; i < method; i++)
        if (orr_unpack_skip(&u, 8) != ORR_OK)
            return;
    if (orr_unpack_next(&u, &t) != ORR_OK)
        return;
    if (t.type == ORR_PACK_ARRAY && t.size > 0 &&
        orr_unpack_next(&u, &t) != ORR_OK)
        return;
    if (t.type == ORR_PACK_STR)
        snprintf(out, size, "%.*s", (int)t.size, (const char *)t.data);
}

static void names_of(orr_service *s, uint64_t set, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    pthread_mutex_lock(&s->lock);
    for (int i = ORR__ROLE_FIRST; i < ORR__ROLES && used < size; i++) {
        if ((set >> i & 1) == 0 || s->roles[i] == NULL)
            continue;
        int n = snprintf(out + used, size - used, "%s%s",
                         used == 0 ? "" : " or ", s->roles[i]);
        used += (size_t)n;
    }
    pthread_mutex_unlock(&s->lock);
}

void orr__refuse(orr_executor *ex, orr__endpoint *ep, orr_msg *m)
{
    char method[64], needed[TEXT_MAX], role[TEXT_MAX], caller[TEXT_MAX + 48];
    method_name(ep->description, m->method, method, sizeof method);
    names_of(ep->service, ep->description->permissions[m->method], needed,
             sizeof needed);
    if (m->role >= ORR__ROLE_FIRST) {
        names_of(ep->service, (uint64_t)1 << m->role, role, sizeof role);
        snprintf(caller, sizeof caller, "the caller's certificate says %s",
                 role);
    } else {
        snprintf(caller, sizeof caller, "%s",
                 m->role == ORR__ROLE_NOBODY
                     ? "the caller's certificate names no role"
                     : "the caller came without TLS");
    }
    atomic_fetch_add_explicit(&ep->refused, 1, memory_order_relaxed);
    orr__fail(ex, m, ORR_ACCESS_DENIED, "%s of %s needs the role %s; %s",
              method, ep->name, needed, caller);
}
