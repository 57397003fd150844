/* Calls of both sides: ours that wait, theirs that were taken.
 *
 * Ours:  FREE -> WAITING -> DONE -> FREE, with PROBING between when the
 *        deadline passed and the callee was asked where the call is.
 * A slot is freed when its event is given out, so a slot that Lua knows is
 * never reused before Lua has seen the end of its call.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

orr__call *orr__call_at(orr_executor *ex, uint32_t slot)
{
    if (slot == 0 || slot >= ex->calls.count)
        return NULL;
    orr__call *c = (orr__call *)ex->calls.items + slot;
    return c->state == ORR__CALL_FREE ? NULL : c;
}

/* Answers ORR_OK with a waiting slot, ORR_OVERLOADED or ORR_ENOMEM. */
int orr__call_new(orr_executor *ex, uint64_t timeout_ns, uint32_t *slot)
{
    uint32_t index =
        orr__table_take(&ex->calls, sizeof(orr__call), ORR__CALLS_MAX);
    if (index == 0)
        return ex->calls.capacity >= ORR__CALLS_MAX ? ORR_OVERLOADED
                                                    : ORR_ENOMEM;
    orr__call *c = (orr__call *)ex->calls.items + index;
    uint32_t generation = c->generation + 1;
    memset(c, 0, sizeof *c);
    c->generation = generation;
    c->state = ORR__CALL_WAITING;
    c->heap_pos = ORR__NONE;
    if (timeout_ns != 0) { /* the caller may have run for long */
        ex->now_ns = orr__clock(ex);
        ex->now_is_fresh = true;
    }
    c->started_ns = orr__now(ex);
    if (timeout_ns != 0 && orr__heap_push(ex, c->started_ns + timeout_ns, index,
                                          false) != ORR_OK) {
        orr__call_free(ex, index);
        return ORR_ENOMEM;
    }
    *slot = index;
    return ORR_OK;
}

static void unlink_call(orr_executor *ex, uint32_t slot)
{
    orr__call *items = ex->calls.items;
    orr__call *c = &items[slot];
    if (c->link == NULL)
        return;
    if (c->prev != 0)
        items[c->prev].next = c->next;
    else
        c->link->calls = c->next;
    if (c->next != 0)
        items[c->next].prev = c->prev;
    c->link = NULL;
    c->next = 0;
    c->prev = 0;
}

void orr__call_set_link(orr_executor *ex, uint32_t slot, orr_link *l)
{
    orr__call *items = ex->calls.items;
    orr__call *c = &items[slot];
    c->link = l;
    c->prev = 0;
    c->next = l->calls;
    if (l->calls != 0)
        items[l->calls].prev = slot;
    l->calls = slot;
}

void orr__call_set_parent(orr_executor *ex, uint32_t slot)
{
    uint32_t parent = ex->current_call & ORR__INDEX_MASK;
    orr__active *a = (orr__active *)ex->actives.items + parent;
    orr__call *items = ex->calls.items;
    items[slot].parent = parent;
    items[slot].kin_prev = 0;
    items[slot].kin_next = a->children;
    if (a->children != 0)
        items[a->children].kin_prev = slot;
    a->children = slot;
}

static void leave_parent(orr_executor *ex, uint32_t slot)
{
    orr__call *items = ex->calls.items;
    orr__call *c = &items[slot];
    if (c->parent == 0)
        return;
    if (c->kin_prev != 0)
        items[c->kin_prev].kin_next = c->kin_next;
    else
        ((orr__active *)ex->actives.items)[c->parent].children = c->kin_next;
    if (c->kin_next != 0)
        items[c->kin_next].kin_prev = c->kin_prev;
    c->parent = 0;
}

void orr__call_free(orr_executor *ex, uint32_t slot)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    unlink_call(ex, slot);
    leave_parent(ex, slot);
    if (c->heap_pos != ORR__NONE)
        orr__heap_remove(ex, c->heap_pos);
    orr_free(c->address);
    c->address = NULL;
    c->heap_pos = ORR__NONE;
    c->state = ORR__CALL_FREE;
    orr__table_give(&ex->calls, sizeof(orr__call), slot);
}

/* The call has its end: nothing may end it again. */
static void settle(orr_executor *ex, uint32_t slot)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    unlink_call(ex, slot);
    leave_parent(ex, slot);
    if (c->heap_pos != ORR__NONE)
        orr__heap_remove(ex, c->heap_pos);
    c->heap_pos = ORR__NONE;
    c->state = ORR__CALL_DONE;
}

