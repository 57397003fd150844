/* The body of HELLO. See hello.h. */
#include "net/hello.h"

#include <stdio.h>
#include <string.h>

enum {
    KEY_PROTOCOL = 1,
    KEY_CLUSTER = 2,
    KEY_INCARNATION = 4,
    KEY_ADDRESS = 8,
    KEY_FRAME_MAX = 16,
    KEY_NONCE = 32,
    KEY_WIRE = 64,
    KEY_FEATURES = 128,
    KEY_BODY_MAX = 256,
    KEY_BODIES_MAX = 512,
    KEY_WINDOW = 1024,
    KEY_BODY_FIRST = 2048,
    KEYS_NEEDED = KEY_PROTOCOL | KEY_CLUSTER | KEY_INCARNATION | KEY_FRAME_MAX,
    KEYS_CHUNKS = KEY_BODY_MAX | KEY_BODIES_MAX | KEY_WINDOW | KEY_BODY_FIRST,
    DEPTH_MAX = 8
};

static const struct {
    const char *name;
    uint32_t bit;
} known_features[] = {
    {"chunks", ORR_FEATURE_CHUNKS},
    {"spill", ORR_FEATURE_SPILL},
    {"trace", ORR_FEATURE_TRACE},
};

enum { FEATURES = sizeof known_features / sizeof known_features[0] };

static int put_key(orr_buf *out, const char *key)
{
    return orr_pack_str(out, key, strlen(key));
}

static int put_str(orr_buf *out, const char *key, const char *value)
{
    int rc = put_key(out, key);
    return rc != ORR_OK ? rc : orr_pack_str(out, value, strlen(value));
}

static int put_uint(orr_buf *out, const char *key, uint64_t value)
{
    int rc = put_key(out, key);
    return rc != ORR_OK ? rc : orr_pack_uint(out, value);
}

static int put_features(orr_buf *out, uint32_t features)
{
    uint32_t count = 0;
    int rc = put_key(out, "features");

    for (size_t i = 0; i < FEATURES; i++)
        count += (features & known_features[i].bit) != 0;
    if (rc == ORR_OK)
        rc = orr_pack_array(out, count);
    for (size_t i = 0; rc == ORR_OK && i < FEATURES; i++)
        if ((features & known_features[i].bit) != 0)
            rc = put_key(out, known_features[i].name);
    return rc;
}

static int put_chunks(orr_buf *out, const orr_hello *h)
{
    int rc;

    if ((rc = put_uint(out, "body_max", h->body_max)) != ORR_OK ||
        (rc = put_uint(out, "bodies_max", h->bodies_max)) != ORR_OK ||
        (rc = put_uint(out, "window", h->window)) != ORR_OK)
        return rc;
    return put_uint(out, "body_first", h->body_first);
}

int orr__hello_write(const orr_hello *h, orr_buf *out)
{
    int chunks = (h->features & ORR_FEATURE_CHUNKS) != 0;
    int rc;

    if ((rc = orr_pack_map(out, chunks ? 12 : 8)) != ORR_OK ||
        (rc = put_uint(out, "protocol", (uint64_t)h->protocol)) != ORR_OK ||
        (rc = put_key(out, "wire")) != ORR_OK ||
        (rc = orr_pack_array(out, 2)) != ORR_OK ||
        (rc = orr_pack_uint(out, h->wire_min)) != ORR_OK ||
        (rc = orr_pack_uint(out, h->wire_max)) != ORR_OK ||
        (rc = put_str(out, "cluster", h->cluster)) != ORR_OK ||
        (rc = put_uint(out, "incarnation", h->incarnation)) != ORR_OK ||
        (rc = put_str(out, "address", h->address)) != ORR_OK ||
        (rc = put_uint(out, "frame_max", h->frame_max)) != ORR_OK ||
        (rc = put_features(out, h->features)) != ORR_OK ||
        (chunks && (rc = put_chunks(out, h)) != ORR_OK) ||
        (rc = put_key(out, "nonce")) != ORR_OK)
        return rc;
    return orr_pack_bin(out, h->nonce, sizeof h->nonce);
}

