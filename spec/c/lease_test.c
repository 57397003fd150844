/* The lease machine input by input: parameters, tokens, receivers, and what
 * each event does. Histories are in lease_check_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "orrery/lease.h"

enum { T_MS = 10000, TAKEN_MAX = 64 };
#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

typedef struct fixture {
    orr_lease *lease;
    orr_lease_now now;
    orr_lease_action taken[TAKEN_MAX]; /* by the last input, without timers */
    int count;
    uint64_t timer_ns;
} fixture;

static fixture f;
static orr_lease_record store; /* as the answers tell it */

static void take(void)
{
    orr_lease_action a;
    f.count = 0;
    while (orr_lease_next(f.lease, &a)) {
        if (a.kind == ORR_LEASE_TIMER) {
            f.timer_ns = a.at_ns;
            continue;
        }
        assert_true(f.count < TAKEN_MAX);
        f.taken[f.count++] = a;
    }
}

static const orr_lease_action *taken(int kind)
{
    for (int i = 0; i < f.count; i++) {
        if (f.taken[i].kind == kind)
            return &f.taken[i];
    }
    return NULL;
}

static const orr_lease_action *must(int kind)
{
    const orr_lease_action *a = taken(kind);
    if (!a)
        fail_msg("no action %d", kind);
    return a;
}

static int state_now(void)
{
    orr_lease_status s;
    orr_lease_get_status(f.lease, &s);
    return s.state;
}

static orr_lease_status status(void)
{
    orr_lease_status s;
    orr_lease_get_status(f.lease, &s);
    return s;
}

static void tick_at(uint64_t ns)
{
    f.now.mono_ns = ns;
    orr_lease_tick(f.lease, &f.now);
    take();
}

static void answer(uint64_t request, int outcome, int reason, int replicas)
{
    orr_lease_answer a = {.request = request,
                          .outcome = outcome,
                          .reason = reason,
                          .replicas = replicas,
                          .has_record = 1,
                          .record = store,
                          .epoch = store.token.epoch};
    orr_lease_answered(f.lease, &f.now, &a);
    take();
}

static orr_lease_options defaults(void)
{
    orr_lease_options o;
    orr_lease_options_init(&o, T_MS);
    o.seed = 7;
    o.jitter_percent = 0;
    o.incarnation[3] = 9;
    o.replicas = 1;
    return o;
}

static void begin(const orr_lease_options *o)
{
    orr_error err;
    memset(&f, 0, sizeof f);
    memset(&store, 0, sizeof store);
    store.store_id[0] = 1;
    f.lease = orr_lease_new(o, &err);
    assert_non_null(f.lease);
    f.now = (orr_lease_now){.mono_ns = SECOND, .wall_ms = 5000};
    orr_lease_start(f.lease, &f.now);
    orr_lease_link(f.lease, &f.now, 1);
    take();
}

static int teardown(void **state)
{
    (void)state;
    orr_lease_free(f.lease);
    f.lease = NULL;
    return orr_alloc_live() == 0 ? 0 : -1;
}

static void other_holds(uint64_t epoch, uint64_t seq)
{
    store.exists = store.held = 1;
    store.token = (orr_token){.epoch = epoch, .session = {0xee}};
    store.seq = seq;
    store.ttl_ms = T_MS;
}

/* The store carries an acquire out. */
static uint64_t acquired(uint64_t epoch)
{
    const orr_lease_action *a = must(ORR_LEASE_ACQUIRE);
    uint64_t request = a->request;
    store.exists = store.held = 1;
    store.token = a->token;
    store.token.epoch = epoch;
    store.seq = 1;
    store.ttl_ms = T_MS;
    return request;
}