/* Ends a call; its event waits. Takes reply. */
void orr__call_done(orr_executor *ex, uint32_t slot, orr_msg *reply)
{
    settle(ex, slot);
    reply->call_slot = slot;
    orr__queue_push(&ex->done, reply);
}

/* Without memory for a sentence the call still ends, by its code alone. */
static void fail_bare(orr_executor *ex, uint32_t slot, int code)
{
    settle(ex, slot);
    orr__call *c = (orr__call *)ex->calls.items + slot;
    c->status = code;
    c->next = ex->failed;
    ex->failed = slot;
}

void orr__call_fail(orr_executor *ex, uint32_t slot, int code,
                    const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL) {
        fail_bare(ex, slot, code);
        return;
    }
    m->status = code;
    if (orr__pack_error(&m->body, code, text) != ORR_OK)
        orr_buf_reset(&m->body);
    orr__call_done(ex, slot, m);
}

static void late(orr_executor *ex, uint32_t slot, const orr__call *c)
{
    orr__call_fail(
        ex, slot, ORR_EXPIRED_IN_HANDLER,
        "the answer came after the deadline, %llu ms after the call",
        (unsigned long long)((orr__now(ex) - c->started_ns) / 1000000u));
}

static bool is_phase(int32_t status)
{
    return status == ORR_EXPIRED_IN_QUEUE || status == ORR_EXPIRED_IN_HANDLER ||
           status == ORR_EXPIRED_UNSENT;
}

/* Turns the answer to a resolve into the event's map: a target is made, and
 * {target, address} are put in front of what the peer said. */
static int make_target(orr_executor *ex, uint32_t slot, orr_msg *m)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    uint8_t first = m->body.len > 0 ? m->body.data[0] : 0;
    uint32_t values = 0;
    const orr_pack_limits limits = {.depth_max = 16, .nodes_max = 65536};
    if (first < 0x80 || first > 0x8d ||
        orr_pack_check(m->body.data, m->body.len, &limits, &values) != ORR_OK ||
        values != 1)
        return ORR_EPROTO;
    uint32_t index =
        orr__table_take(&ex->targets, sizeof(orr__target), ORR__CALLS_MAX);
    if (index == 0)
        return ORR_ENOMEM;
    orr__target *t = (orr__target *)ex->targets.items + index;
    uint32_t generation = (t->generation + 1) & 0xfffu;
    memset(t, 0, sizeof *t);
    t->generation = generation;
    t->is_used = true;
    t->service = c->service;
    t->endpoint = m->endpoint;
    t->incarnation = m->incarnation;
    t->has_token = c->has_token;
    t->token = c->token;
    t->is_remote = c->link != NULL;
    t->address = c->address;
    c->address = NULL;
    if (t->is_remote) {
        t->link = c->link;
        t->link->ops->acquire(t->link);
    }
    orr_buf body = {0};
    const char *address =
        t->is_remote ? t->address : orr_service_address(t->service);
    int code = orr_pack_map(&body, (uint32_t)(first - 0x80) + 2);
    if (code == ORR_OK)
        code = orr_pack_str(&body, "target", 6);
    if (code == ORR_OK)
        code = orr_pack_uint(&body, orr__handle(index, generation));
    if (code == ORR_OK)
        code = orr_pack_str(&body, "address", 7);
    if (code == ORR_OK)
        code = orr_pack_str(&body, address, strlen(address));
    if (code == ORR_OK)
        code = orr_buf_append(&body, m->body.data + 1, m->body.len - 1);
    if (code != ORR_OK) {
        orr_buf_free(&body);
        orr_executor_disconnect(ex, orr__handle(index, generation));
        return code;
    }
    orr_buf_free(&m->body);
    m->body = body;
    return ORR_OK;
}

static void finish(orr_executor *ex, uint32_t slot, orr_msg *m)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    if (c->is_resolve && m->status == ORR_OK) {
        int code = make_target(ex, slot, m);
        if (code != ORR_OK) {
            orr__msg_free(ex, m);
            orr__call_fail(ex, slot, code, "cannot use the answer to connect");
            return;
        }
    }
    orr__call_done(ex, slot, m);
}

/* An answer came. Takes m. */
void orr__on_reply(orr_executor *ex, orr_msg *m)
{
    orr__call *c = orr__call_at(ex, m->call_slot);
    if (c == NULL || c->generation != m->call_generation ||
        c->state == ORR__CALL_DONE) {
        ex->dropped++;
        orr__msg_free(ex, m);
        return;
    }
    if (c->state == ORR__CALL_PROBING && !is_phase(m->status)) {
        uint32_t slot = m->call_slot;
        orr__msg_free(ex, m);
        late(ex, slot, c);
        return;
    }
    finish(ex, m->call_slot, m);
}

