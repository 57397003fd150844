/* Simulated clusters: services that talk over the simulated network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net_fixture.h"
#include "orrery/sim.h"

enum { PARTIES_MAX = 6 };
static const uint64_t ms = 1000000u;

typedef struct world {
    orr_sim *sim;
    party parties[PARTIES_MAX]; /* by executor index */
    int count;
    uint32_t nodes[PARTIES_MAX];
    orr_net_options options;
} world;

static party *add(world *w, const char *name, int listens)
{
    party *p = &w->parties[w->count];
    orr_error err = {0};
    char address[80];

    snprintf(address, sizeof address, "%s:0", name);
    assert_int_equal(orr_sim_node(w->sim, name, &w->nodes[w->count]), ORR_OK);
    p->ex = orr_sim_executor(w->sim, w->nodes[w->count], 1, &err);
    assert_non_null(p->ex);
    p->service = orr_service_new(name, "alpha", 1);
    p->net = orr_sim_net(w->sim, p->ex, p->service, &w->options, &err);
    assert_non_null(p->net);
    if (listens)
        assert_int_equal(orr_net_listen(p->net, address, p->address,
                                        sizeof p->address, &err),
                         ORR_OK);
    party_serve(p);
    w->count++;
    return p;
}

static world *world_new(uint64_t seed)
{
    world *w = calloc(1, sizeof *w);

    orr_log_set_level(ORR_LOG_OFF);
    w->sim = orr_sim_new(seed);
    w->options.keepalive_ns = 1000 * ms;
    w->options.connect_timeout_ns = 500 * ms;
    assert_non_null(w->sim);
    return w;
}

static void world_free(world *w)
{
    orr_sim_free(w->sim);
    for (int i = 0; i < w->count; i++) {
        orr_net_free(w->parties[i].net);
        orr_service_free(w->parties[i].service);
    }
    free(w);
}

static int setup(void **state)
{
    world *w = world_new(42);

    add(w, "a", 1);
    add(w, "b", 1);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_free(*state);
    return 0;
}

static void run_until(world *w, uint64_t until)
{
    orr_sim_event e;
    int rc;

    while ((rc = orr_sim_step(w->sim, until, &e)) == 1) {
        party *p = &w->parties[e.index];
        assert_ptr_equal(p->ex, e.executor);
        assert_int_equal(e.node, w->nodes[e.index]);
        party_drain(p);
    }
    assert_int_equal(rc, 0);
}

static void run_for(world *w, uint64_t ns)
{
    run_until(w, orr_sim_now_ns(w->sim) + ns);
}

/* Connects x to y and gives the target. */
static uint32_t joined(world *w, party *x, const party *y)
{
    int before = x->replies;

    party_connect(x, y->address, 0);
    for (int i = 0; i < 100 && x->replies == before; i++)
        run_for(w, 10 * ms);
    assert_int_equal(x->replies, before + 1);
    assert_int_equal(party_last(x)->status, ORR_OK);
    return party_last(x)->target;
}

static void a_call_takes_simulated_time(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);
    uint64_t begin = orr_sim_now_ns(w->sim), took;

    assert_string_equal(b->address, "b:1");
    assert_int_equal(party_ask(a, target, "hello", 5, 0), ORR_OK);
    run_for(w, 100 * ms);
    assert_int_equal(b->calls, 1);
    assert_reply(a, ORR_OK, "");
    assert_int_equal(party_last(a)->size, 5);
    took = party_last(a)->at_ns - begin;
    assert_true(took >= 2 * ms && took <= 60 * ms);
    assert_int_equal(orr_sim_wall_ms(w->sim),
                     1577836800000u +
                         (orr_sim_now_ns(w->sim) - 1000 * ms) / ms);
}

