/* Bytes: the fixed frame header and the MessagePack codec.
 *
 * Pure: bytes in, values out. Every length, count and depth is checked against
 * the bytes left and against the limits before anything is allocated.
 *
 * Header, 64 bytes, little endian (docs/wire_format.md is the specification):
 *   0 u32 magic_length  body length in bytes
 *   4 u8  version       ORR_WIRE_VERSION
 *   5 u8  kind          orr_frame_kind
 *   6 u16 flags         orr_frame_flag
 *   8 u32 call_slot    12 u32 call_generation
 *  16 u64 budget_us     time left until the deadline, 0 = none. A duration, not
 *                       a point in time: clocks of two hosts are not compared.
 *  24 u32 endpoint     28 u32 incarnation
 *  32 u32 method        method id; in a REPLY the status as int32
 *  36 u32 checksum      CRC-32C of header (this field 0) and body
 *  40 u64 token_epoch  48 u8[16] token_session   all zero = no token
 */
#ifndef ORRERY_WIRE_H
#define ORRERY_WIRE_H

#include "orrery/base.h"

/* ffi:begin */
enum {
    ORR_WIRE_VERSION = 1,
    ORR_HEADER_SIZE = 64,
    ORR_FRAME_MAX_DEFAULT = 16777216 /* body bytes; 16 MiB */
};

typedef enum orr_frame_kind {
    ORR_FRAME_HELLO = 1,   /* first frame of both sides */
    ORR_FRAME_RESOLVE = 2, /* endpoint name -> slot, incarnation, methods */
    ORR_FRAME_ASK = 3,
    ORR_FRAME_TELL = 4,
    ORR_FRAME_REPLY = 5,
    ORR_FRAME_CANCEL = 6, /* the caller gave up; answers where the call was */
    ORR_FRAME_PING = 7,
    ORR_FRAME_PONG = 8,
    ORR_FRAME_GOODBYE = 9, /* planned end; body: reason */
    ORR_FRAME_DATA = 10,   /* a piece of a chunked body; call_slot = stream */
    ORR_FRAME_CREDIT = 11, /* budget_us bytes more may be sent of the stream in
                              call_slot; stream 0 = the connection's window */
    ORR_FRAME_ABORT = 12   /* the sender gave up the stream in call_slot */
} orr_frame_kind;

typedef enum orr_frame_flag {
    ORR_FLAG_CONTROL = 1, /* control lane: passes bulk */
    ORR_FLAG_TOKEN = 2,   /* the token fields are set */
    ORR_FLAG_PROBE = 4,   /* CANCEL: answer with the phase the call died in */
    ORR_FLAG_MORE = 8,    /* ASK, TELL, REPLY: opens a chunked body; the frame's
                             body is u32 stream and u64 total */
    ORR_FLAG_SPILLED = 16, /* ASK, TELL, REPLY: the body is the key of a blob
                              that holds the body */
    ORR_FLAG_TRACE = 32,   /* ASK, TELL: 16 bytes stand in front of the body:
                              u64 trace, u64 span of the sender */
    /* Inside the process only: the caller can fetch a spilled answer. */
    ORR_FLAG_SPILLS = 0x4000,
    ORR_FLAG_OPTIONAL = 0x8000 /* who does not know the kind skips the frame */
} orr_frame_flag;

/* What both sides of a connection may know of each other. */
typedef enum orr_feature {
    ORR_FEATURE_CHUNKS = 1, /* bodies above the chunk size travel in pieces */
    ORR_FEATURE_SPILL = 2,  /* very large bodies go through a blob store that
                               all services of the cluster share */
    ORR_FEATURE_TRACE = 4   /* ORR_FLAG_TRACE */
} orr_feature;

typedef struct orr_token {
    uint64_t epoch;
    uint8_t session[16];
} orr_token;

typedef struct orr_header {
    uint32_t length;
    uint8_t version;
    uint8_t kind;
    uint16_t flags;
    uint32_t call_slot;
    uint32_t call_generation;
    uint64_t budget_us;
    uint32_t endpoint;
    uint32_t incarnation;
    uint32_t method;
    uint32_t checksum;
    orr_token token;
} orr_header;

