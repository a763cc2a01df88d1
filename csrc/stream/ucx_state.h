/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over UCX as ucx.c (moves bytes) and ucx_meet.c (begins) share it. */
#ifndef ORION_STREAM_UCX_STATE_H
#define ORION_STREAM_UCX_STATE_H

#include <pthread.h>

#include "base/sha256.h"
#include "stream/libucp.h"
#include "stream/ucx.h"

#define ORION_UCX_BOUNCE (256u * 1024u)
#define ORION_UCX_TAIL 512u
#define ORION_UCX_INTRO_MOST 8256u

typedef enum orion_ucx_phase {
    ORION_UCX_ADDRESS, /* the other's address has not come yet */
    ORION_UCX_BYTE,    /* connected; its byte has not come yet */
    ORION_UCX_DONE,
    ORION_UCX_FAILED
} orion_ucx_phase_t;

typedef struct orion_ucx {
    orion_bytestream_t base; /* first */
    const orion_libucp_t *lib;
    orion_ucp_context_t *context;
    orion_ucp_worker_t *worker;
    orion_ucp_ep_t *ep;
    orion_ucp_address_t *address; /* ours */
    size_t address_bytes;
    int efd, wake_fd; /* UCX's, and ours for what a sender has received in passing */
    bool server, has_key;
    uint8_t key[ORION_UCX_KEY_BYTES];

    pthread_mutex_t lock; /* of all below, and of UCX, which is for one thread at a time */
    orion_ucx_phase_t phase;
    bool broken;   /* UCX says that the connection is */
    bool ended;    /* the socket says that the other end is gone */
    bool armed;    /* somebody slept: the socket may have woken it */
    bool dirty;    /* something was sent since `flush` began */
    void *flush;   /* a request: what was sent before it is settled when it is done */
    void *sending; /* a request for `promised` bytes of bounce */
    size_t promised;
    unsigned turns;            /* empty looks */
    uint8_t *piece, *piece_at; /* UCX's memory that was received, and what of it is unread */
    size_t piece_left;
    char problem[200];
    uint32_t tail_bytes, intro_at;
    uint8_t tail[ORION_UCX_TAIL];
    uint8_t intro[ORION_UCX_INTRO_MOST];
    uint8_t bounce[ORION_UCX_BOUNCE];
} orion_ucx_t;

/* ucx.c, all with the lock */
extern const orion_bytestream_ops_t orion_ucx_ops;
bool orion_ucx_settle(orion_ucx_t *u);          /* orion_bytestream_settled */
void orion_ucx_look_at_witness(orion_ucx_t *u); /* what the other end has left there, or who watched over it */
bool orion_ucx_next_piece(orion_ucx_t *u);      /* there is one to read */
void orion_ucx_close(orion_bytestream_t *stream);

/* ucx_meet.c, with the lock: ORION_OK once both ends have reached each other. */
orion_status_t orion_ucx_step(orion_ucx_t *u);

#endif
