/* Tables of reused slots. Element 0 is never used, so 0 can mean none.
 *
 * Every item begins with a uint32_t generation; the link of the free list is
 * the member behind it (call: next; see orr__table_next). Items are zeroed when
 * made, and keep their generation for ever, so that a handle of an earlier use
 * is told apart.
 */
#include <string.h>

#include "exec_private.h"

/* The second uint32_t of the free item, whatever it means in use: a free item
 * is known only to its table. */
uint32_t *orr__table_next(orr__table *t, size_t item, uint32_t index)
{
    return (uint32_t *)(void *)((uint8_t *)t->items + item * index) + 1;
}

static int grow(orr__table *t, size_t item, uint32_t max)
{
    uint32_t capacity = t->capacity == 0 ? 64 : t->capacity * 2;
    if (capacity > max)
        capacity = max;
    if (capacity <= t->capacity)
        return ORR_OVERLOADED;
    void *items = orr_realloc(t->items, item * capacity);
    if (items == NULL)
        return ORR_ENOMEM;
    t->items = items;
    memset((uint8_t *)items + item * t->capacity, 0,
           item * (capacity - t->capacity));
    t->capacity = capacity;
    if (t->count == 0)
        t->count = 1;
    return ORR_OK;
}

/* Answers an index, or 0 when the table is full or without memory. */
uint32_t orr__table_take(orr__table *t, size_t item, uint32_t max)
{
    uint32_t index = t->free_head;
    if (index != 0) {
        t->free_head = *orr__table_next(t, item, index);
    } else {
        if (t->count >= t->capacity && grow(t, item, max) != ORR_OK)
            return 0;
        index = t->count++;
    }
    t->used++;
    return index;
}

void orr__table_give(orr__table *t, size_t item, uint32_t index)
{
    *orr__table_next(t, item, index) = t->free_head;
    t->free_head = index;
    t->used--;
}
