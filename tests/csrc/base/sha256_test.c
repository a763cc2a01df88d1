/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors of FIPS 180-4's examples and of RFC 4231, and lengths around the block's edges against each other. */
#include "../check.h"

#include "base/sha256.h"

static void to_hex(const uint8_t *digest, char text[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static void digest_of(const void *data, size_t bytes, size_t piece, char text[65])
{
    orion_sha256_t hash;
    uint8_t digest[ORION_SHA256_BYTES];
    orion_sha256_init(&hash);
    for (size_t at = 0; at < bytes; at += piece)
        orion_sha256_update(&hash, (const uint8_t *)data + at, piece < bytes - at ? piece : bytes - at);
    orion_sha256_final(&hash, digest);
    to_hex(digest, text);
}

static void digests_are_those_of_the_standard(void)
{
    static const struct {
        const char *text, *digest;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqr"
         "stu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    char text[65];
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        digest_of(known[i].text, strlen(known[i].text), 7, text);
        CHECK(strcmp(text, known[i].digest) == 0);
    }
}

static void million_letters_have_the_digest_of_the_standard(void)
{
    char text[65], *letters = malloc(1000000);
    MUST(letters != NULL);
    memset(letters, 'a', 1000000);
    digest_of(letters, 1000000, 4099, text);
    free(letters);
    CHECK(strcmp(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
}

static void pieces_do_not_matter(void)
{
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        char whole[65], cut[65];
        digest_of(bytes, n, n + 1, whole);
        digest_of(bytes, n, 1 + n % 63, cut);
        CHECK(strcmp(whole, cut) == 0);
    }
}

static void codes_are_those_of_rfc_4231(void)
{
    static const struct {
        int key_byte; /* 256: counting from 1 */
        size_t key_bytes;
        int data_byte; /* 256: the text */
        size_t data_bytes;
        const char *key, *text, *mac;
    } known[] = {
        {0x0b, 20, 256, 0, NULL, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {256, 4, 256, 0, "Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {0xaa, 20, 0xdd, 50, NULL, NULL, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {257, 25, 0xcd, 50, NULL, NULL, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
        {0xaa, 131, 256, 0, NULL, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint8_t key[131], data[128], mac[32];
        char text[65];
        size_t bytes = known[i].text != NULL ? strlen(known[i].text) : known[i].data_bytes;
        for (size_t k = 0; k < known[i].key_bytes; k++)
            key[k] = known[i].key != NULL       ? (uint8_t)known[i].key[k]
                     : known[i].key_byte == 257 ? (uint8_t)(k + 1)
                                                : (uint8_t)known[i].key_byte;
        if (known[i].text != NULL)
            memcpy(data, known[i].text, bytes);
        else
            memset(data, known[i].data_byte, bytes);
        orion_hmac_t hmac;
        orion_hmac_init(&hmac, key, known[i].key_bytes);
        orion_hmac_update(&hmac, data, bytes / 2);
        orion_hmac_update(&hmac, data + bytes / 2, bytes - bytes / 2);
        orion_hmac_final(&hmac, mac);
        to_hex(mac, text);
        CHECK(strcmp(text, known[i].mac) == 0);
    }
}

static void comparison_sees_every_byte(void)
{
    uint8_t a[32] = {0}, b[32] = {0};
    CHECK(orion_same_bytes(a, b, 32));
    for (int i = 0; i < 32; i++) {
        b[i] = 1;
        CHECK(!orion_same_bytes(a, b, 32));
        b[i] = 0;
    }
}

CHECK_MAIN(CASE(digests_are_those_of_the_standard), CASE(million_letters_have_the_digest_of_the_standard),
           CASE(pieces_do_not_matter), CASE(codes_are_those_of_rfc_4231), CASE(comparison_sees_every_byte))
