/* A net: the connections of one service on one executor, over any transport.
 * What follows is for transports; users see net.h. */
#ifndef ORRERY_NET_PEER_H
#define ORRERY_NET_PEER_H

#include "net/conn.h"
#include "net/tls.h"

/* The nets of one executor, in order of their making. Zeroed is empty. */
typedef struct orr_nets {
    orr_net *first;
} orr_nets;

/* Borrows nets, takes the use of transport (release ends it) when it answers a
 * net. NULL with err: ORR_EINVAL, ORR_EEXIST, ORR_ENOMEM. */
orr_net *orr__net_new(orr_nets *nets, const orr_transport *transport,
                      orr_executor *ex, orr_service *s,
                      const orr_net_options *options, orr_error *err);
/* The driver's dial. */
orr_link *orr__nets_dial(orr_nets *nets, orr_executor *ex, orr_service *s,
                         const char *address, orr_error *err);
/* The transport goes away: everything is closed at once and released, the net
 * stays to be freed. */
void orr__nets_detach(orr_nets *nets);

/* A stream came. NULL when it is one too many (counted) or without memory: the
 * stream is still the transport's. */
orr_conn *orr__net_accept(orr_net *net, void *stream, const char *peer);
/* What a new stream is encrypted by, its files looked at; NULL: it is not. */
orr_tls_context *orr__net_tls(orr_net *net);
void orr__net_tick(orr_net *net, uint64_t now_ns);

/* Splits "host:port" or "[v6]:port"; host holds size bytes. Answers ORR_OK or
 * ORR_EINVAL with err. */
int orr__address_split(const char *address, char *host, size_t size,
                       uint16_t *port, orr_error *err);

#endif
