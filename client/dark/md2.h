/* SPDX-License-Identifier: Apache-2.0 */
/* MD2 (RFC 1319) and HMAC over it (RFC 2104). Only for the integrity handshake; MD2 protects nothing. */
#ifndef ORION_CLIENT_MD2_H
#define ORION_CLIENT_MD2_H

#include <stddef.h>
#include <stdint.h>

#define ORION_MD2_BYTES 16

typedef struct {
    uint8_t state[48];
    uint8_t checksum[16];
    uint8_t block[16];
    size_t used; /* bytes in block */
} orion_md2_t;

void orion_md2_init(orion_md2_t *md2);
void orion_md2_update(orion_md2_t *md2, const void *data, size_t bytes);
void orion_md2_final(orion_md2_t *md2, uint8_t digest[ORION_MD2_BYTES]);

/* The key has exactly one block (16 bytes), which is all the handshake needs. */
void orion_hmac_md2(const uint8_t key[16], const void *data, size_t bytes, uint8_t digest[ORION_MD2_BYTES]);

#endif
