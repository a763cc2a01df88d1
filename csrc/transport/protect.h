/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a client's stream is encrypted: ORION_TLS=auto (the default: to another host, with a token) | off | required.
 * Unencrypted data goes to another host only with ORION_INSECURE_TCP=1. */
#ifndef ORION_TRANSPORT_PROTECT_H
#define ORION_TRANSPORT_PROTECT_H

#include <stdbool.h>
#include <stddef.h>

#include "stream/stream.h"
#include "transport/greet.h"

typedef struct orion_protection {
    uint32_t flags;     /* for the hello */
    bool plain_allowed; /* the server may answer without TLS */
    bool ucx;           /* the stream is UCX's, and never encrypted */
} orion_protection_t;

/* Before the hello. ORION_INVALID: it may not go to that server; one sentence says why and what to change. */
orion_status_t orion_protection_of(int socket, const char *name, bool ucx, orion_protection_t *p, char *why,
                                   size_t why_bytes);

/* Behind the welcome: the stream that both sides have agreed on. The socket is taken over, also on failure. */
orion_status_t orion_protection_stream(const orion_protection_t *p, int socket, const char *name,
                                       const orion_welcome_t *welcome, const orion_greet_key_t *key,
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes);

#endif
