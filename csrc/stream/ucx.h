/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over UCX, which finds the fastest way that two hosts have (RDMA; else its own tcp). It begins on a
 * connected socket, over which both ends tell each other where UCX reaches them, and which stays as the witness of the
 * other's life. UCX believes what its peer sends: this is for networks and peers that may be trusted. */
#ifndef ORION_STREAM_UCX_H
#define ORION_STREAM_UCX_H

#include "stream/stream.h"

#define ORION_UCX_KEY_BYTES 32u

/* Takes the socket over, also on failure. key: of the session, by which the two addresses are proved; NULL: none. The
 * rest happens with the first send or receive, or in orion_ucx_meet: only that reads what the other end says, in a
 * cage if there is one. UCX_TLS and UCX_NET_DEVICES count; without them it takes no shared memory, and on one host no
 * device but lo. */
orion_status_t orion_bytestream_of_ucx(int socket, bool server, const uint8_t *key, orion_bytestream_t **stream_p,
                                       char *why, size_t why_bytes);

/* Waits until both ends reach each other. */
orion_status_t orion_ucx_meet(orion_bytestream_t *stream, int64_t limit_ns, char *why, size_t why_bytes);

#endif
