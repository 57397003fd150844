/* The registry of a service: names, slots and what may be known of them.
 *
 * One lock guards names and the lists; routing a message takes no lock: slots
 * are found through atomic pointers, and an endpoint's memory stays for the
 * life of the service.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || strchr("_./$-", c) != NULL;
}

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len >= ORR__NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_name_char(name[i]))
            return false;
    return true;
}

static uint32_t bucket_of(const char *name, size_t len)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)name[i]) * 16777619u;
    return h % ORR__BUCKETS;
}

orr_service *orr_service_new(const char *name, const char *cluster_id,
                             uint64_t incarnation)
{
    if (name == NULL || cluster_id == NULL || strlen(name) >= ORR__NAME_MAX ||
        strlen(cluster_id) >= ORR__NAME_MAX)
        return NULL;
    orr_service *s = orr_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    memcpy(s->name, name, strlen(name));
    memcpy(s->cluster_id, cluster_id, strlen(cluster_id));
    s->incarnation = incarnation;
    /* Incarnations of endpoints start elsewhere in each life of a process, so
     * that a gateway of the earlier life does not fit by accident. */
    s->next_incarnation = (uint32_t)(incarnation ^ (incarnation >> 32)) | 1u;
    s->free_head = ORR__NONE;
    for (uint32_t i = 0; i < ORR__BUCKETS; i++)
        s->buckets[i] = ORR__NONE;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static void free_description(orr__description *d)
{
    orr_free(d->methods);
    orr_free(d->gateways);
    orr_free(d->control);
    orr_free(d->permissions);
    orr_free(d);
}

/* Lock held. */
static void drop_description(orr_service *s, orr__description *d)
{
    if (--d->users > 0)
        return;
    orr__description **at = &s->descriptions;
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    free_description(d);
}

void orr_service_free(orr_service *s)
{
    if (s == NULL)
        return;
    uint32_t count = atomic_load(&s->count);
    for (uint32_t i = 0; i < count; i++) {
        orr__endpoint *ep = orr__endpoint_at(s, i);
        if (ep != NULL) {
            orr__stats_clear(NULL, ep);
            orr_free(ep->name);
        }
        orr_free(ep);
    }
    while (s->descriptions != NULL) {
        orr__description *d = s->descriptions;
        s->descriptions = d->next;
        free_description(d);
    }
    for (uint32_t i = 0; i < ORR__CHUNKS; i++)
        orr_free(atomic_load(&s->chunks[i]));
    for (uint32_t i = 0; i < ORR__ROLES; i++)
        orr_free(s->roles[i]);
    pthread_mutex_destroy(&s->lock);
    orr_free(s);
}

int orr_service_set_address(orr_service *s, const char *address)
{
    if (strlen(address) >= ORR__NAME_MAX)
        return ORR_EINVAL;
    pthread_mutex_lock(&s->lock);
    memset(s->address, 0, sizeof s->address);
    memcpy(s->address, address, strlen(address));
    pthread_mutex_unlock(&s->lock);
    return ORR_OK;
}

/* Set once before peers exist, so reading it needs no lock. */
const char *orr_service_address(const orr_service *s)
{
    return s->address;
}

const char *orr_service_cluster_id(const orr_service *s)
{
    return s->cluster_id;
}

uint64_t orr_service_incarnation(const orr_service *s)
{
    return s->incarnation;
}

uint32_t orr_service_endpoint_count(orr_service *s)
{
    return atomic_load(&s->count);
}

orr__endpoint *orr__endpoint_at(orr_service *s, uint32_t slot)
{
    if (slot >= ORR__CHUNK * ORR__CHUNKS)
        return NULL;
    orr__endpoint **chunk = atomic_load_explicit(&s->chunks[slot / ORR__CHUNK],
                                                 memory_order_acquire);
    if (chunk == NULL ||
        slot >= atomic_load_explicit(&s->count, memory_order_acquire))
        return NULL;
    return chunk[slot % ORR__CHUNK];
}

