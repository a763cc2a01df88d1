/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) and HMAC (RFC 2104) over it: what a session's beginning needs, without a library. */
#ifndef ORION_BASE_SHA256_H
#define ORION_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORION_SHA256_BYTES 32u
#define ORION_SHA256_BLOCK 64u

typedef struct orion_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[ORION_SHA256_BLOCK];
} orion_sha256_t;

void orion_sha256_init(orion_sha256_t *hash);
void orion_sha256_update(orion_sha256_t *hash, const void *data, size_t bytes);
void orion_sha256_final(orion_sha256_t *hash, uint8_t digest[ORION_SHA256_BYTES]);

typedef struct orion_hmac {
    orion_sha256_t inner, outer;
} orion_hmac_t;

void orion_hmac_init(orion_hmac_t *hmac, const void *key, size_t bytes);
void orion_hmac_update(orion_hmac_t *hmac, const void *data, size_t bytes);
void orion_hmac_final(orion_hmac_t *hmac, uint8_t mac[ORION_SHA256_BYTES]);

/* Compares in a time that does not tell where they differ. */
bool orion_same_bytes(const void *a, const void *b, size_t bytes);
/* Zeroes what nobody will read again; the compiler must not leave it out. */
void orion_forget_bytes(void *data, size_t bytes);

#endif
