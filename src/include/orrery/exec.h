/* Executors, endpoints, mailboxes, calls and timers.
 *
 * An executor is one thread's worth of work: an inbox that any thread may post
 * to, the mailboxes of the endpoints that live on it, a table of calls that
 * wait for an answer, and timers. It never runs code of its own accord: its
 * owner asks for the next event, acts on it, and asks again. Real executors
 * are driven by a libuv loop (loop.h), simulated ones by a scheduler (sim.h);
 * both are an orr_driver.
 *
 * A service is one RPC address: the registry of endpoints and the identity
 * (cluster id, incarnation) that peers see. Its endpoints may live on several
 * executors.
 *
 * The path of a call, same executor: orr_executor_ask puts the message into the
 * endpoint's mailbox and a slot into the call table; orr_executor_next gives
 * ORR_EVENT_CALL; the owner answers by orr_executor_reply with the call number
 * of that event; next gives ORR_EVENT_REPLY with the slot.
 * Another executor of the process: the same, through the target's inbox.
 * Another process: the message is handed to the link (net.h implements it), and
 * what the link reads comes back by orr_executor_receive.
 *
 * Every call ends exactly once. Deadline passed: a CANCEL asks the callee's
 * core where the call is, and the outcome names the phase; if no answer comes
 * within ORR_PROBE_GRACE_NS the outcome is ORR_EXPIRED_UNKNOWN. Link lost:
 * ORR_UNREACHABLE at once. Endpoint ended: ORR_UNREACHABLE for queued calls,
 * ORR_CALLEE_DIED for those taken and not answered.
 */
#ifndef ORRERY_EXEC_H
#define ORRERY_EXEC_H

#include "orrery/base.h"
#include "orrery/wire.h"

/* ffi:begin */
typedef struct orr_service orr_service;
typedef struct orr_executor orr_executor;
typedef struct orr_msg orr_msg;

typedef enum orr_event_kind {
    ORR_EVENT_NONE = 0,  /* nothing to do now */
    ORR_EVENT_CALL = 1,  /* ref, method, call (0 for a tell), body */
    ORR_EVENT_RUN = 2,   /* ref, call = the id given to orr_executor_post_run */
    ORR_EVENT_REPLY = 3, /* call = slot, status, body */
    ORR_EVENT_TIMER = 4, /* call = timer */
    ORR_EVENT_CANCEL = 5 /* call = an active call whose caller gave up */
} orr_event_kind;

/* Lent until the next orr_executor_next of the same executor. */
typedef struct orr_event {
    int32_t kind;
    int32_t status;
    uint32_t ref;
    uint32_t method;
    uint32_t call;
    uint32_t endpoint; /* slot of the endpoint in its service */
    uint32_t flags;    /* of CALL and REPLY; orr_frame_flag */
    uint32_t limit_ms; /* REPLY: time limit, when it was not the call's own */
    const uint8_t *body;
    size_t body_len;
} orr_event;

/* Flag of an ask, beside those of frames: neither deadline nor end of the call
 * being served apply to it. */
enum { ORR_ASK_OWN = 0x10000, ORR_SPANS = 4096 };

typedef enum orr_endpoint_state {
    ORR_ENDPOINT_CREATED = 0, /* calls answered with ORR_NOT_STARTED */
    ORR_ENDPOINT_STARTED = 1,
    ORR_ENDPOINT_STOPPING = 2, /* still serves; see on_stop */
    ORR_ENDPOINT_GONE = 3
} orr_endpoint_state;

enum { ORR_LANE_CONTROL = 0, ORR_LANE_BULK = 1, ORR_LANES = 2 };

/* A distribution of times. Quantiles are known to 12.5 %, max exactly. */
typedef struct orr_latency {
    uint64_t count;
    uint64_t p50_ns;
    uint64_t p90_ns;
    uint64_t p99_ns;
    uint64_t max_ns;
} orr_latency;

/* What is known of one method of an endpoint since it was opened or reset. */
typedef struct orr_method_info {
    char name[64];
    uint64_t errors;     /* answered with anything but ORR_OK */
    uint64_t refused;    /* answered OVERLOADED */
    uint64_t expired;    /* dropped at dequeue */
    uint64_t abandoned;  /* ended after the caller had given up */
    uint64_t run_ns;     /* time in the handler itself, waiting not counted */
    uint64_t run_max_ns; /* longest time at a stretch */
    orr_latency queue;   /* sent (here) or arrived until taken */
    orr_latency handler; /* taken until answered; a tell: until it returned */
} orr_method_info;