int orr_service_endpoint_info(orr_service *s, uint32_t slot, uint64_t now_ns,
                              orr_endpoint_info *out)
{
    memset(out, 0, sizeof *out);
    orr__endpoint *ep = orr__endpoint_at(s, slot);
    if (ep == NULL)
        return ORR_ENOENT;
    pthread_mutex_lock(&s->lock);
    int state = atomic_load(&ep->state);
    if (state != ORR_ENDPOINT_GONE)
        memcpy(out->name, ep->name, strlen(ep->name));
    orr_executor *ex = atomic_load(&ep->executor);
    out->executor = ex == NULL ? 0 : ex->number;
    for (int i = 0; i < ORR_LANES; i++)
        out->capacity[i] = ep->capacity[i];
    uint64_t since = atomic_load(&ep->running_since_ns);
    if (state != ORR_ENDPOINT_GONE)
        out->methods = ep->description->method_count;
    if (since != 0) {
        out->running_ns = now_ns > since ? now_ns - since : 1;
        out->running_method = atomic_load(&ep->running_method);
        orr__method_name(ep->description, out->running_method,
                         out->running_name, sizeof out->running_name);
    }
    pthread_mutex_unlock(&s->lock);
    if (state == ORR_ENDPOINT_GONE)
        return ORR_ENOENT;
    out->slot = slot;
    out->state = state;
    out->incarnation = atomic_load(&ep->incarnation);
    for (int i = 0; i < ORR_LANES; i++)
        out->depth[i] = atomic_load(&ep->depth[i]);
    out->handled = atomic_load(&ep->handled);
    out->refused = atomic_load(&ep->refused);
    out->expired = atomic_load(&ep->expired);
    uint64_t oldest = atomic_load(&ep->oldest_ns);
    int64_t posted =
        (int64_t)(atomic_load(&ep->posted) - atomic_load(&ep->received));
    if (posted > 0) {
        uint64_t first = atomic_load(&ep->posted_ns);
        out->posted = (uint32_t)posted;
        if (oldest == 0 || first < oldest)
            oldest = first;
    }
    if (oldest != 0 && oldest < now_ns)
        out->oldest_ns = now_ns - oldest;
    return ORR_OK;
}

/* Lock held. */
static orr__endpoint *find(orr_service *s, const char *name, size_t len)
{
    uint32_t at = s->buckets[bucket_of(name, len)];
    while (at != ORR__NONE) {
        orr__endpoint *ep = orr__endpoint_at(s, at);
        if (strlen(ep->name) == len && memcmp(ep->name, name, len) == 0)
            return ep;
        at = ep->hash_next;
    }
    return NULL;
}

/* The one live endpoint whose name begins so; several are none, and matches
 * tells how many. Lock held. */
static orr__endpoint *find_prefix(orr_service *s, const char *name, size_t len,
                                  uint32_t *matches)
{
    orr__endpoint *found = NULL;
    uint32_t count = atomic_load(&s->count);
    for (uint32_t i = 0; i < count; i++) {
        orr__endpoint *ep = orr__endpoint_at(s, i);
        if (ep == NULL || ep->name == NULL ||
            atomic_load(&ep->state) == ORR_ENDPOINT_GONE ||
            strncmp(ep->name, name, len) != 0)
            continue;
        found = ep;
        ++*matches;
    }
    return *matches == 1 ? found : NULL;
}

static void unlink_name(orr_service *s, orr__endpoint *ep)
{
    uint32_t *at = &s->buckets[bucket_of(ep->name, strlen(ep->name))];
    while (*at != ORR__NONE && *at != ep->slot)
        at = &orr__endpoint_at(s, *at)->hash_next;
    if (*at == ep->slot)
        *at = ep->hash_next;
}

/* A free slot or a new one; lock held. NULL without memory or room. */
static orr__endpoint *take_slot(orr_service *s)
{
    if (s->free_head != ORR__NONE) {
        orr__endpoint *ep = orr__endpoint_at(s, s->free_head);
        s->free_head = ep->hash_next;
        return ep;
    }
    uint32_t slot = atomic_load(&s->count);
    if (slot >= ORR__CHUNK * ORR__CHUNKS)
        return NULL;
    orr__endpoint **chunk = atomic_load(&s->chunks[slot / ORR__CHUNK]);
    if (chunk == NULL) {
        chunk = orr_calloc(ORR__CHUNK, sizeof(orr__endpoint *));
        if (chunk == NULL)
            return NULL;
        atomic_store_explicit(&s->chunks[slot / ORR__CHUNK], chunk,
                              memory_order_release);
    }
    orr__endpoint *ep = orr_calloc(1, sizeof *ep);
    if (ep == NULL)
        return NULL;
    ep->service = s;
    ep->slot = slot;
    ep->active = 0;
    atomic_store(&ep->state, ORR_ENDPOINT_GONE);
    chunk[slot % ORR__CHUNK] = ep;
    atomic_store_explicit(&s->count, slot + 1, memory_order_release);
    return ep;
}

