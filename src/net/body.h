/* Chunked bodies of one connection, both directions. See body.c. */
#ifndef ORRERY_NET_BODY_H
#define ORRERY_NET_BODY_H

#include "net/hello.h"
#include "orrery/exec.h"

typedef struct orr_conn orr_conn;
enum { ORR_BODY_FIRST = 64 * 1024 }; /* bytes of a body before it is admitted */

typedef struct orr__out_body orr__out_body;
typedef struct orr__in_body orr__in_body;

typedef struct orr__bodies {
    /* Ours. */
    orr__out_body *sending; /* opened; a slice of each in turn */
    orr__out_body *sending_tail;
    orr__out_body *waiting; /* not opened, in order */
    orr__out_body *waiting_tail;
    orr__out_body *slice; /* the transport borrows a piece of it */
    uint32_t sending_count;
    uint32_t stream; /* of the last one opened */
    size_t sending_bytes;
    size_t held_bytes; /* in frames that wait behind bodies */
    uint64_t window;   /* DATA bytes that the peer still takes */
    uint32_t peer_bodies_max;
    uint32_t peer_body_first;
    uint32_t chunk; /* bytes of a slice */
    /* Theirs. */
    orr__in_body *coming; /* in order of opening */
    orr__in_body *filling;
    uint32_t coming_count;
    uint32_t fill_left; /* bytes to come of the DATA frame */
    uint32_t in_window; /* DATA bytes that we still take */
    uint32_t unacked;   /* taken, not granted again */
    uint64_t admitted;  /* bytes of those that have memory */
    uint8_t fill_head[ORR_HEADER_SIZE];
} orr__bodies;

/* What the peer takes, once it is known: bodies too large for it fail, bodies
 * for a peer without chunks become frames. */
void orr__bodies_begin(orr_conn *c, const orr_hello *peer);
/* Forgets all; what the transport borrows stays until orr__bodies_written. */
void orr__bodies_end(orr_conn *c);

/* The link's send_body. */
int orr__bodies_send(orr_conn *c, const orr_header *h, orr_buf *body);
/* The body that this frame must not overtake, or NULL. */
orr__out_body *orr__bodies_before(const orr_conn *c, const orr_header *h);
int orr__bodies_hold(orr_conn *c, orr__out_body *b, const orr_header *h,
                     const uint8_t *body);
/* A CANCEL of ours: answers 1 when the call had not left whole; then it has its
 * end here. */
int orr__bodies_cancel(orr_conn *c, const orr_header *h);
/* A CANCEL of theirs: an answer on its way to them is given up. */
void orr__bodies_cancelled(orr_conn *c, const orr_header *h);
/* The next piece: answers 1 when it wrote one or put frames into out. */
int orr__bodies_write(orr_conn *c);
void orr__bodies_written(orr_conn *c);
void orr__bodies_on_credit(orr_conn *c, const orr_header *h, uint64_t now_ns);

/* Frames of theirs. data_begin answers 0 when the connection is over; data
 * answers how many bytes it used. */
void orr__bodies_open(orr_conn *c, const orr_header *h, const uint8_t *body,
                      uint64_t now_ns);
int orr__bodies_data_begin(orr_conn *c, const orr_header *h,
                           const uint8_t *head, uint64_t now_ns);
size_t orr__bodies_data(orr_conn *c, const uint8_t *data, size_t len,
                        uint64_t now_ns);
void orr__bodies_on_abort(orr_conn *c, const orr_header *h, uint64_t now_ns);
/* Is there one that stands still since before_ns? */
int orr__bodies_stuck(const orr_conn *c, uint64_t before_ns);

#endif