/* What anybody may know of an endpoint without disturbing it. */
typedef struct orr_endpoint_info {
    char name[128];
    uint32_t slot;
    uint32_t incarnation;
    int32_t state;
    uint32_t depth[ORR_LANES]; /* messages waiting */
    uint32_t posted;           /* on their way from other threads */
    uint32_t capacity[ORR_LANES];
    uint64_t handled;    /* messages taken so far */
    uint64_t refused;    /* answered OVERLOADED */
    uint64_t expired;    /* dropped at dequeue */
    uint64_t oldest_ns;  /* age of the oldest waiting message */
    uint64_t running_ns; /* age of the current handler; 0 = idle */
    uint32_t running_method;
    uint32_t methods;
    uint32_t executor;     /* number of its executor */
    char running_name[64]; /* of running_method; "" = a function was posted */
} orr_endpoint_info;

typedef struct orr_executor_info {
    uint32_t number;
    uint32_t endpoints;
    uint32_t calls;  /* waiting for an answer */
    uint32_t active; /* taken here, not answered yet */
    uint32_t timers;
    uint32_t links;
    uint64_t events;  /* given by orr_executor_next so far */
    uint64_t wakeups; /* times another thread had to wake it */
    uint64_t dropped; /* late or unmatched replies, dead letters */
    uint64_t turns;
    uint64_t busy_ns; /* since the turn that it is in began; 0 = sleeps */
    orr_latency lag;  /* from when a turn was wanted to when it began */
} orr_executor_info;

/* One handler's part of a traced chain of calls. */
typedef struct orr_span {
    uint64_t sequence; /* of this process, from 1 on */
    uint64_t trace;
    uint64_t span;
    uint64_t parent;  /* span of the caller's handler; 0 = none */
    uint64_t wall_ms; /* when it ended */
    uint64_t queue_ns;
    uint64_t run_ns; /* taken until answered */
    int32_t status;
    uint32_t executor;
    char endpoint[64]; /* longer names are cut */
    char method[64];
} orr_span;

/* What an executor runs at this moment. */
typedef struct orr_running {
    char endpoint[128]; /* "" = nothing of an endpoint */
    char gateways[128];
    char name[64];
    uint32_t method;
    uint64_t since_ns; /* when it was taken, or went on after waiting */
    uint64_t progress; /* changes whenever the executor does the next thing */
    int32_t sleeps;
} orr_running;

typedef struct orr_endpoint_options {
    const char *name;       /* borrowed; 1..127 bytes of [A-Za-z0-9_./$-] */
    const uint8_t *methods; /* borrowed; MessagePack array, an entry a method
                                in id order (id 0 first); the core reads only
                                the count, the rest is for who connects */
    size_t methods_len;
    const char *gateways;   /* borrowed; names separated by spaces; "" = any */
    const uint8_t *control; /* borrowed; one byte a method, 1 = control lane;
                                NULL = none */
    const char *const *permissions; /* borrowed; a text a method: the roles
                                that may call it, separated by spaces; NULL or
                                "" = anybody. NULL = no method has any */
    uint32_t capacity_control;      /* 0 = 1024 */
    uint32_t capacity_bulk;         /* 0 = 65536 */
    uint32_t ref;   /* comes back in events; the owner's index */
    int32_t fenced; /* 1 = token below is checked at dequeue */
    orr_token token;
} orr_endpoint_options;

/* Services. name is for people and for the local address; cluster_id is
 * compared in the handshake. Gives a service that the caller frees after every
 * executor that used it has ended. Thread: start. */
orr_service *orr_service_new(const char *name, const char *cluster_id,
                             uint64_t incarnation);
void orr_service_free(orr_service *s);
/* host:port that peers use; "" for a local service. Thread: any. */
int orr_service_set_address(orr_service *s, const char *address);
const char *orr_service_address(const orr_service *s);
const char *orr_service_cluster_id(const orr_service *s);
uint64_t orr_service_incarnation(const orr_service *s);
/* With 1 a method with a permission is refused to callers without TLS too;
 * without it they are not asked for a role. Thread: any. */
void orr_service_require_tls(orr_service *s, int required);
/* Endpoint by slot number below count; ORR_ENOENT when empty. Thread: any. */
uint32_t orr_service_endpoint_count(orr_service *s);
int orr_service_endpoint_info(orr_service *s, uint32_t slot, uint64_t now_ns,
                              orr_endpoint_info *out);

/* One method of an endpoint; ORR_ENOENT (no such endpoint or method). reset
 * begins anew. Thread: any. */
int orr_service_method_info(orr_service *s, uint32_t slot, uint32_t method,
                            orr_method_info *out);
