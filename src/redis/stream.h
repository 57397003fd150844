/* The transport of a Redis connection over libuv: TCP and Unix sockets. */
#ifndef ORRERY_REDIS_STREAM_H
#define ORRERY_REDIS_STREAM_H

#include "redis/transport.h"

/* Gives a transport for one client on the loop; its client's fini releases it,
 * or who made it when there is no client. When the loop goes away first the
 * client is closed. ORR_OK or ORR_ENOMEM. */
int orr__redis_stream_transport(orr_loop *loop, orr_redis_transport *out);

#endif
