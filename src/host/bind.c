/* The message path: functions bound to one executor.
 *
 * A binding is a userdata that all of them share as their first upvalue. The
 * executor may end before the functions do (its simulation or loop is freed);
 * `unbind` makes later calls fail by name.
 */
#include <stdio.h>
#include <string.h>

#include "host/codec_lua.h"
#include "host/host.h"

typedef struct binding {
    orr_executor *ex;
    int sorted;
} binding;

enum { TCDATA = 10, TOKEN_BYTES = 24 };

static orr_executor *executor_of(lua_State *L)
{
    binding *b = lua_touserdata(L, lua_upvalueindex(1));
    if (b->ex == NULL)
        luaL_error(L, "the executor has ended");
    return b->ex;
}

static int sorted_of(lua_State *L)
{
    return ((binding *)lua_touserdata(L, lua_upvalueindex(1)))->sorted;
}

void *orr__check_pointer(lua_State *L, int index, const char *what)
{
    int type = lua_type(L, index);
    void *p = NULL;
    if (type == LUA_TLIGHTUSERDATA)
        p = lua_touserdata(L, index);
    else if (type == TCDATA)
        p = *(void *const *)lua_topointer(L, index);
    if (p == NULL)
        luaL_error(L, "argument %d must be a pointer to %s", index, what);
    return p;
}

static uint64_t ms_to_ns(double ms)
{
    if (!(ms > 0))
        return 0;
    return ms >= 1e13 ? UINT64_C(10000000000000000000) : (uint64_t)(ms * 1e6);
}

/* A message with the values from..top in its body, or NULL with failure
 * pushed. */
static orr_msg *message(lua_State *L, orr_executor *ex, int from, int *pushed)
{
    orr_error err;
    err.text[0] = 0;
    orr_msg *m = orr_executor_message(ex);
    if (m == NULL) {
        *pushed = orr__push_failure(L, ORR_ENOMEM, "out of memory");
        return NULL;
    }
    int rc = orr__encode(L, from, lua_gettop(L), orr_msg_body(m), sorted_of(L),
                         &err);
    if (rc != ORR_OK) {
        orr_executor_message_free(ex, m);
        *pushed = orr__push_failure(L, rc, err.text);
        return NULL;
    }
    return m;
}

/* Answers an active call with an error map made here. */
static void reply_failure(orr_executor *ex, uint32_t call, int code,
                          const char *text)
{
    orr_msg *m = orr_executor_message(ex);
    if (m == NULL)
        return; /* the deadline of the caller ends the call */
    orr_buf *b = orr_msg_body(m);
    const char *name = orr_code_name(code);
    if (orr_pack_map(b, 2) != ORR_OK || orr_pack_str(b, "code", 4) != ORR_OK ||
        orr_pack_str(b, name, strlen(name)) != ORR_OK ||
        orr_pack_str(b, "message", 7) != ORR_OK ||
        orr_pack_str(b, text, strlen(text)) != ORR_OK) {
        orr_executor_message_free(ex, m);
        return;
    }
    orr_executor_reply(ex, call, code, m);
}

static int bound_turn(lua_State *L)
{
    orr_executor_turn(executor_of(L));
    if (orr__watchdog_is_parked())
        orr__watchdog_unpark();
    return 0;
}

static int bound_flush(lua_State *L)
{
    orr_executor_flush(executor_of(L));
    return 0;
}

static int bound_ready(lua_State *L)
{
    lua_pushboolean(L, orr_executor_ready(executor_of(L)));
    return 1;
}

/* A CALL whose arguments cannot be read is answered here. */
static int refuse_call(lua_State *L, orr_executor *ex, const orr_event *e,
                       const orr_error *err)
{
    char text[300];
    snprintf(text, sizeof text, "the arguments cannot be decoded: %s",
             err->text);
    if (e->call != 0)
        reply_failure(ex, e->call, ORR_BAD_ARGUMENT, text);
    else
        orr_log_write(ORR_LOG_ERROR, "rpc", text);
    lua_settop(L, 0);
    return 0;
}

/* A call or a reply whose body is elsewhere is an event of its own kind. */
enum { SPILLED_CALL = 6, SPILLED_REPLY = 7 };

static int push_call(lua_State *L, orr_executor *ex, const orr_event *e)
{
    orr_error err;
    lua_pushnumber(L, (e->flags & ORR_FLAG_SPILLED) == 0 ? ORR_EVENT_CALL
                                                         : SPILLED_CALL);
    lua_pushnumber(L, e->ref);
    lua_pushnumber(L, e->method);
    lua_pushnumber(L, e->call);
    lua_pushnumber(L, e->endpoint);
    int n = orr__decode(L, e->body, e->body_len, &err);
    if (n < 0)
        return refuse_call(L, ex, e, &err);
    return 5 + n;
}