/* From a free record to LEADING with that epoch; the deadline is 8 s on. */
static void lead(const orr_lease_options *o, uint64_t epoch)
{
    begin(o);
    other_holds(epoch - 1, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    answer(acquired(epoch), ORR_LEASE_APPLIED, 0, 1);
    assert_int_equal(state_now(), ORR_LEASE_READING);
    assert_null(taken(ORR_LEASE_GRANT));
    answer(must(ORR_LEASE_SNAPSHOT)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(state_now(), ORR_LEASE_LEADING);
    must(ORR_LEASE_GRANT);
    must(ORR_LEASE_PUBLISH);
}

static uint64_t renewal_at(uint64_t ns)
{
    tick_at(ns);
    return must(ORR_LEASE_RENEW)->request;
}

/* Parameters ---------------------------------------------------------------*/

static void refused(orr_lease_options o, const char *words)
{
    orr_error err = {0};
    assert_int_equal(orr_lease_options_check(&o, &err), ORR_EINVAL);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
    assert_null(orr_lease_new(&o, NULL));
}

static void parameters_that_break_a_rule_are_told(void **state)
{
    (void)state;
    static const uint32_t good[] = {100, 1000, 1500, 10000, 20000, 3600000};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        orr_lease_options o = defaults(), d;
        orr_lease_options_init(&d, good[i]);
        memcpy(d.incarnation, o.incarnation, 16);
        assert_int_equal(orr_lease_options_check(&d, NULL), ORR_OK);
    }
    orr_lease_options o = defaults();
    o.ttl_ms = 10;
    refused(o, "ttl_ms is 10; it may be 50 to");
    o = defaults();
    o.failover_ms = 3334;
    refused(o, "below 3 times the failover time of the store (3334 ms)");
    o.failover_ms = 3333;
    assert_int_equal(orr_lease_options_check(&o, NULL), ORR_OK);
    o = defaults();
    o.margin_ms = 1699;
    refused(o, "give at least 1700");
    o = defaults();
    o.renew_ms = 2667;
    refused(o, "give at most 2666");
    o = defaults();
    o.wait_ms = 1501;
    refused(o, "request_ms (1000) + wait_ms (1501) is above renew_ms");
    o = defaults();
    o.grace_ms = 9999;
    refused(o, "grace_ms is 9999");
    o = defaults();
    memset(o.incarnation, 0, 16);
    refused(o, "incarnation");
    o = defaults();
    o.floor = UINT64_C(1) << 53;
    refused(o, "floor");
}

static void every_state_and_reason_has_a_text(void **state)
{
    (void)state;
    assert_string_equal(orr_lease_state_name(ORR_LEASE_LEADING), "leading");
    for (int i = 0; i <= ORR_LEASE_RESIGNING; i++)
        assert_non_null(orr_lease_state_name(i));
    assert_null(orr_lease_state_name(ORR_LEASE_RESIGNING + 1));
    assert_null(orr_lease_state_name(-1));
    for (int i = 0; i <= ORR_LEASE_FLOOR_UNSAVED; i++)
        assert_string_not_equal(orr_lease_reason_text(i), "unknown");
    assert_string_equal(orr_lease_reason_text(99), "unknown");
}

/* Tokens -------------------------------------------------------------------*/

static void an_epoch_is_above_all_that_is_known(void **state)
{
    (void)state;
    assert_true(orr_epoch_next(6, 2, 3) == 7);
    assert_true(orr_epoch_next(2, 6, 3) == 7);
    assert_true(orr_epoch_next(2, 3, 99) == 99);
    assert_true(orr_epoch_next(0, 0, 0) == 1);
    assert_true(orr_epoch_next(ORR_EPOCH_MAX - 1, 0, 0) == ORR_EPOCH_MAX);
    assert_true(orr_epoch_next(ORR_EPOCH_MAX, 0, 0) == 0);
    assert_true(orr_epoch_next(0, 0, ORR_EPOCH_MAX + 1) == 0);
}

static void a_receiver_keeps_the_highest_token_of_each_name(void **state)
{
    (void)state;
    orr_receiver *r = orr_receiver_new(2);
    orr_token a = {.epoch = 5, .session = {1}},
              b = {.epoch = 5, .session = {2}};
    orr_token c = {.epoch = 4, .session = {1}},
              d = {.epoch = 6, .session = {2}};
    orr_token high, none = {.epoch = 0, .session = {1}};
    assert_int_equal(orr_receiver_highest(r, "x", &high), ORR_ENOENT);
    assert_int_equal(orr_receiver_check(r, "x", &a, NULL), ORR_VERDICT_ADOPTED);
    assert_int_equal(orr_receiver_check(r, "x", &a, NULL),
                     ORR_VERDICT_ACCEPTED);
    assert_int_equal(orr_receiver_check(r, "x", &b, &high),
                     ORR_VERDICT_CONFLICT);
    assert_true(orr_token_equal(&high, &a));
    assert_int_equal(orr_receiver_check(r, "x", &c, &high), ORR_VERDICT_STALE);
    assert_true(orr_token_equal(&high, &a));
    assert_int_equal(orr_receiver_check(r, "y", &c, NULL), ORR_VERDICT_ADOPTED);
    assert_int_equal(orr_receiver_check(r, "x", &d, NULL), ORR_VERDICT_ADOPTED);
    assert_int_equal(orr_receiver_check(r, "x", &a, NULL), ORR_VERDICT_STALE);
    assert_int_equal(orr_receiver_check(r, "z", &a, NULL), ORR_ENOSPC);
    assert_int_equal(orr_receiver_check(r, "x", &none, NULL), ORR_EINVAL);
    assert_int_equal(orr_receiver_check(r, "", &a, NULL), ORR_EINVAL);
    assert_int_equal(orr_receiver_forget(r, "y"), ORR_OK);
    assert_int_equal(orr_receiver_forget(r, "y"), ORR_ENOENT);
    assert_int_equal(orr_receiver_check(r, "z", &a, NULL), ORR_VERDICT_ADOPTED);
    orr_receiver_free(r);
    assert_null(orr_receiver_new(0));
}

/* Candidates ---------------------------------------------------------------*/

static void a_held_record_is_watched_for_a_whole_ttl(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds(70, 4);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    /* 10 s x 1.02 + slack 1 s after it was first seen, at 1 s. */
    uint64_t due = SECOND + 11200 * MS;
    for (uint64_t t = 2 * SECOND; t < due; t += SECOND) {
        tick_at(t);
        answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
        assert_null(taken(ORR_LEASE_ACQUIRE));
    }
    assert_true(f.timer_ns == due);
    tick_at(due - 1);
    assert_null(taken(ORR_LEASE_ACQUIRE));
    tick_at(due);
    const orr_lease_action *a = must(ORR_LEASE_ACQUIRE);
    assert_int_equal(a->observed_session[0], 0xee);
    assert_true(a->observed_seq == 4 && a->floor == 70 && a->wall_ms == 5000 &&
                a->ttl_ms == T_MS);
}

static void a_renewal_seen_starts_the_watch_again(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds(70, 4);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    tick_at(8 * SECOND);
    store.seq = 5;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    tick_at(13 * SECOND);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_null(taken(ORR_LEASE_ACQUIRE));
    tick_at(8 * SECOND + 11200 * MS);
    must(ORR_LEASE_ACQUIRE);
}

static void the_end_of_the_holder_is_contended_at_once(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds(70, 4);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    uint8_t stranger[16] = {0x11};
    orr_lease_hint(f.lease, &f.now, ORR_HINT_GONE, stranger);
    take();
    assert_null(taken(ORR_LEASE_ACQUIRE));
    orr_lease_hint(f.lease, &f.now, ORR_HINT_GONE, store.token.session);
    take();
    uint64_t request = must(ORR_LEASE_ACQUIRE)->request;
    /* It had renewed once more: contend with what is there now. */
    store.seq = 5;
    answer(request, ORR_LEASE_NOT_APPLIED, ORR_LEASE_BUSY, 0);
    assert_true(must(ORR_LEASE_ACQUIRE)->observed_seq == 5);
}

static void a_cold_store_waits_for_agreement_and_a_ttl(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    memset(&store, 0, sizeof store);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_STORE_COLD);
    tick_at(60 * SECOND);
    assert_null(taken(ORR_LEASE_FORMAT));
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_null(taken(ORR_LEASE_ALARM)); /* told once */
    orr_lease_agree(f.lease, &f.now);
    take();
    const orr_lease_action *a = must(ORR_LEASE_FORMAT);
    uint64_t read = must(ORR_LEASE_READ)->request;
    memcpy(store.store_id, a->op_id, 16);
    answer(a->request, ORR_LEASE_APPLIED, 0, 0);
    answer(read, ORR_LEASE_APPLIED, 0, 0);
    must(ORR_LEASE_ACQUIRE); /* empty for a TTL by now */
}

