/* SPDX-License-Identifier: Apache-2.0 */
/* What a channel says over a byte stream, little endian. First the hello, fixed in size:
 *
 *   connecting side                     listening side
 *   HELLO (wishes, a nonce, token ID) -> WELCOME, or REFUSAL with a sentence; or, where a token is wanted,
 *                                     <- CHALLENGE (a nonce)
 *   ANSWER (a code over both)         -> WELCOME (a code over all of it)
 *
 * then perhaps TLS or UCX, then frames, each way: what shared memory shows by itself is told. RING: the next bytes of the
 * ring, exactly as they lie there. TAIL: how far the other side's ring has been read. REPLY: an answer for a slot. BULK: the
 * next bytes of a long payload, before the record or answer that names it; RELEASE: its memory was given back. */
#ifndef ORION_CHANNEL_NET_FRAME_H
#define ORION_CHANNEL_NET_FRAME_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_NET_MAGIC 0x3174654e6843724fULL /* "OrChNet1" */
#define ORION_NET_VERSION 1u
#define ORION_NET_CHUNK (256u * 1024u) /* bytes of one BULK frame, at most */

typedef enum orion_net_step {
    ORION_NET_HELLO = 1,
    ORION_NET_CHALLENGE = 2,
    ORION_NET_ANSWER = 3,
    ORION_NET_WELCOME = 4,
    ORION_NET_REFUSAL = 5
} orion_net_step_t;

#define ORION_NET_TLS 1u /* hello: wants TLS; welcome: it begins behind this */
#define ORION_NET_UCX 2u /* hello, welcome: UCX begins behind it */

typedef struct orion_net_hello {
    uint64_t magic;
    uint32_t version;
    uint32_t step;
    uint32_t flags;
    uint32_t epoch;       /* of the sender's ring; never 0 in a hello or a welcome */
    uint64_t arena_limit; /* bytes of long payloads that the sender holds for the other side at once */
    uint8_t nonce[32];
    uint8_t mac[32];
    char token[64];         /* the ID; "" = none */
    char message[216];      /* of a refusal */
    uint64_t message_limit; /* longer messages are not taken */
} orion_net_hello_t;

static_assert(sizeof(orion_net_hello_t) == 384, "wire layout");
static_assert(offsetof(orion_net_hello_t, nonce) == 32, "wire layout");
static_assert(offsetof(orion_net_hello_t, mac) == 64, "wire layout");

/* The fields that are the same in every step; a refusal is ORION_REFUSED with its sentence. */
orion_status_t orion_net_hello_decode(const void *data, orion_net_hello_t *hello_p, char *why, size_t why_bytes);

typedef enum orion_net_kind {
    ORION_NET_RING = 1,    /* payload */
    ORION_NET_TAIL = 2,    /* sequence: the index up to which the receiver of RING frames has read */
    ORION_NET_REPLY = 3,   /* index: slot; sequence: of the call; total: orion_reply_t.result; payload: its data */
    ORION_NET_BULK = 4,    /* index: reference; sequence: generation; total: bytes of all its frames; payload */
    ORION_NET_DROP = 5,    /* index, sequence: the bulk was given up and will not be named */
    ORION_NET_RELEASE = 6, /* index, sequence: the receiver of the bulk has given its memory back */
    ORION_NET_CLOSE = 7    /* the sender goes on purpose; the last frame */
} orion_net_kind_t;

typedef struct orion_net_frame {
    uint32_t bytes; /* of the payload behind it */
    uint16_t kind;
    uint16_t index;
    uint32_t sequence;
    uint32_t reserved; /* 0 */
    uint64_t total;
} orion_net_frame_t;

static_assert(sizeof(orion_net_frame_t) == 24, "wire layout");

#endif
