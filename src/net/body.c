/* Chunked bodies: a body above the chunk size travels as an opening frame (ASK,
 * TELL or REPLY with ORR_FLAG_MORE, its stream and its total) and DATA frames,
 * between which everything else of the connection has its way. Owner: the
 * thread of the connection's executor.
 *
 * Ours:   waiting -> sending -> gone. Small frames go first, then a slice of
 *         each open body in turn. A slice is written from the body's own
 *         memory: its header overwrites the bytes before it, which have left
 *         already. So bytes are never copied here, but for the first slice.
 * Theirs: coming -> gone. Bytes go from the read buffer straight into the
 *         message's body.
 *
 * Order: what one sender tells one endpoint in one lane arrives in the order of
 * sending. A frame for an endpoint with a body on its way is held behind that
 * body, and a second body waits for the first; other targets are not held up.
 *
 * Flow: a sender may send body_first bytes of a body, the rest when the
 * receiver has admitted it, which it does in order while the totals fit into
 * assembly_max (one always does, so that none waits for ever). Over all bodies
 * at most `window` bytes are under way: that bounds how long a small frame
 * stands behind pieces in the buffers of the system.
 *
 * Failures. Given up by the caller before it left whole: ABORT, the call ends
 * here. Answer given up by its caller: ABORT. A total above the limit, bytes
 * beyond the total or beyond what was granted, an unknown stream, one stream
 * twice, too many: the connection ends as for any lie.
 */
#include "net/body.h"

#include <stdio.h>
#include <string.h>

#include "net/conn.h"

enum { OPENING_SIZE = 12 };
static const uint64_t credit_max = UINT64_C(1) << 40;

struct orr__out_body {
    orr__out_body *next;
    orr_header head;
    orr_buf bytes;
    orr_buf held; /* frames that must come after it */
    size_t sent;
    uint64_t credit;
    uint32_t stream;
};

struct orr__in_body {
    orr__in_body *next;
    orr_header head;
    orr_buf bytes;
    uint32_t stream;
    uint32_t total;
    uint32_t granted;
    uint8_t is_admitted;
    uint64_t opened_ns;
    uint64_t last_ns;
};

/* --- ours ----------------------------------------------------------------- */

static void out_free(orr_conn *c, orr__out_body *b)
{
    c->bodies.sending_bytes -= b->bytes.len;
    c->bodies.held_bytes -= b->held.len;
    c->env->info.sending -= b->bytes.len;
    orr_buf_free(&b->bytes);
    orr_buf_free(&b->held);
    orr_free(b);
}

static void list_append(orr__out_body **first, orr__out_body **tail,
                        orr__out_body *b)
{
    b->next = NULL;
    if (*first == NULL)
        *first = b;
    else
        (*tail)->next = b;
    *tail = b;
}

static int list_remove(orr__out_body **first, orr__out_body **tail,
                       orr__out_body *b)
{
    orr__out_body *before = NULL;

    for (orr__out_body *at = *first; at != b; at = at->next) {
        if (at == NULL)
            return 0;
        before = at;
    }
    if (before == NULL)
        *first = b->next;
    else
        before->next = b->next;
    if (*tail == b)
        *tail = before;
    return 1;
}

static void out_remove(orr_conn *c, orr__out_body *b)
{
    orr__bodies *bs = &c->bodies;

    if (list_remove(&bs->sending, &bs->sending_tail, b))
        bs->sending_count--;
    else
        (void)list_remove(&bs->waiting, &bs->waiting_tail, b);
}

/* Lets go of a body that is in no list; the transport may still borrow it. */
static void out_release(orr_conn *c, orr__out_body *b)
{
    if (c->bodies.slice != b)
        out_free(c, b);
}

static int out_is_listed(const orr_conn *c, const orr__out_body *b)
{
    for (const orr__out_body *at = c->bodies.sending; at; at = at->next)
        if (at == b)
            return 1;
    return 0;
}

