/* See codec_lua.h. Both directions are recursive over tables, with the depth
 * bounded before each step; nothing here calls Lua code (metatables are refused
 * and all access is raw).
 */
#include "host/codec_lua.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/pack_inline.h"

enum { TCDATA = 10, PATH_BYTES = 160, NAME_SHOWN = 40 };

typedef struct encoder {
    lua_State *L;
    orr_buf *b;
    uint32_t nodes_left;
    int sorted;
    int code;
    const char *why;
    size_t path_at; /* the path grows to the left while the calls return */
    char path[PATH_BYTES];
} encoder;

static int encode_value(encoder *e, int depth);

static int fail(encoder *e, int code, const char *why)
{
    e->code = code;
    e->why = why;
    return code;
}

static void path_prepend(encoder *e, const char *text, size_t len)
{
    if (len > e->path_at)
        len = e->path_at;
    e->path_at -= len;
    memcpy(e->path + e->path_at, text, len);
}

/* The key is at the given index; it stays there. */
static void path_key(encoder *e, int index)
{
    char text[NAME_SHOWN + 8];
    int n;
    if (lua_type(e->L, index) == LUA_TSTRING)
        n = snprintf(text, sizeof text, ".%.*s", NAME_SHOWN,
                     lua_tostring(e->L, index));
    else
        n = snprintf(text, sizeof text, "[%.14g]", lua_tonumber(e->L, index));
    path_prepend(e, text, (size_t)n);
}

static int refuse_type(encoder *e, int type)
{
    switch (type) {
    case LUA_TFUNCTION:
        return fail(e, ORR_BAD_ARGUMENT, "a function cannot be sent");
    case LUA_TTHREAD:
        return fail(e, ORR_BAD_ARGUMENT, "a coroutine cannot be sent");
    case TCDATA: return fail(e, ORR_BAD_ARGUMENT, "a cdata cannot be sent");
    default: return fail(e, ORR_BAD_ARGUMENT, "a userdata cannot be sent");
    }
}

static int check(encoder *e, int code)
{
    if (ORR__LIKELY(code == ORR_OK))
        return ORR_OK;
    return fail(e, code,
                code == ORR_ENOMEM ? "out of memory"
                                   : "the message is too large");
}

/* The table is at the top. ORR_EAGAIN: it is not a plain array after all, b is
 * as before. */
static int encode_array(encoder *e, uint32_t n, int depth)
{
    lua_State *L = e->L;
    size_t start = e->b->len;
    uint32_t nodes = e->nodes_left;
    uint32_t i = 0;
    int rc = check(e, orr__pack_array(e->b, n));
    if (rc != ORR_OK)
        return rc;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        i++;
        if (i > n || lua_type(L, -2) != LUA_TNUMBER ||
            lua_tonumber(L, -2) != (double)i) {
            lua_pop(L, 2);
            goto again;
        }
        rc = encode_value(e, depth);
        if (rc != ORR_OK) {
            path_key(e, -2);
            lua_pop(L, 2);
            return rc;
        }
        lua_pop(L, 1);
    }
    if (i == n)
        return ORR_OK;
again:
    e->b->len = start;
    e->nodes_left = nodes;
    return ORR_EAGAIN;
}

/* Keys 1..n in another order than the table's own. */
static int encode_scattered(encoder *e, uint32_t n, int depth)
{
    lua_State *L = e->L;
    int rc = check(e, orr__pack_array(e->b, n));
    for (uint32_t i = 1; rc == ORR_OK && i <= n; i++) {
        lua_rawgeti(L, -1, (int)i);
        rc = encode_value(e, depth);
        lua_pop(L, 1);
        if (rc != ORR_OK) {
            lua_pushnumber(L, (double)i);
            path_key(e, -1);
            lua_pop(L, 1);
        }
    }
    return rc;
}

/* Do the keys of the table at the top cover just 1..n? */
static int is_array(lua_State *L, uint32_t n)
{
    uint32_t count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        double k = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        count++;
        if (!(k >= 1 && k <= (double)n) || k != (double)(uint32_t)k) {
            lua_pop(L, 1);
            return 0;
        }
    }
    return count == n;
}