static int read_text(orr_unpacker *u, char *out)
{
    orr_pack_token t;

    if (orr_unpack_next(u, &t) != ORR_OK || t.type != ORR_PACK_STR ||
        t.size > ORR_HELLO_TEXT_MAX)
        return ORR_EPROTO;
    orr__printable(out, ORR_HELLO_TEXT_MAX + 1, t.data, t.size);
    return ORR_OK;
}

static int read_uint(orr_unpacker *u, uint64_t *out)
{
    orr_pack_token t;

    if (orr_unpack_next(u, &t) != ORR_OK)
        return ORR_EPROTO;
    if (t.type == ORR_PACK_UINT) {
        *out = t.u;
        return ORR_OK;
    }
    if (t.type != ORR_PACK_INT || t.i < 0)
        return ORR_EPROTO;
    *out = (uint64_t)t.i;
    return ORR_OK;
}

static int read_nonce(orr_unpacker *u, uint8_t *out)
{
    orr_pack_token t;

    if (orr_unpack_next(u, &t) != ORR_OK || t.type != ORR_PACK_BIN ||
        t.size != 16)
        return ORR_EPROTO;
    memcpy(out, t.data, 16);
    return ORR_OK;
}

static int read_u32(orr_unpacker *u, uint32_t *out)
{
    uint64_t value = 0;
    int rc = read_uint(u, &value);

    *out = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
    return rc;
}

static int read_wire(orr_hello *h, orr_unpacker *u)
{
    orr_pack_token t;

    if (orr_unpack_next(u, &t) != ORR_OK || t.type != ORR_PACK_ARRAY ||
        t.size != 2 || read_u32(u, &h->wire_min) != ORR_OK ||
        read_u32(u, &h->wire_max) != ORR_OK || h->wire_min < 1 ||
        h->wire_min > h->wire_max)
        return ORR_EPROTO;
    return ORR_OK;
}

/* A name that starts with "!" must be known. */
static void critical(orr_hello *h, const char *what, const orr_pack_token *t)
{
    char name[65];

    if (t->size == 0 || t->data[0] != '!' || h->unknown[0] != 0)
        return;
    orr__printable(name, sizeof name, t->data + 1, t->size - 1);
    snprintf(h->unknown, sizeof h->unknown, "%s \"%s\"", what, name);
}

static int read_features(orr_hello *h, orr_unpacker *u)
{
    orr_pack_token t;
    uint32_t count;

    if (orr_unpack_next(u, &t) != ORR_OK || t.type != ORR_PACK_ARRAY ||
        t.size > ORR_HELLO_FEATURES_MAX)
        return ORR_EPROTO;
    for (count = t.size; count > 0; count--) {
        uint32_t bit = 0;
        size_t skip;

        if (orr_unpack_next(u, &t) != ORR_OK || t.type != ORR_PACK_STR)
            return ORR_EPROTO;
        skip = t.size > 0 && t.data[0] == '!';
        for (size_t i = 0; i < FEATURES; i++)
            if (t.size - skip == strlen(known_features[i].name) &&
                memcmp(t.data + skip, known_features[i].name, t.size - skip) ==
                    0)
                bit = known_features[i].bit;
        h->features |= bit;
        if (bit == 0)
            critical(h, "the feature", &t);
    }
    return ORR_OK;
}