void orr__bodies_written(orr_conn *c)
{
    orr__out_body *b = c->bodies.slice;

    c->bodies.slice = NULL;
    if (b != NULL && !out_is_listed(c, b))
        out_free(c, b);
}

/* Do both go to one lane of one endpoint? */
static int is_same_way(const orr_header *a, const orr_header *b)
{
    return a->kind != ORR_FRAME_REPLY && b->kind != ORR_FRAME_REPLY &&
           a->endpoint == b->endpoint &&
           (a->flags & ORR_FLAG_CONTROL) == (b->flags & ORR_FLAG_CONTROL);
}

orr__out_body *orr__bodies_before(const orr_conn *c, const orr_header *h)
{
    orr__out_body *found = NULL, *b;

    for (b = c->bodies.sending; b != NULL; b = b->next)
        if (is_same_way(&b->head, h))
            found = b;
    for (b = c->bodies.waiting; b != NULL; b = b->next)
        if (is_same_way(&b->head, h))
            found = b;
    return found;
}

int orr__bodies_hold(orr_conn *c, orr__out_body *b, const orr_header *h,
                     const uint8_t *body)
{
    size_t before = b->held.len;

    b->held.max = c->out.max;
    if (orr__conn_frame(c, &b->held, h, body) != ORR_OK)
        return ORR_OVERLOADED;
    c->bodies.held_bytes += b->held.len - before;
    return ORR_OK;
}

/* What waited behind it goes to out. */
static int release_held(orr_conn *c, orr__out_body *b)
{
    if (b->held.len == 0)
        return 1;
    if (orr_buf_append(&c->out, b->held.data, b->held.len) == ORR_OK) {
        c->bodies.held_bytes -= b->held.len;
        orr_buf_free(&b->held);
        return 1;
    }
    orr__conn_abort(c, ORR_UNREACHABLE, "no memory for frames that waited");
    return 0;
}

int orr__bodies_send(orr_conn *c, const orr_header *h, orr_buf *body)
{
    orr__bodies *bs = &c->bodies;
    orr__out_body *b;

    if (c->state == ORR_CONN_CLOSED)
        return ORR_UNREACHABLE;
    if (body->len > c->link.body_max) {
        c->env->info.too_large++;
        return ORR_TOO_LARGE;
    }
    if (bs->sending_bytes > 0 &&
        bs->sending_bytes + body->len > c->env->options.sending_max)
        return ORR_OVERLOADED;
    b = orr_calloc(1, sizeof *b);
    if (b == NULL)
        return ORR_OVERLOADED; /* no memory to queue it in */
    b->head = *h;
    b->bytes = *body;
    memset(body, 0, sizeof *body);
    bs->sending_bytes += b->bytes.len;
    c->env->info.sending += b->bytes.len;
    list_append(&bs->waiting, &bs->waiting_tail, b);
    return ORR_OK;
}

/* Ends a call of ours that cannot leave: as if the peer had answered. */
static void fail_here(orr_conn *c, const orr_header *ask, int code,
                      const char *text)
{
    uint8_t space[512];
    orr_buf b = {.data = space, .cap = sizeof space, .max = sizeof space};
    const char *name = orr_code_name(code);
    orr_header h = {.version = ORR_WIRE_VERSION,
                    .kind = ORR_FRAME_REPLY,
                    .call_slot = ask->call_slot,
                    .call_generation = ask->call_generation,
                    .method = (uint32_t)code};

    if (ask->kind != ORR_FRAME_ASK) {
        orr_logf(ORR_LOG_WARN, "net", "%s: a message was dropped: %s", c->peer,
                 text);
        return;
    }
    if (orr_pack_map(&b, 2) != ORR_OK || orr_pack_str(&b, "code", 4) != 0 ||
        orr_pack_str(&b, name, strlen(name)) != ORR_OK ||
        orr_pack_str(&b, "message", 7) != ORR_OK ||
        orr_pack_str(&b, text, strlen(text)) != ORR_OK)
        b.len = 0; /* the status alone still tells */
    h.length = (uint32_t)b.len;
    (void)c->env->sink->receive(c->env->executor, &c->link, &h, b.data);
}

