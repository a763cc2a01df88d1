/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over a socket, encrypted by TLS 1.3 with a key that both ends have already (PSK with ephemeral key
 * exchange): whoever finishes the handshake knows the key, and what was recorded cannot be read later with it. */
#ifndef ORION_STREAM_TLS_H
#define ORION_STREAM_TLS_H

#include "stream/stream.h"

#define ORION_TLS_KEY_BYTES 32u

/* Takes the socket over, also on failure. The handshake happens with the first send or receive, or in
 * orion_tls_handshake. All that needs files happens here: a cage may be entered afterwards. */
orion_status_t orion_bytestream_of_tls(int socket, bool server, const uint8_t key[ORION_TLS_KEY_BYTES],
                                       orion_bytestream_t **stream_p, char *why, size_t why_bytes);

/* Waits until the handshake is done. ORION_PROTOCOL: the other end does not have the key, or speaks no TLS. */
orion_status_t orion_tls_handshake(orion_bytestream_t *stream, int64_t limit_ns, char *why, size_t why_bytes);

#endif
