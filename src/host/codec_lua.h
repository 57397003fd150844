/* Lua values to MessagePack and back, straight between the Lua stack and a
 * buffer.
 *
 * nil, booleans, numbers, strings and tables. A table with only the keys 1..n
 * is an array, an empty table is an array, any other a map with string or
 * number keys. Everything else, metatables, and nesting over 64 (cycles too)
 * is refused with the path of the offending value.
 */
#ifndef ORRERY_HOST_CODEC_LUA_H
#define ORRERY_HOST_CODEC_LUA_H

#include <lua.h>

#include "orrery/wire.h"

enum {
    ORR_CODEC_DEPTH_MAX = 64,
    ORR_CODEC_NODES_MAX = 1 << 20,
    ORR_CODEC_VALUES_MAX = 200 /* top-level values: arguments of one call */
};

/* Appends the values at first..last of the stack. sorted = 1 writes maps in the
 * order of their keys: equal values give equal bytes in every process. On
 * failure b is as before and err says which argument and why. Never throws.
 * Answers ORR_OK, ORR_BAD_ARGUMENT, ORR_TOO_LARGE, ORR_ENOMEM. */
int orr__encode(lua_State *L, int first, int last, orr_buf *b, int sorted,
                orr_error *err);

/* Pushes all values of a body. Answers their number, or ORR_EPROTO with err and
 * nothing pushed. Throws only when Lua has no memory. */
int orr__decode(lua_State *L, const uint8_t *data, size_t len, orr_error *err);

#endif