static void post_to_endpoint(orr_executor *ex, const orr__call *c, orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(c->service, c->endpoint);
    orr_executor *to = ep == NULL ? NULL : atomic_load(&ep->executor);
    if (to == NULL)
        orr__msg_free(ex, m);
    else if (to == ex)
        orr__cancel_here(ex, m);
    else if (!orr__post(to, m))
        orr__msg_free(ex, m);
}

/* Tells the callee's core that the caller gave up. */
static void send_cancel(orr_executor *ex, uint32_t slot, uint16_t flags)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    if (c->link != NULL) {
        orr_header h = {.kind = ORR_FRAME_CANCEL,
                        .version = ORR_WIRE_VERSION,
                        .flags = flags,
                        .call_slot = slot,
                        .call_generation = c->generation,
                        .endpoint = c->endpoint,
                        .incarnation = c->incarnation};
        /* Not sent (queue full, link closing): the grace period ends it. */
        (void)orr__link_send(ex, c->link, &h, NULL);
        return;
    }
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL)
        return; /* likewise */
    m->kind = ORR_FRAME_CANCEL;
    m->flags = flags;
    m->origin = ex;
    m->service = c->service;
    m->endpoint = c->endpoint;
    m->incarnation = c->incarnation;
    m->call_slot = slot;
    m->call_generation = c->generation;
    post_to_endpoint(ex, c, m);
}

static void fail_unknown(orr_executor *ex, uint32_t slot, const orr__call *c)
{
    orr__endpoint *ep =
        c->link == NULL ? orr__endpoint_at(c->service, c->endpoint) : NULL;
    uint64_t since = ep == NULL ? 0 : atomic_load(&ep->running_since_ns);
    if (since != 0)
        orr__call_fail(ex, slot, ORR_EXPIRED_UNKNOWN,
                       "the endpoint's thread is busy: method %u runs for "
                       "%llu ms",
                       atomic_load(&ep->running_method),
                       (unsigned long long)((orr__now(ex) - since) / 1000000u));
    else
        orr__call_fail(ex, slot, ORR_EXPIRED_UNKNOWN,
                       "the peer did not say where the call was within %d ms",
                       ORR_PROBE_GRACE_NS / 1000000);
}

/* The deadline of a call passed; its heap entry is gone already. */
void orr__call_expired(orr_executor *ex, uint32_t slot)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    c->heap_pos = ORR__NONE;
    if (c->state == ORR__CALL_PROBING) {
        fail_unknown(ex, slot, c);
        return;
    }
    if (c->link != NULL && !c->link->ops->is_open(c->link)) {
        orr__call_fail(ex, slot, ORR_EXPIRED_UNSENT,
                       "no connection stood before the deadline");
        return;
    }
    if (c->is_resolve) {
        orr__call_fail(ex, slot, ORR_EXPIRED_UNKNOWN,
                       "the peer did not answer in time");
        return;
    }
    c->state = ORR__CALL_PROBING;
    if (orr__heap_push(ex, orr__now(ex) + ORR_PROBE_GRACE_NS, slot, false) !=
        ORR_OK) {
        fail_unknown(ex, slot, c);
        return;
    }
    send_cancel(ex, slot, ORR_FLAG_PROBE);
}

static int give_up(orr_executor *ex, uint32_t slot, const char *why)
{
    orr__call *c = orr__call_at(ex, slot);
    if (c == NULL || c->state == ORR__CALL_DONE)
        return ORR_ENOENT;
    if (!c->is_resolve && !c->is_external)
        send_cancel(ex, slot, 0);
    c = orr__call_at(ex, slot);
    if (c != NULL && c->state != ORR__CALL_DONE)
        orr__call_fail(ex, slot, ORR_CANCELLED, "%s", why);
    return ORR_OK;
}

int orr_executor_cancel(orr_executor *ex, uint32_t slot)
{
    return give_up(ex, slot, "the caller gave up");
}

/* --- answered from outside ------------------------------------------------ */

int orr_executor_external_begin(orr_executor *ex, orr_external *out)
{
    uint32_t slot;
    int code = orr__call_new(ex, 0, &slot);
    if (code != ORR_OK)
        return code;
    orr__call *c = (orr__call *)ex->calls.items + slot;
    c->is_external = true;
    out->slot = slot;
    out->generation = c->generation;
    return ORR_OK;
}

static bool is_waiting(orr_executor *ex, const orr_external *call)
{
    const orr__call *c = orr__call_at(ex, call->slot);
    return c != NULL && c->is_external && c->generation == call->generation &&
           c->state != ORR__CALL_DONE;
}

