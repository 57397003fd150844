/* The body of HELLO: who we are and what we can take. Pure.
 *
 * A MessagePack map: protocol (int), wire (array of the lowest and the highest
 * version), cluster (str), incarnation (int), address (str), frame_max (int),
 * features (array of str), body_max, bodies_max, window, body_first (ints, of
 * the feature "chunks"), nonce (bin 16). Unknown keys and features are skipped,
 * so that a later side can say more, unless their name starts with "!": such a
 * side cannot do without them.
 */
#ifndef ORRERY_NET_HELLO_H
#define ORRERY_NET_HELLO_H

#include "orrery/wire.h"

enum {
    ORR_PROTOCOL = 1,
    ORR_WIRE_MIN = 1,
    ORR_WIRE_MAX = ORR_WIRE_VERSION,
    ORR_HELLO_TEXT_MAX = 255,
    ORR_HELLO_BODY_MAX = 4096, /* any body before the handshake is done */
    ORR_HELLO_UNKNOWN_MAX = 127,
    ORR_HELLO_FEATURES_MAX = 64
};

typedef struct orr_hello {
    int64_t protocol;
    uint64_t incarnation;
    uint32_t wire_min;
    uint32_t wire_max;
    uint32_t frame_max;
    uint32_t features;   /* orr_feature bits of those we know */
    uint32_t body_max;   /* of a chunked body */
    uint32_t bodies_max; /* chunked bodies open towards this side */
    uint32_t window;     /* DATA bytes that it takes before it grants more */
    uint32_t body_first; /* of each body before it grants more of that */
    uint8_t nonce[16];
    char cluster[ORR_HELLO_TEXT_MAX + 1];
    char address[ORR_HELLO_TEXT_MAX + 1];
    /* The first thing we must know and do not; "" = none. */
    char unknown[ORR_HELLO_UNKNOWN_MAX + 1];
} orr_hello;

/* Appends the map. Answers ORR_OK, ORR_ENOMEM, ORR_TOO_LARGE. */
int orr__hello_write(const orr_hello *h, orr_buf *out);
/* Answers ORR_OK, or ORR_EPROTO with what is wrong in err. When the protocol,
 * the wire versions or something critical is not ours the rest may be absent.
 */
int orr__hello_read(orr_hello *h, const uint8_t *data, size_t len,
                    orr_error *err);
/* Copies text from a peer for people: what is not printable becomes '?'. */
void orr__printable(char *out, size_t size, const void *text, size_t len);

#endif
