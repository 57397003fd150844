/* The header byte by byte: what hosts of the other byte order do, apart for
 * tests. Both ways answer the same. */
#ifndef ORRERY_WIRE_HEADER_H
#define ORRERY_WIRE_HEADER_H

#include "orrery/wire.h"

void orr__header_encode_bytes(const orr_header *h, uint8_t *out);
void orr__header_decode_bytes(orr_header *h, const uint8_t *data);

#endif
