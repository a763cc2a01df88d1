/* SPDX-License-Identifier: Apache-2.0 */
/* MD2 and HMAC-MD2 against the vectors of RFC 1319 and one of the handshake. */
#include "../csrc/check.h"
#include "dark/md2.h"

static const char *hex(const uint8_t digest[16])
{
    static char text[33];
    for (int i = 0; i < 16; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return text;
}

static const char *md2(const char *text)
{
    orion_md2_t md2;
    uint8_t digest[16];
    orion_md2_init(&md2);
    orion_md2_update(&md2, text, strlen(text));
    orion_md2_final(&md2, digest);
    return hex(digest);
}

static void md2_gives_the_vectors_of_the_rfc(void)
{
    CHECK(strcmp(md2(""), "8350e5a3e24c153df2275c9f80692773") == 0);
    CHECK(strcmp(md2("a"), "32ec01ec4a6dac72c0ab96fb34c0b5d1") == 0);
    CHECK(strcmp(md2("abc"), "da853b0d3f88d99b30283a69e6ded6bb") == 0);
    CHECK(strcmp(md2("message digest"), "ab4f496bfb2a530b219ff33031fe06b0") == 0);
    CHECK(strcmp(md2("abcdefghijklmnopqrstuvwxyz"), "4e8ddff3650292ab5a4108c3aa47940b") == 0);
    CHECK(strcmp(md2("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
                 "da33def2a42df13975352846c30338cd") == 0);
}

static void md2_takes_its_input_in_any_pieces(void)
{
    const char *text = "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
    for (size_t piece = 1; piece < 40; piece++) {
        orion_md2_t md2;
        uint8_t digest[16];
        orion_md2_init(&md2);
        for (size_t at = 0; at < strlen(text); at += piece) {
            size_t left = strlen(text) - at;
            orion_md2_update(&md2, text + at, left < piece ? left : piece);
        }
        orion_md2_final(&md2, digest);
        CHECK(strcmp(hex(digest), "d5976f79d83d3a0dc9806c3c66f3efd8") == 0);
    }
}

static void handshake_gives_the_known_answer(void)
{
    static const uint8_t key[16] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
                                    0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};
    const struct __attribute__((packed)) {
        uint32_t driver, version, pid, thread;
        uint64_t cudart, integrity, function, seconds;
        uint8_t uuid[16];
        int32_t pci[3];
    } message = {13000,      13002,      1234,
                 0x11223344, 0x1000,     0x2000,
                 0x3000,     1700000000, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                 {0, 1, 0}};
    uint8_t digest[16];
    orion_hmac_md2(key, &message, sizeof message, digest);
    CHECK(strcmp(hex(digest), "52975b7c3c3ce8d65a83612de3ab1164") == 0);
}

CHECK_MAIN(CASE(md2_gives_the_vectors_of_the_rfc), CASE(md2_takes_its_input_in_any_pieces),
           CASE(handshake_gives_the_known_answer))
