/* Mailboxes: what arrives at an endpoint, and what leaves it in which order.
 *
 * On arrival: is the endpoint there, started, does it have the method, is there
 * room? At departure: is the token right, is there time left? Whatever fails is
 * answered at once with the reason; nothing waits for a caller's timeout.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

int orr__pack_error(orr_buf *body, int code, const char *text)
{
    const char *name = orr_code_name(code);
    orr_buf_reset(body);
    int answer = orr_pack_map(body, 2);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, "code", 4);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, name, strlen(name));
    if (answer == ORR_OK)
        answer = orr_pack_str(body, "message", 7);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, text, strlen(text));
    return answer;
}

/* For what no handler has seen: unreachable can also mean that the answer was
 * lost, so it is said that this was not. */
static int pack_refusal(orr_buf *body, int code, const char *text)
{
    const char *name = orr_code_name(code);
    int answer;

    if (code != ORR_UNREACHABLE)
        return orr__pack_error(body, code, text);
    orr_buf_reset(body);
    answer = orr_pack_map(body, 3);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, "code", 4);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, name, strlen(name));
    if (answer == ORR_OK)
        answer = orr_pack_str(body, "message", 7);
    if (answer == ORR_OK)
        answer = orr_pack_str(body, text, strlen(text));
    if (answer == ORR_OK)
        answer = orr_pack_str(body, "never_ran", 9);
    if (answer == ORR_OK)
        answer = orr_pack_bool(body, 1);
    return answer;
}

/* Ends a message with an error: an ask is answered, the rest is a dead letter.
 * Takes m. */
void orr__fail(orr_executor *ex, orr_msg *m, int code, const char *format, ...)
{
    if (m->kind != ORR_FRAME_ASK) {
        ex->dropped++;
        orr__msg_free(ex, m);
        return;
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    m->status = code;
    if (pack_refusal(&m->body, code, text) != ORR_OK)
        orr_buf_reset(&m->body); /* the status alone still tells */
    orr__route_reply(ex, m);
}

static void make_ready(orr_executor *ex, orr__endpoint *ep)
{
    if (ep->is_ready)
        return;
    ep->is_ready = true;
    ep->quota = ORR_QUOTA;
    ep->ready_next = NULL;
    if (ex->ready_tail == NULL)
        ex->ready_head = ep;
    else
        ex->ready_tail->ready_next = ep;
    ex->ready_tail = ep;
}

static bool is_there(orr_executor *ex, const orr__endpoint *ep,
                     const orr_msg *m)
{
    return ep != NULL && atomic_load(&ep->executor) == ex &&
           atomic_load(&ep->incarnation) == m->incarnation &&
           atomic_load(&ep->state) != ORR_ENDPOINT_GONE;
}

static void refresh_oldest(orr__endpoint *ep)
{
    uint64_t oldest = 0;
    for (int i = 0; i < ORR_LANES; i++) {
        const orr_msg *head = ep->lanes[i].head;
        if (head != NULL && (oldest == 0 || head->enqueued_ns < oldest))
            oldest = head->enqueued_ns;
    }
    atomic_store_explicit(&ep->oldest_ns, oldest, memory_order_relaxed);
}

static void add_depth(orr__endpoint *ep, int lane, uint32_t change)
{
    uint32_t depth =
        atomic_load_explicit(&ep->depth[lane], memory_order_relaxed);
    atomic_store_explicit(&ep->depth[lane], depth + change,
                          memory_order_relaxed);
}

/* A message has reached the executor of its endpoint. Takes m. */
void orr__deliver(orr_executor *ex, orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(m->service, m->endpoint);
    if (!is_there(ex, ep, m)) {
        orr__fail(ex, m, ORR_UNREACHABLE, "the endpoint is gone");
        return;
    }
    bool is_run = m->kind == ORR__MSG_RUN;
    if (!is_run && atomic_load(&ep->state) == ORR_ENDPOINT_CREATED) {
        orr__fail(ex, m, ORR_NOT_STARTED, "endpoint %s is not started",
                  ep->name);
        return;
    }
    if (!is_run && m->method >= ep->description->method_count) {
        orr__fail(ex, m, ORR_NO_METHOD, "endpoint %s has no method %u",
                  ep->name, m->method);
        return;
    }
    if (!is_run && !orr__may_call(ep, m)) {
        orr__refuse(ex, ep, m);
        return;
    }
    int lane = ORR_LANE_BULK;
    if (!is_run && ((m->flags & ORR_FLAG_CONTROL) != 0 ||
                    (ep->description->control != NULL &&
                     ep->description->control[m->method] != 0)))
        lane = ORR_LANE_CONTROL;
    uint32_t depth =
        atomic_load_explicit(&ep->depth[lane], memory_order_relaxed);
    if (depth >= ep->capacity[lane] && !is_run) {
        atomic_fetch_add_explicit(&ep->refused, 1, memory_order_relaxed);
        orr__stats_refused(ep, m->method);
        orr__fail(ex, m, ORR_OVERLOADED,
                  "the mailbox of %s is full: %u messages wait", ep->name,
                  depth);
        return;
    }
    m->lane = (uint8_t)lane;
    if (m->enqueued_ns == 0)
        m->enqueued_ns = orr__now(ex);
    bool was_empty = ep->lanes[0].head == NULL && ep->lanes[1].head == NULL;
    orr__queue_push(&ep->lanes[lane], m);
    add_depth(ep, lane, 1);
    if (was_empty)
        atomic_store_explicit(&ep->oldest_ns, m->enqueued_ns,
                              memory_order_relaxed);
    make_ready(ex, ep);
}

static void print_session(char *out, const orr_token *t)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        out[2 * i] = digits[t->session[i] >> 4];
        out[2 * i + 1] = digits[t->session[i] & 15];
    }
    out[32] = 0;
}