static void send_abort(orr_conn *c, const orr__out_body *b)
{
    orr_header h = {.kind = ORR_FRAME_ABORT, .call_slot = b->stream};

    if (orr__conn_frame(c, &c->out, &h, NULL) != ORR_OK)
        orr__conn_abort(c, ORR_UNREACHABLE, "no memory to give up a body");
}

static void give_up(orr_conn *c, orr__out_body *b)
{
    int is_borrowed = c->bodies.slice == b;

    out_remove(c, b);
    c->env->info.chunked_dropped++;
    if (b->stream != 0)
        send_abort(c, b);
    if (c->state != ORR_CONN_CLOSED)
        (void)release_held(c, b);
    if (!is_borrowed)
        out_free(c, b);
}

static orr__out_body *find_call(const orr_conn *c, const orr_header *h,
                                int kind)
{
    orr__out_body *lists[2] = {c->bodies.sending, c->bodies.waiting};

    for (int i = 0; i < 2; i++)
        for (orr__out_body *b = lists[i]; b != NULL; b = b->next)
            if (b->head.kind == kind && b->head.call_slot == h->call_slot &&
                b->head.call_generation == h->call_generation)
                return b;
    return NULL;
}

/* Takes an ASK out of the frames held behind b; answers 1 when it was there. */
static int take_held(orr_conn *c, orr__out_body *b, const orr_header *h)
{
    size_t at = 0;

    while (at < b->held.len) {
        orr_header held;
        size_t whole;

        (void)orr_header_decode(&held, b->held.data + at, ORR_HEADER_SIZE);
        whole = ORR_HEADER_SIZE + (size_t)held.length;
        if (held.kind == ORR_FRAME_ASK && held.call_slot == h->call_slot &&
            held.call_generation == h->call_generation) {
            memmove(b->held.data + at, b->held.data + at + whole,
                    b->held.len - at - whole);
            b->held.len -= whole;
            c->bodies.held_bytes -= whole;
            return 1;
        }
        at += whole;
    }
    return 0;
}

static int cancel_held(orr_conn *c, const orr_header *h)
{
    orr__out_body *lists[2] = {c->bodies.sending, c->bodies.waiting};

    for (int i = 0; i < 2; i++)
        for (orr__out_body *b = lists[i]; b != NULL; b = b->next)
            if (take_held(c, b, h))
                return 1;
    return 0;
}

int orr__bodies_cancel(orr_conn *c, const orr_header *h)
{
    orr__out_body *b = find_call(c, h, ORR_FRAME_ASK);
    orr_header ask = {.kind = ORR_FRAME_ASK,
                      .call_slot = h->call_slot,
                      .call_generation = h->call_generation};
    char text[160];

    if (b != NULL) {
        snprintf(text, sizeof text, "%zu of %zu bytes had left", b->sent,
                 b->bytes.len);
        give_up(c, b);
    } else if (cancel_held(c, h)) {
        snprintf(text, sizeof text,
                 "it waited behind a larger body for the same endpoint");
    } else {
        return 0;
    }
    if ((h->flags & ORR_FLAG_PROBE) != 0)
        fail_here(c, &ask, ORR_EXPIRED_UNSENT, text);
    return 1;
}

void orr__bodies_cancelled(orr_conn *c, const orr_header *h)
{
    orr__out_body *b = find_call(c, h, ORR_FRAME_REPLY);

    if (b != NULL)
        give_up(c, b);
}

/* Turns a body into a frame for a peer that takes no pieces. */
static void whole_frame(orr_conn *c, orr__out_body *b)
{
    b->head.length = (uint32_t)b->bytes.len;
    if (orr__conn_frame(c, &c->out, &b->head, b->bytes.data) != ORR_OK)
        fail_here(c, &b->head, ORR_OVERLOADED,
                  "the connection's send queue is full");
}

