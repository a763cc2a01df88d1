/* SPDX-License-Identifier: Apache-2.0 */
/* The beginning of every session with a server: a connection, hello, welcome. */
#ifndef ORION_TRANSPORT_GREET_H
#define ORION_TRANSPORT_GREET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "wire/hello.h"

/* A connected socket to "unix:PATH" or "HOST:PORT", or -1 with a sentence. */
int orion_greet_connect(const char *address, char *why, size_t why_bytes);

/* Is ORION_TOKEN set? */
bool orion_greet_has_token(void);

/* What a greeting with a token leaves behind. */
typedef struct orion_greet_key {
    bool proven; /* both sides have shown that they know the token of ORION_TOKEN */
    uint8_t key[ORION_KEY_BYTES];
} orion_greet_key_t;

/* Says hello and waits for the welcome, as long as the server asks to; with ORION_TOKEN=ID.SECRET in the environment it
 * names the token and answers the server's challenge. Over TCP a server that does not prove that it knows the token,
 * too, is refused. *welcome_p is checked on success, and holds the server's answer on ORION_REFUSED. fds: what came
 * with it, or -1; the caller's to close also on failure. key_p may be NULL. */
orion_status_t orion_greet(int socket, const char *name, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                           int fds[2], orion_greet_key_t *key_p, char *why, size_t why_bytes);

/* The same hello to a controller, until it sends us on to a server. waits: is told why there is no vGPU yet, each second
 * while that is so; when it returns false nobody waits any more, and this is ORION_TIMEOUT without a sentence.
 * ORION_REFUSED: *cuda_result_p is what the controller wants cuInit to answer. */
typedef bool (*orion_greet_waits_t)(void *context, const char *reason);
orion_status_t orion_greet_controller(int socket, const char *name, const orion_hello_t *hello,
                                      orion_redirect_t *redirect_p, orion_greet_waits_t waits, void *context,
                                      int32_t *cuda_result_p, char *why, size_t why_bytes);

#endif
