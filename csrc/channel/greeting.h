/* SPDX-License-Identifier: Apache-2.0 */
/* What the unix socket of a channel carries, one packet each: a greeting from each side, then extents of the arena and
 * bells. Decoding is separate from receiving so that any bytes can be tried on it. */
#ifndef ORION_CHANNEL_GREETING_H
#define ORION_CHANNEL_GREETING_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_GREETING_MAGIC 0x3168634e4f49524fULL

typedef enum orion_packet_kind {
    ORION_PACKET_HELLO = 1,   /* with the segment's descriptor and perhaps a pidfd */
    ORION_PACKET_REFUSAL = 2, /* instead of a hello: why not */
    ORION_PACKET_EXTENT = 3,  /* with its descriptor */
    ORION_PACKET_BELL = 4     /* what the other side armed for has come */
} orion_packet_kind_t;

#define ORION_GREETING_MEMBARRIER 1u /* takes part in membarriers */
#define ORION_GREETING_PIDFD 2u      /* the second descriptor is a pidfd of the sender */

typedef struct orion_greeting {
    uint32_t kind;
    uint32_t version;
    uint64_t magic;
    uint32_t epoch;
    uint32_t flags;
    uint64_t segment_bytes;
    uint64_t nonce;
    uint64_t arena_limit;   /* more than this of the other side's memory is not mapped */
    char message[200];      /* of a refusal */
    uint64_t message_limit; /* longer messages are not taken */
} orion_greeting_t;

typedef struct orion_packet {
    uint32_t kind;
    uint32_t index; /* of the extent: they are numbered from 0 on */
    uint64_t bytes;
} orion_packet_t;

/* ORION_VERSION, ORION_REFUSED and ORION_PROTOCOL with a sentence about the other side. */
orion_status_t orion_greeting_decode(const void *data, size_t bytes, orion_greeting_t *greeting_p, char *why,
                                     size_t why_bytes);

/* extents, room: how many have come, and how many bytes of further ones we take. */
orion_status_t orion_packet_decode(const void *data, size_t bytes, uint32_t extents, uint64_t room,
                                   orion_packet_t *packet_p, char *why, size_t why_bytes);

#endif
