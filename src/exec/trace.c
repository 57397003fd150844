/* Traces: a number that goes with a chain of calls, and what each handler on
 * the way took.
 *
 * A trace begins where nothing is being traced: at a call made outside of
 * handlers, or at a call that an endpoint takes. It goes on wherever messages
 * go: beside them inside the process, as 16 bytes in front of the body between
 * processes (flag ORR_FLAG_TRACE). Each handler is a span; the last ORR_SPANS
 * of the process are kept in a ring.
 *
 * While tracing is off and no traced message comes, all this costs a relaxed
 * load a message.
 */
#include <stdio.h>
#include <string.h>

#include "exec_private.h"

enum { FILTER_MAX = 127, PREFIX = 16 };

_Atomic int orr__tracing;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char filter[FILTER_MAX + 1];
static uint64_t until;
static orr_span *spans; /* ORR_SPANS, made when first needed */
static uint64_t last;   /* sequence of the newest span */

int orr_trace_set(const char *prefix, uint64_t until_ns)
{
    if (strlen(prefix) > FILTER_MAX)
        return ORR_EINVAL;
    pthread_mutex_lock(&lock);
    snprintf(filter, sizeof filter, "%s", prefix);
    until = until_ns;
    atomic_store(&orr__tracing, until_ns != 0);
    pthread_mutex_unlock(&lock);
    return ORR_OK;
}

/* May a trace begin here? name: of the endpoint that takes a call, or NULL for
 * a call made outside of handlers. */
static bool may_begin(orr_executor *ex, const char *name)
{
    uint64_t now = orr__now(ex);
    pthread_mutex_lock(&lock);
    bool yes = until != 0 && now < until;
    if (!yes && until != 0) {
        until = 0;
        atomic_store(&orr__tracing, 0);
    }
    yes = yes && (name == NULL ? filter[0] == 0
                               : strncmp(name, filter, strlen(filter)) == 0);
    pthread_mutex_unlock(&lock);
    return yes;
}

static uint64_t new_id(orr_executor *ex)
{
    uint64_t id;
    do
        id = orr_chance_next(&ex->chance);
    while (id == 0);
    return id;
}

void orr__trace_send(orr_executor *ex, orr_msg *m)
{
    const orr_msg *cause = ex->current;
    if (cause != NULL) {
        m->trace = cause->trace;
        m->parent_span = cause->span;
    } else if (may_begin(ex, NULL)) {
        m->trace = new_id(ex);
    }
}

void orr__trace_taken(orr_executor *ex, orr__endpoint *ep, orr_msg *m)
{
    if (m->trace == 0 && may_begin(ex, ep->name))
        m->trace = new_id(ex);
    if (m->trace != 0)
        m->span = new_id(ex);
}

void orr__trace_ended(orr_executor *ex, const orr__endpoint *ep,
                      const orr_msg *m, uint64_t taken_ns, int32_t status)
{
    orr_span s = {.trace = m->trace,
                  .span = m->span,
                  .parent = m->parent_span,
                  .wall_ms = orr_executor_wall_ms(ex),
                  .queue_ns = orr__since(taken_ns, m->enqueued_ns),
                  .run_ns = orr__since(orr__clock(ex), taken_ns),
                  .status = status,
                  .executor = ex->number};
    snprintf(s.endpoint, sizeof s.endpoint, "%.63s", ep->name);
    orr__method_name(ep->description, m->method, s.method, sizeof s.method);
    pthread_mutex_lock(&lock);
    if (spans == NULL)
        spans = orr_calloc(ORR_SPANS, sizeof *spans);
    if (spans != NULL) {
        s.sequence = ++last;
        spans[last % ORR_SPANS] = s;
    }
    pthread_mutex_unlock(&lock);
}

uint32_t orr_trace_read(uint64_t trace, uint64_t after, orr_span *out,
                        uint32_t max)
{
    uint32_t n = 0;
    pthread_mutex_lock(&lock);
    uint64_t from = last >= ORR_SPANS ? last - ORR_SPANS + 1 : 1;
    if (after >= from)
        from = after + 1;
    for (uint64_t i = from; spans != NULL && i <= last && n < max; i++)
        if (trace == 0 || spans[i % ORR_SPANS].trace == trace)
            out[n++] = spans[i % ORR_SPANS];
    pthread_mutex_unlock(&lock);
    return n;
}

/* --- bytes ---------------------------------------------------------------- */

static void write_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t read_u64(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | in[i];
    return value;
}

int orr__trace_write(const orr_msg *m, orr_buf *out)
{
    uint8_t prefix[PREFIX];
    write_u64(prefix, m->trace);
    write_u64(prefix + 8, m->parent_span);
    out->max = m->body.max;
    int code = orr_buf_append(out, prefix, PREFIX);
    return code != ORR_OK ? code
                          : orr_buf_append(out, m->body.data, m->body.len);
}

/* Takes the prefix off a message that came; ORR_EPROTO when it lacks one. */
int orr__trace_read(orr_msg *m)
{
    if (m->body.len < PREFIX)
        return ORR_EPROTO;
    m->trace = read_u64(m->body.data);
    m->parent_span = read_u64(m->body.data + 8);
    m->body.len -= PREFIX;
    memmove(m->body.data, m->body.data + PREFIX, m->body.len);
    m->flags &= (uint16_t)~ORR_FLAG_TRACE;
    return ORR_OK;
}
