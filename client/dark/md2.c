/* SPDX-License-Identifier: Apache-2.0 */
/* MD2 after RFC 1319, HMAC after RFC 2104. */
#include "dark/md2.h"

#include <string.h>

/* A permutation of 0..255 made from the digits of pi as RFC 1319 describes; tests/client makes it again. */
static const uint8_t pi_permutation[256] = {
    41,  46,  67,  201, 162, 216, 124, 1,   61,  54,  84,  161, 236, 240, 6,   19,  98,  167, 5,   243, 192, 199,
    115, 140, 152, 147, 43,  217, 188, 76,  130, 202, 30,  155, 87,  60,  253, 212, 224, 22,  103, 66,  111, 24,
    138, 23,  229, 18,  190, 78,  196, 214, 218, 158, 222, 73,  160, 251, 245, 142, 187, 47,  238, 122, 169, 104,
    121, 145, 21,  178, 7,   63,  148, 194, 16,  137, 11,  34,  95,  33,  128, 127, 93,  154, 90,  144, 50,  39,
    53,  62,  204, 231, 191, 247, 151, 3,   255, 25,  48,  179, 72,  165, 181, 209, 215, 94,  146, 42,  172, 86,
    170, 198, 79,  184, 56,  210, 150, 164, 125, 182, 118, 252, 107, 226, 156, 116, 4,   241, 69,  157, 112, 89,
    100, 113, 135, 32,  134, 91,  207, 101, 230, 45,  168, 2,   27,  96,  37,  173, 174, 176, 185, 246, 28,  70,
    97,  105, 52,  64,  126, 15,  85,  71,  163, 35,  221, 81,  175, 58,  195, 92,  249, 206, 186, 197, 234, 38,
    44,  83,  13,  110, 133, 40,  132, 9,   211, 223, 205, 244, 65,  129, 77,  82,  106, 220, 55,  200, 108, 193,
    171, 250, 36,  225, 123, 8,   12,  189, 177, 74,  120, 136, 149, 139, 227, 99,  232, 109, 233, 203, 213, 254,
    59,  0,   29,  57,  242, 239, 183, 14,  102, 88,  208, 228, 166, 119, 114, 248, 235, 117, 75,  10,  49,  68,
    80,  180, 143, 237, 31,  26,  219, 153, 141, 51,  159, 17,  131, 20,
};

void orion_md2_init(orion_md2_t *md2)
{
    memset(md2, 0, sizeof *md2);
}

static void checksum_block(orion_md2_t *md2, const uint8_t block[16])
{
    uint8_t last = md2->checksum[15];
    for (int i = 0; i < 16; i++)
        last = md2->checksum[i] ^= pi_permutation[block[i] ^ last];
}

static void digest_block(orion_md2_t *md2, const uint8_t block[16])
{
    for (int i = 0; i < 16; i++) {
        md2->state[16 + i] = block[i];
        md2->state[32 + i] = md2->state[i] ^ block[i];
    }
    unsigned t = 0;
    for (unsigned round = 0; round < 18; round++) {
        for (int i = 0; i < 48; i++)
            t = md2->state[i] ^= pi_permutation[t];
        t = (t + round) & 0xff;
    }
}

void orion_md2_update(orion_md2_t *md2, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes--) {
        md2->block[md2->used++] = *p++;
        if (md2->used == 16) {
            checksum_block(md2, md2->block);
            digest_block(md2, md2->block);
            md2->used = 0;
        }
    }
}

void orion_md2_final(orion_md2_t *md2, uint8_t digest[ORION_MD2_BYTES])
{
    uint8_t padding[16];
    size_t count = 16 - md2->used;
    memset(padding, (int)count, count);
    orion_md2_update(md2, padding, count);
    memcpy(md2->block, md2->checksum, 16);
    digest_block(md2, md2->block);
    memcpy(digest, md2->state, ORION_MD2_BYTES);
}

void orion_hmac_md2(const uint8_t key[16], const void *data, size_t bytes, uint8_t digest[ORION_MD2_BYTES])
{
    uint8_t inner_pad[16], outer_pad[16];
    for (int i = 0; i < 16; i++) {
        inner_pad[i] = key[i] ^ 0x36;
        outer_pad[i] = key[i] ^ 0x5c;
    }
    orion_md2_t md2;
    orion_md2_init(&md2);
    orion_md2_update(&md2, inner_pad, 16);
    orion_md2_update(&md2, data, bytes);
    orion_md2_final(&md2, digest);
    orion_md2_init(&md2);
    orion_md2_update(&md2, outer_pad, 16);
    orion_md2_update(&md2, digest, ORION_MD2_BYTES);
    orion_md2_final(&md2, digest);
}