int orr_executor_external_finish(orr_executor *ex, const orr_external *call,
                                 int32_t status, orr_msg *m)
{
    if (!is_waiting(ex, call)) {
        ex->dropped++;
        orr__msg_free(ex, m);
        return ORR_ENOENT;
    }
    m->status = status;
    orr__call_done(ex, call->slot, m);
    return ORR_OK;
}

int orr_executor_external_fail(orr_executor *ex, const orr_external *call,
                               int32_t status, const char *text)
{
    if (!is_waiting(ex, call)) {
        ex->dropped++;
        return ORR_ENOENT;
    }
    orr__call_fail(ex, call->slot, status, "%s", text);
    return ORR_OK;
}

void orr_executor_external_forget(orr_executor *ex, const orr_external *call)
{
    if (is_waiting(ex, call))
        orr__call_free(ex, call->slot);
}

/* --- theirs --------------------------------------------------------------- */

/* Keeps a taken ask until it is answered. Answers a handle, 0 without memory.
 * Takes m when it answers one. */
uint32_t orr__active_new(orr_executor *ex, orr__endpoint *ep, orr_msg *m)
{
    uint32_t index =
        orr__table_take(&ex->actives, sizeof(orr__active), ORR__CALLS_MAX);
    if (index == 0)
        return 0;
    orr__active *items = ex->actives.items;
    orr__active *a = &items[index];
    a->generation = (a->generation + 1) & 0xfffu;
    a->msg = m;
    a->endpoint = ep;
    a->taken_ns = ex->slice.taken_ns;
    a->children = 0;
    a->is_abandoned = false;
    a->is_expired = false;
    a->prev = 0;
    a->next = ep->active;
    if (ep->active != 0)
        items[ep->active].prev = index;
    ep->active = index;
    return orr__handle(index, a->generation);
}

orr__active *orr__active_at(orr_executor *ex, uint32_t handle)
{
    uint32_t index = handle & ORR__INDEX_MASK;
    if (index == 0 || index >= ex->actives.count)
        return NULL;
    orr__active *a = (orr__active *)ex->actives.items + index;
    return a->msg != NULL && orr__handle(index, a->generation) == handle ? a
                                                                         : NULL;
}

/* Those that inherited a time limit that is over end by themselves, and can say
 * where they were. */
void orr__active_cancel_children(orr_executor *ex, uint32_t handle)
{
    orr__active *a;
    while ((a = orr__active_at(ex, handle)) != NULL && a->children != 0) {
        uint32_t slot = a->children;
        const orr__call *c = (orr__call *)ex->calls.items + slot;
        bool ends_itself = a->is_expired && c->inherited_ns != 0;
        leave_parent(ex, slot);
        if (!ends_itself)
            (void)give_up(ex, slot, "the call that made it was given up");
    }
}

int orr_executor_is_abandoned(orr_executor *ex, uint32_t call)
{
    const orr__active *a = orr__active_at(ex, call);
    return a != NULL && a->is_abandoned;
}

size_t orr_executor_sender(orr_executor *ex, uint32_t call, char *out,
                           size_t size)
{
    const orr__active *a = orr__active_at(ex, call);
    const orr_msg *m = a != NULL ? a->msg : NULL;
    out[0] = 0;
    if (call == 0)
        m = ex->current;
    if (m == NULL)
        return 0;
    if (m->link != 0 && m->origin == ex) {
        const orr_link *l = orr__link_at(ex, m->link);
        snprintf(out, size, "%s",
                 l != NULL && l->peer != NULL ? l->peer
                                              : "a closed connection");
    } else if (m->link != 0) {
        snprintf(out, size, "a connection of executor %u", m->origin->number);
    } else {
        const orr__call *c = m->origin == ex && m->kind == ORR_FRAME_ASK
                                 ? orr__call_at(ex, m->call_slot)
                                 : NULL;
        const orr__active *items = ex->actives.items;
        if (c != NULL && c->parent != 0)
            snprintf(out, size, "endpoint %s", items[c->parent].endpoint->name);
        else
            snprintf(out, size, "executor %u", m->origin->number);
    }
    return strlen(out);
}

