/* Sending: targets, asks, tells, connects. Where the target lives decides the
 * way: this executor's mailbox, another's inbox, or a link.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

enum { SENDER_FLAGS = ORR_FLAG_CONTROL | ORR_FLAG_SPILLED };

static orr__target *target_at(orr_executor *ex, uint32_t target)
{
    uint32_t index = target & ORR__INDEX_MASK;
    if (index == 0 || index >= ex->targets.count)
        return NULL;
    orr__target *t = (orr__target *)ex->targets.items + index;
    if (!t->is_used || orr__handle(index, t->generation) != target)
        return NULL;
    return t;
}

void orr_executor_disconnect(orr_executor *ex, uint32_t target)
{
    orr__target *t = target_at(ex, target);
    if (t == NULL)
        return;
    if (t->link != NULL)
        t->link->ops->release(t->link);
    orr_free(t->address);
    t->link = NULL;
    t->address = NULL;
    t->is_used = false;
    orr__table_give(&ex->targets, sizeof(orr__target),
                    target & ORR__INDEX_MASK);
}

int orr_executor_target(orr_executor *ex, orr_service *s, uint32_t slot,
                        const orr_token *token, uint32_t *target)
{
    orr__endpoint *ep = orr__endpoint_at(s, slot);
    if (ep == NULL || atomic_load(&ep->state) == ORR_ENDPOINT_GONE)
        return ORR_ENOENT;
    uint32_t index =
        orr__table_take(&ex->targets, sizeof(orr__target), ORR__CALLS_MAX);
    if (index == 0)
        return ORR_ENOMEM;
    orr__target *t = (orr__target *)ex->targets.items + index;
    uint32_t generation = (t->generation + 1) & 0xfffu;
    memset(t, 0, sizeof *t);
    t->generation = generation;
    t->is_used = true;
    t->service = s;
    t->endpoint = slot;
    t->incarnation = atomic_load(&ep->incarnation);
    if (token != NULL) {
        t->has_token = true;
        t->token = *token;
    }
    *target = orr__handle(index, generation);
    return ORR_OK;
}

uint32_t orr_executor_body_max(orr_executor *ex, uint32_t target)
{
    const orr__target *t = target_at(ex, target);
    if (t == NULL || !t->is_remote || t->link == NULL)
        return 0;
    return t->link->body_max;
}

int orr_executor_spills(orr_executor *ex, uint32_t target)
{
    const orr__target *t = target_at(ex, target);
    return t != NULL && t->is_remote && t->link != NULL &&
           (t->link->features & ORR_FEATURE_SPILL) != 0;
}

/* The target's link; dialled again when the last one has gone. */
static orr_link *link_of(orr_executor *ex, orr__target *t, orr_error *err)
{
    if (t->link == NULL)
        t->link =
            ex->driver.dial(ex->driver.ctx, ex, t->service, t->address, err);
    return t->link;
}

static void address_message(orr_executor *ex, orr_msg *m, const orr__target *t,
                            int kind, uint32_t method, uint32_t flags)
{
    m->kind = (uint8_t)kind;
    m->flags = (uint16_t)flags;
    m->method = method;
    m->endpoint = t->endpoint;
    m->incarnation = t->incarnation;
    m->service = t->service;
    m->origin = ex;
    m->link = 0;
    if (t->has_token) {
        m->flags |= ORR_FLAG_TOKEN;
        m->token = t->token;
    }
}

/* Takes m. Answers ORR_OK or ORR_UNREACHABLE (a tell to nobody). */
static int send_local(orr_executor *ex, orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(m->service, m->endpoint);
    orr_executor *to = ep == NULL ? NULL : atomic_load(&ep->executor);
    if (to == NULL) {
        orr__fail(ex, m, ORR_UNREACHABLE, "the endpoint is gone");
        return ORR_UNREACHABLE;
    }
    if (to == ex) {
        orr__deliver(ex, m);
    } else if (!orr__post_to(ex, ep, to, m)) {
        orr__fail(ex, m, ORR_UNREACHABLE, "the endpoint's executor has ended");
        return ORR_UNREACHABLE;
    }
    return ORR_OK;
}

static void fill_header(orr_header *h, const orr_msg *m, uint64_t budget_ns)
{
    memset(h, 0, sizeof *h);
    h->version = ORR_WIRE_VERSION;
    h->kind = m->kind;
    h->flags = m->flags;
    h->call_slot = m->call_slot;
    h->call_generation = m->call_generation;
    h->endpoint = m->endpoint;
    h->incarnation = m->incarnation;
    h->method = m->method;
    h->token = m->token;
    if (budget_ns != 0)
        h->budget_us = budget_ns / 1000u + 1;
}

