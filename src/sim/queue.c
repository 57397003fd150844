/* The queue of events: a binary heap by (time, sequence). */
#include "sim/sim_private.h"

static int before(const orr__sim_item *a, const orr__sim_item *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns
                                : a->sequence < b->sequence;
}

static void swap(orr__sim_item *a, orr__sim_item *b)
{
    orr__sim_item t = *a;
    *a = *b;
    *b = t;
}

int orr__sim_queue_push(orr__sim_queue *q, uint64_t at_ns, orr__sim_kind kind,
                        void *what)
{
    size_t i;

    if (q->len == q->cap) {
        size_t cap = q->cap == 0 ? 64 : q->cap * 2;
        orr__sim_item *items = orr_realloc(q->items, cap * sizeof *items);
        if (items == NULL)
            return ORR_ENOMEM;
        q->items = items;
        q->cap = cap;
    }
    i = q->len++;
    q->items[i] = (orr__sim_item){
        .at_ns = at_ns, .sequence = q->sequence++, .what = what, .kind = kind};
    for (; i > 0 && before(&q->items[i], &q->items[(i - 1) / 2]);
         i = (i - 1) / 2)
        swap(&q->items[i], &q->items[(i - 1) / 2]);
    return ORR_OK;
}

const orr__sim_item *orr__sim_queue_first(const orr__sim_queue *q)
{
    return q->len > 0 ? &q->items[0] : NULL;
}

orr__sim_item orr__sim_queue_pop(orr__sim_queue *q)
{
    orr__sim_item first = q->items[0];
    size_t i = 0, child;

    q->items[0] = q->items[--q->len];
    for (;;) {
        child = 2 * i + 1;
        if (child >= q->len)
            return first;
        if (child + 1 < q->len &&
            before(&q->items[child + 1], &q->items[child]))
            child++;
        if (!before(&q->items[child], &q->items[i]))
            return first;
        swap(&q->items[child], &q->items[i]);
        i = child;
    }
}