static int push_reply(lua_State *L, const orr_event *e)
{
    orr_error err;
    lua_pushnumber(L, (e->flags & ORR_FLAG_SPILLED) == 0 ? ORR_EVENT_REPLY
                                                         : SPILLED_REPLY);
    lua_pushnumber(L, e->call);
    lua_pushnumber(L, e->status);
    int n = orr__decode(L, e->body, e->body_len, &err);
    if (n >= 0 && e->limit_ms == 0)
        return 3 + n;
    if (n >= 0) {
        lua_settop(L, 4);
        lua_pushnumber(L, e->limit_ms);
        return 5;
    }
    lua_pop(L, 1);
    lua_pushnumber(L, ORR_EPROTO);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, orr_code_name(ORR_EPROTO));
    lua_setfield(L, -2, "code");
    lua_pushfstring(L, "the result cannot be decoded: %s", err.text);
    lua_setfield(L, -2, "message");
    return 4;
}

static int bound_next(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    orr_event e;
    int n;
    lua_settop(L, 0);
    for (;;) {
        orr_executor_next(ex, &e);
        switch (e.kind) {
        case ORR_EVENT_CALL:
            n = push_call(L, ex, &e);
            if (n > 0)
                return n;
            break;
        case ORR_EVENT_REPLY: return push_reply(L, &e);
        case ORR_EVENT_RUN:
            lua_pushnumber(L, e.kind);
            lua_pushnumber(L, e.ref);
            lua_pushnumber(L, e.call);
            return 3;
        case ORR_EVENT_TIMER:
        case ORR_EVENT_CANCEL:
            lua_pushnumber(L, e.kind);
            lua_pushnumber(L, e.call);
            return 2;
        default: return 0;
        }
    }
}

static int push_too_large(lua_State *L, orr_executor *ex, uint32_t target,
                          size_t size)
{
    char text[96];
    snprintf(text, sizeof text, "the arguments have %zu bytes, the limit is %u",
             size, orr_executor_body_max(ex, target));
    return orr__push_failure(L, ORR_TOO_LARGE, text);
}

static int push_core_failure(lua_State *L, int rc)
{
    switch (rc) {
    case ORR_EINVAL:
        return orr__push_failure(L, ORR_UNREACHABLE,
                                 "the gateway was disconnected");
    case ORR_ENOMEM: return orr__push_failure(L, rc, "out of memory");
    default: return orr__push_failure(L, rc, orr_code_name(rc));
    }
}

/* In place of sending a message above the threshold: nil, code 1, its bytes.
 * Takes m. */
static int push_spill(lua_State *L, orr_executor *ex, orr_msg *m)
{
    lua_pushnil(L);
    lua_pushnumber(L, 1);
    lua_pushlstring(L, (const char *)orr_msg_body(m)->data,
                    orr_msg_body(m)->len);
    orr_executor_message_free(ex, m);
    return 3;
}

static int is_above(orr_msg *m, double threshold)
{
    return (double)orr_msg_body(m)->len > threshold;
}

/* first: where the values begin; threshold: 0 = none. */
static int ask(lua_State *L, int first, double threshold)
{
    orr_executor *ex = executor_of(L);
    uint32_t target = (uint32_t)lua_tonumber(L, 1);
    uint32_t method = (uint32_t)lua_tonumber(L, 2);
    uint64_t timeout = ms_to_ns(lua_tonumber(L, 3));
    uint32_t flags = (uint32_t)lua_tonumber(L, 4);
    uint32_t slot;
    int pushed;
    orr_msg *m = message(L, ex, first, &pushed);
    if (m == NULL)
        return pushed;
    if (threshold > 0 && is_above(m, threshold) &&
        orr_executor_spills(ex, target))
        return push_spill(L, ex, m);
    int rc = orr_executor_ask(ex, target, method, m, timeout, flags, &slot);
    if (rc != ORR_OK)
        return push_core_failure(L, rc);
    lua_pushnumber(L, slot);
    return 1;
}

/* ask(target, method, timeout_ms, flags, ...) */
static int bound_ask(lua_State *L)
{
    return ask(L, 5, 0);
}

/* ask_spill(target, method, timeout_ms, flags, threshold, ...) */
static int bound_ask_spill(lua_State *L)
{
    return ask(L, 6, luaL_checknumber(L, 5));
}