static uint8_t *copy(const void *data, size_t len)
{
    uint8_t *p = orr_alloc(len + 1);
    if (p != NULL) {
        memcpy(p, data, len);
        p[len] = 0;
    }
    return p;
}

static bool is_same(const orr__description *d, const orr_endpoint_options *o,
                    const char *gateways, const uint64_t *permissions,
                    uint32_t method_count)
{
    return d->methods_len == o->methods_len &&
           memcmp(d->methods, o->methods, o->methods_len) == 0 &&
           strcmp(d->gateways, gateways) == 0 &&
           (d->control == NULL) == (o->control == NULL) &&
           (o->control == NULL ||
            memcmp(d->control, o->control, method_count) == 0) &&
           (d->permissions == NULL) == (permissions == NULL) &&
           (permissions == NULL ||
            memcmp(d->permissions, permissions,
                   method_count * sizeof *permissions) == 0);
}

/* The shared description of what options lends, one user more; lock held.
 * Answers ORR_OK, ORR_EINVAL or ORR_ENOMEM. */
static int describe(orr_service *s, const orr_endpoint_options *o,
                    orr__description **out)
{
    orr_unpacker u;
    orr_pack_token token;
    const char *gateways = o->gateways == NULL ? "" : o->gateways;
    orr_unpack_init(&u, o->methods, o->methods_len);
    if (orr_unpack_next(&u, &token) != ORR_OK || token.type != ORR_PACK_ARRAY)
        return ORR_EINVAL;
    uint64_t *permissions;
    int code = orr__permissions(s, o->permissions, token.size, &permissions);
    if (code != ORR_OK)
        return code;
    for (orr__description *d = s->descriptions; d != NULL; d = d->next) {
        if (!is_same(d, o, gateways, permissions, token.size))
            continue;
        orr_free(permissions);
        d->users++;
        *out = d;
        return ORR_OK;
    }
    orr__description *d = orr_calloc(1, sizeof *d);
    if (d == NULL) {
        orr_free(permissions);
        return ORR_ENOMEM;
    }
    d->permissions = permissions;
    d->methods = copy(o->methods, o->methods_len);
    d->gateways = (char *)copy(gateways, strlen(gateways));
    if (o->control != NULL)
        d->control = copy(o->control, token.size);
    if (d->methods == NULL || d->gateways == NULL ||
        (o->control != NULL && d->control == NULL)) {
        free_description(d);
        return ORR_ENOMEM;
    }
    d->methods_len = o->methods_len;
    d->method_count = token.size;
    d->users = 1;
    d->next = s->descriptions;
    s->descriptions = d;
    *out = d;
    return ORR_OK;
}

static void settle(orr__endpoint *ep, orr_executor *ex,
                   const orr_endpoint_options *o)
{
    orr_service *s = ep->service;
    uint32_t *bucket = &s->buckets[bucket_of(ep->name, strlen(ep->name))];
    ep->hash_next = *bucket;
    *bucket = ep->slot;
    ep->ref = o->ref;
    ep->fenced = o->fenced != 0;
    ep->token = o->token;
    ep->capacity[ORR_LANE_CONTROL] =
        o->capacity_control == 0 ? 1024 : o->capacity_control;
    ep->capacity[ORR_LANE_BULK] =
        o->capacity_bulk == 0 ? 65536 : o->capacity_bulk;
    atomic_store(&ep->executor, ex);
    atomic_store(&ep->incarnation, s->next_incarnation++);
    atomic_store(&ep->handled, 0);
    atomic_store(&ep->refused, 0);
    atomic_store(&ep->expired, 0);
    atomic_store(&ep->oldest_ns, 0);
    atomic_store(&ep->running_since_ns, 0);
    atomic_store(&ep->received, atomic_load(&ep->posted));
    atomic_store(&ep->state, ORR_ENDPOINT_CREATED);
}

