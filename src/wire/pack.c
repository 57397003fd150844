/* The MessagePack writers for callers that cannot inline them. */
#include "pack_inline.h"

int orr_pack_nil(orr_buf *b)
{
    return orr__pack_nil(b);
}

int orr_pack_bool(orr_buf *b, int value)
{
    return orr__pack_bool(b, value);
}

int orr_pack_int(orr_buf *b, int64_t value)
{
    return orr__pack_int(b, value);
}

int orr_pack_uint(orr_buf *b, uint64_t value)
{
    return orr__pack_uint(b, value);
}

int orr_pack_double(orr_buf *b, double value)
{
    return orr__pack_double(b, value);
}

int orr_pack_number(orr_buf *b, double value)
{
    return orr__pack_number(b, value);
}

int orr_pack_str(orr_buf *b, const void *data, size_t size)
{
    return orr__pack_str(b, data, size);
}

int orr_pack_bin(orr_buf *b, const void *data, size_t size)
{
    return orr__pack_bin(b, data, size);
}

int orr_pack_array(orr_buf *b, uint32_t count)
{
    return orr__pack_array(b, count);
}

int orr_pack_map(orr_buf *b, uint32_t count)
{
    return orr__pack_map(b, count);
}