/* The receiver's rule: same epoch and same session, else it is not run. */
static bool is_fenced_off(orr_executor *ex, orr__endpoint *ep, orr_msg *m)
{
    if (!ep->fenced || m->kind == ORR__MSG_RUN)
        return false;
    if ((m->flags & ORR_FLAG_TOKEN) == 0) {
        orr__fail(ex, m, ORR_FENCED,
                  "endpoint %s is fenced and the call carries no token",
                  ep->name);
        return true;
    }
    if (m->token.epoch == ep->token.epoch &&
        memcmp(m->token.session, ep->token.session, 16) == 0)
        return false;
    char mine[33], theirs[33];
    print_session(mine, &ep->token);
    print_session(theirs, &m->token);
    orr__fail(ex, m, ORR_FENCED,
              "endpoint %s serves epoch %llu session %s; "
              "the call carries epoch %llu session %s",
              ep->name, (unsigned long long)ep->token.epoch, mine,
              (unsigned long long)m->token.epoch, theirs);
    return true;
}

/* Does the message go to its handler? If not it has been answered. */
static bool may_run(orr_executor *ex, orr__endpoint *ep, orr_msg *m)
{
    if (m->kind == ORR__MSG_RUN)
        return true;
    if (m->deadline_ns != 0 && m->deadline_ns <= ex->now_ns) {
        atomic_fetch_add_explicit(&ep->expired, 1, memory_order_relaxed);
        orr__stats_expired(ep, m->method);
        orr__fail(ex, m, ORR_EXPIRED_IN_QUEUE,
                  "waited %llu ms in the mailbox of %s and expired there",
                  (unsigned long long)(orr__since(ex->now_ns, m->enqueued_ns) /
                                       1000000u),
                  ep->name);
        return false;
    }
    if (atomic_load_explicit(&ep->state, memory_order_relaxed) ==
        ORR_ENDPOINT_CREATED) {
        orr__fail(ex, m, ORR_NOT_STARTED, "endpoint %s was stopped", ep->name);
        return false;
    }
    return !is_fenced_off(ex, ep, m);
}

static orr__endpoint *rotate(orr_executor *ex)
{
    orr__endpoint *ep = ex->ready_head;
    if (ep->quota > 0 || ep->ready_next == NULL)
        return ep;
    ep->quota = ORR_QUOTA;
    ex->ready_head = ep->ready_next;
    ex->ready_tail->ready_next = ep;
    ex->ready_tail = ep;
    ep->ready_next = NULL;
    return ex->ready_head;
}

static orr_msg *pop(orr_executor *ex, orr__endpoint *ep)
{
    int lane = ep->lanes[ORR_LANE_CONTROL].head != NULL ? ORR_LANE_CONTROL
                                                        : ORR_LANE_BULK;
    orr_msg *m = orr__queue_pop(&ep->lanes[lane]);
    add_depth(ep, lane, UINT32_MAX); /* minus one */
    if (ep->quota > 0)
        ep->quota--;
    refresh_oldest(ep);
    if (ep->lanes[0].head == NULL && ep->lanes[1].head == NULL) {
        ex->ready_head = ep->ready_next;
        if (ex->ready_head == NULL)
            ex->ready_tail = NULL;
        ep->ready_next = NULL;
        ep->is_ready = false;
    }
    return m;
}