/* Key at -2, value at -1; pops the value also when it fails. */
static int encode_pair(encoder *e, int depth)
{
    lua_State *L = e->L;
    int type = lua_type(L, -2);
    int rc;
    if (ORR__LIKELY(type == LUA_TSTRING)) {
        size_t size;
        const char *s = lua_tolstring(L, -2, &size);
        rc = check(e, orr__pack_str(e->b, s, size));
    } else if (type == LUA_TNUMBER) {
        rc = check(e, orr__pack_number(e->b, lua_tonumber(L, -2)));
    } else {
        rc = fail(e, ORR_BAD_ARGUMENT,
                  "a table key must be a string or a number");
        lua_pop(L, 1);
        return rc;
    }
    if (rc == ORR_OK) {
        rc = encode_value(e, depth);
        if (rc != ORR_OK)
            path_key(e, -2);
    }
    lua_pop(L, 1);
    return rc;
}

typedef struct sort_key {
    const char *s; /* NULL: a number */
    size_t size;
    double number;
} sort_key;

static int compare_keys(const void *a, const void *b)
{
    const sort_key *x = a, *y = b;
    if (x->s == NULL || y->s == NULL) {
        if (x->s == NULL && y->s == NULL)
            return (x->number > y->number) - (x->number < y->number);
        return x->s == NULL ? -1 : 1;
    }
    int order = memcmp(x->s, y->s, x->size < y->size ? x->size : y->size);
    if (order != 0)
        return order;
    return (x->size > y->size) - (x->size < y->size);
}

/* The strings stay alive: they are keys of the table. */
static int encode_map_sorted(encoder *e, int depth)
{
    lua_State *L = e->L;
    uint32_t count = 0;
    lua_pushnil(L);
    for (; lua_next(L, -2); count++)
        lua_pop(L, 1);
    if (count > e->nodes_left)
        return fail(e, ORR_TOO_LARGE, "the message has too many values");
    sort_key *keys = orr_calloc(count, sizeof *keys);
    if (keys == NULL)
        return fail(e, ORR_ENOMEM, "out of memory");
    uint32_t n = 0;
    int rc = ORR_OK;
    lua_pushnil(L);
    for (; rc == ORR_OK && lua_next(L, -2); n++) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            keys[n].s = lua_tolstring(L, -1, &keys[n].size);
        } else if (lua_type(L, -1) == LUA_TNUMBER) {
            keys[n].number = lua_tonumber(L, -1);
        } else {
            rc = fail(e, ORR_BAD_ARGUMENT,
                      "a table key must be a string or a number");
            lua_pop(L, 1);
        }
    }
    if (rc == ORR_OK) {
        qsort(keys, count, sizeof *keys, compare_keys);
        rc = check(e, orr__pack_map(e->b, count));
    }
    for (uint32_t i = 0; rc == ORR_OK && i < count; i++) {
        if (keys[i].s != NULL)
            lua_pushlstring(L, keys[i].s, keys[i].size);
        else
            lua_pushnumber(L, keys[i].number);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        rc = encode_pair(e, depth);
        lua_pop(L, 1);
    }
    orr_free(keys);
    return rc;
}

/* The count is known only afterwards: one byte is kept for it, which is enough
 * for small maps; for larger ones what follows moves up. */
static int encode_map(encoder *e, int depth)
{
    lua_State *L = e->L;
    size_t start = e->b->len;
    uint32_t count = 0;
    if (e->sorted)
        return encode_map_sorted(e, depth);
    int rc = check(e, orr__pack_map(e->b, 0));
    if (rc != ORR_OK)
        return rc;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        rc = encode_pair(e, depth);
        if (rc != ORR_OK) {
            lua_pop(L, 1);
            return rc;
        }
        count++;
    }
    uint8_t prefix[ORR__PACK_PREFIX_MAX];
    size_t n = orr__put_map(prefix, count);
    if (n > 1) {
        rc = check(e, orr_buf_reserve(e->b, n - 1));
        if (rc != ORR_OK)
            return rc;
        memmove(e->b->data + start + n, e->b->data + start + 1,
                e->b->len - start - 1);
        e->b->len += n - 1;
    }
    memcpy(e->b->data + start, prefix, n);
    return ORR_OK;
}

