/* Connections: frames over a byte stream, with a handshake and a keepalive.
 *
 * The connection is pure: bytes and time in, bytes and link events out. A
 * transport moves the bytes: net/tcp.c over libuv, sim/ in simulation.
 *
 * States: CONNECTING (stream not up) -> HELLO (ours sent, theirs awaited) ->
 * OPEN -> CLOSED. Frames sent before OPEN are queued behind our HELLO.
 */
#ifndef ORRERY_NET_H
#define ORRERY_NET_H

#include "orrery/exec.h"

/* ffi:begin */
typedef struct orr_net_options {
    uint32_t frame_max;         /* body bytes; 0 = ORR_FRAME_MAX_DEFAULT */
    uint32_t queue_max;         /* bytes waiting to be written; 0 = 64 MiB */
    uint32_t connections_max;   /* accepted and not closed; 0 = 1024 */
    uint64_t connect_timeout_ns;   /* 0 = 10 s */
    uint64_t handshake_timeout_ns; /* 0 = 10 s */
    uint64_t keepalive_ns;      /* idle time before a ping; 0 = 15 s; closed
                                   after three times that without a byte */
} orr_net_options;

typedef struct orr_net_info {
    uint32_t connections;
    uint64_t accepted;
    uint64_t refused;       /* over connections_max */
    uint64_t handshake_failures;
    uint64_t protocol_errors; /* garbage, lies, checksum */
    uint64_t frames_in;
    uint64_t frames_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
} orr_net_info;
/* ffi:end */

#endif
