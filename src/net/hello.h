/* The body of HELLO: who we are and what we can take. Pure.
 *
 * A MessagePack map: protocol (int), cluster (str), incarnation (int), address
 * (str), frame_max (int), features (array of str), nonce (bin 16). Unknown
 * keys are skipped, so that a later protocol can say more.
 */
#ifndef ORRERY_NET_HELLO_H
#define ORRERY_NET_HELLO_H

#include "orrery/wire.h"

enum {
    ORR_PROTOCOL = 1,
    ORR_HELLO_TEXT_MAX = 255,
    ORR_HELLO_BODY_MAX = 4096 /* any body before the handshake is done */
};

typedef struct orr_hello {
    int64_t protocol;
    uint64_t incarnation;
    uint32_t frame_max;
    uint8_t nonce[16];
    char cluster[ORR_HELLO_TEXT_MAX + 1];
    char address[ORR_HELLO_TEXT_MAX + 1];
} orr_hello;

/* Appends the map. Answers ORR_OK, ORR_ENOMEM, ORR_TOO_LARGE. */
int orr__hello_write(const orr_hello *h, orr_buf *out);
/* Answers ORR_OK, or ORR_EPROTO with what is wrong in err. protocol is set, the
 * rest is not read, when it is not ours. */
int orr__hello_read(orr_hello *h, const uint8_t *data, size_t len,
                    orr_error *err);
/* Copies text from a peer for people: what is not printable becomes '?'. */
void orr__printable(char *out, size_t size, const void *text, size_t len);

#endif
