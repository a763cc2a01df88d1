/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens, see token.h. server/orion_server/tokens.py is the twin. */
#include "wire/token.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static bool of_id(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool orion_token_parse(const char *text, orion_token_t *token_p, char *why, size_t why_bytes)
{
    size_t id = 0, secret = 0;
    while (of_id(text[id]))
        id++;
    const char *rest = text[id] == '.' ? text + id + 1 : "";
    while (rest[secret] > ' ' && rest[secret] < 127)
        secret++;
    if (id == 0 || id > ORION_TOKEN_ID_MAX || text[id] != '.') {
        orion_explain(why, why_bytes,
                      "ORION_TOKEN is not of the form ID.SECRET with an ID of 1 to %u letters, digits, - and _; take "
                      "it as the server's operator gave it",
                      ORION_TOKEN_ID_MAX);
        return false;
    }
    if (rest[secret] != '\0' || secret < ORION_TOKEN_SECRET_MIN || secret > ORION_TOKEN_SECRET_MAX) {
        orion_explain(why, why_bytes,
                      "the secret of ORION_TOKEN=%.*s.... is not of %u to %u printable characters; take it as the "
                      "server's operator gave it",
                      (int)id, text, ORION_TOKEN_SECRET_MIN, ORION_TOKEN_SECRET_MAX);
        return false;
    }
    memset(token_p, 0, sizeof(*token_p));
    memcpy(token_p->id, text, id);
    memcpy(token_p->secret, rest, secret);
    return true;
}

static char chosen[ORION_TOKEN_ID_MAX + ORION_TOKEN_SECRET_MAX + 2];

static bool chosen_is_bound;

void orion_token_choose(const char *text, bool bound)
{
    orion_field_set(chosen, sizeof(chosen), text);
    chosen_is_bound = bound;
}

const char *orion_token_chosen(bool *bound_p)
{
    *bound_p = chosen_is_bound;
    const char *text = chosen[0] != '\0' ? chosen : getenv("ORION_TOKEN");
    return text != NULL && text[0] != '\0' ? text : NULL;
}

/* The purpose's name with its NUL comes first, so that a code for one purpose is none for another. */
static void begin(orion_hmac_t *hmac, const orion_token_t *token, const char *purpose, const orion_exchange_t *exchange)
{
    orion_hmac_init(hmac, token->secret, strlen(token->secret));
    orion_hmac_update(hmac, purpose, strlen(purpose) + 1);
    orion_hmac_update(hmac, exchange->server_nonce, sizeof(exchange->server_nonce));
    orion_hmac_update(hmac, exchange->client_nonce, sizeof(exchange->client_nonce));
    orion_hmac_update(hmac, &exchange->hello, sizeof(exchange->hello));
}

void orion_token_answer(const orion_token_t *token, const orion_exchange_t *exchange, uint8_t mac[ORION_MAC_BYTES])
{
    orion_hmac_t hmac;
    begin(&hmac, token, "orion 1 answer", exchange);
    orion_hmac_final(&hmac, mac);
}

void orion_token_proof(const orion_token_t *token, const orion_exchange_t *exchange, const orion_welcome_t *welcome,
                       uint8_t mac[ORION_MAC_BYTES])
{
    orion_hmac_t hmac;
    begin(&hmac, token, "orion 1 proof", exchange);
    orion_hmac_update(&hmac, welcome, offsetof(orion_welcome_t, proof));
    orion_hmac_final(&hmac, mac);
}

void orion_token_key(const orion_token_t *token, const orion_exchange_t *exchange, uint8_t key[ORION_KEY_BYTES])
{
    orion_hmac_t hmac;
    begin(&hmac, token, "orion 1 session key", exchange);
    orion_hmac_final(&hmac, key);
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool orion_token_uncover(const orion_token_t *token, const orion_exchange_t *exchange, orion_redirect_t *redirect)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t proof[ORION_MAC_BYTES], key[ORION_KEY_BYTES];
    orion_hmac_t hmac;
    begin(&hmac, token, "orion 1 redirect", exchange);
    orion_hmac_update(&hmac, redirect, offsetof(orion_redirect_t, proof));
    orion_hmac_final(&hmac, proof);
    char *secret = strchr(redirect->token, '.');
    if (!orion_same_bytes(proof, redirect->proof, sizeof(proof)) || secret == NULL ||
        strlen(++secret) != 2 * sizeof(key))
        return false;
    orion_token_key(token, exchange, key); /* which no session of this exchange will use */
    for (size_t i = 0; i < sizeof(key); i++) {
        int high = digit_of(secret[2 * i]), low = digit_of(secret[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        uint8_t byte = (uint8_t)(high << 4 | low) ^ key[i];
        secret[2 * i] = digits[byte >> 4];
        secret[2 * i + 1] = digits[byte & 15];
    }
    orion_forget_bytes(key, sizeof(key));
    return true;
}

void orion_key_epitaph(const uint8_t key[ORION_KEY_BYTES], const void *frame, size_t bytes,
                       uint8_t mac[ORION_MAC_BYTES])
{
    static const char purpose[] = "orion 1 epitaph";
    orion_hmac_t hmac;
    orion_hmac_init(&hmac, key, ORION_KEY_BYTES);
    orion_hmac_update(&hmac, purpose, sizeof(purpose));
    orion_hmac_update(&hmac, frame, bytes);
    orion_hmac_final(&hmac, mac);
}
