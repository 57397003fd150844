/* Links: the executor's side of a connection. Numbers instead of pointers cross
 * threads, so a reply that comes after its link has gone finds nothing.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

orr_link *orr__link_at(orr_executor *ex, uint32_t number)
{
    uint32_t index = number & ORR__INDEX_MASK;
    if (index == 0 || index >= ex->links.count)
        return NULL;
    orr__link_slot *slot = (orr__link_slot *)ex->links.items + index;
    if (orr__handle(index, slot->generation) != number)
        return NULL;
    return slot->link;
}

void orr_executor_link_up(orr_executor *ex, orr_link *l)
{
    uint32_t index =
        orr__table_take(&ex->links, sizeof(orr__link_slot), ORR__CALLS_MAX);
    l->executor = ex;
    l->calls = 0;
    l->dirty = 0;
    l->dirty_next = NULL;
    l->number = 0;
    if (index == 0)
        return; /* without memory: frames of this link are refused */
    orr__link_slot *slot = (orr__link_slot *)ex->links.items + index;
    slot->generation = (slot->generation + 1) & 0xfffu;
    slot->link = l;
    l->number = orr__handle(index, slot->generation);
}

static void clean(orr_executor *ex, orr_link *l)
{
    orr_link **at = &ex->dirty;
    while (*at != NULL && *at != l)
        at = &(*at)->dirty_next;
    if (*at == l)
        *at = l->dirty_next;
    l->dirty = 0;
    l->dirty_next = NULL;
}

void orr_executor_link_down(orr_executor *ex, orr_link *l, int code,
                            const char *text)
{
    uint32_t index = l->number & ORR__INDEX_MASK;
    if (orr__link_at(ex, l->number) == l) {
        ((orr__link_slot *)ex->links.items)[index].link = NULL;
        orr__table_give(&ex->links, sizeof(orr__link_slot), index);
    }
    l->number = 0;
    clean(ex, l);
    while (l->calls != 0)
        orr__call_fail(ex, l->calls, code, "%s", text);
    orr__target *targets = ex->targets.items;
    for (uint32_t i = 1; i < ex->targets.count; i++) {
        if (!targets[i].is_used || targets[i].link != l)
            continue;
        targets[i].link = NULL;
        l->ops->release(l);
    }
}

/* Queues a frame; the flush at the end of the batch writes it. A large body is
 * taken, not copied. */
int orr__link_send(orr_executor *ex, orr_link *l, const orr_header *h,
                   orr_buf *body)
{
    orr_header out = *h;
    size_t len = body == NULL ? 0 : body->len;
    int code;
    out.length = (uint32_t)len; /* no body of ours has more: ORR__BODY_MAX */
    if (len > l->frame_max && l->ops->send_body != NULL)
        code = l->ops->send_body(l, &out, body);
    else
        code = l->ops->send(l, &out, body == NULL ? NULL : body->data);
    if (code == ORR_OK && !l->dirty) {
        l->dirty = 1;
        l->dirty_next = ex->dirty;
        ex->dirty = l;
    }
    return code;
}

void orr_executor_flush(orr_executor *ex)
{
    orr_link *l;
    while ((l = ex->dirty) != NULL) {
        ex->dirty = l->dirty_next;
        l->dirty = 0;
        l->dirty_next = NULL;
        l->ops->flush(l);
    }
    uint64_t first = ex->heap_len == 0 ? UINT64_MAX : ex->heap[0].at_ns;
    if (first != ex->armed_ns) {
        ex->armed_ns = first;
        ex->driver.arm(ex->driver.ctx, first);
    }
    orr__executor_see(ex);
    /* The owner may do other things before the next turn. */
    ex->now_is_fresh = false;
}

/* --- frames from a peer --------------------------------------------------- */

/* body, or whole: bytes to copy, or a buffer to take. */
static orr_msg *message_of(orr_executor *ex, orr_link *l, const orr_header *h,
                           const uint8_t *body, orr_buf *whole)
{
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL)
        return NULL;
    if (whole != NULL) {
        orr_buf_free(&m->body);
        m->body = *whole;
        memset(whole, 0, sizeof *whole);
    } else if (orr_buf_append(&m->body, body, h->length) != ORR_OK) {
        orr__msg_free(ex, m);
        return NULL;
    }
    m->kind = h->kind;
    m->flags = h->flags & (uint16_t)~ORR_FLAG_SPILLS;
    if ((l->features & ORR_FEATURE_SPILL) != 0)
        m->flags |= ORR_FLAG_SPILLS;
    m->endpoint = h->endpoint;
    m->incarnation = h->incarnation;
    m->method = h->method;
    m->call_slot = h->call_slot;
    m->call_generation = h->call_generation;
    m->token = h->token;
    m->link = l->number;
    m->role = l->role == 0 ? ORR__ROLE_PLAIN : l->role;
    m->origin = ex;
    m->service = l->service;
    if (h->budget_us != 0)
        m->deadline_ns = orr__now(ex) + h->budget_us * 1000u;
    return m;
}