static int encode_table(encoder *e, int depth)
{
    lua_State *L = e->L;
    if (depth >= ORR_CODEC_DEPTH_MAX)
        return fail(e, ORR_BAD_ARGUMENT,
                    "tables are nested deeper than 64 (is there a cycle?)");
    if (lua_getmetatable(L, -1)) {
        lua_pop(L, 1);
        return fail(e, ORR_BAD_ARGUMENT,
                    "a table with a metatable cannot be sent");
    }
    size_t n = lua_objlen(L, -1);
    if (n > e->nodes_left)
        return fail(e, ORR_TOO_LARGE, "the message has too many values");
    if (n > 0) {
        int rc = encode_array(e, (uint32_t)n, depth + 1);
        if (rc != ORR_EAGAIN)
            return rc;
        if (is_array(L, (uint32_t)n))
            return encode_scattered(e, (uint32_t)n, depth + 1);
        return encode_map(e, depth + 1);
    }
    lua_pushnil(L);
    if (!lua_next(L, -2))
        return check(e, orr__pack_array(e->b, 0));
    lua_pop(L, 2);
    return encode_map(e, depth + 1);
}

/* The value is at the top and stays there. */
static int encode_value(encoder *e, int depth)
{
    lua_State *L = e->L;
    if (e->nodes_left == 0)
        return fail(e, ORR_TOO_LARGE, "the message has too many values");
    e->nodes_left--;
    int type = lua_type(L, -1);
    switch (type) {
    case LUA_TSTRING: {
        size_t size;
        const char *s = lua_tolstring(L, -1, &size);
        return check(e, orr__pack_str(e->b, s, size));
    }
    case LUA_TNUMBER:
        return check(e, orr__pack_number(e->b, lua_tonumber(L, -1)));
    case LUA_TTABLE: return encode_table(e, depth);
    case LUA_TBOOLEAN:
        return check(e, orr__pack_bool(e->b, lua_toboolean(L, -1)));
    case LUA_TNIL: return check(e, orr__pack_nil(e->b));
    default: return refuse_type(e, type);
    }
}

int orr__encode(lua_State *L, int first, int last, orr_buf *b, int sorted,
                orr_error *err)
{
    encoder e;
    e.L = L;
    e.b = b;
    e.nodes_left = ORR_CODEC_NODES_MAX;
    e.sorted = sorted;
    e.path_at = PATH_BYTES;
    size_t start = b->len;
    if (last - first >= ORR_CODEC_VALUES_MAX)
        return orr_error_set(err, ORR_BAD_ARGUMENT,
                             "%d arguments; at most %d can be sent",
                             last - first + 1, ORR_CODEC_VALUES_MAX);
    if (!lua_checkstack(L, 3 * ORR_CODEC_DEPTH_MAX + 8))
        return orr_error_set(err, ORR_ENOMEM, "the Lua stack is full");
    for (int i = first; i <= last; i++) {
        int type = lua_type(L, i);
        int rc;
        /* The scalars once more: most arguments are, and this saves a copy. */
        if (type == LUA_TNUMBER) {
            rc = check(&e, orr__pack_number(b, lua_tonumber(L, i)));
        } else if (type == LUA_TSTRING) {
            size_t size;
            const char *s = lua_tolstring(L, i, &size);
            rc = check(&e, orr__pack_str(b, s, size));
        } else {
            lua_pushvalue(L, i);
            rc = encode_value(&e, 0);
            lua_pop(L, 1);
        }
        if (rc != ORR_OK) {
            b->len = start;
            return orr_error_set(err, rc, "argument %d%.*s: %s", i - first + 1,
                                 (int)(PATH_BYTES - e.path_at),
                                 e.path + e.path_at, e.why);
        }
    }
    return ORR_OK;
}

static int decode_value(lua_State *L, orr_unpacker *u, int depth);