static void large_bodies_come_in_parts_and_whole(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b), crc;
    size_t size = 3 << 20;
    uint8_t *body = malloc(size);
    orr_net_info info;

    for (size_t i = 0; i < size; i++)
        body[i] = (uint8_t)(i * 31 >> 3);
    crc = orr_crc32c(0, body, size);
    assert_int_equal(party_ask(a, target, body, size, 0), ORR_OK);
    assert_int_equal(party_ask(a, target, "after", 5, 0), ORR_OK);
    run_for(w, 2000 * ms);
    assert_int_equal(b->calls, 2);
    assert_int_equal(a->replies, 3);
    assert_int_equal(a->reply[1].size, 5); /* answers pass each other */
    assert_int_equal(a->reply[2].size, size);
    assert_int_equal(a->reply[2].crc, crc);
    orr_net_info_get(b->net, &info);
    assert_int_equal(info.protocol_errors, 0);
    assert_true(info.bytes_in > size && info.bytes_out > size);
    free(body);
}

static void nobody_there_is_told(void **state)
{
    world *w = *state;
    party *a = &w->parties[0];

    party_connect(a, "b:99", 0);
    run_for(w, 100 * ms);
    assert_reply(a, ORR_UNREACHABLE,
                 "cannot connect to b:99: connection refused");
    party_connect(a, "z:1", 0);
    run_for(w, 100 * ms);
    assert_reply(a, ORR_UNREACHABLE, "no node \"z\"");
    party_connect(a, "b", 0);
    run_for(w, 100 * ms);
    assert_reply(a, ORR_UNREACHABLE, "host:port");
}

static void connecting_over_a_cut_takes_until_the_timeout(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint64_t begin = orr_sim_now_ns(w->sim);

    assert_int_equal(orr_sim_partition(w->sim, 0, 1, 1), ORR_OK);
    party_connect(a, b->address, 0);
    run_for(w, 499 * ms);
    assert_int_equal(a->replies, 0);
    run_for(w, 2 * ms);
    assert_reply(a, ORR_UNREACHABLE, "no answer within 500 ms");
    assert_int_equal(party_last(a)->at_ns, begin + 500 * ms);
    assert_int_equal(orr_sim_connections(w->sim), 0);
}

static void what_was_sent_over_a_cut_arrives_after_it(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);

    orr_sim_partition(w->sim, 0, 1, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(party_ask(a, target, "xyz", (size_t)i + 1, 0), ORR_OK);
    run_for(w, 500 * ms);
    assert_int_equal(b->calls, 0);
    orr_sim_heal(w->sim);
    run_for(w, 100 * ms);
    assert_int_equal(b->calls, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(a->reply[1 + i].size, i + 1);
}

static void a_long_cut_ends_the_connection_at_both_ends(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);
    orr_net_info info;

    orr_sim_partition(w->sim, 0, 1, 1);
    party_ask(a, target, "x", 1, 0);
    run_for(w, 3500 * ms);
    assert_reply(a, ORR_UNREACHABLE, "no sign of life from b:1 for 3000 ms");
    orr_net_info_get(b->net, &info);
    assert_int_equal(info.connections, 0);
    orr_sim_heal(w->sim);
    run_for(w, 100 * ms);
    assert_int_equal(b->calls, 0);
    assert_int_equal(orr_sim_connections(w->sim), 0);
    /* The same target dials again. */
    party_ask(a, target, "again", 5, 0);
    run_for(w, 100 * ms);
    assert_reply(a, ORR_OK, "");
    assert_int_equal(b->calls, 1);
}

static void a_cut_one_way_lets_the_other_through(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);
    int before = a->replies;

    assert_int_equal(orr_sim_cut(w->sim, 1, 0, 1), ORR_OK);
    party_ask(a, target, "x", 1, 0);
    run_for(w, 500 * ms);
    assert_int_equal(b->calls, 1);
    assert_int_equal(a->replies, before);
    assert_int_equal(orr_sim_cut(w->sim, 1, 0, 0), ORR_OK);
    run_for(w, 50 * ms);
    assert_int_equal(a->replies, before + 1);
}

static void a_reset_fails_what_waits_at_once(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);

    b->silent = 1;
    party_ask(a, target, "x", 1, 0);
    run_for(w, 50 * ms);
    assert_int_equal(b->calls, 1);
    assert_int_equal(orr_sim_reset_connections(w->sim, 0, 1), 1);
    run_for(w, 0);
    assert_reply(a, ORR_UNREACHABLE, "connection reset by peer");
    assert_int_equal(orr_sim_connections(w->sim), 0);
    assert_int_equal(orr_sim_reset_connections(w->sim, 0, 1), 0);
}