void orr__bodies_begin(orr_conn *c, const orr_hello *peer)
{
    orr__bodies *bs = &c->bodies;
    orr__out_body *b, *next;
    uint32_t half = peer->window > 1 ? peer->window / 2 : 1;

    bs->peer_bodies_max = peer->bodies_max;
    bs->peer_body_first = peer->body_first;
    bs->window = peer->window;
    bs->chunk = c->env->options.chunk_size;
    if (peer->frame_max < bs->chunk)
        bs->chunk = peer->frame_max;
    if (half < bs->chunk)
        bs->chunk = half;
    for (b = bs->waiting; b != NULL; b = next) {
        int is_large = b->bytes.len > c->link.body_max, is_alive;
        char text[160];

        next = b->next;
        if (!is_large && (c->link.features & ORR_FEATURE_CHUNKS) != 0)
            continue;
        out_remove(c, b);
        if (is_large) {
            snprintf(text, sizeof text,
                     "the body has %zu bytes, the peer's limit is %u",
                     b->bytes.len, c->link.body_max);
            c->env->info.too_large++;
            fail_here(c, &b->head, ORR_TOO_LARGE, text);
        } else {
            whole_frame(c, b);
        }
        is_alive = release_held(c, b);
        out_free(c, b);
        if (!is_alive)
            return; /* the rest went with the connection */
    }
}

/* Says what comes; answers 0 without memory. */
static int out_open(orr_conn *c, orr__out_body *b)
{
    orr__bodies *bs = &c->bodies;
    uint8_t body[OPENING_SIZE];
    orr_header h = b->head;
    uint64_t total = b->bytes.len;

    if (++bs->stream == 0)
        bs->stream = 1;
    for (int i = 0; i < 4; i++)
        body[i] = (uint8_t)(bs->stream >> 8 * i);
    for (int i = 0; i < 8; i++)
        body[4 + i] = (uint8_t)(total >> 8 * i);
    h.flags |= ORR_FLAG_MORE;
    h.length = OPENING_SIZE;
    if (orr__conn_frame(c, &c->out, &h, body) != ORR_OK)
        return 0;
    out_remove(c, b);
    b->stream = bs->stream;
    b->credit = bs->peer_body_first;
    list_append(&bs->sending, &bs->sending_tail, b);
    bs->sending_count++;
    return 1;
}

/* A waiting body whose way is free. An earlier waiting one of the same way was
 * passed over for the same reason, so only the open ones need a look. */
static orr__out_body *next_to_open(const orr__bodies *bs)
{
    for (orr__out_body *b = bs->waiting; b != NULL; b = b->next) {
        const orr__out_body *other = bs->sending;

        while (other != NULL && !is_same_way(&other->head, &b->head))
            other = other->next;
        if (other == NULL)
            return b;
    }
    return NULL;
}

static size_t slice_size(const orr__bodies *bs, const orr__out_body *b)
{
    size_t n = b->bytes.len - b->sent;

    if (n > bs->chunk)
        n = bs->chunk;
    if (n > bs->window)
        return 0; /* rather a whole slice later than a crumb now */
    return n < b->credit ? n : (size_t)b->credit;
}

static void out_finish(orr_conn *c, orr__out_body *b)
{
    uint64_t len = b->bytes.len;
    int is_borrowed = c->bodies.slice == b;

    out_remove(c, b);
    c->env->info.chunked_out++;
    if (len > c->env->info.body_out_max)
        c->env->info.body_out_max = len;
    (void)release_held(c, b);
    if (!is_borrowed)
        out_free(c, b);
}