int orr_service_method_reset(orr_service *s, uint32_t slot, uint32_t method);

/* Registers a new endpoint on this executor, in state CREATED. Answers ORR_OK
 * with its slot, ORR_EEXIST when the name is alive, ORR_EINVAL for a bad name,
 * ORR_ENOMEM. Thread: owner. */
int orr_endpoint_open(orr_executor *ex, orr_service *s,
                      const orr_endpoint_options *options, uint32_t *slot);
/* Thread: owner. STARTED -> CREATED is a stop without close. */
int orr_endpoint_set_state(orr_executor *ex, orr_service *s, uint32_t slot,
                           int state);
/* Ends it: the name is free again, queued calls are answered UNREACHABLE, taken
 * ones CALLEE_DIED. Thread: owner. */
int orr_endpoint_close(orr_executor *ex, orr_service *s, uint32_t slot);
/* Begins a new life of it under the same slot and name: state CREATED, waiting
 * messages end as in close, targets stay good. Thread: owner. */
int orr_endpoint_reset(orr_executor *ex, orr_service *s, uint32_t slot);
/* Marks what runs now, for introspection; method UINT32_MAX = nothing.
 * Thread: owner. */
void orr_endpoint_running(orr_executor *ex, orr_service *s, uint32_t slot,
                          uint32_t method);

/* Executors. */
uint32_t orr_executor_number(const orr_executor *ex);
uint64_t orr_executor_now_ns(orr_executor *ex); /* monotonic, fresh */
uint64_t orr_executor_wall_ms(orr_executor *ex);
orr_chance *orr_executor_chance(orr_executor *ex);
void orr_executor_info_get(orr_executor *ex, orr_executor_info *out);
/* The executors of the process whose number is above after, at most max, in
 * order of their numbers; how many. Thread: any. */
uint32_t orr_executors(uint32_t after, orr_executor_info *out, uint32_t max);
/* Thread: any that knows that the executor was not freed. */
void orr_executor_running(orr_executor *ex, orr_running *out);
/* What runs now continues the handler of this active call: it is what is shown
 * as running, and calls made now are its children. 0: nothing's. Ends with the
 * next orr_executor_next. ORR_ENOENT: answered already. Thread: owner. */
int orr_executor_enter(orr_executor *ex, uint32_t call);
/* Time left of the call whose handler runs now: ORR_OK with it (0 = over), or
 * ORR_ENOENT: it has no deadline, or nothing runs. Thread: owner. */
int orr_executor_remaining(orr_executor *ex, uint64_t *remaining_ns);
/* 1 when its caller gave up. Thread: owner. */
int orr_executor_is_abandoned(orr_executor *ex, uint32_t call);
/* Who sent an active call (0: what runs now), for people: an address or who it
 * is in this process. Gives the length. Thread: owner. */
size_t orr_executor_sender(orr_executor *ex, uint32_t call, char *out,
                           size_t size);
/* 1 while orr_executor_next would give an event. Thread: owner. */
int orr_executor_ready(orr_executor *ex);
/* The next event; e->kind ORR_EVENT_NONE when there is none, or when the batch
 * (ORR_BATCH_MAX events or ORR_BATCH_NS since orr_executor_turn) is over.
 * Order: replies, timers, then mailboxes round robin, at most ORR_QUOTA
 * messages of one endpoint before the next has its turn; control lane first.
 * Thread: owner. */
void orr_executor_next(orr_executor *ex, orr_event *e);
/* Begins a new batch: takes the inbox, reads the clock. Thread: owner. */
void orr_executor_turn(orr_executor *ex);
/* Sends what waits in the links; for the end of a batch. Thread: owner. */
void orr_executor_flush(orr_executor *ex);
/* Makes a sleeping executor turn. Thread: any. */
void orr_executor_wake(orr_executor *ex);

/* A message to fill: write MessagePack values into its body, then hand it to
 * ask, tell or reply, which take it, also when they fail. Gives, or NULL
 * without memory. Thread: owner. */
orr_msg *orr_executor_message(orr_executor *ex);
orr_buf *orr_msg_body(orr_msg *m);
void orr_executor_message_free(orr_executor *ex, orr_msg *m);

/* Resolves an endpoint and makes a target of it. address "" is this service.
 * Always gives a slot whose REPLY body is a MessagePack map: target, address,
 * state, incarnation, methods (as given at open), fenced; or an error map, see
 * below. timeout_ns 0 = none. token may be NULL. Thread: owner. */
int orr_executor_connect(orr_executor *ex, orr_service *s, const char *address,
                         const char *endpoint, const char *gateway,
                         const orr_token *token, uint64_t timeout_ns,
                         uint32_t *slot);
