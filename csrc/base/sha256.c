/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 and HMAC, see sha256.h. tests/csrc/base/sha256_test.c has the vectors of the standards. */
#include "base/sha256.h"

#include <string.h>

/* Fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, unsigned by)
{
    return word >> by | word << (32 - by);
}

static uint32_t load_big(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store_big(uint8_t *at, uint64_t word, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(word >> (8 * (bytes - 1 - i)));
}

static void compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], v[8];
    for (unsigned t = 0; t < 16; t++)
        w[t] = load_big(block + 4 * t);
    for (unsigned t = 16; t < 64; t++) {
        uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    memcpy(v, state, sizeof(v));
    for (unsigned t = 0; t < 64; t++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t1 = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                      constants[t] + w[t];
        uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof(v[0]));
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        state[i] += v[i];
}

void orion_sha256_init(orion_sha256_t *hash)
{
    /* Fractional parts of the square roots of the first 8 primes (FIPS 180-4, 5.3.3). */
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof(initial));
    hash->bytes = 0;
}

void orion_sha256_update(orion_sha256_t *hash, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    size_t held = hash->bytes % ORION_SHA256_BLOCK;
    hash->bytes += bytes;
    while (bytes > 0) {
        size_t n = ORION_SHA256_BLOCK - held < bytes ? ORION_SHA256_BLOCK - held : bytes;
        memcpy(hash->block + held, at, n);
        at += n;
        bytes -= n;
        held = (held + n) % ORION_SHA256_BLOCK;
        if (held == 0)
            compress(hash->state, hash->block);
    }
}

void orion_sha256_final(orion_sha256_t *hash, uint8_t digest[ORION_SHA256_BYTES])
{
    static const uint8_t padding[ORION_SHA256_BLOCK] = {0x80};
    uint8_t length[8];
    uint64_t bytes = hash->bytes;
    size_t held = bytes % ORION_SHA256_BLOCK;
    store_big(length, bytes * 8, 8);
    orion_sha256_update(hash, padding, (held < 56 ? 56 : 120) - held);
    orion_sha256_update(hash, length, sizeof(length));
    for (unsigned i = 0; i < 8; i++)
        store_big(digest + 4 * i, hash->state[i], 4);
    orion_forget_bytes(hash, sizeof(*hash));
}

void orion_hmac_init(orion_hmac_t *hmac, const void *key, size_t bytes)
{
    uint8_t block[ORION_SHA256_BLOCK] = {0};
    if (bytes > sizeof(block)) {
        orion_sha256_init(&hmac->inner);
        orion_sha256_update(&hmac->inner, key, bytes);
        orion_sha256_final(&hmac->inner, block);
    } else if (bytes > 0) {
        memcpy(block, key, bytes);
    }
    for (unsigned i = 0; i < sizeof(block); i++)
        block[i] ^= 0x36;
    orion_sha256_init(&hmac->inner);
    orion_sha256_update(&hmac->inner, block, sizeof(block));
    for (unsigned i = 0; i < sizeof(block); i++)
        block[i] ^= 0x36 ^ 0x5c;
    orion_sha256_init(&hmac->outer);
    orion_sha256_update(&hmac->outer, block, sizeof(block));
    orion_forget_bytes(block, sizeof(block));
}

void orion_hmac_update(orion_hmac_t *hmac, const void *data, size_t bytes)
{
    orion_sha256_update(&hmac->inner, data, bytes);
}

void orion_hmac_final(orion_hmac_t *hmac, uint8_t mac[ORION_SHA256_BYTES])
{
    orion_sha256_final(&hmac->inner, mac);
    orion_sha256_update(&hmac->outer, mac, ORION_SHA256_BYTES);
    orion_sha256_final(&hmac->outer, mac);
}

bool orion_same_bytes(const void *a, const void *b, size_t bytes)
{
    const volatile uint8_t *x = a, *y = b; /* volatile: every byte is looked at */
    uint8_t differ = 0;
    for (size_t i = 0; i < bytes; i++)
        differ |= x[i] ^ y[i];
    return differ == 0;
}

void orion_forget_bytes(void *data, size_t bytes)
{
    for (volatile uint8_t *at = data; bytes > 0; bytes--)
        *at++ = 0;
}
