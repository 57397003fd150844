/* Simulation: virtual time and a simulated network for whole clusters in one
 * thread. The other driver of executors and the other transport of nets.
 *
 * One queue of events ordered by (time, sequence); time jumps from one event to
 * the next. One seed decides every latency, every split of the byte streams and
 * the chance of every executor, so a seed replays one history exactly: nothing
 * here looks at the system's clock, at addresses in memory or at its chance.
 *
 * A node is a simulated host: executors live on it, it listens on ports of its
 * own ("name:port"), the paths between nodes may be cut, it may crash.
 *
 * The owner's loop:
 *     while (orr_sim_step(sim, until, &event) == 1)
 *         drain event.executor: turn, next ..., flush
 */
#ifndef ORRERY_SIM_H
#define ORRERY_SIM_H

#include "orrery/net.h"

/* ffi:begin */
typedef struct orr_sim orr_sim;

enum { ORR_SIM_NODES_MAX = 64, ORR_SIM_NAME_MAX = 63 };

/* Who must turn now. */
typedef struct orr_sim_event {
    orr_executor *executor;
    uint32_t index; /* of the executor, in order of creation from 0 */
    uint32_t node;
    uint64_t now_ns;
} orr_sim_event;

/* Virtual time starts at 1 s, wall clock at 2020-01-01 00:00:00 UTC. NULL
 * without memory. Free also frees its executors; nets made on it are closed
 * and still to be freed. Thread: owner, as for everything here. */
orr_sim *orr_sim_new(uint64_t seed);
void orr_sim_free(orr_sim *sim);

/* Finds or makes the node. Answers ORR_OK, ORR_EINVAL (name: 1..63 bytes of
 * [A-Za-z0-9_.-]), ORR_ENOSPC (64 nodes), ORR_ENOMEM. */
int orr_sim_node(orr_sim *sim, const char *name, uint32_t *node);
/* Gives an executor on a node; number is for people. NULL with err: ORR_EINVAL
 * (no such node), ORR_ECLOSED (the node is down), ORR_ENOMEM. */
orr_executor *orr_sim_executor(orr_sim *sim, uint32_t node, uint32_t number,
                               orr_error *err);
/* Takes it away before the simulation ends, after its nets were freed. Answers
 * ORR_OK or ORR_ENOENT. */
int orr_sim_executor_free(orr_sim *sim, orr_executor *ex);
/* The net of a service on a simulated executor; see orr_net_new. */
orr_net *orr_sim_net(orr_sim *sim, orr_executor *ex, orr_service *s,
                     const orr_net_options *options, orr_error *err);

/* Runs events up to and at until_ns, until an executor must turn: answers 1
 * with out filled; or until none is left: answers 0 and the time is until_ns
 * (unchanged with UINT64_MAX). Time never goes back. Also ORR_ENOMEM. */
int orr_sim_step(orr_sim *sim, uint64_t until_ns, orr_sim_event *out);
uint64_t orr_sim_now_ns(const orr_sim *sim);
uint64_t orr_sim_wall_ms(const orr_sim *sim);
/* Time of the next event, UINT64_MAX when there is none. */
uint64_t orr_sim_next_ns(orr_sim *sim);
/* For the owner's own decisions; part of the seed. */
orr_chance *orr_sim_chance(orr_sim *sim);

/* Latency of a segment, drawn evenly from min..max; 1..5 ms at first. The pair
 * form is for one direction and stands above the general one. Answers ORR_OK
 * or ORR_EINVAL (no such node, max < min). */
int orr_sim_set_latency(orr_sim *sim, uint64_t min_ns, uint64_t max_ns);
int orr_sim_set_path_latency(orr_sim *sim, uint32_t from, uint32_t to,
                             uint64_t min_ns, uint64_t max_ns);

/* Cuts (1) or joins (0) the paths between two nodes: partition both ways, cut
 * one way only. What is sent over a cut path waits like TCP's retransmission
 * and arrives after the path is joined, unless the connection ended meanwhile;
 * connecting over it takes until its timeout. heal joins all paths. Answer
 * ORR_OK or ORR_EINVAL. */
int orr_sim_partition(orr_sim *sim, uint32_t a, uint32_t b, int cut);
int orr_sim_cut(orr_sim *sim, uint32_t from, uint32_t to, int cut);
void orr_sim_heal(orr_sim *sim);
/* Every connection between a and b is reset at both ends now. Answers how many,
 * or ORR_EINVAL. */
int orr_sim_reset_connections(orr_sim *sim, uint32_t a, uint32_t b);
/* Crash: its executors never turn again, its ports are free, its peers see a
 * reset when that reaches them. Restart: new executors may be made on it.
 * Answer ORR_OK, ORR_EINVAL, or ORR_EAGAIN (is down, is up). */
int orr_sim_crash(orr_sim *sim, uint32_t node);
int orr_sim_restart(orr_sim *sim, uint32_t node);

/* A hash of everything that happened: of each event its time, kind, nodes, size
 * and content. note mixes in what the owner saw. */
uint64_t orr_sim_trace_hash(const orr_sim *sim);
void orr_sim_trace_note(orr_sim *sim, const void *data, size_t len);
/* Events processed so far, and connections that an end still holds. */
uint64_t orr_sim_events(const orr_sim *sim);
uint32_t orr_sim_connections(const orr_sim *sim);
/* ffi:end */

#endif