/* A target of an endpoint of this process, without a connect. Answers
 * ORR_OK, ORR_ENOENT (no such endpoint), ORR_ENOMEM. token may be NULL.
 * Thread: owner. */
int orr_executor_target(orr_executor *ex, orr_service *s, uint32_t slot,
                        const orr_token *token, uint32_t *target);
/* Forgets a target. Thread: owner. */
void orr_executor_disconnect(orr_executor *ex, uint32_t target);

/* ask answers ORR_OK with a slot; everything that goes wrong later, also a body
 * above the link's limit, comes as the REPLY event. At once: ORR_EINVAL (no
 * such target), ORR_OVERLOADED (too many calls wait), ORR_ENOMEM.
 * tell answers ORR_OK, ORR_EINVAL, ORR_ENOMEM, or ORR_TOO_LARGE,
 * ORR_OVERLOADED or ORR_UNREACHABLE when that is known here.
 * A call made by a handler (see orr_executor_enter) has at most the time that
 * its own call has left, and is cancelled when its caller gives that up.
 * flags: ORR_FLAG_CONTROL, ORR_FLAG_SPILLED, ORR_ASK_OWN. Thread: owner. */
int orr_executor_ask(orr_executor *ex, uint32_t target, uint32_t method,
                     orr_msg *m, uint64_t timeout_ns, uint32_t flags,
                     uint32_t *slot);
int orr_executor_tell(orr_executor *ex, uint32_t target, uint32_t method,
                      orr_msg *m, uint32_t flags);
/* Gives up a call: it ends with ORR_CANCELLED now, the callee is told. */
int orr_executor_cancel(orr_executor *ex, uint32_t slot);

/* Answers an active call. status ORR_OK: the body is the result, one value.
 * Otherwise the body is an error map {code, message, context?, cause?,
 * traceback?} and status its code. Answering twice is ORR_ENOENT. */
int orr_executor_reply(orr_executor *ex, uint32_t call, int32_t status,
                       orr_msg *m);

/* Bodies kept elsewhere (see orr_feature): the message is only the key of its
 * body, which comes with ORR_FLAG_SPILLED in the flags of the event. spills:
 * does the target's side know of that now? call_spills: does the caller's of a
 * call? Thread: owner. */
int orr_executor_spills(orr_executor *ex, uint32_t target);
int orr_executor_call_spills(const orr_executor *ex, uint32_t call);
int orr_executor_reply_spilled(orr_executor *ex, uint32_t call, orr_msg *key);
/* Bytes that a message to the target may have; 0 = no limit, or none known.
 * Thread: owner. */
uint32_t orr_executor_body_max(orr_executor *ex, uint32_t target);

/* Puts an owner-side job into an endpoint's mailbox, in order with its
 * messages; it comes back as ORR_EVENT_RUN. Thread: owner. */
int orr_executor_post_run(orr_executor *ex, orr_service *s, uint32_t slot,
                          uint32_t id);

/* Timers: fire once, not early. Thread: owner. */
int orr_executor_timer(orr_executor *ex, uint64_t delay_ns, uint32_t *timer);
int orr_executor_timer_cancel(orr_executor *ex, uint32_t timer);

/* Tracing, of the whole process. While it is on, until_ns of the executors'
 * clock, a call made outside of handlers (filter "") and a call taken by an
 * endpoint whose name begins with filter begin a trace, unless they are part of
 * one; a trace goes on through all processes, whether on there or not. The last
 * ORR_SPANS spans are kept. until_ns 0 = off. ORR_EINVAL: filter too long.
 * Thread: any. */
int orr_trace_set(const char *filter, uint64_t until_ns);
/* Spans with a sequence above after, of one trace (0 = all), oldest first, at
 * most max; how many. Thread: any. */
uint32_t orr_trace_read(uint64_t trace, uint64_t after, orr_span *out,
                        uint32_t max);
/* ffi:end */

enum {
    ORR_QUOTA = 16,
    ORR_BATCH_MAX = 256,
    ORR_BATCH_NS = 5000000,
    ORR_PROBE_GRACE_NS = 200000000
};

/* --- seams, C only ------------------------------------------------------- */

typedef struct orr_link orr_link;

