/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_server.py: edit those. */
#ifndef ORION_GENERATED_SERVE_H
#define ORION_GENERATED_SERVE_H

#include "base/status.h"
#include "orion_generated/opcodes.h"
#include "orion_generated/orion_cuda.h"
#include "wire/record.h"
#include "worker/serving.h"

/* What a deferred operation returns; its answer comes later through orion_reply_X, from any thread. */
#define ORION_DEFERRED ((CUresult)-1)

/* Serves one record. ORION_PROTOCOL: the record is malformed, end the session. */
orion_status_t orion_dispatch(orion_worker_t *w, const orion_record_t *record);

/* Written by hand in server/worker/. Objects are live, lengths are bounded, results are written on success only. */
/* sync, executor: Every form once. */
CUresult orion_serve_orionAsk(orion_worker_t *w, unsigned char letter, const char *name, unsigned int bytes,
                              const void *data, unsigned int *count, void *answer, uint32_t *answer_bytes_p);
/* sync: Allocates device memory. */
CUresult orion_serve_cuMemAlloc_v2(orion_worker_t *w, CUdeviceptr *dptr, size_t bytesize);
/* async: Fills memory. */
CUresult orion_serve_cuMemsetD8_v2(orion_worker_t *w, CUdeviceptr dstDevice, unsigned char uc, size_t N,
                                   orion_stream_t *default_stream);
/* async: Creates a stream. */
CUresult orion_serve_cuStreamCreate(orion_worker_t *w, orion_stream_t **phStream, unsigned int Flags);
/* async: Destroys a stream. */
CUresult orion_serve_cuStreamDestroy_v2(orion_worker_t *w, orion_stream_t *hStream);
/* sync, deferred: Waits for a stream. */
CUresult orion_serve_cuStreamSynchronize(orion_worker_t *w, orion_ticket_t ticket, orion_stream_t *hStream);
void orion_reply_cuStreamSynchronize(orion_worker_t *w, orion_ticket_t ticket, CUresult result);
/* sync, deferred: A deferred answer with bytes. */
CUresult orion_serve_orionFetch(orion_worker_t *w, orion_ticket_t ticket, orion_stream_t *stream);
void orion_reply_orionFetch(orion_worker_t *w, orion_ticket_t ticket, CUresult result, const void *data,
                            uint32_t data_bytes);

#endif
