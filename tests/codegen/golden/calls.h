/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_client.py: edit those. */
#ifndef ORION_GENERATED_CALLS_H
#define ORION_GENERATED_CALLS_H

#include "orion_generated/orion_cuda.h"

typedef struct orion_session orion_session_t;

/* orion_call_X waits for the answer, orion_post_X does not. Objects are u64 wire handles. */
CUresult orion_call_orionAsk(orion_session_t *s, unsigned char letter, const char *name, unsigned int bytes,
                             const void *data, unsigned int *count, void *answer, uint32_t answer_capacity,
                             uint32_t *answer_bytes_p);
CUresult orion_call_cuMemAlloc_v2(orion_session_t *s, CUdeviceptr *dptr, size_t bytesize);
CUresult orion_post_cuMemsetD8_v2(orion_session_t *s, CUdeviceptr dstDevice, unsigned char uc, size_t N,
                                  uint64_t default_stream);
CUresult orion_post_cuStreamCreate(orion_session_t *s, uint64_t phStream, unsigned int Flags);
CUresult orion_post_cuStreamDestroy_v2(orion_session_t *s, uint64_t hStream);
CUresult orion_call_cuStreamSynchronize(orion_session_t *s, uint64_t hStream);
CUresult orion_call_orionFetch(orion_session_t *s, uint64_t stream, void *data, uint32_t data_capacity,
                               uint32_t *data_bytes_p);

#endif