static void a_crash_is_seen_and_a_restart_serves_again(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1], *c;
    uint32_t target = joined(w, a, b);
    orr_error err;

    b->silent = 1;
    party_ask(a, target, "x", 1, 0);
    run_for(w, 50 * ms);
    assert_int_equal(orr_sim_crash(w->sim, 1), ORR_OK);
    assert_int_equal(orr_sim_crash(w->sim, 1), ORR_EAGAIN);
    run_for(w, 50 * ms);
    assert_reply(a, ORR_UNREACHABLE, "connection reset");
    party_ask(a, target, "x", 1, 0);
    run_for(w, 50 * ms);
    assert_reply(a, ORR_UNREACHABLE, "connection refused");
    assert_null(orr_sim_executor(w->sim, 1, 1, &err));
    assert_int_equal(err.code, ORR_ECLOSED);
    assert_null(orr_sim_net(w->sim, b->ex, a->service, NULL, &err));
    assert_int_equal(orr_sim_restart(w->sim, 1), ORR_OK);
    c = add(w, "b", 0);
    assert_int_equal(
        orr_net_listen(c->net, "b:1", c->address, sizeof c->address, &err),
        ORR_OK);
    run_for(w, 5000 * ms);
    assert_int_equal(b->calls, 1); /* the dead never turned again */
    assert_int_equal(joined(w, a, c) != 0, 1);
}

static void closing_says_goodbye_and_why(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);

    b->silent = 1;
    party_ask(a, target, "x", 1, 0);
    run_for(w, 50 * ms);
    orr_net_close(b->net, "maintenance");
    run_for(w, 50 * ms);
    assert_reply(a, ORR_UNREACHABLE, "b:1 said goodbye: maintenance");
    assert_int_equal(orr_sim_connections(w->sim), 0);
    assert_int_equal(orr_net_listen(b->net, "b:5", NULL, 0, NULL), ORR_ECLOSED);
}

static void another_cluster_is_refused(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *c = &w->parties[w->count];
    orr_error err;

    assert_int_equal(orr_sim_node(w->sim, "c", &w->nodes[w->count]), ORR_OK);
    c->ex = orr_sim_executor(w->sim, w->nodes[w->count], 1, &err);
    c->service = orr_service_new("c", "beta", 1);
    c->net = orr_sim_net(w->sim, c->ex, c->service, NULL, &err);
    w->count++;
    party_serve(c);
    party_connect(c, a->address, 0);
    run_for(w, 100 * ms);
    assert_reply(c, ORR_VERSION_MISMATCH,
                 "its cluster id is alpha, ours is beta");
}

static void listening_twice_is_refused(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *c = add(w, "a", 0);
    orr_error err;

    assert_int_equal(orr_net_listen(c->net, a->address, NULL, 0, &err),
                     ORR_EADDRINUSE);
    assert_string_equal(err.text,
                        "cannot listen on a:1: address already in use");
    assert_int_equal(orr_net_listen(a->net, "a:7", NULL, 0, &err), ORR_EEXIST);
    assert_int_equal(orr_net_listen(c->net, "b:7", NULL, 0, &err), ORR_EIO);
    assert_int_equal(orr_net_listen(c->net, "a:99999", NULL, 0, &err),
                     ORR_EINVAL);
    assert_null(orr_sim_net(w->sim, a->ex, a->service, NULL, &err));
    assert_int_equal(err.code, ORR_EEXIST);
}

static void too_many_connections_are_refused_and_counted(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *c, *d;
    orr_net_info info;

    w->options.connections_max = 1;
    c = add(w, "c", 1);
    w->options.connections_max = 0;
    d = add(w, "d", 0);
    joined(w, a, c);
    party_connect(d, c->address, 0);
    run_for(w, 100 * ms);
    assert_reply(d, ORR_UNREACHABLE, "connection reset by peer during");
    orr_net_info_get(c->net, &info);
    assert_int_equal(info.refused, 1);
    assert_int_equal(info.accepted, 1);
    assert_int_equal(info.connections, 1);
}