static void write_slice(orr_conn *c, orr__out_body *b, size_t n)
{
    orr__bodies *bs = &c->bodies;
    orr_header h = {
        .kind = ORR_FRAME_DATA, .call_slot = b->stream, .length = (uint32_t)n};
    uint8_t *at = b->bytes.data + b->sent;
    int in_place = b->sent >= ORR_HEADER_SIZE;

    if (!in_place && orr__conn_frame(c, &c->out, &h, at) != ORR_OK) {
        orr__conn_abort(c, ORR_UNREACHABLE, "no memory for a piece of a body");
        return;
    }
    b->sent += n;
    b->credit -= n;
    bs->window -= n;
    (void)list_remove(&bs->sending, &bs->sending_tail, b);
    list_append(&bs->sending, &bs->sending_tail, b);
    if (in_place) {
        bs->slice = b;
        orr__conn_seal(c, &h, at - ORR_HEADER_SIZE);
        orr__conn_write(c, at - ORR_HEADER_SIZE, ORR_HEADER_SIZE + n);
    }
    if (c->state == ORR_CONN_OPEN && b->sent == b->bytes.len)
        out_finish(c, b);
}

int orr__bodies_write(orr_conn *c)
{
    orr__bodies *bs = &c->bodies;
    orr__out_body *b;
    size_t n;

    while (bs->waiting != NULL && bs->sending_count < bs->peer_bodies_max &&
           (b = next_to_open(bs)) != NULL)
        if (!out_open(c, b)) {
            orr__conn_abort(c, ORR_UNREACHABLE, "no memory to open a body");
            return 0;
        }
    if (c->out.len > 0)
        return 1;
    for (b = bs->sending; b != NULL; b = b->next) {
        n = slice_size(bs, b);
        if (n == 0)
            continue;
        write_slice(c, b, n);
        return 1;
    }
    return 0;
}

void orr__bodies_on_credit(orr_conn *c, const orr_header *h, uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    uint64_t *credit = NULL;

    if (h->call_slot == 0)
        credit = &bs->window;
    for (orr__out_body *b = bs->sending; b != NULL; b = b->next)
        if (b->stream == h->call_slot)
            credit = &b->credit;
    if (credit == NULL)
        return; /* it ended meanwhile */
    if (h->budget_us > credit_max || *credit + h->budget_us > credit_max) {
        orr__conn_broken(c, now_ns, "it grants more bytes than there can be");
        return;
    }
    *credit += h->budget_us;
}

/* --- theirs --------------------------------------------------------------- */

static void in_remove(orr_conn *c, orr__in_body *b)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body **at = &bs->coming;

    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    bs->coming_count--;
    if (b->is_admitted)
        bs->admitted -= b->total;
    c->env->info.assembling -= b->granted;
    if (bs->filling == b)
        bs->filling = NULL;
}

static void in_free(orr__in_body *b)
{
    orr_buf_free(&b->bytes);
    orr_free(b);
}

static orr__in_body *in_find(const orr_conn *c, uint32_t stream)
{
    orr__in_body *b = c->bodies.coming;

    while (b != NULL && b->stream != stream)
        b = b->next;
    return b;
}

static void grant(orr_conn *c, uint32_t stream, uint32_t bytes, uint64_t now_ns)
{
    orr_header h = {
        .kind = ORR_FRAME_CREDIT, .call_slot = stream, .budget_us = bytes};

    if (orr__conn_frame(c, &c->out, &h, NULL) != ORR_OK)
        orr__conn_broken(c, now_ns, "it sends bodies and reads no answers");
}

static int in_reserve(orr_conn *c, orr__in_body *b, uint32_t size)
{
    if (orr_buf_reserve(&b->bytes, size - b->bytes.len) == ORR_OK)
        return 1;
    orr__conn_abort(c, ORR_UNREACHABLE, "no memory for a body that comes");
    return 0;
}

