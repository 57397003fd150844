/* What the files of the simulation share. */
#ifndef ORRERY_SIM_PRIVATE_H
#define ORRERY_SIM_PRIVATE_H

#include "net/peer.h"
#include "orrery/sim.h"

typedef enum orr__sim_kind {
    ORR__SIM_TURN = 1,   /* what: orr__sim_exec */
    ORR__SIM_TIMER = 2,  /* what: orr__sim_exec */
    ORR__SIM_TICK = 3,   /* what: orr__sim_host */
    ORR__SIM_ARRIVE = 4, /* what: orr__sim_path; its first segment */
    ORR__SIM_RESET = 5,  /* what: orr__sim_pipe */
    ORR__SIM_NOTE = 6    /* trace only */
} orr__sim_kind;

typedef struct orr__sim_item {
    uint64_t at_ns;
    uint64_t sequence;
    void *what;
    orr__sim_kind kind;
} orr__sim_item;

/* Binary heap by (at_ns, sequence). Zeroed is empty. */
typedef struct orr__sim_queue {
    orr__sim_item *items;
    size_t len;
    size_t cap;
    uint64_t sequence;
} orr__sim_queue;

typedef struct orr__sim_node {
    char name[ORR_SIM_NAME_MAX + 1];
    int is_up;
    uint64_t cut; /* bit n: what we send does not reach node n */
    uint16_t port_next;
    uint64_t latency_min_ns[ORR_SIM_NODES_MAX]; /* towards node n; */
    uint64_t latency_max_ns[ORR_SIM_NODES_MAX]; /* max 0: the general one */
} orr__sim_node;

/* A deadline that moves: one event is queued for armed_ns, the others that were
 * queued before it are stale. */
typedef struct orr__sim_alarm {
    uint64_t wanted_ns;
    uint64_t armed_ns;
} orr__sim_alarm;

typedef struct orr__sim_exec {
    orr_sim *sim;
    orr_executor *executor; /* NULL when freed */
    uint32_t index;
    uint32_t node;
    int is_dead;
    int turn_pending;
    orr__sim_alarm alarm;
    orr_nets nets;
} orr__sim_exec;

/* The transport of one net. */
typedef struct orr__sim_host {
    orr__sim_exec *exec;
    orr_net *net; /* NULL when released */
    orr__sim_alarm alarm;
    struct orr__sim_host *next;
} orr__sim_host;

typedef struct orr__sim_listener {
    orr__sim_host *host;
    uint16_t port; /* 0: closed by a crash */
    struct orr__sim_listener *next;
} orr__sim_listener;

struct orr__sim_pipe;

struct orr_sim {
    uint64_t now_ns;
    uint64_t hash;
    uint64_t events;
    int failed; /* without memory: no history from here on is the seed's */
    orr_chance chance;     /* seeds of executors */
    orr_chance net_chance; /* latency and splits */
    orr_chance user_chance;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    orr__sim_queue queue;
    orr__sim_node *nodes[ORR_SIM_NODES_MAX];
    uint32_t node_count;
    orr__sim_exec **execs;
    uint32_t exec_count;
    orr__sim_host *hosts;
    orr__sim_listener *listeners;
    struct orr__sim_pipe *pipes; /* in order of their making */
    uint64_t pipe_number;
};

int orr__sim_queue_push(orr__sim_queue *q, uint64_t at_ns, orr__sim_kind kind,
                        void *what);
/* NULL when empty. */
const orr__sim_item *orr__sim_queue_first(const orr__sim_queue *q);
orr__sim_item orr__sim_queue_pop(orr__sim_queue *q);

/* Queues an event, never before now. */
void orr__sim_schedule(orr_sim *sim, uint64_t at_ns, orr__sim_kind kind,
                       void *what);
void orr__sim_trace(orr_sim *sim, uint64_t kind, uint64_t a, uint64_t b,
                    const void *data, size_t len);
void orr__sim_turn_soon(orr__sim_exec *e);
void orr__sim_alarm_set(orr_sim *sim, orr__sim_alarm *alarm, uint64_t at_ns,
                        orr__sim_kind kind, void *what);
/* An event of the alarm came: is it due? Queues it again when it moved. */
int orr__sim_alarm_due(orr_sim *sim, orr__sim_alarm *alarm, orr__sim_kind kind,
                       void *what);

/* network.c */
void orr__sim_arrive(orr_sim *sim, void *path);
void orr__sim_reset(orr_sim *sim, void *pipe);
/* Paths were joined: what waited goes on. */
void orr__sim_resume(orr_sim *sim);
/* The ends of the node's connections are lost, its ports are free. */
void orr__sim_node_lost(orr_sim *sim, uint32_t node);
void orr__sim_network_free(orr_sim *sim);

#endif