static void a_foreign_store_is_not_used(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    o.store_id[0] = 77;
    begin(&o);
    other_holds(70, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_STORE_FOREIGN);
    assert_null(taken(ORR_LEASE_ACQUIRE));
    orr_lease_agree(f.lease, &f.now);
    take();
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    must(ORR_LEASE_ACQUIRE);
}

static void an_insane_record_is_an_alarm(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds((UINT64_C(1) << 53) + 1, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_BAD_RECORD);
    assert_null(taken(ORR_LEASE_ACQUIRE));
}

static void a_grant_without_replicas_is_no_grant(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds(70, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    uint64_t request = acquired(71);
    answer(request, ORR_LEASE_APPLIED, 0, ORR_LEASE_AWAITED);
    assert_int_equal(state_now(), ORR_LEASE_CONFIRMING);
    orr_lease_durable(f.lease, &f.now, request, 0);
    take();
    assert_true(must(ORR_LEASE_RESIGN)->token.epoch == 71);
    assert_int_equal(state_now(), ORR_LEASE_CANDIDATE);
    assert_null(taken(ORR_LEASE_GRANT));
}

static void an_unknown_acquire_is_sent_again_as_it_was(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    begin(&o);
    other_holds(70, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    orr_lease_action first = *must(ORR_LEASE_ACQUIRE);
    tick_at(2 * SECOND); /* the answer was due */
    assert_int_equal(must(ORR_LEASE_RECONNECT)->reason, ORR_LEASE_TIMEOUT);
    f.now.mono_ns = 4 * SECOND;
    orr_lease_link(f.lease, &f.now, 1);
    take();
    const orr_lease_action *again = must(ORR_LEASE_ACQUIRE);
    assert_memory_equal(again->token.session, first.token.session, 16);
    assert_true(again->observed_seq == 4 && again->request != first.request);
    answer(acquired(71), ORR_LEASE_APPLIED, 0, 1);
    answer(must(ORR_LEASE_SNAPSHOT)->request, ORR_LEASE_APPLIED, 0, 0);
    /* Counted from the first sending, at 1 s. */
    assert_true(status().deadline_ns == 9 * SECOND);
}

static void a_grant_waits_for_the_floor_to_be_saved(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    o.save_floor = 1;
    begin(&o);
    other_holds(70, 4);
    store.held = 0;
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    answer(acquired(71), ORR_LEASE_APPLIED, 0, 1);
    assert_true(must(ORR_LEASE_SAVE_FLOOR)->floor == 71);
    answer(must(ORR_LEASE_SNAPSHOT)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_null(taken(ORR_LEASE_GRANT));
    orr_lease_floor_saved(f.lease, &f.now, 71, ORR_EIO);
    take();
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_FLOOR_UNSAVED);
    must(ORR_LEASE_GRANT);
}

/* Leaders ------------------------------------------------------------------*/

static void a_renewal_counts_from_when_it_was_sent(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    assert_true(status().deadline_ns == 9 * SECOND);
    uint64_t request = renewal_at(3500 * MS);
    f.now.mono_ns = 4 * SECOND;
    answer(request, ORR_LEASE_APPLIED, 0, ORR_LEASE_AWAITED);
    assert_true(status().deadline_ns == 9 * SECOND);
    orr_lease_durable(f.lease, &f.now, request, 1);
    take();
    assert_true(status().deadline_ns == 11500 * MS);
    assert_true(orr_lease_may_act(f.lease, 11500 * MS - 1, NULL));
    assert_false(orr_lease_may_act(f.lease, 11500 * MS, NULL));
}

static void a_lost_connection_suspends_at_the_deadline_only(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    f.now.mono_ns = 2 * SECOND;
    orr_lease_link(f.lease, &f.now, 0);
    take();
    assert_int_equal(state_now(), ORR_LEASE_LEADING);
    tick_at(9 * SECOND);
    assert_int_equal(must(ORR_LEASE_SUSPEND)->reason, ORR_LEASE_DEADLINE);
    f.now.mono_ns = 12 * SECOND;
    orr_lease_link(f.lease, &f.now, 1);
    take();
    answer(must(ORR_LEASE_RENEW)->request, ORR_LEASE_APPLIED, 0, 1);
    /* The failover kept the record: the same token goes on. */
    assert_true(must(ORR_LEASE_RESUME)->token.epoch == 71);
    assert_int_equal(state_now(), ORR_LEASE_LEADING);
}

static void a_deposed_primary_renews_nothing(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    answer(renewal_at(3500 * MS), ORR_LEASE_APPLIED, 0, 0);
    assert_true(status().deadline_ns == 9 * SECOND);
    answer(renewal_at(4500 * MS), ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(must(ORR_LEASE_RECONNECT)->reason, ORR_LEASE_NOT_DURABLE);
    assert_true(status().deadline_ns == 9 * SECOND);
}

static void a_lost_lease_is_revoked_and_released_before_another(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    uint64_t request = renewal_at(3500 * MS);
    other_holds(80, 1);
    store.held = 0;
    answer(request, ORR_LEASE_NOT_APPLIED, ORR_LEASE_LOST, 0);
    assert_int_equal(must(ORR_LEASE_REVOKE)->reason, ORR_LEASE_LOST);
    assert_int_equal(state_now(), ORR_LEASE_REVOKED);
    assert_true(status().floor == 80);
    assert_false(orr_lease_may_act(f.lease, f.now.mono_ns, NULL));
    tick_at(30 * SECOND);
    assert_null(taken(ORR_LEASE_ACQUIRE));
    orr_lease_released(f.lease, &f.now);
    take();
    must(ORR_LEASE_ACQUIRE);
}

static void a_pause_past_the_deadline_suspends_first(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    uint64_t request = renewal_at(3500 * MS);
    /* Stopped; the answer was there all along and is read 16 s later. */
    f.now.mono_ns = 20 * SECOND;
    answer(request, ORR_LEASE_APPLIED, 0, 1);
    must(ORR_LEASE_SUSPEND);
    assert_null(taken(ORR_LEASE_RESUME));
    assert_true(status().late_answers == 1);
    assert_int_equal(state_now(), ORR_LEASE_SUSPENDED);
}

static void suspended_for_too_long_is_revoked(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_lease_link(f.lease, &f.now, 0);
    tick_at(59 * SECOND - 1);
    assert_int_equal(state_now(), ORR_LEASE_SUSPENDED);
    tick_at(59 * SECOND);
    assert_int_equal(must(ORR_LEASE_REVOKE)->reason, ORR_LEASE_GRACE);
}

static void an_older_store_is_led_again_above_and_repaired(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    uint64_t request = renewal_at(3500 * MS);
    other_holds(50, 9);
    answer(request, ORR_LEASE_NOT_APPLIED, ORR_LEASE_LOST, 0);
    must(ORR_LEASE_SUSPEND);
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_STORE_REGRESSED);
    assert_null(taken(ORR_LEASE_REVOKE));
    assert_true(must(ORR_LEASE_ACQUIRE)->floor == 71);
    answer(acquired(72), ORR_LEASE_APPLIED, 0, 1);
    uint64_t repair = must(ORR_LEASE_REPAIR)->request;
    assert_null(taken(ORR_LEASE_REVOKE));
    answer(repair, ORR_LEASE_APPLIED, 0, 0);
    assert_int_equal(must(ORR_LEASE_REVOKE)->reason, ORR_LEASE_REPLACED);
    assert_null(taken(ORR_LEASE_GRANT));
    orr_lease_released(f.lease, &f.now);
    take();
    assert_true(must(ORR_LEASE_GRANT)->token.epoch == 72);
}

static void a_store_that_forgot_renewals_is_repaired(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    store.seq = 1;
    answer(renewal_at(3500 * MS), ORR_LEASE_APPLIED, 0, 1);
    store.seq = 1; /* 2 was confirmed */
    answer(renewal_at(6 * SECOND), ORR_LEASE_APPLIED, 0, 1);
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_STORE_REGRESSED);
    must(ORR_LEASE_SUSPEND);
    answer(must(ORR_LEASE_REPAIR)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_true(must(ORR_LEASE_RESUME)->token.epoch == 71);
}

static void a_receiver_that_knows_more_is_outranked(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_token mine = status().token;
    orr_token high = {.epoch = 71, .session = {0xdd}};
    orr_lease_rejected(f.lease, &f.now, ORR_VERDICT_CONFLICT, &mine, &high);
    take();
    answer(must(ORR_LEASE_RENEW)->request, ORR_LEASE_APPLIED, 0, 1);
    must(ORR_LEASE_SUSPEND);
    const orr_lease_action *a = must(ORR_LEASE_ACQUIRE);
    assert_true(a->floor == 71 && a->observed_seq == 2);
    assert_memory_equal(a->observed_session, mine.session, 16);
}

static void a_late_rejection_raises_the_floor_only(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_token old = {.epoch = 60, .session = {1}};
    orr_token high = {.epoch = 65, .session = {2}};
    orr_lease_rejected(f.lease, &f.now, ORR_VERDICT_STALE, &old, &high);
    take();
    assert_int_equal(f.count, 0);
    high.epoch = UINT64_C(1) << 53; /* a lie would use the epochs up */
    orr_lease_rejected(f.lease, &f.now, ORR_VERDICT_STALE, &old, &high);
    take();
    assert_int_equal(must(ORR_LEASE_ALARM)->reason, ORR_LEASE_BAD_RECORD);
    assert_true(status().floor == 71);
}

static void a_store_that_fails_its_checks_suspends(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_lease_set_fit(f.lease, &f.now, 0);
    take();
    assert_int_equal(must(ORR_LEASE_SUSPEND)->reason, ORR_LEASE_UNFIT);
    orr_lease_set_fit(f.lease, &f.now, 1);
    take();
    must(ORR_LEASE_RESUME);
}

static void a_hand_over_lets_go_first_and_others_before(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_lease_handover(f.lease, &f.now);
    take();
    assert_int_equal(must(ORR_LEASE_REVOKE)->reason, ORR_LEASE_HANDOVER);
    assert_null(taken(ORR_LEASE_RESIGN));
    orr_lease_released(f.lease, &f.now);
    take();
    uint64_t request = must(ORR_LEASE_RESIGN)->request;
    store.held = 0;
    answer(request, ORR_LEASE_APPLIED, 0, 1);
    must(ORR_LEASE_PUBLISH);
    answer(must(ORR_LEASE_READ)->request, ORR_LEASE_APPLIED, 0, 0);
    assert_null(taken(ORR_LEASE_ACQUIRE));
    tick_at(11 * SECOND);
    must(ORR_LEASE_ACQUIRE);
}

static void a_stop_resigns_and_ends(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    lead(&o, 71);
    orr_lease_stop(f.lease, &f.now);
    orr_lease_released(f.lease, &f.now);
    take();
    assert_int_equal(must(ORR_LEASE_REVOKE)->reason, ORR_LEASE_STOP);
    answer(must(ORR_LEASE_RESIGN)->request, ORR_LEASE_APPLIED, 0, 1);
    must(ORR_LEASE_ENDED);
    assert_int_equal(state_now(), ORR_LEASE_STOPPED);
}

/* Writes and seats ---------------------------------------------------------*/

static void an_unknown_write_keeps_its_id_until_it_is_known(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    uint32_t write;
    lead(&o, 71);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 42, 0, &write), ORR_OK);
    take();
    orr_lease_action first = *must(ORR_LEASE_WRITE);
    assert_true(first.user == 42 && first.index == write);
    answer(first.request, ORR_LEASE_APPLIED, 0, 0); /* too few replicas */
    assert_null(taken(ORR_LEASE_WRITTEN));
    tick_at(2 * SECOND);
    orr_lease_action again = *must(ORR_LEASE_WRITE);
    assert_memory_equal(again.op_id, first.op_id, 16);
    /* The connection ends: not before the lease is valid again. */
    orr_lease_link(f.lease, &f.now, 0);
    orr_lease_link(f.lease, &f.now, 1);
    take();
    assert_null(taken(ORR_LEASE_WRITE));
    answer(must(ORR_LEASE_RENEW)->request, ORR_LEASE_APPLIED, 0, 1);
    tick_at(3 * SECOND);
    const orr_lease_action *third = must(ORR_LEASE_WRITE);
    assert_memory_equal(third->op_id, first.op_id, 16);
    answer(third->request, ORR_LEASE_APPLIED, 0, 1);
    assert_int_equal(must(ORR_LEASE_WRITTEN)->result, ORR_WRITE_CONFIRMED);
}