/* Gives memory to those that come, in order, while they fit. */
static void admit(orr_conn *c, uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body *b = bs->coming;

    while (c->state == ORR_CONN_OPEN && b != NULL) {
        uint32_t more = b->total - b->granted;

        if (!b->is_admitted) {
            if (bs->admitted > 0 &&
                bs->admitted + b->total > c->env->options.assembly_max)
                return;
            if (!in_reserve(c, b, b->total))
                return;
            b->is_admitted = 1;
            b->last_ns = now_ns;
            b->granted = b->total;
            bs->admitted += b->total;
            c->env->info.assembling += more;
            if (more > 0)
                grant(c, b->stream, more, now_ns);
            b = c->state == ORR_CONN_OPEN ? bs->coming : NULL;
            continue;
        }
        b = b->next;
    }
}

void orr__bodies_open(orr_conn *c, const orr_header *h, const uint8_t *body,
                      uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body *b, **at = &bs->coming;
    uint32_t stream = 0;
    uint64_t total = 0;

    if ((c->link.features & ORR_FEATURE_CHUNKS) == 0) {
        orr__conn_broken(c, now_ns, "a chunked body was not agreed on");
        return;
    }
    if (h->length != OPENING_SIZE) {
        orr__conn_broken(c, now_ns, "a body is opened in %u bytes, not %d",
                         h->length, OPENING_SIZE);
        return;
    }
    for (int i = 0; i < 4; i++)
        stream |= (uint32_t)body[i] << 8 * i;
    for (int i = 0; i < 8; i++)
        total |= (uint64_t)body[4 + i] << 8 * i;
    if (total == 0 || total > c->env->options.body_max) {
        orr__conn_broken(c, now_ns,
                         "a body of %llu bytes, 1 to %u may come in pieces",
                         (unsigned long long)total, c->env->options.body_max);
        return;
    }
    if (stream == 0 || in_find(c, stream) != NULL) {
        orr__conn_broken(c, now_ns, "body %u is opened %s", stream,
                         stream == 0 ? "without a number" : "twice");
        return;
    }
    if (bs->coming_count >= c->env->options.bodies_max) {
        orr__conn_broken(c, now_ns, "more than %u bodies at a time",
                         c->env->options.bodies_max);
        return;
    }
    b = orr_calloc(1, sizeof *b);
    if (b == NULL) {
        orr__conn_abort(c, ORR_UNREACHABLE, "no memory for a body that comes");
        return;
    }
    b->head = *h;
    b->stream = stream;
    b->total = (uint32_t)total;
    b->granted = total < ORR_BODY_FIRST ? b->total : ORR_BODY_FIRST;
    b->bytes.max = total;
    b->opened_ns = b->last_ns = now_ns;
    while (*at != NULL)
        at = &(*at)->next;
    *at = b;
    bs->coming_count++;
    c->env->info.assembling += b->granted;
    admit(c, now_ns);
    if (c->state == ORR_CONN_OPEN && !b->is_admitted)
        (void)in_reserve(c, b, b->granted);
}

int orr__bodies_data_begin(orr_conn *c, const orr_header *h,
                           const uint8_t *head, uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body *b = in_find(c, h->call_slot);

    if (b == NULL) {
        orr__conn_broken(c, now_ns, "a piece of body %u, which is not open",
                         h->call_slot);
        return 0;
    }
    if (h->length == 0 || h->length > b->granted - b->bytes.len) {
        orr__conn_broken(c, now_ns,
                         "a piece of %u bytes for a body of %u that has %zu "
                         "and may have %u",
                         h->length, b->total, b->bytes.len, b->granted);
        return 0;
    }
    if (h->length > bs->in_window) {
        orr__conn_broken(c, now_ns, "a piece of %u bytes, %u were granted",
                         h->length, bs->in_window);
        return 0;
    }
    bs->in_window -= h->length;
    bs->filling = b;
    bs->fill_left = h->length;
    memcpy(bs->fill_head, head, ORR_HEADER_SIZE);
    return 1;
}