/* What a driver does for an executor. All but wake: owner thread only. */
typedef struct orr_driver {
    void *ctx;
    int is_real; /* now_ns is the system's monotonic clock */
    uint64_t (*now_ns)(void *ctx);
    uint64_t (*wall_ms)(void *ctx);
    /* Thread: any. Make the executor turn soon; coalesced by the caller. */
    void (*wake)(void *ctx);
    /* The executor wants to turn at this time (UINT64_MAX: no timer). */
    void (*arm)(void *ctx, uint64_t at_ns);
    /* A link to address for this service, new or shared; it may still be
     * connecting. NULL with err set when that cannot even begin. Each use is
     * ended by link->ops->release. */
    orr_link *(*dial)(void *ctx, orr_executor *ex, orr_service *s,
                      const char *address, orr_error *err);
} orr_driver;

typedef struct orr_link_ops {
    /* Queues one frame; borrows. ORR_OK, ORR_OVERLOADED (queue full: nothing
     * queued), ORR_TOO_LARGE, ORR_UNREACHABLE (closed). */
    int (*send)(orr_link *l, const orr_header *h, const uint8_t *body);
    /* The same for a body above frame_max; takes the bytes when it answers
     * ORR_OK. NULL: such bodies go to send. */
    int (*send_body)(orr_link *l, const orr_header *h, orr_buf *body);
    void (*flush)(orr_link *l);
    void (*acquire)(orr_link *l);
    void (*release)(orr_link *l);
    int (*is_open)(orr_link *l);
} orr_link_ops;

/* The first member of every connection. The lists belong to exec. */
struct orr_link {
    const orr_link_ops *ops;
    orr_executor *executor;
    orr_service *service;
    uint32_t number;    /* set by orr_executor_link_up */
    uint32_t calls;     /* head of the calls that wait on it, 0 = none */
    uint32_t body_max;  /* the smaller of both sides' limits */
    uint32_t frame_max; /* larger bodies go to send_body */
    uint32_t features;  /* orr_feature bits that both sides know */
    const char *peer;   /* its address for people, or NULL */
    /* Of the peer's certificate, set by orr_link_set_role; NULL without TLS, ""
     * when the certificate names none. */
    const char *peer_role;
    uint8_t role; /* its number in the service; 0 without TLS */
    int dirty;    /* has frames to flush */
    orr_link *dirty_next;
};

/* Gives an executor driven by d (copied). number is for people; seed for its
 * chance. NULL without memory. */
orr_executor *orr_executor_new(const orr_driver *d, uint32_t number,
                               uint64_t seed);
/* Frees it; waiting calls vanish without events. Thread: owner. */
void orr_executor_free(orr_executor *ex);
void *orr_executor_driver_ctx(orr_executor *ex);

/* The peer proved by TLS to have this role ("" = none); before any receive. A
 * service knows 61 roles: one too many is like none. Thread: owner. */
void orr_link_set_role(orr_link *l, const char *role);
/* A link exists (dialled or accepted); before any receive. */
void orr_executor_link_up(orr_executor *ex, orr_link *l);
/* A checked frame came (ASK, TELL, REPLY, CANCEL, RESOLVE); borrows. Answers
 * ORR_EPROTO when the peer broke the protocol: close the link. */
int orr_executor_receive(orr_executor *ex, orr_link *l, const orr_header *h,
                         const uint8_t *body);
/* The same for a body that came in pieces (ASK, TELL, REPLY); takes it, also
 * when it fails. h->length is its size. */
int orr_executor_receive_body(orr_executor *ex, orr_link *l,
                              const orr_header *h, orr_buf *body);
/* The link is gone: its calls fail with code and text now. */
void orr_executor_link_down(orr_executor *ex, orr_link *l, int code,
                            const char *text);
/* Calls that no endpoint answers but a part of this process that speaks to the
 * outside, a store say: a slot like any other, whose REPLY is given by finish
 * or fail. They have no deadline of their own: who answers keeps the time.
 * begin answers ORR_OK, ORR_OVERLOADED or ORR_ENOMEM. finish takes m; it and
 * fail answer ORR_ENOENT when the call has ended already (cancelled). forget
 * takes a slot back that nobody was told of. Thread: owner. */
typedef struct orr_external {
    uint32_t slot; /* 0 = none */
    uint32_t generation;
} orr_external;
int orr_executor_external_begin(orr_executor *ex, orr_external *out);
int orr_executor_external_finish(orr_executor *ex, const orr_external *call,
                                 int32_t status, orr_msg *m);
int orr_executor_external_fail(orr_executor *ex, const orr_external *call,
                               int32_t status, const char *text);
void orr_executor_external_forget(orr_executor *ex, const orr_external *call);
/* Before sleeping: marks the executor asleep and answers 1 when it may sleep,
 * 0 when work came in. After: orr_executor_awake. Thread: owner. */
int orr_executor_try_sleep(orr_executor *ex);
void orr_executor_awake(orr_executor *ex);

#endif