/* Every head of nested containers may claim as many elements as bytes are left,
 * so what a head says is believed only up to here; a table that is really
 * larger grows as its elements come. */
enum { PREALLOCATED_MAX = 256 };

static int preallocated(uint32_t n)
{
    return n < PREALLOCATED_MAX ? (int)n : PREALLOCATED_MAX;
}

static int decode_array(lua_State *L, orr_unpacker *u, uint32_t n, int depth)
{
    if (depth >= ORR_CODEC_DEPTH_MAX)
        return ORR_EPROTO;
    lua_createtable(L, preallocated(n), 0);
    for (uint32_t i = 1; i <= n; i++) {
        int rc = decode_value(L, u, depth + 1);
        if (rc != ORR_OK)
            return rc;
        lua_rawseti(L, -2, (int)i);
    }
    return ORR_OK;
}

static int decode_map(lua_State *L, orr_unpacker *u, uint32_t n, int depth)
{
    if (depth >= ORR_CODEC_DEPTH_MAX)
        return ORR_EPROTO;
    lua_createtable(L, 0, preallocated(n));
    for (uint32_t i = 0; i < n; i++) {
        orr_pack_token t;
        int rc = orr__unpack_next(u, &t);
        if (rc != ORR_OK)
            return rc;
        switch (t.type) {
        case ORR_PACK_STR:
        case ORR_PACK_BIN:
            lua_pushlstring(L, (const char *)t.data, t.size);
            break;
        case ORR_PACK_INT: lua_pushnumber(L, (double)t.i); break;
        case ORR_PACK_DOUBLE:
            if (t.d != t.d)
                return ORR_EPROTO;
            lua_pushnumber(L, t.d);
            break;
        default: return ORR_EPROTO;
        }
        rc = decode_value(L, u, depth + 1);
        if (rc != ORR_OK)
            return rc;
        lua_rawset(L, -3);
    }
    return ORR_OK;
}

static int decode_value(lua_State *L, orr_unpacker *u, int depth)
{
    orr_pack_token t;
    int rc = orr__unpack_next(u, &t);
    if (rc != ORR_OK)
        return rc;
    switch (t.type) {
    case ORR_PACK_STR:
    case ORR_PACK_BIN:
        lua_pushlstring(L, (const char *)t.data, t.size);
        return ORR_OK;
    case ORR_PACK_INT: lua_pushnumber(L, (double)t.i); return ORR_OK;
    case ORR_PACK_DOUBLE: lua_pushnumber(L, t.d); return ORR_OK;
    case ORR_PACK_UINT: lua_pushnumber(L, (double)t.u); return ORR_OK;
    case ORR_PACK_NIL: lua_pushnil(L); return ORR_OK;
    case ORR_PACK_FALSE:
    case ORR_PACK_TRUE:
        lua_pushboolean(L, t.type == ORR_PACK_TRUE);
        return ORR_OK;
    case ORR_PACK_ARRAY: return decode_array(L, u, t.size, depth);
    case ORR_PACK_MAP: return decode_map(L, u, t.size, depth);
    default: return ORR_EPROTO;
    }
}

int orr__decode(lua_State *L, const uint8_t *data, size_t len, orr_error *err)
{
    orr_unpacker u;
    int top = lua_gettop(L);
    int n = 0;
    orr_unpack_init(&u, data, len);
    u.nodes_left = ORR_CODEC_NODES_MAX;
    if (!lua_checkstack(L, ORR_CODEC_VALUES_MAX + 3 * ORR_CODEC_DEPTH_MAX))
        return orr_error_set(err, ORR_EPROTO, "the Lua stack is full");
    for (; u.pos < u.len; n++) {
        if (n == ORR_CODEC_VALUES_MAX) {
            lua_settop(L, top);
            return orr_error_set(err, ORR_EPROTO, "more than %d values",
                                 ORR_CODEC_VALUES_MAX);
        }
        if (decode_value(L, &u, 0) != ORR_OK) {
            lua_settop(L, top);
            return orr_error_set(err, ORR_EPROTO,
                                 "broken MessagePack at byte %zu of %zu", u.pos,
                                 len);
        }
    }
    return n;
}
