/* SPDX-License-Identifier: Apache-2.0 */
/* What the chapters share. Each file serves the operations of one chapter of csrc/spec; its twin is client/hand. */
#ifndef ORION_WORKER_HAND_H
#define ORION_WORKER_HAND_H

#include "orion_generated/serve.h"
#include "worker/worker.h"

typedef void (*orion_answer_fn)(orion_worker_t *worker, orion_ticket_t ticket, CUresult result);

/* A call that the device answers later: handed to it as (orion_deferred_done, orion_defer(...)). */
typedef struct orion_deferred {
    orion_worker_t *worker;
    orion_ticket_t ticket;
    orion_answer_fn answer;
} orion_deferred_t;

/* NULL: no memory. */
orion_deferred_t *orion_defer(orion_worker_t *worker, orion_ticket_t ticket, orion_answer_fn answer);
/* orion_done_fn: answers and frees. */
void orion_deferred_done(void *arg, CUresult result);
/* ORION_DEFERRED if the device took the call, else its error; the call is freed then. */
CUresult orion_deferred_begun(orion_deferred_t *deferred, CUresult result);

/* orion_done_fn for work that nobody waits for; arg is the worker. */
void orion_quiet_done(void *arg, CUresult result);

/* upload.c: what the client has uploaded is the caller's from now on, and counts until it is freed. data NULL: there is
 * nothing of that name. */
orion_upload_t orion_upload_take(orion_worker_t *worker, uint32_t id);
void orion_upload_free(orion_worker_t *worker, orion_upload_t *taken);
/* The other way round; the memory is taken over if there is room for it. */
CUresult orion_upload_put(orion_worker_t *worker, uint32_t id, void *data, uint64_t bytes);

/* Text for the client's own standard output (kind 2) or error (kind 3), in order. Not on the loop: it waits for room. */
#define ORION_EVENT_HOST_FUNCTION 1u
#define ORION_EVENT_STDOUT 2u
#define ORION_EVENT_STDERR 3u
void orion_worker_print(orion_worker_t *worker, uint32_t kind, const char *text, size_t bytes);

#endif
