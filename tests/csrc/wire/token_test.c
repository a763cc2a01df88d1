/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: what is one, and codes that an implementation which is not ours (Python's hmac) has computed. */
#include "wire/token.h"

#include "../check.h"

static char why[300];

static void an_id_and_a_secret_are_a_token(void)
{
    orion_token_t token;
    CHECK(orion_token_parse("gpu-7_a.0123456789abcdef", &token, why, sizeof(why)));
    CHECK(strcmp(token.id, "gpu-7_a") == 0);
    CHECK(strcmp(token.secret, "0123456789abcdef") == 0);
    CHECK(orion_token_parse("a.0123456789.b.c.def", &token, why, sizeof(why)));
    CHECK(strcmp(token.secret, "0123456789.b.c.def") == 0);
}

static void anything_else_is_none_and_the_secret_is_not_repeated(void)
{
    static const char *const wrong[] = {
        "",
        ".",
        "id",
        "id.",
        ".0123456789abcdef",
        "id.0123456789abcde",
        "i d.0123456789abcdef",
        "id.0123456789 abcdef",
        "id.0123456789abcdef\n",
        "id\xff.0123456789abcdef",
        "id.0123456789abc\x80yz",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0123456789abcdef",
    };
    orion_token_t token;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        CHECK(!orion_token_parse(wrong[i], &token, why, sizeof(why)));
        CHECK(strstr(why, "ORION_TOKEN") != NULL);
        CHECK(strstr(why, "0123456789") == NULL);
    }
    char text[300] = "id.";
    memset(text + 3, 's', ORION_TOKEN_SECRET_MAX + 1);
    CHECK(!orion_token_parse(text, &token, why, sizeof(why)));
    text[3 + ORION_TOKEN_SECRET_MAX] = '\0';
    CHECK(orion_token_parse(text, &token, why, sizeof(why)));
}

static void begin(orion_token_t *token, orion_exchange_t *exchange, orion_welcome_t *welcome)
{
    MUST(orion_token_parse("x.correct-horse-battery-staple", token, why, sizeof(why)));
    for (unsigned i = 0; i < 32; i++) {
        exchange->server_nonce[i] = (uint8_t)i;
        exchange->client_nonce[i] = (uint8_t)(100 + i);
    }
    for (unsigned i = 0; i < sizeof(exchange->hello); i++)
        ((uint8_t *)&exchange->hello)[i] = (uint8_t)(3 * i);
    for (unsigned i = 0; i < sizeof(*welcome); i++)
        ((uint8_t *)welcome)[i] = (uint8_t)(5 * i);
}

static int is(const uint8_t code[32], const char *hex)
{
    char text[65];
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", code[i]);
    return strcmp(text, hex) == 0;
}

static void codes_are_those_that_both_languages_compute(void)
{
    orion_token_t token;
    orion_exchange_t exchange;
    orion_welcome_t welcome;
    uint8_t code[32], key[32];
    begin(&token, &exchange, &welcome);
    orion_token_answer(&token, &exchange, code);
    CHECK(is(code, "5f32b4f30de726c8ecddd11d4b5dab5337fb57c0f9864b6ae028a491998c4b73"));
    orion_token_proof(&token, &exchange, &welcome, code);
    CHECK(is(code, "5049af455b579fecb3a00383268f6fa38e71c7c0eca7702cfabad310c8be7d6b"));
    orion_token_key(&token, &exchange, key);
    CHECK(is(key, "5b52fbc3d01f6f145d03e90d803db596bbc553d119774ff8830f19fb1ade33e6"));
    orion_key_epitaph(key, &exchange.hello, sizeof(exchange.hello), code);
    CHECK(is(code, "f5f21cafbecea8ae120af90f85ebedd9b044f3763033a80c2bc1f499dff4769c"));
}

static void every_byte_of_the_exchange_changes_every_code(void)
{
    orion_token_t token;
    orion_exchange_t exchange;
    orion_welcome_t welcome;
    uint8_t before[3][32], after[3][32];
    begin(&token, &exchange, &welcome);
    orion_token_answer(&token, &exchange, before[0]);
    orion_token_proof(&token, &exchange, &welcome, before[1]);
    orion_token_key(&token, &exchange, before[2]);
    for (size_t i = 0; i < sizeof(exchange); i++) {
        ((uint8_t *)&exchange)[i] ^= 1;
        orion_token_answer(&token, &exchange, after[0]);
        orion_token_proof(&token, &exchange, &welcome, after[1]);
        orion_token_key(&token, &exchange, after[2]);
        ((uint8_t *)&exchange)[i] ^= 1;
        for (int k = 0; k < 3; k++)
            CHECK(memcmp(before[k], after[k], 32) != 0);
    }
    for (size_t i = 0; i < offsetof(orion_welcome_t, proof); i++) {
        ((uint8_t *)&welcome)[i] ^= 0x80;
        orion_token_proof(&token, &exchange, &welcome, after[1]);
        ((uint8_t *)&welcome)[i] ^= 0x80;
        CHECK(memcmp(before[1], after[1], 32) != 0);
    }
}

CHECK_MAIN(CASE(an_id_and_a_secret_are_a_token), CASE(anything_else_is_none_and_the_secret_is_not_repeated),
           CASE(codes_are_those_that_both_languages_compute), CASE(every_byte_of_the_exchange_changes_every_code))