static int tell(lua_State *L, int first, double threshold)
{
    orr_executor *ex = executor_of(L);
    uint32_t target = (uint32_t)lua_tonumber(L, 1);
    uint32_t method = (uint32_t)lua_tonumber(L, 2);
    uint32_t flags = (uint32_t)lua_tonumber(L, 3);
    int pushed;
    orr_msg *m = message(L, ex, first, &pushed);
    if (m == NULL)
        return pushed;
    if (threshold > 0 && is_above(m, threshold) &&
        orr_executor_spills(ex, target))
        return push_spill(L, ex, m);
    size_t size = orr_msg_body(m)->len;
    int rc = orr_executor_tell(ex, target, method, m, flags);
    if (rc == ORR_TOO_LARGE)
        return push_too_large(L, ex, target, size);
    if (rc != ORR_OK)
        return push_core_failure(L, rc);
    lua_pushboolean(L, 1);
    return 1;
}

/* tell(target, method, flags, ...) */
static int bound_tell(lua_State *L)
{
    return tell(L, 4, 0);
}

/* tell_spill(target, method, flags, threshold, ...) */
static int bound_tell_spill(lua_State *L)
{
    return tell(L, 5, luaL_checknumber(L, 4));
}

/* The value at index 2 is the answer. */
static int reply(lua_State *L, double threshold)
{
    orr_executor *ex = executor_of(L);
    uint32_t call = (uint32_t)lua_tonumber(L, 1);
    int pushed;
    lua_settop(L, 2);
    orr_msg *m = message(L, ex, 2, &pushed);
    if (m == NULL)
        return pushed;
    if (threshold > 0 && is_above(m, threshold) &&
        orr_executor_call_spills(ex, call))
        return push_spill(L, ex, m);
    int rc = orr_executor_reply(ex, call, ORR_OK, m);
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushboolean(L, 1);
    return 1;
}

/* reply(call, value) */
static int bound_reply(lua_State *L)
{
    return reply(L, 0);
}

/* reply_spill(call, value, threshold) */
static int bound_reply_spill(lua_State *L)
{
    return reply(L, luaL_checknumber(L, 3));
}

/* reply_spilled(call, key) */
static int bound_reply_spilled(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    uint32_t call = (uint32_t)luaL_checknumber(L, 1);
    int pushed;
    lua_settop(L, 2);
    orr_msg *m = message(L, ex, 2, &pushed);
    if (m == NULL)
        return pushed;
    int rc = orr_executor_reply_spilled(ex, call, m);
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushboolean(L, 1);
    return 1;
}

/* reply_error(call, code, error_table) */
static int bound_reply_error(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    uint32_t call = (uint32_t)lua_tonumber(L, 1);
    int32_t code = (int32_t)lua_tonumber(L, 2);
    int pushed;
    luaL_argcheck(L, code < 0, 2, "an error code is needed");
    lua_settop(L, 3);
    orr_msg *m = message(L, ex, 3, &pushed);
    if (m == NULL)
        return pushed;
    int rc = orr_executor_reply(ex, call, code, m);
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushboolean(L, 1);
    return 1;
}

static int read_token(lua_State *L, int index, orr_token *token)
{
    size_t size;
    const char *s = lua_tolstring(L, index, &size);
    if (s == NULL)
        return 0;
    luaL_argcheck(L, size == TOKEN_BYTES, index, "a token has 24 bytes");
    token->epoch = 0;
    for (int i = 7; i >= 0; i--)
        token->epoch = token->epoch << 8 | (uint8_t)s[i];
    memcpy(token->session, s + 8, sizeof token->session);
    return 1;
}

/* connect(service, address, endpoint, gateway, token, timeout_ms) */
static int bound_connect(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    orr_service *s = orr__check_pointer(L, 1, "a service");
    const char *address = luaL_checkstring(L, 2);
    const char *endpoint = luaL_checkstring(L, 3);
    const char *gateway = luaL_checkstring(L, 4);
    orr_token token;
    int has_token = read_token(L, 5, &token);
    uint64_t timeout = ms_to_ns(luaL_checknumber(L, 6));
    uint32_t slot;
    int rc = orr_executor_connect(ex, s, address, endpoint, gateway,
                                  has_token ? &token : NULL, timeout, &slot);
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushnumber(L, slot);
    return 1;
}

/* target(service, slot, token) -> target */
static int bound_target(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    orr_service *s = orr__check_pointer(L, 1, "a service");
    orr_token token;
    uint32_t target;
    int has_token = read_token(L, 3, &token);
    int rc = orr_executor_target(ex, s, (uint32_t)luaL_checknumber(L, 2),
                                 has_token ? &token : NULL, &target);
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushnumber(L, target);
    return 1;
}

static int bound_disconnect(lua_State *L)
{
    orr_executor_disconnect(executor_of(L), (uint32_t)luaL_checknumber(L, 1));
    return 0;
}

static int bound_cancel(lua_State *L)
{
    int rc =
        orr_executor_cancel(executor_of(L), (uint32_t)luaL_checknumber(L, 1));
    lua_pushboolean(L, rc == ORR_OK);
    return 1;
}