/* Sends m, with its trace in front of the body when it has one. */
static int send_traced(orr_executor *ex, orr_link *l, orr_header *h, orr_msg *m)
{
    if (m->trace == 0 || (l->features & ORR_FEATURE_TRACE) == 0)
        return orr__link_send(ex, l, h, &m->body);
    orr_buf body = {0};
    int code = orr__trace_write(m, &body);
    h->flags |= ORR_FLAG_TRACE;
    if (code == ORR_OK)
        code = orr__link_send(ex, l, h, &body);
    orr_buf_free(&body);
    return code;
}

static void ask_remote(orr_executor *ex, orr__target *t, orr_msg *m,
                       uint64_t timeout_ns)
{
    orr_error err = {0};
    uint32_t slot = m->call_slot;
    orr_link *l = link_of(ex, t, &err);
    if (l == NULL) {
        orr__call_fail(ex, slot, ORR_UNREACHABLE, "%s", err.text);
        return;
    }
    orr_header h;
    fill_header(&h, m, timeout_ns);
    orr__call_set_link(ex, slot, l);
    int code = send_traced(ex, l, &h, m);
    if (code == ORR_TOO_LARGE)
        orr__call_fail(ex, slot, code,
                       "the arguments have %zu bytes, the limit is %u",
                       m->body.len, l->body_max);
    else if (code != ORR_OK)
        orr__call_fail(ex, slot, code, "%s",
                       code == ORR_OVERLOADED
                           ? "the connection's send queue is full"
                           : "the connection is closed");
}

static bool is_traced(const orr_executor *ex)
{
    return ex->current != NULL
               ? ex->current->trace != 0
               : atomic_load_explicit(&orr__tracing, memory_order_relaxed) != 0;
}

/* What is left of the call being served, if that is less than timeout_ns (0 =
 * for ever); at least 1. Otherwise 0. */
static uint64_t rest_of(orr_executor *ex, const orr__active *parent,
                        uint64_t timeout_ns)
{
    uint64_t deadline = parent->msg->deadline_ns;
    if (deadline == 0)
        return 0;
    uint64_t rest = orr__since(deadline, orr__clock(ex));
    if (timeout_ns != 0 && timeout_ns <= rest)
        return 0;
    return rest == 0 ? 1 : rest;
}

/* Work for a caller that has gone is not begun: the call ends here. */
static bool may_begin(orr_executor *ex, const orr__active *parent,
                      uint32_t slot, uint64_t inherited_ns)
{
    orr__call *c = (orr__call *)ex->calls.items + slot;
    c->inherited_ns = inherited_ns;
    if (parent->is_abandoned && inherited_ns != 1) {
        orr__call_fail(ex, slot, ORR_CANCELLED,
                       "the call that makes it was given up");
        return false;
    }
    if (inherited_ns == 1) {
        orr__call_fail(ex, slot, ORR_EXPIRED_UNSENT,
                       "no time was left of the call that makes it");
        return false;
    }
    orr__call_set_parent(ex, slot);
    return true;
}

int orr_executor_ask(orr_executor *ex, uint32_t target, uint32_t method,
                     orr_msg *m, uint64_t timeout_ns, uint32_t flags,
                     uint32_t *slot)
{
    orr__target *t = target_at(ex, target);
    uint64_t inherited = 0;
    const orr__active *parent = NULL;
    if (ex->current_call != 0 && (flags & ORR_ASK_OWN) == 0) {
        parent = orr__active_at(ex, ex->current_call);
        inherited = rest_of(ex, parent, timeout_ns);
        timeout_ns = inherited != 0 ? inherited : timeout_ns;
    }
    int code = t == NULL ? ORR_EINVAL : orr__call_new(ex, timeout_ns, slot);
    if (code != ORR_OK) {
        orr__msg_free(ex, m);
        return code;
    }
    orr__call *c = (orr__call *)ex->calls.items + *slot;
    c->service = t->service;
    c->endpoint = t->endpoint;
    c->incarnation = t->incarnation;
    c->method = method;
    address_message(ex, m, t, ORR_FRAME_ASK, method, flags & SENDER_FLAGS);
    m->call_slot = *slot;
    m->call_generation = c->generation;
    if (parent != NULL && !may_begin(ex, parent, *slot, inherited)) {
        orr__msg_free(ex, m);
        return ORR_OK;
    }
    if (is_traced(ex))
        orr__trace_send(ex, m);
    if (t->is_remote) {
        ask_remote(ex, t, m, timeout_ns);
        orr__msg_free(ex, m);
        return ORR_OK;
    }
    m->deadline_ns = timeout_ns == 0 ? 0 : c->started_ns + timeout_ns;
    (void)send_local(ex, m); /* a failure is the call's answer */
    return ORR_OK;
}