/* Lock held. */
static int open_locked(orr_executor *ex, orr_service *s,
                       const orr_endpoint_options *o, uint32_t *slot)
{
    size_t len = strlen(o->name);
    if (find(s, o->name, len) != NULL)
        return ORR_EEXIST;
    orr__endpoint *ep = take_slot(s);
    if (ep == NULL)
        return ORR_ENOMEM;
    ep->name = (char *)copy(o->name, len);
    int code = ep->name == NULL ? ORR_ENOMEM : describe(s, o, &ep->description);
    if (code != ORR_OK) {
        orr_free(ep->name);
        ep->name = NULL;
        ep->hash_next = s->free_head;
        s->free_head = ep->slot;
        return code;
    }
    settle(ep, ex, o);
    *slot = ep->slot;
    return ORR_OK;
}

int orr_endpoint_open(orr_executor *ex, orr_service *s,
                      const orr_endpoint_options *options, uint32_t *slot)
{
    if (options->name == NULL || !is_name(options->name) ||
        options->methods == NULL)
        return ORR_EINVAL;
    pthread_mutex_lock(&s->lock);
    int code = open_locked(ex, s, options, slot);
    pthread_mutex_unlock(&s->lock);
    if (code == ORR_OK)
        ex->endpoints++;
    return code;
}

static orr__endpoint *owned(orr_executor *ex, orr_service *s, uint32_t slot)
{
    orr__endpoint *ep = orr__endpoint_at(s, slot);
    if (ep == NULL || atomic_load(&ep->state) == ORR_ENDPOINT_GONE ||
        atomic_load(&ep->executor) != ex)
        return NULL;
    return ep;
}

int orr_endpoint_set_state(orr_executor *ex, orr_service *s, uint32_t slot,
                           int state)
{
    orr__endpoint *ep = owned(ex, s, slot);
    if (ep == NULL)
        return ORR_ENOENT;
    if (state < ORR_ENDPOINT_CREATED || state > ORR_ENDPOINT_STOPPING)
        return ORR_EINVAL;
    atomic_store(&ep->state, state);
    return ORR_OK;
}

static void unready(orr_executor *ex, orr__endpoint *ep)
{
    if (!ep->is_ready)
        return;
    orr__endpoint *before = NULL;
    orr__endpoint *at = ex->ready_head;
    while (at != ep) {
        before = at;
        at = at->ready_next;
    }
    if (before == NULL)
        ex->ready_head = ep->ready_next;
    else
        before->ready_next = ep->ready_next;
    if (ex->ready_tail == ep)
        ex->ready_tail = before;
    ep->is_ready = false;
    ep->ready_next = NULL;
}

static void drain(orr_executor *ex, orr__endpoint *ep)
{
    for (int lane = 0; lane < ORR_LANES; lane++) {
        orr_msg *m;
        while ((m = orr__queue_pop(&ep->lanes[lane])) != NULL)
            orr__fail(ex, m, ORR_UNREACHABLE,
                      "endpoint %s ended before it took the call", ep->name);
        atomic_store(&ep->depth[lane], 0);
    }
    while (ep->active != 0) {
        orr__active *items = ex->actives.items;
        uint32_t handle = orr__handle(ep->active, items[ep->active].generation);
        bool abandoned;
        orr_msg *m = orr__active_take(ex, handle, &abandoned);
        if (abandoned)
            orr__msg_free(ex, m);
        else
            orr__fail(ex, m, ORR_CALLEE_DIED,
                      "endpoint %s ended before it answered", ep->name);
    }
}

int orr_endpoint_reset(orr_executor *ex, orr_service *s, uint32_t slot)
{
    orr__endpoint *ep = owned(ex, s, slot);
    if (ep == NULL)
        return ORR_ENOENT;
    atomic_store(&ep->state, ORR_ENDPOINT_CREATED);
    unready(ex, ep);
    drain(ex, ep);
    if (atomic_load(&ex->running) == ep)
        atomic_store(&ex->running, NULL);
    atomic_store(&ep->running_since_ns, 0);
    atomic_store(&ep->oldest_ns, 0);
    return ORR_OK;
}