static void to_endpoint(orr_executor *ex, orr_msg *m)
{
    orr__endpoint *ep = orr__endpoint_at(m->service, m->endpoint);
    orr_executor *to = ep == NULL ? NULL : atomic_load(&ep->executor);
    if (to != NULL && to != ex &&
        (m->kind == ORR_FRAME_CANCEL ? orr__post(to, m)
                                     : orr__post_to(ex, ep, to, m)))
        return;
    if (m->kind == ORR_FRAME_CANCEL)
        orr__cancel_here(ex, m);
    else
        orr__deliver(ex, m);
}

static bool read_name(orr_unpacker *u, orr_pack_token *name)
{
    return orr_unpack_next(u, name) == ORR_OK && name->type == ORR_PACK_STR &&
           name->size <= 512;
}

/* Body of a RESOLVE: two strings, endpoint and gateway. */
static int resolve(orr_executor *ex, orr_link *l, const orr_header *h,
                   const uint8_t *body)
{
    orr_unpacker u;
    orr_pack_token name, gateway;
    orr_unpack_init(&u, body, h->length);
    if (!read_name(&u, &name) || !read_name(&u, &gateway))
        return ORR_EPROTO;
    orr_msg *m = orr__msg_new(ex);
    if (m == NULL)
        return ORR_ENOMEM;
    m->status = orr__resolve(l->service, (const char *)name.data, name.size,
                             (const char *)gateway.data, gateway.size, &m->body,
                             &m->endpoint, &m->incarnation);
    m->link = l->number;
    m->origin = ex;
    m->call_slot = h->call_slot;
    m->call_generation = h->call_generation;
    orr__route_reply(ex, m);
    return ORR_OK;
}

/* A peer may only answer calls that were made on this very link. */
static int reply(orr_executor *ex, orr_link *l, const orr_header *h,
                 const uint8_t *body, orr_buf *whole)
{
    orr__call *c = orr__call_at(ex, h->call_slot);
    if (c == NULL || c->generation != h->call_generation || c->link != l) {
        ex->dropped++;
        return ORR_OK;
    }
    orr_msg *m = message_of(ex, l, h, body, whole);
    if (m == NULL) {
        orr__call_fail(ex, h->call_slot, ORR_ENOMEM,
                       "no memory for an answer of %u bytes", h->length);
        return ORR_OK;
    }
    m->status = (int32_t)h->method;
    orr__on_reply(ex, m);
    return ORR_OK;
}

static int receive(orr_executor *ex, orr_link *l, const orr_header *h,
                   const uint8_t *body, orr_buf *whole)
{
    if (h->kind == ORR_FRAME_REPLY)
        return reply(ex, l, h, body, whole);
    if (h->kind == ORR_FRAME_RESOLVE && whole == NULL)
        return resolve(ex, l, h, body);
    if (h->kind != ORR_FRAME_ASK && h->kind != ORR_FRAME_TELL &&
        h->kind != ORR_FRAME_CANCEL)
        return ORR_EPROTO;
    if (h->budget_us > UINT64_MAX / 2000u)
        return ORR_EPROTO;
    orr_msg *m = message_of(ex, l, h, body, whole);
    if (m == NULL)
        return ORR_ENOMEM;
    if ((m->flags & ORR_FLAG_TRACE) != 0 && m->kind != ORR_FRAME_CANCEL &&
        orr__trace_read(m) != ORR_OK) {
        orr__msg_free(ex, m);
        return ORR_EPROTO;
    }
    to_endpoint(ex, m);
    return ORR_OK;
}

int orr_executor_receive(orr_executor *ex, orr_link *l, const orr_header *h,
                         const uint8_t *body)
{
    return receive(ex, l, h, body, NULL);
}

int orr_executor_receive_body(orr_executor *ex, orr_link *l,
                              const orr_header *h, orr_buf *body)
{
    int code = receive(ex, l, h, NULL, body);
    orr_buf_free(body); /* empty when it was taken */
    return code;
}