static void in_whole(orr_conn *c, orr__in_body *b, uint64_t now_ns)
{
    orr_header h = b->head;
    uint64_t waited_us = (now_ns - b->opened_ns) / 1000u;
    int rc;

    in_remove(c, b);
    h.flags &= (uint16_t)~ORR_FLAG_MORE;
    h.length = b->total;
    /* The time that it took to come has gone from the budget. */
    if (h.budget_us != 0)
        h.budget_us = h.budget_us > waited_us ? h.budget_us - waited_us : 1;
    c->env->info.chunked_in++;
    if (b->total > c->env->info.body_in_max)
        c->env->info.body_in_max = b->total;
    rc = c->env->sink->receive_body(c->env->executor, &c->link, &h, &b->bytes);
    in_free(b);
    if (rc != ORR_OK)
        orr__conn_broken(c, now_ns, "a frame of kind %u makes no sense",
                         h.kind);
    else
        admit(c, now_ns);
}

static void piece_whole(orr_conn *c, uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body *b = bs->filling;
    orr_header h;
    uint32_t quarter = c->env->options.window / 4;

    (void)orr_header_decode(&h, bs->fill_head, ORR_HEADER_SIZE);
    bs->filling = NULL;
    c->env->info.frames_in++;
    if (orr_header_checksum(bs->fill_head,
                            b->bytes.data + b->bytes.len - h.length,
                            h.length) != h.checksum) {
        orr__conn_broken(c, now_ns, "wrong checksum in a piece of a body");
        return;
    }
    b->last_ns = now_ns;
    bs->unacked += h.length;
    if (bs->unacked >= quarter) {
        uint32_t bytes = bs->unacked;

        bs->unacked = 0;
        bs->in_window += bytes;
        grant(c, 0, bytes, now_ns);
    }
    if (c->state == ORR_CONN_OPEN && b->bytes.len == b->total)
        in_whole(c, b, now_ns);
}

size_t orr__bodies_data(orr_conn *c, const uint8_t *data, size_t len,
                        uint64_t now_ns)
{
    orr__bodies *bs = &c->bodies;
    orr__in_body *b = bs->filling;
    size_t n = len < bs->fill_left ? len : bs->fill_left;
    uint8_t *end = b->bytes.data + b->bytes.len;

    if (data != end) /* else it was read into its place */
        memcpy(end, data, n);
    b->bytes.len += n;
    bs->fill_left -= (uint32_t)n;
    if (bs->fill_left == 0)
        piece_whole(c, now_ns);
    return n;
}

uint8_t *orr__conn_space(orr_conn *c, size_t *len)
{
    orr__in_body *b = c->bodies.filling;

    if (c->state != ORR_CONN_OPEN || b == NULL)
        return NULL;
    *len = c->bodies.fill_left;
    return b->bytes.data + b->bytes.len;
}

void orr__bodies_on_abort(orr_conn *c, const orr_header *h, uint64_t now_ns)
{
    orr__in_body *b = in_find(c, h->call_slot);

    if (b == NULL) {
        orr__conn_broken(c, now_ns, "body %u is given up and is not open",
                         h->call_slot);
        return;
    }
    in_remove(c, b);
    in_free(b);
    c->env->info.chunked_dropped++;
    admit(c, now_ns);
}

int orr__bodies_stuck(const orr_conn *c, uint64_t before_ns)
{
    for (const orr__in_body *b = c->bodies.coming; b != NULL; b = b->next)
        if (b->is_admitted && b->last_ns <= before_ns)
            return 1;
    return 0;
}

/* --- the end -------------------------------------------------------------- */

void orr__bodies_end(orr_conn *c)
{
    orr__bodies *bs = &c->bodies;
    orr__out_body *b;
    orr__in_body *in;

    while ((b = bs->sending != NULL ? bs->sending : bs->waiting) != NULL) {
        out_remove(c, b);
        c->env->info.chunked_dropped++;
        out_release(c, b);
    }
    while ((in = bs->coming) != NULL) {
        in_remove(c, in);
        in_free(in);
        c->env->info.chunked_dropped++;
    }
}