int orr_endpoint_close(orr_executor *ex, orr_service *s, uint32_t slot)
{
    orr__endpoint *ep = owned(ex, s, slot);
    if (ep == NULL)
        return ORR_ENOENT;
    pthread_mutex_lock(&s->lock);
    atomic_store(&ep->state, ORR_ENDPOINT_GONE);
    unlink_name(s, ep);
    pthread_mutex_unlock(&s->lock);
    unready(ex, ep);
    drain(ex, ep);
    if (ex->running == ep)
        ex->running = NULL;
    atomic_store(&ep->running_since_ns, 0);
    atomic_store(&ep->oldest_ns, 0);
    pthread_mutex_lock(&s->lock);
    atomic_store(&ep->executor, NULL);
    orr__stats_clear(ex, ep);
    drop_description(s, ep->description);
    ep->description = NULL;
    orr_free(ep->name);
    ep->name = NULL;
    ep->hash_next = s->free_head;
    s->free_head = slot;
    pthread_mutex_unlock(&s->lock);
    ex->endpoints--;
    return ORR_OK;
}

void orr_endpoint_running(orr_executor *ex, orr_service *s, uint32_t slot,
                          uint32_t method)
{
    orr__endpoint *ep = owned(ex, s, slot);
    if (ep == NULL)
        return;
    atomic_store_explicit(&ep->running_method, method, memory_order_relaxed);
    atomic_store_explicit(&ep->running_since_ns,
                          method == ORR__NONE ? 0 : orr__now(ex),
                          memory_order_relaxed);
}

static bool has_gateway(const char *gateways, const char *name, size_t len)
{
    if (gateways[0] == 0 || len == 0)
        return true;
    const char *at = gateways;
    while (*at != 0) {
        size_t word = strcspn(at, " ");
        if (word == len && memcmp(at, name, len) == 0)
            return true;
        at += word;
        at += strspn(at, " ");
    }
    return false;
}

static int pack_answer(orr_buf *body, orr__endpoint *ep)
{
    int code = orr_pack_map(body, 4);
    if (code == ORR_OK)
        code = orr_pack_str(body, "state", 5);
    if (code == ORR_OK)
        code = orr_pack_int(body, atomic_load(&ep->state));
    if (code == ORR_OK)
        code = orr_pack_str(body, "fenced", 6);
    if (code == ORR_OK)
        code = orr_pack_bool(body, ep->fenced);
    if (code == ORR_OK)
        code = orr_pack_str(body, "endpoint", 8);
    if (code == ORR_OK)
        code = orr_pack_str(body, ep->name, strlen(ep->name));
    if (code == ORR_OK)
        code = orr_pack_str(body, "methods", 7);
    if (code == ORR_OK)
        code = orr_buf_append(body, ep->description->methods,
                              ep->description->methods_len);
    return code;
}

int orr__resolve(orr_service *s, const char *name, size_t name_len,
                 const char *gateway, size_t gateway_len, orr_buf *body,
                 uint32_t *slot, uint32_t *incarnation)
{
    char text[512];
    int code = ORR_OK;
    pthread_mutex_lock(&s->lock);
    bool is_prefix = name_len > 0 && name[name_len - 1] == '*';
    uint32_t matches = 0;
    orr__endpoint *ep = is_prefix ? find_prefix(s, name, name_len - 1, &matches)
                                  : find(s, name, name_len);
    int shown = name_len > ORR__NAME_MAX ? ORR__NAME_MAX : (int)name_len;
    int gateway_shown =
        gateway_len > ORR__NAME_MAX ? ORR__NAME_MAX : (int)gateway_len;
    if (matches > 1) {
        code = ORR_UNREACHABLE;
        snprintf(text, sizeof text, "%u endpoints match %.*s at %s, not one",
                 matches, shown, name,
                 s->address[0] == 0 ? s->name : s->address);
    } else if (ep == NULL) {
        code = ORR_UNREACHABLE;
        snprintf(text, sizeof text, "no endpoint %.*s at %s", shown, name,
                 s->address[0] == 0 ? s->name : s->address);
    } else if (!has_gateway(ep->description->gateways, gateway, gateway_len)) {
        code = ORR_VERSION_MISMATCH;
        snprintf(text, sizeof text,
                 "endpoint %s speaks the gateway %.200s, not %.*s", ep->name,
                 ep->description->gateways, gateway_shown, gateway);
    } else {
        *slot = ep->slot;
        *incarnation = atomic_load(&ep->incarnation);
        code = pack_answer(body, ep);
    }
    pthread_mutex_unlock(&s->lock);
    if (code == ORR_UNREACHABLE || code == ORR_VERSION_MISMATCH) {
        int packed = orr__pack_error(body, code, text);
        if (packed != ORR_OK)
            return packed;
    }
    return code;
}