static int tell_remote(orr_executor *ex, orr__target *t, orr_msg *m)
{
    orr_error err = {0};
    orr_link *l = link_of(ex, t, &err);
    if (l == NULL)
        return ORR_UNREACHABLE;
    orr_header h;
    fill_header(&h, m, 0);
    return send_traced(ex, l, &h, m);
}

int orr_executor_tell(orr_executor *ex, uint32_t target, uint32_t method,
                      orr_msg *m, uint32_t flags)
{
    orr__target *t = target_at(ex, target);
    if (t == NULL) {
        orr__msg_free(ex, m);
        return ORR_EINVAL;
    }
    address_message(ex, m, t, ORR_FRAME_TELL, method, flags & SENDER_FLAGS);
    if (is_traced(ex))
        orr__trace_send(ex, m);
    if (!t->is_remote)
        return send_local(ex, m);
    int code = tell_remote(ex, t, m);
    orr__msg_free(ex, m);
    return code;
}

int orr_executor_post_run(orr_executor *ex, orr_service *s, uint32_t slot,
                          uint32_t id)
{
    orr__endpoint *ep = orr__endpoint_at(s, slot);
    if (ep == NULL || atomic_load(&ep->state) == ORR_ENDPOINT_GONE ||
        atomic_load(&ep->executor) != ex)
        return ORR_ENOENT;
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL)
        return ORR_ENOMEM;
    m->kind = ORR__MSG_RUN;
    m->method = id;
    m->service = s;
    m->endpoint = slot;
    m->incarnation = atomic_load(&ep->incarnation);
    m->origin = ex;
    orr__deliver(ex, m);
    return ORR_OK;
}

/* --- connect -------------------------------------------------------------- */

static char *copy_text(const char *text)
{
    size_t len = strlen(text) + 1;
    char *p = orr_alloc(len);
    if (p != NULL)
        memcpy(p, text, len);
    return p;
}

static bool is_here(const orr_service *s, const char *address)
{
    return address[0] == 0 || strcmp(address, orr_service_address(s)) == 0;
}

/* The answer waits in the done queue before this returns. */
static void connect_local(orr_executor *ex, orr_service *s, uint32_t slot,
                          const char *endpoint, const char *gateway)
{
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL) {
        orr__call_fail(ex, slot, ORR_ENOMEM, "no memory");
        return;
    }
    m->status =
        orr__resolve(s, endpoint, strlen(endpoint), gateway, strlen(gateway),
                     &m->body, &m->endpoint, &m->incarnation);
    m->call_slot = slot;
    m->call_generation = orr__call_at(ex, slot)->generation;
    orr__on_reply(ex, m);
}

static void connect_remote(orr_executor *ex, orr_service *s, uint32_t slot,
                           const char *address, const char *endpoint,
                           const char *gateway, uint64_t timeout_ns)
{
    orr_error err = {0};
    orr_link *l = ex->driver.dial(ex->driver.ctx, ex, s, address, &err);
    if (l == NULL) {
        orr__call_fail(ex, slot, ORR_UNREACHABLE, "%s", err.text);
        return;
    }
    orr_header h = {.kind = ORR_FRAME_RESOLVE, .version = ORR_WIRE_VERSION};
    h.call_slot = slot;
    h.call_generation = orr__call_at(ex, slot)->generation;
    h.budget_us = timeout_ns == 0 ? 0 : timeout_ns / 1000u + 1;
    orr_buf body = {0};
    int code = orr_pack_str(&body, endpoint, strlen(endpoint));
    if (code == ORR_OK)
        code = orr_pack_str(&body, gateway, strlen(gateway));
    orr__call_set_link(ex, slot, l);
    if (code == ORR_OK)
        code = orr__link_send(ex, l, &h, &body);
    orr_buf_free(&body);
    if (code != ORR_OK)
        orr__call_fail(ex, slot, code, "cannot ask %s for %.200s", address,
                       endpoint);
    l->ops->release(l); /* the target, once made, holds it */
}

int orr_executor_connect(orr_executor *ex, orr_service *s, const char *address,
                         const char *endpoint, const char *gateway,
                         const orr_token *token, uint64_t timeout_ns,
                         uint32_t *slot)
{
    int code = orr__call_new(ex, timeout_ns, slot);
    if (code != ORR_OK)
        return code;
    orr__call *c = (orr__call *)ex->calls.items + *slot;
    c->is_resolve = true;
    c->service = s;
    c->address = copy_text(address);
    if (c->address == NULL) {
        orr__call_free(ex, *slot);
        return ORR_ENOMEM;
    }
    if (token != NULL) {
        c->has_token = true;
        c->token = *token;
    }
    if (is_here(s, address))
        connect_local(ex, s, *slot, endpoint, gateway);
    else
        connect_remote(ex, s, *slot, address, endpoint, gateway, timeout_ns);
    return ORR_OK;
}
