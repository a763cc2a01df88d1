/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: how a client and a server show each other that they know one secret, without saying it.
 *
 * ORION_TOKEN is ID.SECRET. The hello carries the ID; the server answers with a challenge, a nonce; the client with a
 * nonce of its own and a code over both and the hello; the welcome ends in the server's code over all that and itself.
 * Both codes are HMAC-SHA256 under the secret, each with a name of its own, and so is the key of what follows.
 * Each nonce is drawn for one connection: nothing of it is good for another. */
#ifndef ORION_WIRE_TOKEN_H
#define ORION_WIRE_TOKEN_H

#include <stdbool.h>

#include "base/sha256.h"
#include "wire/hello.h"

#define ORION_TOKEN_ID_MAX 63u     /* of letters, digits, '-' and '_' */
#define ORION_TOKEN_SECRET_MIN 16u /* printable characters other than blanks */
#define ORION_TOKEN_SECRET_MAX 255u

typedef struct orion_token {
    char id[ORION_TOKEN_ID_MAX + 1];
    char secret[ORION_TOKEN_SECRET_MAX + 1];
} orion_token_t;

/* "ID.SECRET". why: one sentence that does not repeat the secret. */
bool orion_token_parse(const char *text, orion_token_t *token_p, char *why, size_t why_bytes);

/* The token that this process names in hellos: what was chosen last (ID.SECRET, for this process alone: programs that it
 * starts don't inherit it), else ORION_TOKEN. NULL: none. bound: it is for one server, which has to prove that it is it
 * even on a unix socket. Not for several threads at once. */
void orion_token_choose(const char *text, bool bound);
const char *orion_token_chosen(bool *bound_p);

/* What both sides know when the challenge has been answered. */
typedef struct orion_exchange {
    uint8_t server_nonce[ORION_NONCE_BYTES], client_nonce[ORION_NONCE_BYTES];
    orion_hello_t hello; /* as it was sent */
} orion_exchange_t;

void orion_token_answer(const orion_token_t *token, const orion_exchange_t *exchange, uint8_t mac[ORION_MAC_BYTES]);
/* Over the welcome without its proof, which is its end. */
void orion_token_proof(const orion_token_t *token, const orion_exchange_t *exchange, const orion_welcome_t *welcome,
                       uint8_t mac[ORION_MAC_BYTES]);
/* The key of this one session, which the server's worker gets instead of the secret. */
void orion_token_key(const orion_token_t *token, const orion_exchange_t *exchange, uint8_t key[ORION_KEY_BYTES]);
/* A controller's redirect after an exchange: checks its proof and uncovers the secret of the token in it. */
bool orion_token_uncover(const orion_token_t *token, const orion_exchange_t *exchange, orion_redirect_t *redirect);
/* What the supervisor, with that key, says at the end of a stream that only the dead worker could have encrypted. */
void orion_key_epitaph(const uint8_t key[ORION_KEY_BYTES], const void *frame, size_t bytes,
                       uint8_t mac[ORION_MAC_BYTES]);

#endif