static int bound_timer(lua_State *L)
{
    uint32_t timer;
    int rc = orr_executor_timer(executor_of(L),
                                ms_to_ns(luaL_checknumber(L, 1)), &timer);
    if (rc != ORR_OK)
        return luaL_error(L, "a timer cannot be made: %s", orr_code_name(rc));
    lua_pushnumber(L, timer);
    return 1;
}

static int bound_timer_cancel(lua_State *L)
{
    int rc = orr_executor_timer_cancel(executor_of(L),
                                       (uint32_t)luaL_checknumber(L, 1));
    lua_pushboolean(L, rc == ORR_OK);
    return 1;
}

/* post_run(service, slot, id) */
static int bound_post_run(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    orr_service *s = orr__check_pointer(L, 1, "a service");
    int rc = orr_executor_post_run(ex, s, (uint32_t)luaL_checknumber(L, 2),
                                   (uint32_t)luaL_checknumber(L, 3));
    if (rc != ORR_OK)
        return orr__push_failure(L, rc, orr_code_name(rc));
    lua_pushboolean(L, 1);
    return 1;
}

/* running(service, slot, method): method -1 = nothing */
static int bound_running(lua_State *L)
{
    orr_executor *ex = executor_of(L);
    orr_service *s = orr__check_pointer(L, 1, "a service");
    double method = luaL_checknumber(L, 3);
    orr_endpoint_running(ex, s, (uint32_t)luaL_checknumber(L, 2),
                         method < 0 ? UINT32_MAX : (uint32_t)method);
    return 0;
}

/* enter(call): what runs now goes on with the handler of that call */
static int bound_enter(lua_State *L)
{
    int rc =
        orr_executor_enter(executor_of(L), (uint32_t)luaL_checknumber(L, 1));
    lua_pushboolean(L, rc == ORR_OK);
    return 1;
}

/* remaining() -> ms of the call being served, or nil */
static int bound_remaining(lua_State *L)
{
    uint64_t remaining_ns;
    if (orr_executor_remaining(executor_of(L), &remaining_ns) != ORR_OK)
        return 0;
    lua_pushnumber(L, (double)remaining_ns / 1e6);
    return 1;
}

/* abandoned(call) -> did its caller give up? */
static int bound_abandoned(lua_State *L)
{
    lua_pushboolean(L, orr_executor_is_abandoned(
                           executor_of(L), (uint32_t)luaL_checknumber(L, 1)));
    return 1;
}

/* sender(call) -> text */
static int bound_sender(lua_State *L)
{
    char text[320];
    size_t len = orr_executor_sender(
        executor_of(L), (uint32_t)luaL_checknumber(L, 1), text, sizeof text);
    lua_pushlstring(L, text, len);
    return 1;
}

static int bound_now(lua_State *L)
{
    lua_pushnumber(L, (double)orr_executor_now_ns(executor_of(L)) / 1e6);
    return 1;
}

static int bound_wall(lua_State *L)
{
    lua_pushnumber(L, (double)orr_executor_wall_ms(executor_of(L)));
    return 1;
}

static int bound_unbind(lua_State *L)
{
    ((binding *)lua_touserdata(L, lua_upvalueindex(1)))->ex = NULL;
    return 0;
}

static const luaL_Reg functions[] = {
    {"turn", bound_turn},
    {"flush", bound_flush},
    {"ready", bound_ready},
    {"next", bound_next},
    {"ask", bound_ask},
    {"ask_spill", bound_ask_spill},
    {"tell", bound_tell},
    {"tell_spill", bound_tell_spill},
    {"reply", bound_reply},
    {"reply_spill", bound_reply_spill},
    {"reply_spilled", bound_reply_spilled},
    {"reply_error", bound_reply_error},
    {"connect", bound_connect},
    {"target", bound_target},
    {"disconnect", bound_disconnect},
    {"cancel", bound_cancel},
    {"timer", bound_timer},
    {"timer_cancel", bound_timer_cancel},
    {"post_run", bound_post_run},
    {"running", bound_running},
    {"enter", bound_enter},
    {"remaining", bound_remaining},
    {"abandoned", bound_abandoned},
    {"sender", bound_sender},
    {"now_ms", bound_now},
    {"wall_ms", bound_wall},
    {"unbind", bound_unbind},
    {NULL, NULL},
};

/* bind(executor [, sorted]) */
int orr__core_bind(lua_State *L)
{
    orr_executor *ex = orr__check_pointer(L, 1, "an executor");
    int sorted = lua_toboolean(L, 2);
    lua_newtable(L);
    binding *b = lua_newuserdata(L, sizeof *b);
    b->ex = ex;
    b->sorted = sorted;
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    return 1;
}