static void deadlines_are_met_to_the_nanosecond(void **state)
{
    world *w = *state;
    party *a = &w->parties[0], *b = &w->parties[1];
    uint32_t target = joined(w, a, b);
    uint64_t begin = orr_sim_now_ns(w->sim);

    b->silent = 1;
    party_ask(a, target, "x", 1, 77 * ms + 7);
    run_for(w, 1000 * ms);
    assert_reply(a, ORR_EXPIRED_IN_HANDLER, "");
    assert_true(party_last(a)->at_ns >= begin + 77 * ms + 7);
    assert_true(party_last(a)->at_ns <= begin + 77 * ms + 11 * ms);
}

static void nothing_to_do_means_no_events(void **state)
{
    world *w = *state;
    uint64_t events;

    run_for(w, 10 * ms);
    events = orr_sim_events(w->sim);
    run_for(w, 3600000 * ms);
    assert_int_equal(orr_sim_events(w->sim), events);
    assert_int_equal(orr_sim_next_ns(w->sim), UINT64_MAX);
}

/* --- replay --------------------------------------------------------------- */

/* Three parties call each other while chance cuts, heals and resets. */
static uint64_t history(uint64_t seed, int *replies)
{
    world *w = world_new(seed);
    orr_chance *chance = orr_sim_chance(w->sim);
    uint32_t targets[3];
    uint64_t hash;

    for (int i = 0; i < 3; i++)
        add(w, (const char *[]){"a", "b", "c"}[i], 1);
    for (int i = 0; i < 3; i++)
        targets[i] = joined(w, &w->parties[i], &w->parties[(i + 1) % 3]);
    for (int i = 0; i < 200; i++) {
        uint32_t x = (uint32_t)orr_chance_below(chance, 3);
        uint32_t y = (x + 1) % 3;
        char body[300] = {0};

        party_ask(&w->parties[x], targets[x], body,
                  orr_chance_below(chance, sizeof body), 300 * ms);
        switch (orr_chance_below(chance, 12)) {
        case 0: orr_sim_cut(w->sim, x, y, 1); break;
        case 1: orr_sim_reset_connections(w->sim, x, y); break;
        case 2:
        case 3: orr_sim_heal(w->sim); break;
        default: break;
        }
        run_for(w, orr_chance_below(chance, 40 * ms));
    }
    orr_sim_heal(w->sim);
    run_for(w, 20000 * ms);
    *replies = 0;
    for (int i = 0; i < 3; i++)
        *replies += w->parties[i].replies;
    hash = orr_sim_trace_hash(w->sim);
    world_free(w);
    return hash;
}

static void one_seed_is_one_history(void **state)
{
    int replies, again;
    uint64_t first, noise;
    void *block;

    (void)state;
    first = history(7, &replies);
    assert_int_equal(replies, 203); /* every call ends exactly once */
    block = malloc(12345);          /* other addresses, the same history */
    noise = history(8, &again);
    assert_int_equal(again, 203);
    assert_true(noise != first);
    assert_int_equal(history(7, &again), first);
    free(block);
    printf("# trace hash of seed 7: %016llx\n", (unsigned long long)first);
}

static void many_seeds_end_every_call_once(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 140; seed++) {
        int replies;

        history(seed, &replies);
        if (replies != 203)
            fail_msg("seed %llu: %d replies, not 203", (unsigned long long)seed,
                     replies);
    }
}

static void notes_are_part_of_the_trace(void **state)
{
    world *w = *state;
    uint64_t before = orr_sim_trace_hash(w->sim);

    orr_sim_trace_note(w->sim, "x", 1);
    assert_true(orr_sim_trace_hash(w->sim) != before);
}

static void bad_arguments_are_refused(void **state)
{
    world *w = *state;
    uint32_t node;
    orr_error err;
    char name[16];

    assert_int_equal(orr_sim_node(w->sim, "", &node), ORR_EINVAL);
    assert_int_equal(orr_sim_node(w->sim, "a b", &node), ORR_EINVAL);
    assert_int_equal(orr_sim_partition(w->sim, 0, 9, 1), ORR_EINVAL);
    assert_int_equal(orr_sim_partition(w->sim, 0, 0, 1), ORR_EINVAL);
    assert_int_equal(orr_sim_crash(w->sim, 9), ORR_EINVAL);
    assert_int_equal(orr_sim_restart(w->sim, 0), ORR_EAGAIN);
    assert_int_equal(orr_sim_set_latency(w->sim, 2, 1), ORR_EINVAL);
    assert_null(orr_sim_executor(w->sim, 9, 0, &err));
    assert_int_equal(orr_sim_executor_free(w->sim, NULL), ORR_ENOENT);
    for (int i = 2; i < ORR_SIM_NODES_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(orr_sim_node(w->sim, name, &node), ORR_OK);
    }
    assert_int_equal(orr_sim_node(w->sim, "more", &node), ORR_ENOSPC);
}

