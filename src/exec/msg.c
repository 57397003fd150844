/* Messages and the way they cross threads.
 *
 * A message is recycled by the executor that ends it. Asks and replies keep
 * the pools of two executors in balance by themselves; one-way traffic does
 * not, so a pool that grows gives a batch to the depot, and an empty pool takes
 * one: malloc on one thread and free on another costs ten times that.
 *
 * The inbox is a stack that any thread pushes to and the owner takes whole; it
 * is turned round when taken, so the order of each sender is kept.
 */
#include <string.h>

#include "exec_private.h"

enum {
    POOL_MAX = 512, /* messages an executor keeps */
    DEPOT_BATCH = 256,
    DEPOT_BATCHES = 32
};

static pthread_mutex_t depot_lock = PTHREAD_MUTEX_INITIALIZER;
static orr_msg *depot[DEPOT_BATCHES];
static uint32_t depot_len;

static void destroy_list(orr_msg *m)
{
    while (m != NULL) {
        orr_msg *next = m->next;
        orr_buf_free(&m->body);
        orr_free(m);
        m = next;
    }
}

static void take_batch(orr_executor *ex)
{
    pthread_mutex_lock(&depot_lock);
    if (depot_len > 0) {
        ex->free_msgs = depot[--depot_len];
        ex->free_count = DEPOT_BATCH;
    }
    pthread_mutex_unlock(&depot_lock);
}

static void give_batch(orr_executor *ex)
{
    orr_msg *batch = ex->free_msgs;
    orr_msg *last = batch;
    for (uint32_t i = 1; i < DEPOT_BATCH; i++)
        last = last->next;
    ex->free_msgs = last->next;
    ex->free_count -= DEPOT_BATCH;
    last->next = NULL;
    pthread_mutex_lock(&depot_lock);
    if (depot_len < DEPOT_BATCHES) {
        depot[depot_len++] = batch;
        batch = NULL;
    }
    pthread_mutex_unlock(&depot_lock);
    destroy_list(batch);
}

/* Gives a message with an empty body, or NULL without memory. */
orr_msg *orr__msg_new(orr_executor *ex)
{
    if (ex->free_msgs == NULL)
        take_batch(ex);
    orr_msg *m = ex->free_msgs;
    if (m != NULL) {
        ex->free_msgs = m->next;
        ex->free_count--;
        orr_buf body = m->body;
        memset(m, 0, sizeof *m);
        m->body = body;
        m->body.max = ORR__BODY_MAX;
        return m;
    }
    m = orr_calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    if (orr_buf_reserve(&m->body, ORR__BODY_FIRST) != ORR_OK) {
        orr_free(m);
        return NULL;
    }
    m->body.max = ORR__BODY_MAX;
    return m;
}

void orr__msg_free(orr_executor *ex, orr_msg *m)
{
    if (m == NULL)
        return;
    if (m->body.cap > ORR__BODY_KEEP || m->body.data == NULL) {
        orr_buf_free(&m->body);
        orr_free(m);
        return;
    }
    orr_buf_reset(&m->body);
    m->body.max = 0;
    m->next = ex->free_msgs;
    ex->free_msgs = m;
    if (++ex->free_count >= POOL_MAX)
        give_batch(ex);
}

/* Ends the executor's pool. */
void orr__msgs_release(orr_executor *ex)
{
    destroy_list(ex->free_msgs);
    ex->free_msgs = NULL;
    ex->free_count = 0;
}

/* Ends the depot; for the last executor. Thread: any. */
void orr__depot_clear(void)
{
    pthread_mutex_lock(&depot_lock);
    while (depot_len > 0)
        destroy_list(depot[--depot_len]);
    pthread_mutex_unlock(&depot_lock);
}

orr_msg *orr_executor_message(orr_executor *ex)
{
    return orr__msg_new(ex);
}

orr_buf *orr_msg_body(orr_msg *m)
{
    return &m->body;
}

void orr_executor_message_free(orr_executor *ex, orr_msg *m)
{
    orr__msg_free(ex, m);
}

/* Thread: any. */
bool orr__post(orr_executor *to, orr_msg *m)
{
    orr_msg *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do {
        if (head == ORR__INBOX_CLOSED)
            return false;
        m->next = head;
    } while (!atomic_compare_exchange_weak_explicit(
        &to->inbox, &head, m, memory_order_seq_cst, memory_order_relaxed));
    if (atomic_load_explicit(&to->sleeping, memory_order_seq_cst))
        orr_executor_wake(to);
    return true;
}
