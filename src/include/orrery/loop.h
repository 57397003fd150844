/* The real driver of an executor: a libuv loop of its own.
 *
 * A wake-up from another thread is one write to an eventfd that the loop
 * watches. The executor's next deadline is one libuv timer, armed only right
 * before the loop sleeps and only when the deadline is earlier than what is
 * armed already: a call with a deadline costs no timer work. An idle executor
 * without timers sleeps without end.
 *
 * The loop is shared with its user: other libuv handles (luv) may live on it.
 */
#ifndef ORRERY_LOOP_H
#define ORRERY_LOOP_H

#include "orrery/exec.h"

/* ffi:begin */
typedef struct orr_loop orr_loop;

/* Gives a loop with its executor, seeded by the operating system. number is for
 * people. NULL with err: ORR_ENOMEM, ORR_EIO. Thread: the owner from now on. */
orr_loop *orr_loop_new(uint32_t number, orr_error *err);
/* Frees it with its executor. Nets made on it are closed (their orr_net is
 * still to be freed). Answers how many handles of others were open and had to
 * be closed here: 0 in a tidy program. NULL is fine. Thread: owner. */
uint32_t orr_loop_free(orr_loop *loop);
orr_executor *orr_loop_executor(orr_loop *loop);
/* The uv_loop_t, for luv. */
void *orr_loop_uv(orr_loop *loop);
/* One turn of the loop, after orr_executor_flush. With may_block it sleeps
 * until something happens, unless the executor has work; without, it only
 * looks. Answers 1 when it was allowed to sleep. Thread: owner. */
int orr_loop_turn(orr_loop *loop, int may_block);
/* How long a turn that may block looks for work before it sleeps; 0, the
 * default, sleeps at once. It trades a processor for latency: for executors
 * with a processor to themselves. Thread: owner. */
void orr_loop_set_spin(orr_loop *loop, uint64_t spin_ns);
/* ffi:end */

/* What gives a loop its connections; net/tcp.c is the one implementer. */
typedef struct orr_network {
    void *ctx;
    orr_link *(*dial)(void *ctx, orr_executor *ex, orr_service *s,
                      const char *address, orr_error *err);
    /* The loop goes away: close every handle at once. */
    void (*detach)(void *ctx);
} orr_network;

/* Somebody with handles on the loop: detach is called once, when the loop goes
 * away first, and closes every handle at once. The loop borrows g until then or
 * until it is removed. Thread: owner. */
typedef struct orr_loop_guest {
    struct orr_loop_guest *next; /* the loop's */
    void (*detach)(struct orr_loop_guest *g);
} orr_loop_guest;
void orr_loop_guest_add(orr_loop *loop, orr_loop_guest *g);
void orr_loop_guest_remove(orr_loop *loop, orr_loop_guest *g);

/* Copies network; NULL takes it away. Thread: owner. */
void orr_loop_set_network(orr_loop *loop, const orr_network *network);
/* Its ctx, or NULL. */
void *orr_loop_network(const orr_loop *loop);

#endif