/* The next message to handle, or NULL. Gives m. */
orr_msg *orr__mailbox_next(orr_executor *ex, orr__endpoint **from)
{
    while (ex->ready_head != NULL) {
        orr__endpoint *ep = rotate(ex);
        orr_msg *m = pop(ex, ep);
        if (may_run(ex, ep, m)) {
            *from = ep;
            return m;
        }
    }
    return NULL;
}

static bool is_call_of(const orr_msg *m, const orr_msg *cancel)
{
    return m->kind == ORR_FRAME_ASK && m->call_slot == cancel->call_slot &&
           m->call_generation == cancel->call_generation &&
           m->origin == cancel->origin && m->link == cancel->link;
}

/* Takes the cancelled call out of the mailbox; position counts from 1. */
static orr_msg *take_queued(orr__endpoint *ep, const orr_msg *cancel,
                            uint32_t *position)
{
    *position = 0;
    for (int lane = 0; lane < ORR_LANES; lane++) {
        orr__queue *q = &ep->lanes[lane];
        orr_msg *before = NULL;
        for (orr_msg *m = q->head; m != NULL; before = m, m = m->next) {
            ++*position;
            if (!is_call_of(m, cancel))
                continue;
            if (before == NULL)
                q->head = m->next;
            else
                before->next = m->next;
            if (q->tail == m)
                q->tail = before;
            add_depth(ep, lane, UINT32_MAX);
            return m;
        }
    }
    return NULL;
}

static void cancel_queued(orr_executor *ex, orr__endpoint *ep, orr_msg *m,
                          uint32_t position, bool is_probe)
{
    bool empty = ep->lanes[0].head == NULL && ep->lanes[1].head == NULL;
    refresh_oldest(ep);
    if (empty && ep->is_ready) {
        /* Leave it in the ready list only with something to give. */
        orr__endpoint **at = &ex->ready_head;
        orr__endpoint *before = NULL;
        while (*at != ep) {
            before = *at;
            at = &(*at)->ready_next;
        }
        *at = ep->ready_next;
        if (ex->ready_tail == ep)
            ex->ready_tail = before;
        ep->is_ready = false;
        ep->ready_next = NULL;
    }
    if (!is_probe) {
        orr__msg_free(ex, m);
        return;
    }
    atomic_fetch_add_explicit(&ep->expired, 1, memory_order_relaxed);
    orr__stats_expired(ep, m->method);
    orr__fail(ex, m, ORR_EXPIRED_IN_QUEUE,
              "waited %llu ms in the mailbox of %s, %u in line",
              (unsigned long long)((orr__now(ex) - m->enqueued_ns) / 1000000u),
              ep->name, position);
}

static void cancel_active(orr_executor *ex, orr__endpoint *ep, orr_msg *cancel)
{
    orr__active *items = ex->actives.items;
    for (uint32_t i = ep->active; i != 0; i = items[i].next) {
        orr__active *a = &items[i];
        if (a->is_abandoned || !is_call_of(a->msg, cancel))
            continue;
        a->is_abandoned = true;
        a->is_expired = (cancel->flags & ORR_FLAG_PROBE) != 0;
        if ((cancel->flags & ORR_FLAG_PROBE) != 0) {
            uint64_t ran = orr__since(orr__now(ex), a->taken_ns);
            uint32_t method = a->msg->method;
            cancel->kind = ORR_FRAME_ASK; /* so that fail answers it */
            cancel->method = orr__handle(i, a->generation);
            orr_msg *event = orr__msg_new(ex);
            if (event != NULL) {
                event->method = cancel->method;
                orr__queue_push(&ex->cancels, event);
            }
            orr__fail(ex, cancel, ORR_EXPIRED_IN_HANDLER,
                      "method %u of %s runs for %llu ms", method, ep->name,
                      (unsigned long long)(ran / 1000000u));
            return;
        }
        cancel->method = orr__handle(i, a->generation);
        orr__queue_push(&ex->cancels, cancel);
        return;
    }
    orr__msg_free(ex, cancel);
}

/* A caller gave up, or wants to know where its call is. Takes m. */
void orr__cancel_here(orr_executor *ex, orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(m->service, m->endpoint);
    if (!is_there(ex, ep, m)) {
        orr__msg_free(ex, m);
        return;
    }
    uint32_t position;
    orr_msg *queued = take_queued(ep, m, &position);
    if (queued == NULL) {
        cancel_active(ex, ep, m);
        return;
    }
    cancel_queued(ex, ep, queued, position, (m->flags & ORR_FLAG_PROBE) != 0);
    orr__msg_free(ex, m);
}
