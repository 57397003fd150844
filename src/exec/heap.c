/* Deadlines of an executor: a 4-ary heap ordered by (time, sequence), with the
 * position of each entry kept in its call or timer, so that a finished call
 * takes its deadline out at once. Four children a node: half the depth of a
 * binary heap, and a node's children share a cache line or two.
 */
#include "exec_private.h"

static bool earlier(const orr__heap_entry *a, const orr__heap_entry *b)
{
    return a->at_ns < b->at_ns ||
           (a->at_ns == b->at_ns && a->sequence < b->sequence);
}

static void place(orr_executor *ex, uint32_t pos, orr__heap_entry e)
{
    ex->heap[pos] = e;
    if (e.is_timer)
        ((orr__timer *)ex->timers.items)[e.index].heap_pos = pos;
    else
        ((orr__call *)ex->calls.items)[e.index].heap_pos = pos;
}

static void sift_up(orr_executor *ex, uint32_t pos, orr__heap_entry e)
{
    while (pos > 0) {
        uint32_t parent = (pos - 1) / 4;
        if (!earlier(&e, &ex->heap[parent]))
            break;
        place(ex, pos, ex->heap[parent]);
        pos = parent;
    }
    place(ex, pos, e);
}

static void sift_down(orr_executor *ex, uint32_t pos, orr__heap_entry e)
{
    for (;;) {
        uint32_t first = pos * 4 + 1;
        if (first >= ex->heap_len)
            break;
        uint32_t end = first + 4 < ex->heap_len ? first + 4 : ex->heap_len;
        uint32_t least = first;
        for (uint32_t i = first + 1; i < end; i++)
            if (earlier(&ex->heap[i], &ex->heap[least]))
                least = i;
        if (!earlier(&ex->heap[least], &e))
            break;
        place(ex, pos, ex->heap[least]);
        pos = least;
    }
    place(ex, pos, e);
}

/* Answers ORR_OK or ORR_ENOMEM. */
int orr__heap_push(orr_executor *ex, uint64_t at_ns, uint32_t index,
                   bool is_timer)
{
    if (ex->heap_len == ex->heap_cap) {
        uint32_t cap = ex->heap_cap == 0 ? 64 : ex->heap_cap * 2;
        orr__heap_entry *heap = orr_realloc(ex->heap, cap * sizeof *heap);
        if (heap == NULL)
            return ORR_ENOMEM;
        ex->heap = heap;
        ex->heap_cap = cap;
    }
    orr__heap_entry e = {.at_ns = at_ns,
                         .sequence = ex->heap_sequence++,
                         .index = index,
                         .is_timer = is_timer};
    sift_up(ex, ex->heap_len++, e);
    return ORR_OK;
}

void orr__heap_remove(orr_executor *ex, uint32_t pos)
{
    orr__heap_entry last = ex->heap[--ex->heap_len];
    if (pos == ex->heap_len)
        return;
    if (pos > 0 && earlier(&last, &ex->heap[(pos - 1) / 4]))
        sift_up(ex, pos, last);
    else
        sift_down(ex, pos, last);
}