static int result_of(int reason, int after_unknown)
{
    orr_lease_options o = defaults();
    uint32_t write;
    lead(&o, 71);
    orr_lease_write(f.lease, &f.now, 1, 0, &write);
    take();
    if (after_unknown) {
        answer(must(ORR_LEASE_WRITE)->request, ORR_LEASE_APPLIED, 0, 0);
        tick_at(2 * SECOND);
    }
    uint64_t request = must(ORR_LEASE_WRITE)->request;
    other_holds(90, 1);
    answer(request, ORR_LEASE_NOT_APPLIED, reason, 0);
    const orr_lease_action *a = must(ORR_LEASE_WRITTEN);
    assert_int_equal(a->reason, reason);
    if (reason == ORR_LEASE_LOST)
        must(ORR_LEASE_REVOKE);
    orr_lease_free(f.lease);
    f.lease = NULL;
    return a->result;
}

static void a_refusal_after_an_unknown_attempt_is_unknown(void **state)
{
    (void)state;
    static const int reasons[] = {ORR_LEASE_LOST, ORR_LEASE_CONFLICT,
                                  ORR_LEASE_REFUSED};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(result_of(reasons[i], 0), ORR_WRITE_NOT_APPLIED);
        assert_int_equal(result_of(reasons[i], 1), ORR_WRITE_UNKNOWN);
    }
}

