/* The body of HELLO. See hello.h. */
#include "net/hello.h"

#include <string.h>

enum {
    KEY_PROTOCOL = 1,
    KEY_CLUSTER = 2,
    KEY_INCARNATION = 4,
    KEY_ADDRESS = 8,
    KEY_FRAME_MAX = 16,
    KEY_NONCE = 32,
    KEYS_NEEDED = KEY_PROTOCOL | KEY_CLUSTER | KEY_INCARNATION | KEY_FRAME_MAX,
    DEPTH_MAX = 8
};

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

int orr__hello_write(const orr_hello *h, orr_buf *out)
{
    int rc;

    if ((rc = orr_pack_map(out, 7)) != ORR_OK ||
        (rc = put_uint(out, "protocol", (uint64_t)h->protocol)) != ORR_OK ||
        (rc = put_str(out, "cluster", h->cluster)) != ORR_OK ||
        (rc = put_uint(out, "incarnation", h->incarnation)) != ORR_OK ||
        (rc = put_str(out, "address", h->address)) != ORR_OK ||
        (rc = put_uint(out, "frame_max", h->frame_max)) != ORR_OK ||
        (rc = put_key(out, "features")) != ORR_OK ||
        (rc = orr_pack_array(out, 0)) != ORR_OK ||
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

static unsigned key_of(const orr_pack_token *t)
{
    static const struct {
        const char *name;
        unsigned key;
    } keys[] = {
        {"protocol", KEY_PROTOCOL},       {"cluster", KEY_CLUSTER},
        {"incarnation", KEY_INCARNATION}, {"address", KEY_ADDRESS},
        {"frame_max", KEY_FRAME_MAX},     {"nonce", KEY_NONCE},
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
    case KEY_FRAME_MAX:
        rc = read_uint(u, &value);
        h->frame_max = value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
        return rc;
    default: return orr_unpack_skip(u, DEPTH_MAX);
    }
}

int orr__hello_read(orr_hello *h, const uint8_t *data, size_t len,
                    orr_error *err)
{
    orr_unpacker u;
    orr_pack_token t;
    unsigned seen = 0;
    uint32_t pairs;

    memset(h, 0, sizeof *h);
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
        if ((seen & key) != 0 || read_value(h, key, &u) != ORR_OK) {
            char name[32];
            orr__printable(name, sizeof name, t.data, t.size);
            return orr_error_set(err, ORR_EPROTO, "HELLO has a bad \"%s\"",
                                 name);
        }
        seen |= key;
    }
    if ((seen & KEY_PROTOCOL) != 0 && h->protocol != ORR_PROTOCOL)
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
