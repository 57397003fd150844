/* SHA-256 by OpenSSL. */
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "orrery/base.h"

int orr_sha256(const void *data, size_t len, uint8_t *out)
{
    /* EVP_Digest fails only when OpenSSL lacks memory or the algorithm. */
    const void *in = len == 0 ? "" : data;
    if (EVP_Digest(in, len, out, NULL, EVP_sha256(), NULL) != 1)
        return ORR_EIO;
    return ORR_OK;
}

const char *orr_crypto_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}