/* A call between two nodes while the n-th allocation fails; answers 1 when it
 * went well. */
static int small_life(uint64_t n)
{
    orr_sim *sim;
    orr_executor *ex[2] = {NULL, NULL};
    orr_service *services[2] = {NULL, NULL};
    orr_net *nets[2] = {NULL, NULL};
    uint32_t node, slot;
    orr_error err;
    orr_sim_event e;
    orr_net_info info = {0};
    int ok = 1;

    orr_alloc_fail_at(n);
    sim = orr_sim_new(1);
    for (int i = 0; i < 2 && sim != NULL && ok; i++) {
        ok =
            orr_sim_node(sim, i == 0 ? "a" : "b", &node) == ORR_OK &&
            (ex[i] = orr_sim_executor(sim, node, 0, &err)) != NULL &&
            (services[i] = orr_service_new("s", "alpha", 1)) != NULL &&
            (nets[i] = orr_sim_net(sim, ex[i], services[i], NULL, &err)) !=
                NULL &&
            (i == 0 || orr_net_listen(nets[i], "b:1", NULL, 0, &err) == ORR_OK);
    }
    ok = sim != NULL && ok;
    ok = ok && orr_executor_connect(ex[0], services[0], "b:1", "none", "", NULL,
                                    0, &slot) == ORR_OK;
    for (int i = 0; ok && i < 200; i++) {
        orr_event event;

        if (orr_sim_step(sim, 1200 * ms, &e) != 1)
            break;
        orr_executor_turn(e.executor);
        do
            orr_executor_next(e.executor, &event);
        while (event.kind != ORR_EVENT_NONE);
        orr_executor_flush(e.executor);
    }
    orr_alloc_fail_at(0);
    if (ok)
        orr_net_info_get(nets[0], &info);
    for (int i = 0; i < 2; i++)
        orr_net_free(nets[i]);
    orr_sim_free(sim);
    for (int i = 0; i < 2; i++)
        orr_service_free(services[i]);
    return info.frames_in == 2;
}

static void every_allocation_may_fail(void **state)
{
    uint64_t live, n = 1;
    int well = 0;

    (void)state;
    orr_log_set_level(ORR_LOG_OFF);
    assert_true(small_life(0));
    live = orr_alloc_live();
    for (; n < 80; n++) {
        well += small_life(n);
        if (orr_alloc_live() > live)
            fail_msg("allocation %d leaves something", (int)n);
    }
    assert_true(well > 10); /* the last of them were beyond the end */
}

#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROW(a_call_takes_simulated_time),
        ROW(large_bodies_come_in_parts_and_whole),
        ROW(nobody_there_is_told),
        ROW(connecting_over_a_cut_takes_until_the_timeout),
        ROW(what_was_sent_over_a_cut_arrives_after_it),
        ROW(a_long_cut_ends_the_connection_at_both_ends),
        ROW(a_cut_one_way_lets_the_other_through),
        ROW(a_reset_fails_what_waits_at_once),
        ROW(a_crash_is_seen_and_a_restart_serves_again),
        ROW(closing_says_goodbye_and_why),
        ROW(another_cluster_is_refused),
        ROW(listening_twice_is_refused),
        ROW(too_many_connections_are_refused_and_counted),
        ROW(deadlines_are_met_to_the_nanosecond),
        ROW(nothing_to_do_means_no_events),
        cmocka_unit_test(one_seed_is_one_history),
        cmocka_unit_test(many_seeds_end_every_call_once),
        ROW(notes_are_part_of_the_trace),
        ROW(bad_arguments_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