static unsigned key_of(const orr_pack_token *t)
{
    static const struct {
        const char *name;
        unsigned key;
    } keys[] = {
        {"protocol", KEY_PROTOCOL},
        {"cluster", KEY_CLUSTER},
        {"incarnation", KEY_INCARNATION},
        {"address", KEY_ADDRESS},
        {"frame_max", KEY_FRAME_MAX},
        {"nonce", KEY_NONCE},
        {"wire", KEY_WIRE},
        {"features", KEY_FEATURES},
        {"body_max", KEY_BODY_MAX},
        {"bodies_max", KEY_BODIES_MAX},
        {"window", KEY_WINDOW},
        {"body_first", KEY_BODY_FIRST},
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (t->size == strlen(keys[i].name) &&
            memcmp(t->data, keys[i].name, t->size) == 0)
            return keys[i].key;
    return 0;
}

static int read_value(orr_hello *h, unsigned key, orr_unpacker *u)
{
    uint64_t value = 0;
    int rc;

    switch (key) {
    case KEY_CLUSTER: return read_text(u, h->cluster);
    case KEY_ADDRESS: return read_text(u, h->address);
    case KEY_NONCE: return read_nonce(u, h->nonce);
    case KEY_PROTOCOL:
        rc = read_uint(u, &value);
        h->protocol = value > INT64_MAX ? INT64_MAX : (int64_t)value;
        return rc;
    case KEY_INCARNATION: return read_uint(u, &h->incarnation);
    case KEY_FRAME_MAX: return read_u32(u, &h->frame_max);
    case KEY_WIRE: return read_wire(h, u);
    case KEY_FEATURES: return read_features(h, u);
    case KEY_BODY_MAX: return read_u32(u, &h->body_max);
    case KEY_BODIES_MAX: return read_u32(u, &h->bodies_max);
    case KEY_WINDOW: return read_u32(u, &h->window);
    case KEY_BODY_FIRST: return read_u32(u, &h->body_first);
    default: return orr_unpack_skip(u, DEPTH_MAX);
    }
}

/* What the feature needs, and within reason: a side that grants nothing could
 * not be sent anything. */
static int check_chunks(const orr_hello *h, unsigned seen, orr_error *err)
{
    if ((seen & KEYS_CHUNKS) != KEYS_CHUNKS)
        return orr_error_set(err, ORR_EPROTO,
                             "HELLO has the feature chunks and lacks body_max, "
                             "bodies_max, window or body_first");
    if (h->bodies_max == 0 || h->window == 0 || h->body_first == 0 ||
        h->body_max == 0)
        return orr_error_set(err, ORR_EPROTO,
                             "HELLO has the feature chunks and a body_max, "
                             "bodies_max, window or body_first of 0");
    return ORR_OK;
}

int orr__hello_read(orr_hello *h, const uint8_t *data, size_t len,
                    orr_error *err)
{
    orr_unpacker u;
    orr_pack_token t;
    unsigned seen = 0;
    uint32_t pairs;

    memset(h, 0, sizeof *h);
    h->wire_min = h->wire_max = ORR_WIRE_MIN;
    orr_unpack_init(&u, data, len);
    if (orr_unpack_next(&u, &t) != ORR_OK || t.type != ORR_PACK_MAP)
        return orr_error_set(err, ORR_EPROTO, "HELLO is not a map");
    pairs = t.size;
    for (uint32_t i = 0; i < pairs; i++) {
        unsigned key;

        if (orr_unpack_next(&u, &t) != ORR_OK || t.type != ORR_PACK_STR)
            return orr_error_set(err, ORR_EPROTO,
                                 "HELLO has a key that is not a string");
        key = key_of(&t);
        if (key == 0)
            critical(h, "the field", &t);
        if ((seen & key) != 0 || read_value(h, key, &u) != ORR_OK) {
            char name[32];
            orr__printable(name, sizeof name, t.data, t.size);
            return orr_error_set(err, ORR_EPROTO, "HELLO has a bad \"%s\"",
                                 name);
        }
        seen |= key;
    }
    if ((seen & KEY_PROTOCOL) != 0 &&
        (h->protocol != ORR_PROTOCOL || h->wire_min > ORR_WIRE_MAX ||
         h->wire_max < ORR_WIRE_MIN || h->unknown[0] != 0))
        return ORR_OK;
    if ((seen & KEYS_NEEDED) != KEYS_NEEDED)
        return orr_error_set(err, ORR_EPROTO, "HELLO lacks %s",
                             !(seen & KEY_PROTOCOL)      ? "protocol"
                             : !(seen & KEY_CLUSTER)     ? "cluster"
                             : !(seen & KEY_INCARNATION) ? "incarnation"
                                                         : "frame_max");
    if (h->frame_max < ORR_HELLO_BODY_MAX)
        return orr_error_set(err, ORR_EPROTO,
                             "HELLO has frame_max %u, at least %d is needed",
                             h->frame_max, ORR_HELLO_BODY_MAX);
    if ((h->features & ORR_FEATURE_CHUNKS) != 0)
        return check_chunks(h, seen, err);
    return ORR_OK;
}

void orr__printable(char *out, size_t size, const void *text, size_t len)
{
    const uint8_t *s = text;
    size_t n = len < size - 1 ? len : size - 1;

    for (size_t i = 0; i < n; i++)
        out[i] = s[i] >= 0x20 && s[i] != 0x7f ? (char)s[i] : '?';
    out[n] = '\0';
}
