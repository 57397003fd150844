/* Growable byte buffers. They grow by doubling, never above their max. */
#include <assert.h>
#include <string.h>

#include "orrery/base.h"

enum { CAP_MIN = 64 };

int orr_buf_reserve(orr_buf *b, size_t more)
{
    assert(b->len <= b->cap);
    if (more <= b->cap - b->len)
        return ORR_OK;
    if (b->max == 0)
        b->max = ORR_BUF_MAX_DEFAULT;
    if (b->len > b->max || more > b->max - b->len)
        return ORR_TOO_LARGE;
    size_t cap = b->cap > b->max / 2 ? b->max : b->cap * 2;
    if (cap < CAP_MIN && b->max >= CAP_MIN)
        cap = CAP_MIN;
    if (cap < b->len + more)
        cap = b->len + more;
    uint8_t *data = orr_realloc(b->data, cap);
    if (data == NULL)
        return ORR_ENOMEM;
    b->data = data;
    b->cap = cap;
    return ORR_OK;
}

int orr_buf_append(orr_buf *b, const void *data, size_t len)
{
    if (len == 0)
        return ORR_OK;
    int rc = orr_buf_reserve(b, len);
    if (rc != ORR_OK)
        return rc;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return ORR_OK;
}

void orr_buf_reset(orr_buf *b)
{
    b->len = 0;
}

void orr_buf_free(orr_buf *b)
{
    orr_free(b->data);
    *b = (orr_buf){0};
}
