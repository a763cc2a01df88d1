/* SPDX-License-Identifier: Apache-2.0 */
/* What the generated dispatch sees of a worker. */
#ifndef ORION_WORKER_SERVING_H
#define ORION_WORKER_SERVING_H

#include "devices/device.h"
#include "wire/record.h"
#include "worker/handles.h"

#include "base/status.h"

#include <stdbool.h>

typedef struct orion_worker orion_worker_t;

typedef enum orion_handle_kind {
    ORION_HANDLE_STREAM,
    ORION_HANDLE_EVENT,
    ORION_HANDLE_MODULE,
    ORION_HANDLE_FUNCTION,
    ORION_HANDLE_KINDS
} orion_handle_kind_t;

#define ORION_WIRE_STREAM_LEGACY 0ull
#define ORION_WIRE_STREAM_THREAD (1ull << 48) /* | the client thread's reply slot */

typedef struct orion_ticket {
    uint32_t slot, sequence;
} orion_ticket_t;

orion_handles_t *orion_worker_handles(orion_worker_t *worker, orion_handle_kind_t kind);

/* Knows the legacy stream (NULL) and the per-thread ones. False: no such stream. */
bool orion_worker_stream(orion_worker_t *worker, uint64_t wire, orion_stream_t **stream_p);

/* Answers a call and adds the sticky status. Any thread. */
void orion_worker_reply(orion_worker_t *worker, uint32_t slot, uint32_t sequence, CUresult result, const void *data,
                        uint32_t bytes);

/* Runs a copy of the record on an executor thread, in order for each slot. */
orion_status_t orion_worker_queue(orion_worker_t *worker, const orion_record_t *record,
                                  void (*run)(orion_worker_t *, const orion_record_t *));

/* The one way to charge memory: against the session's hard limit. CUDA_ERROR_OUT_OF_MEMORY beyond it. */
CUresult orion_ledger_charge(orion_worker_t *worker, uint64_t bytes);
void orion_ledger_refund(orion_worker_t *worker, uint64_t bytes);

/* An operation that nobody waits for has failed: its error becomes the session's sticky status. */
void orion_worker_async_failed(orion_worker_t *worker, CUresult result, const char *operation);

#endif