static void writes_are_bounded_and_end_with_their_deadline(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    o.writes_max = 2;
    uint32_t write;
    begin(&o);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 1, 0, &write),
                     ORR_FENCED);
    orr_lease_free(f.lease);
    lead(&o, 71);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 1, 1500 * MS, &write),
                     ORR_OK);
    take();
    /* Sent and unanswered; and one that the lost link keeps from going out. */
    orr_lease_link(f.lease, &f.now, 0);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 2, 1500 * MS, &write),
                     ORR_OK);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 3, 0, &write),
                     ORR_OVERLOADED);
    take();
    tick_at(1500 * MS);
    assert_int_equal(f.count, 2);
    for (int i = 0; i < 2; i++) {
        const orr_lease_action *a = &f.taken[i];
        assert_int_equal(a->kind, ORR_LEASE_WRITTEN);
        assert_int_equal(a->reason, ORR_LEASE_EXPIRED);
        assert_int_equal(a->result, a->user == 1 ? ORR_WRITE_UNKNOWN
                                                 : ORR_WRITE_NOT_APPLIED);
    }
    tick_at(9 * SECOND);
    assert_int_equal(orr_lease_write(f.lease, &f.now, 4, 0, &write),
                     ORR_EAGAIN);
}

static void renewing_costs_the_same_for_a_thousand_seats(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    o.seats_max = 1000;
    lead(&o, 71);
    uint32_t seat;
    char name[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "job-%d", i);
        assert_int_equal(
            orr_lease_seat_set(f.lease, &f.now, name, "here:1", &seat), ORR_OK);
    }
    assert_int_equal(orr_lease_seat_set(f.lease, &f.now, "x", "y", &seat),
                     ORR_ENOSPC);
    int written = 0;
    for (take(); f.count > 0;) {
        fixture now = f;
        assert_true(now.count <= 32);
        for (int i = 0; i < now.count; i++) {
            assert_int_equal(now.taken[i].kind, ORR_LEASE_CONFIRM);
            orr_lease_answer a = {.request = now.taken[i].request,
                                  .replicas = 1};
            orr_lease_answered(f.lease, &f.now, &a);
            written++;
        }
        take();
    }
    assert_int_equal(written, 1000);
    assert_true(orr_lease_seat_is_confirmed(f.lease, 0));
    uint64_t before = orr_alloc_count();
    renewal_at(3500 * MS);
    assert_int_equal(f.count, 1);
    assert_true(orr_alloc_count() == before);
}