/* Gives the message of an active call and forgets it; NULL when unknown. */
orr_msg *orr__active_take(orr_executor *ex, uint32_t handle, bool *abandoned)
{
    uint32_t index = handle & ORR__INDEX_MASK;
    orr__active *items = ex->actives.items;
    if (index == 0 || index >= ex->actives.count)
        return NULL;
    orr__active *a = &items[index];
    if (a->msg == NULL || orr__handle(index, a->generation) != handle)
        return NULL;
    orr_msg *m = a->msg;
    *abandoned = a->is_abandoned;
    while (a->children != 0) /* they go on alone */
        leave_parent(ex, a->children);
    if (handle == ex->current_call) {
        ex->current = NULL;
        ex->current_call = 0;
    }
    if (a->prev != 0)
        items[a->prev].next = a->next;
    else
        a->endpoint->active = a->next;
    if (a->next != 0)
        items[a->next].prev = a->prev;
    a->msg = NULL;
    orr__table_give(&ex->actives, sizeof(orr__active), index);
    return m;
}

static void post_or_drop(orr_executor *ex, orr_msg *m)
{
    if (orr__post(m->origin, m))
        return;
    ex->dropped++;
    orr__msg_free(ex, m);
}

/* Sends a finished message (status, body) to who called. Takes m. */
void orr__route_reply(orr_executor *ex, orr_msg *m)
{
    if (m->link == 0) {
        m->kind = ORR_FRAME_REPLY;
        if (m->origin == ex)
            orr__on_reply(ex, m);
        else
            post_or_drop(ex, m);
        return;
    }
    if (m->origin != ex) {
        m->kind = ORR__MSG_REPLY_OUT;
        post_or_drop(ex, m);
        return;
    }
    orr_link *l = orr__link_at(ex, m->link);
    if (l == NULL) {
        ex->dropped++;
        orr__msg_free(ex, m);
        return;
    }
    orr_header h = {.kind = ORR_FRAME_REPLY,
                    .version = ORR_WIRE_VERSION,
                    .flags = m->flags & ORR_FLAG_SPILLED,
                    .call_slot = m->call_slot,
                    .call_generation = m->call_generation,
                    .endpoint = m->endpoint,
                    .incarnation = m->incarnation,
                    .method = (uint32_t)m->status};
    int code = orr__link_send(ex, l, &h, &m->body);
    if (code == ORR_TOO_LARGE || code == ORR_OVERLOADED) {
        char text[160];
        if (code == ORR_TOO_LARGE)
            snprintf(text, sizeof text,
                     "the result has %zu bytes, the limit is %u", m->body.len,
                     l->body_max);
        else
            snprintf(text, sizeof text,
                     "the connection's send queue has no room for a result of "
                     "%zu bytes",
                     m->body.len);
        h.flags = 0;
        h.method = (uint32_t)code;
        if (orr__pack_error(&m->body, code, text) == ORR_OK)
            code = orr__link_send(ex, l, &h, &m->body);
    }
    if (code != ORR_OK)
        ex->dropped++;
    orr__msg_free(ex, m);
}

static int answer(orr_executor *ex, uint32_t call, int32_t status,
                  uint16_t flags, orr_msg *body)
{
    bool abandoned;
    const orr__active *a = orr__active_at(ex, call);
    if (a != NULL) {
        orr__stats_answered(ex, call, a, status);
        if (a->msg->trace != 0)
            orr__trace_ended(ex, a->endpoint, a->msg, a->taken_ns,
                             a->is_abandoned ? ORR_CANCELLED : status);
    }
    orr_msg *m = orr__active_take(ex, call, &abandoned);
    if (m == NULL || abandoned) {
        if (m != NULL)
            ex->dropped++;
        orr__msg_free(ex, m);
        orr__msg_free(ex, body);
        return m == NULL ? ORR_ENOENT : ORR_OK;
    }
    /* The answer's bytes replace the question's in the same message. */
    orr_buf swap = m->body;
    m->body = body->body;
    body->body = swap;
    orr__msg_free(ex, body);
    m->status = status;
    m->flags = flags;
    orr__route_reply(ex, m);
    return ORR_OK;
}

int orr_executor_reply(orr_executor *ex, uint32_t call, int32_t status,
                       orr_msg *body)
{
    return answer(ex, call, status, 0, body);
}

int orr_executor_reply_spilled(orr_executor *ex, uint32_t call, orr_msg *key)
{
    return answer(ex, call, ORR_OK, ORR_FLAG_SPILLED, key);
}

int orr_executor_call_spills(const orr_executor *ex, uint32_t call)
{
    uint32_t index = call & ORR__INDEX_MASK;
    const orr__active *a = (const orr__active *)ex->actives.items + index;

    return index != 0 && index < ex->actives.count && a->msg != NULL &&
           orr__handle(index, a->generation) == call &&
           (a->msg->flags & ORR_FLAG_SPILLS) != 0;
}
