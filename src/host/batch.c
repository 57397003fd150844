/* encode, decode, and batches: many values packed into one string, for the
 * channels of tasks.
 */
#include "host/codec_lua.h"
#include "host/host.h"

static const char *const BATCH = "orrery.batch";

typedef struct batch {
    orr_buf buf;
    uint32_t count;
} batch;

static int throw_or_fail(lua_State *L, int rc, const orr_error *err)
{
    return luaL_error(L, "%s: %s", orr_code_name(rc), err->text);
}

/* A buffer that Lua frees also when an error passes by. */
static batch *new_batch(lua_State *L)
{
    batch *b = lua_newuserdata(L, sizeof *b);
    *b = (batch){0};
    luaL_getmetatable(L, BATCH);
    lua_setmetatable(L, -2);
    return b;
}

/* encode(...): one scratch buffer a state, kept while it is small. */
static int codec_encode(lua_State *L)
{
    batch *b = lua_touserdata(L, lua_upvalueindex(1));
    orr_error err;
    int rc = orr__encode(L, 1, lua_gettop(L), &b->buf, 0, &err);
    if (rc != ORR_OK) {
        orr_buf_reset(&b->buf);
        return throw_or_fail(L, rc, &err);
    }
    lua_pushlstring(L, b->buf.len > 0 ? (const char *)b->buf.data : "",
                    b->buf.len);
    if (b->buf.cap > 65536)
        orr_buf_free(&b->buf);
    else
        orr_buf_reset(&b->buf);
    return 1;
}

/* decode(string [, from]): from counts bytes from 1 */
static int codec_decode(lua_State *L)
{
    size_t size;
    orr_error err;
    const char *s = luaL_checklstring(L, 1, &size);
    double from = luaL_optnumber(L, 2, 1);
    luaL_argcheck(L, from >= 1 && from <= (double)size + 1, 2,
                  "outside of the string");
    size_t skip = (size_t)from - 1;
    int n = orr__decode(L, (const uint8_t *)s + skip, size - skip, &err);
    if (n >= 0)
        return n;
    lua_pushnil(L);
    lua_pushstring(L, err.text);
    return 2;
}

static int codec_batch(lua_State *L)
{
    new_batch(L);
    return 1;
}

static int batch_append(lua_State *L)
{
    batch *b = luaL_checkudata(L, 1, BATCH);
    orr_error err;
    luaL_checkany(L, 2);
    int rc = orr__encode(L, 2, 2, &b->buf, 0, &err);
    if (rc != ORR_OK)
        return throw_or_fail(L, rc, &err);
    b->count++;
    lua_pushnumber(L, (double)b->buf.len);
    return 1;
}

static int batch_take(lua_State *L)
{
    batch *b = luaL_checkudata(L, 1, BATCH);
    lua_pushlstring(L, b->buf.len > 0 ? (const char *)b->buf.data : "",
                    b->buf.len);
    lua_pushnumber(L, b->count);
    orr_buf_reset(&b->buf);
    b->count = 0;
    return 2;
}

static int batch_count(lua_State *L)
{
    batch *b = luaL_checkudata(L, 1, BATCH);
    lua_pushnumber(L, b->count);
    return 1;
}

static int batch_gc(lua_State *L)
{
    batch *b = lua_touserdata(L, 1);
    orr_buf_free(&b->buf);
    return 0;
}

/* decode_batch(string) -> array, count | nil, message. One value at a time: a
 * batch may hold more values than a stack. */
static int codec_decode_batch(lua_State *L)
{
    size_t size;
    orr_error err;
    const char *s = luaL_checklstring(L, 1, &size);
    orr_unpacker u;
    orr_unpack_init(&u, s, size);
    u.nodes_left = UINT32_MAX;
    lua_createtable(L, size > 1024 ? 256 : 16, 0);
    int count = 0;
    while (u.pos < size) {
        size_t from = u.pos;
        int rc = orr_unpack_skip(&u, ORR_CODEC_DEPTH_MAX);
        int n =
            rc != ORR_OK
                ? orr_error_set(&err, rc, "broken MessagePack behind byte %zu",
                                from)
                : orr__decode(L, (const uint8_t *)s + from, u.pos - from, &err);
        if (n != 1) {
            lua_pushnil(L);
            lua_pushstring(L, err.text);
            return 2;
        }
        lua_rawseti(L, -2, ++count);
    }
    lua_pushnumber(L, count);
    return 2;
}

static const luaL_Reg batch_methods[] = {
    {"append", batch_append},
    {"take", batch_take},
    {"count", batch_count},
    {NULL, NULL},
};

static const luaL_Reg codec_functions[] = {
    {"decode", codec_decode},
    {"batch", codec_batch},
    {"decode_batch", codec_decode_batch},
    {NULL, NULL},
};

void orr__core_open_codec(lua_State *L)
{
    luaL_newmetatable(L, BATCH);
    lua_newtable(L);
    luaL_register(L, NULL, batch_methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, batch_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_register(L, NULL, codec_functions);
    new_batch(L);
    lua_pushcclosure(L, codec_encode, 1);
    lua_setfield(L, -2, "encode");
}
