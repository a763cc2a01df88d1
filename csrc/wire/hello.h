/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed-size messages on a session's socket: the client's hello, the server's welcome, later notices; and the
 * redirect with which a controller answers a hello.
 * Little endian, natural alignment, no padding; the Python side reads them with the `struct` formats given here. */
#ifndef ORION_WIRE_HELLO_H
#define ORION_WIRE_HELLO_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Ours, and the one before, once there is one: a server answers each client in the client's own. Tests define others. */
#ifndef ORION_WIRE_VERSION
#define ORION_WIRE_VERSION 1u
#define ORION_WIRE_VERSION_MIN 1u
#endif
#define ORION_HELLO_MAGIC 0x316f6c6c6548724fULL    /* "OrHello1" */
#define ORION_WELCOME_MAGIC 0x316f636c6557724fULL  /* "OrWelco1" */
#define ORION_NOTICE_MAGIC 0x316369746f4e724fULL   /* "OrNotic1" */
#define ORION_REDIRECT_MAGIC 0x317269646552724fULL /* "OrRedir1" */

#define ORION_CANDIDATES 8 /* address ranges a client may propose */

/* flags of hello (what the client can do) and welcome (what both agreed on) */
#define ORION_FLAG_MEMBARRIER 0x1u  /* sleepers use membarrier, senders need no fence */
#define ORION_FLAG_NO_RANGE 0x2u    /* hello: propose no common address range */
#define ORION_FLAG_TLS 0x4u         /* hello: can encrypt its stream; welcome: TLS begins behind it */
#define ORION_FLAG_TLS_WANTED 0x8u  /* hello: and wants to, be the server on this host or not */
#define ORION_FLAG_CROSS_NODE 0x10u /* hello to a controller: several vGPUs may come from several servers */

#define ORION_NONCE_BYTES 32u
#define ORION_MAC_BYTES 32u
#define ORION_KEY_BYTES 32u

typedef enum orion_transport {
    ORION_TRANSPORT_ANY = 0,
    ORION_TRANSPORT_MEMFD = 1,  /* segments as descriptors over the unix socket */
    ORION_TRANSPORT_DEVSHM = 2, /* segments as files of /dev/shm, named in the welcome, proven by the nonce */
    ORION_TRANSPORT_LOCAL = 3,  /* the worker is a thread of this process */
    ORION_TRANSPORT_TCP = 4,    /* no shared memory: all data over the socket, wire/frame.h */
    ORION_TRANSPORT_UCX = 5     /* the same frames over UCX, stream/ucx.h; the socket begins it and is its witness */
} orion_transport_t;

/* Python: "<QIIIIIIQII8QQ64s128s" */
typedef struct orion_hello {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes; /* sizeof(orion_hello_t) of the sender */
    uint32_t flags;
    uint32_t pid; /* a claim; the server uses SO_PEERCRED */
    uint32_t uid; /* a claim; decides the owner of /dev/shm files */
    uint32_t transport;
    uint64_t wish_gmem_mib; /* 0 = no wish */
    uint32_t wish_vgpu;     /* how many vGPUs, 0 = 1 */
    uint32_t wish_ratio;    /* percent, 0 = no wish */
    uint64_t
        candidates[ORION_CANDIDATES]; /* bases the client has reserved, filled in by orion_link_open; 0 ends the list */
    uint64_t range_bytes;             /* of each: first half arena, second half device heap */
    char token[64];                   /* the ID of a token, wire/token.h; "" = none */
    char command[128];
} orion_hello_t;

/* Python: "<QIIIiQIIQQQQIIQ64s64s64s256s32s", with two descriptors (command, reply) in SCM_RIGHTS in memfd mode.
 * A server refuses with status != 0: then only version, status, cuda_result and message count, and no descriptors. */
typedef struct orion_welcome {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    uint32_t status;     /* orion_status_t */
    int32_t cuda_result; /* what cuInit answers when status is not ORION_OK */
    uint64_t session_id;
    uint32_t epoch;
    uint32_t flags;
    uint64_t range_base; /* 0: no common range, no arena */
    uint64_t arena_bytes;
    uint64_t heap_bytes;
    uint64_t memory_limit;
    uint32_t worker_pid;
    uint32_t slots;
    uint64_t nonce;        /* the reply segment starts with it; a /dev/shm client writes it into the command segment */
    char command_name[64]; /* /dev/shm mode: file names without a slash */
    char reply_name[64];
    char device[64];
    char message[256];
    uint8_t proof[ORION_MAC_BYTES]; /* last: orion_token_proof, if the client had to prove its token; else zeros */
} orion_welcome_t;