static void a_seat_changes_and_goes(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    uint32_t seat, same;
    lead(&o, 71);
    orr_lease_seat_set(f.lease, &f.now, "rest", "a:1", &seat);
    take();
    uint64_t first = must(ORR_LEASE_CONFIRM)->request;
    /* Changed while it is written: once more, after it. */
    orr_lease_seat_set(f.lease, &f.now, "rest", "a:2", &same);
    take();
    assert_int_equal(seat, same);
    assert_null(taken(ORR_LEASE_CONFIRM));
    answer(first, ORR_LEASE_APPLIED, 0, 1);
    assert_false(orr_lease_seat_is_confirmed(f.lease, seat));
    answer(must(ORR_LEASE_CONFIRM)->request, ORR_LEASE_APPLIED, 0, 1);
    assert_true(orr_lease_seat_is_confirmed(f.lease, seat));
    assert_string_equal(orr_lease_seat_address(f.lease, seat), "a:2");
    assert_int_equal(orr_lease_seat_drop(f.lease, &f.now, seat), ORR_OK);
    take();
    assert_null(orr_lease_seat_address(f.lease, seat));
    answer(must(ORR_LEASE_CONFIRM)->request, ORR_LEASE_APPLIED, 0, 1);
    assert_null(orr_lease_seat_name(f.lease, seat));
    assert_int_equal(orr_lease_seat_drop(f.lease, &f.now, seat), ORR_ENOENT);
    assert_int_equal(orr_lease_seat_set(f.lease, &f.now, "", "a", &seat),
                     ORR_EINVAL);
}

