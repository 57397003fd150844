/* A frame from outside: the header is taken or refused for the right reason,
 * comes back byte by byte, and the checksum sees a change.
 */
#include <stdlib.h>
#include <string.h>

#include "orrery/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MUST(x)                                                                \
    do {                                                                       \
        if (!(x))                                                              \
            abort();                                                           \
    } while (0)

static int is_known(const uint8_t *data)
{
    int is_optional = (data[7] & 0x80) != 0;

    return data[4] == ORR_WIRE_VERSION &&
           (is_optional ||
            (data[5] >= ORR_FRAME_HELLO && data[5] <= ORR_FRAME_ABORT));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    orr_header h;
    int rc = orr_header_decode(&h, data, len);
    if (len < ORR_HEADER_SIZE) {
        MUST(rc == ORR_EMORE);
        return 0;
    }
    MUST(rc == (is_known(data) ? ORR_OK : ORR_EPROTO));
    uint8_t out[ORR_HEADER_SIZE];
    orr_header_encode(&h, out);
    MUST(memcmp(out, data, sizeof out) == 0);

    const uint8_t *body = data + ORR_HEADER_SIZE;
    size_t size = len - ORR_HEADER_SIZE;
    uint32_t crc = orr_header_checksum(out, body, size);
    h.checksum = ~h.checksum;
    orr_header_encode(&h, out);
    MUST(orr_header_checksum(out, body, size) == crc);
    h.call_slot ^= 1;
    orr_header_encode(&h, out);
    MUST(orr_header_checksum(out, body, size) != crc);
    return 0;
}