typedef enum orion_notice_kind {
    ORION_NOTICE_EXTENT = 1,  /* one descriptor: map `size` bytes of it at range_base + offset */
    ORION_NOTICE_EPITAPH = 2, /* the session is over; why */
    ORION_NOTICE_WAIT = 3,    /* before the welcome, at once and then each second: the worker is starting. A server that
                               * says nothing for ORION_HELLO_SILENCE_NS is given up */
    ORION_NOTICE_OFFER = 4,   /* client to server, one descriptor: memory of the client's, `offset` its address */
    ORION_NOTICE_CHALLENGE = 5, /* before the welcome: nonce; the client answers at once */
    ORION_NOTICE_ANSWER = 6     /* client to server: nonce and mac */
} orion_notice_kind_t;

#define ORION_HELLO_SILENCE_NS 3000000000LL
#define ORION_HELLO_LIMIT_NS 120000000000LL /* with notices to wait */

/* Python: "<QIIQQiI256s", of which a challenge and its answer use "<32s32s" of the last field */
typedef struct orion_notice {
    uint64_t magic;
    uint32_t bytes;
    uint32_t kind;
    uint64_t offset;
    uint64_t size;
    int32_t cuda_result;
    uint32_t reserved;
    union {
        char message[256];
        struct {
            uint8_t nonce[ORION_NONCE_BYTES], mac[ORION_MAC_BYTES];
        };
    };
} orion_notice_t;

/* Python: "<QIIQQII128s128s128s32s". A controller's answer to a hello: where the vGPU is, and the token for it. If the
 * client had to prove a token of its own, the secret in this one is masked, and the message is proven; wire/token.h. */
typedef struct orion_redirect {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;
    uint64_t lease;
    uint64_t memory_limit;
    uint32_t ratio; /* percent */
    uint32_t reserved;
    char token[128];   /* ID.SECRET */
    char address[128]; /* HOST:PORT; "" = there is none */
    char local[128];   /* path of a unix socket on the client's host, if it can see it; "" = there is none */
    uint8_t proof[ORION_MAC_BYTES];
} orion_redirect_t;

static_assert(sizeof(orion_redirect_t) == 456, "wire layout");
static_assert(offsetof(orion_redirect_t, token) == 40, "wire layout");
static_assert(sizeof(orion_hello_t) == 312, "wire layout");
static_assert(offsetof(orion_hello_t, candidates) == 48, "wire layout");
static_assert(offsetof(orion_hello_t, token) == 120, "wire layout");
static_assert(sizeof(orion_welcome_t) == 568, "wire layout");
static_assert(offsetof(orion_welcome_t, range_base) == 40, "wire layout");
static_assert(offsetof(orion_welcome_t, command_name) == 88, "wire layout");
static_assert(offsetof(orion_welcome_t, proof) + ORION_MAC_BYTES == sizeof(orion_welcome_t),
              "the proof covers the rest");
static_assert(sizeof(orion_notice_t) == 296, "wire layout");
static_assert(offsetof(orion_notice_t, message) == 40, "wire layout");
static_assert(offsetof(orion_notice_t, mac) == 72, "wire layout");

/* Fill in magic, version, size and what this process can tell about itself (pid, uid, command name). */
void orion_hello_init(orion_hello_t *hello);
void orion_welcome_init(orion_welcome_t *welcome);
void orion_redirect_init(orion_redirect_t *redirect);
void orion_notice_init(orion_notice_t *notice, orion_notice_kind_t kind);

/* Decode `bytes` bytes from a socket. The result is written only on success, its strings are NUL-terminated.
 * why: one sentence, also only on failure. ORION_VERSION names both versions, anything else is ORION_PROTOCOL. */
orion_status_t orion_hello_decode(const void *data, size_t bytes, orion_hello_t *hello_p, char *why, size_t why_bytes);
orion_status_t orion_welcome_decode(const void *data, size_t bytes, orion_welcome_t *welcome_p, char *why,
                                    size_t why_bytes);
orion_status_t orion_notice_decode(const void *data, size_t bytes, orion_notice_t *notice_p, char *why,
                                   size_t why_bytes);
orion_status_t orion_redirect_decode(const void *data, size_t bytes, orion_redirect_t *redirect_p, char *why,
                                     size_t why_bytes);

/* Copies a text into a fixed field, cut at its end, always terminated, the rest zero. */
void orion_field_set(char *field, size_t field_bytes, const char *text);

#endif