static void every_failing_allocation_leaves_nothing(void **state)
{
    (void)state;
    orr_lease_options o = defaults();
    for (uint64_t n = 1; n < 20; n++) {
        uint64_t live = orr_alloc_live();
        orr_alloc_fail_at(n);
        orr_error err = {0};
        orr_lease *l = orr_lease_new(&o, &err);
        orr_alloc_fail_at(0);
        if (l) {
            orr_lease_free(l);
            assert_true(n > 3);
            return;
        }
        assert_int_equal(err.code, ORR_ENOMEM);
        assert_true(orr_alloc_live() == live);
    }
    fail_msg("new never succeeded");
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(parameters_that_break_a_rule_are_told),
        TEST(every_state_and_reason_has_a_text),
        TEST(an_epoch_is_above_all_that_is_known),
        TEST(a_receiver_keeps_the_highest_token_of_each_name),
        TEST(a_held_record_is_watched_for_a_whole_ttl),
        TEST(a_renewal_seen_starts_the_watch_again),
        TEST(the_end_of_the_holder_is_contended_at_once),
        TEST(a_cold_store_waits_for_agreement_and_a_ttl),
        TEST(a_foreign_store_is_not_used),
        TEST(an_insane_record_is_an_alarm),
        TEST(a_grant_without_replicas_is_no_grant),
        TEST(an_unknown_acquire_is_sent_again_as_it_was),
        TEST(a_grant_waits_for_the_floor_to_be_saved),
        TEST(a_renewal_counts_from_when_it_was_sent),
        TEST(a_lost_connection_suspends_at_the_deadline_only),
        TEST(a_deposed_primary_renews_nothing),
        TEST(a_lost_lease_is_revoked_and_released_before_another),
        TEST(a_pause_past_the_deadline_suspends_first),
        TEST(suspended_for_too_long_is_revoked),
        TEST(an_older_store_is_led_again_above_and_repaired),
        TEST(a_store_that_forgot_renewals_is_repaired),
        TEST(a_receiver_that_knows_more_is_outranked),
        TEST(a_late_rejection_raises_the_floor_only),
        TEST(a_store_that_fails_its_checks_suspends),
        TEST(a_hand_over_lets_go_first_and_others_before),
        TEST(a_stop_resigns_and_ends),
        TEST(an_unknown_write_keeps_its_id_until_it_is_known),
        TEST(a_refusal_after_an_unknown_attempt_is_unknown),
        TEST(writes_are_bounded_and_end_with_their_deadline),
        TEST(renewing_costs_the_same_for_a_thousand_seats),
        TEST(a_seat_changes_and_goes),
        TEST(every_failing_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
