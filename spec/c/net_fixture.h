/* An executor with an endpoint "echo" that answers every call with its
 * argument, and a caller that notes its replies. Over any driver. */
#ifndef SPEC_NET_FIXTURE_H
#define SPEC_NET_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "orrery/net.h"

enum { PARTY_REPLIES_MAX = 64 };

typedef struct party_reply {
    uint32_t slot;
    int32_t status;
    uint32_t target; /* of a connect that went well */
    size_t size;     /* of a string that came back */
    uint32_t crc;
    uint64_t at_ns;
    char text[256]; /* the message of an error */
} party_reply;

typedef struct party {
    orr_executor *ex;
    orr_service *service;
    orr_net *net;
    char address[64];
    uint32_t slot; /* of echo */
    int calls;
    int silent; /* echo does not answer */
    int replies;
    party_reply reply[PARTY_REPLIES_MAX];
} party;

static inline void party_serve(party *p)
{
    orr_endpoint_options o = {.name = "echo",
                              .methods = (const uint8_t *)"\x91\xa4"
                                                          "echo",
                              .methods_len = 6,
                              .gateways = "",
                              .ref = 1};

    assert_int_equal(orr_endpoint_open(p->ex, p->service, &o, &p->slot),
                     ORR_OK);
    assert_int_equal(orr_endpoint_set_state(p->ex, p->service, p->slot,
                                            ORR_ENDPOINT_STARTED),
                     ORR_OK);
}

static inline void party_answer(party *p, const orr_event *e)
{
    orr_msg *m;

    p->calls++;
    if (p->silent || e->call == 0)
        return;
    m = orr_executor_message(p->ex);
    assert_int_equal(orr_buf_append(orr_msg_body(m), e->body, e->body_len),
                     ORR_OK);
    assert_int_equal(orr_executor_reply(p->ex, e->call, ORR_OK, m), ORR_OK);
}

/* The string below key in an error map, or the target in a connect's answer. */
static inline void party_read(party_reply *r, const orr_event *e)
{
    orr_unpacker u;
    orr_pack_token t;
    uint32_t pairs;

    orr_unpack_init(&u, e->body, e->body_len);
    if (orr_unpack_next(&u, &t) != ORR_OK)
        return;
    if (t.type == ORR_PACK_STR) {
        r->size = t.size;
        r->crc = orr_crc32c(0, t.data, t.size);
    }
    pairs = t.type == ORR_PACK_MAP ? t.size : 0;
    for (uint32_t i = 0; i < pairs; i++) {
        orr_pack_token key;

        assert_int_equal(orr_unpack_next(&u, &key), ORR_OK);
        if (key.size == 6 && memcmp(key.data, "target", 6) == 0) {
            assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
            r->target = (uint32_t)t.i;
        } else if (key.size == 7 && memcmp(key.data, "message", 7) == 0) {
            assert_int_equal(orr_unpack_next(&u, &t), ORR_OK);
            snprintf(r->text, sizeof r->text, "%.*s", (int)t.size,
                     (const char *)t.data);
        } else {
            assert_int_equal(orr_unpack_skip(&u, 64), ORR_OK);
        }
    }
}

/* Takes all events of one batch. */
static inline void party_drain(party *p)
{
    orr_event e;

    orr_executor_turn(p->ex);
    for (;;) {
        orr_executor_next(p->ex, &e);
        if (e.kind == ORR_EVENT_NONE)
            break;
        if (e.kind == ORR_EVENT_CALL) {
            party_answer(p, &e);
        } else if (e.kind == ORR_EVENT_REPLY) {
            party_reply *r = &p->reply[p->replies % PARTY_REPLIES_MAX];
            memset(r, 0, sizeof *r);
            r->slot = e.call;
            r->status = e.status;
            r->at_ns = orr_executor_now_ns(p->ex);
            party_read(r, &e);
            p->replies++;
        }
    }
    orr_executor_flush(p->ex);
}

static inline void party_connect(party *p, const char *address,
                                 uint64_t timeout_ns)
{
    uint32_t slot;

    assert_int_equal(orr_executor_connect(p->ex, p->service, address, "echo",
                                          "", NULL, timeout_ns, &slot),
                     ORR_OK);
}

static inline int party_ask(party *p, uint32_t target, const void *data,
                            size_t size, uint64_t timeout_ns)
{
    orr_msg *m = orr_executor_message(p->ex);
    uint32_t slot;

    assert_int_equal(orr_pack_str(orr_msg_body(m), data, size), ORR_OK);
    return orr_executor_ask(p->ex, target, 0, m, timeout_ns, 0, &slot);
}

static inline const party_reply *party_last(const party *p)
{
    return &p->reply[(p->replies - 1) % PARTY_REPLIES_MAX];
}

#define assert_reply(p, code, part)                                            \
    do {                                                                       \
        assert_int_equal(party_last(p)->status, code);                         \
        if (strstr(party_last(p)->text, part) == NULL)                         \
            fail_msg("\"%s\" is not in \"%s\"", part, party_last(p)->text);    \
    } while (0)

#endif