/* MessagePack tokens, one at a time. Strings point into the input. Only the
 * fields named beside the type are set. */
typedef enum orr_pack_type {
    ORR_PACK_NIL = 0,
    ORR_PACK_FALSE = 1,
    ORR_PACK_TRUE = 2,
    ORR_PACK_INT = 3,    /* value in i */
    ORR_PACK_UINT = 4,   /* value in u; only above INT64_MAX */
    ORR_PACK_DOUBLE = 5, /* value in d */
    ORR_PACK_STR = 6,    /* data, size */
    ORR_PACK_BIN = 7,    /* data, size */
    ORR_PACK_ARRAY = 8,  /* size = number of elements that follow */
    ORR_PACK_MAP = 9     /* size = number of key-value pairs that follow */
} orr_pack_type;

typedef struct orr_pack_token {
    int32_t type;
    uint32_t size;
    int64_t i;
    uint64_t u;
    double d;
    const uint8_t *data;
} orr_pack_token;

enum {
    ORR_PACK_DEPTH_DEFAULT = 64,
    ORR_PACK_DEPTH_CAP = 256, /* a higher depth_max counts as this one */
    ORR_PACK_NODES_DEFAULT = 1048576
};

/* A scalar has depth 0, a container one more than its deepest element. Every
 * value is a node: scalars, keys and containers. */
typedef struct orr_pack_limits {
    uint32_t depth_max;
    uint32_t nodes_max;
} orr_pack_limits;

typedef struct orr_unpacker {
    const uint8_t *data;
    size_t len;
    size_t pos;
    uint32_t nodes_left;
} orr_unpacker;

/* Header. decode answers ORR_OK, ORR_EMORE (len < 64) or ORR_EPROTO (version,
 * or a kind that is unknown and not optional); h is filled then too, so that
 * the caller can name what it met. The length is for the caller to hold to its
 * limit. The checksum is apart, because it needs the body. Thread: any. */
void orr_header_encode(const orr_header *h, uint8_t *out);
int orr_header_decode(orr_header *h, const uint8_t *data, size_t len);
uint32_t orr_header_checksum(const uint8_t *header, const uint8_t *body,
                             size_t len);

/* Writers append one value in its shortest form, or nothing. Answer ORR_OK,
 * ORR_ENOMEM or ORR_TOO_LARGE. Thread: owner of the buffer. */
int orr_pack_nil(orr_buf *b);
int orr_pack_bool(orr_buf *b, int value);
int orr_pack_int(orr_buf *b, int64_t value);
int orr_pack_uint(orr_buf *b, uint64_t value);
int orr_pack_double(orr_buf *b, double value);
/* A Lua number: the shortest exact form (int if integral and |v| < 2^53). */
int orr_pack_number(orr_buf *b, double value);
int orr_pack_str(orr_buf *b, const void *data, size_t size);
int orr_pack_bin(orr_buf *b, const void *data, size_t size);
int orr_pack_array(orr_buf *b, uint32_t count);
int orr_pack_map(orr_buf *b, uint32_t count);

/* Reader. next answers ORR_OK with a token, ORR_ENOENT at the end of the input,
 * ORR_EPROTO for anything else that is wrong: truncated, an ext type, a count
 * that the bytes left or the nodes left cannot hold, too many nodes. On failure
 * the reader stays where it was. init borrows data until the reader is done,
 * and allows ORR_PACK_NODES_DEFAULT nodes. Thread: owner. */
void orr_unpack_init(orr_unpacker *u, const void *data, size_t len);
int orr_unpack_next(orr_unpacker *u, orr_pack_token *token);
/* Skips one whole value. Answers as next does. */
int orr_unpack_skip(orr_unpacker *u, uint32_t depth_max);
/* One pass over a whole body: is it a sequence of well-formed values inside the
 * limits (NULL: the defaults)? Gives the number of top-level values, unless
 * values is NULL. Answers ORR_OK or ORR_EPROTO. Afterwards the sum of all
 * counts is known to fit, so containers may be allocated by them.
 * Thread: any. */
int orr_pack_check(const void *data, size_t len, const orr_pack_limits *limits,
                   uint32_t *values);
/* ffi:end */

#endif
