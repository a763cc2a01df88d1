/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_client.py: edit those. */
#include "orion_generated/calls.h"
#include "orion_generated/wire.h"
#include "stub.h"

CUresult orion_call_orionAsk(orion_session_t *s, unsigned char letter, const char *name, unsigned int bytes,
                             const void *data, unsigned int *count, void *answer, uint32_t answer_capacity,
                             uint32_t *answer_bytes_p)
{
    orion_call_t call;
    size_t name_length = strlen(name) + 1;
    size_t data_length = (size_t)bytes;
    CUresult result = orion_call_begin(s, &call, ORION_OP_orionAsk, orion_measure_orionAsk(name_length, data_length),
                                       1);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_orionAsk(call.cursor.p, letter, name, bytes, data);
    orion_cursor_t reply;
    result = orion_call_wait(&call, &reply);
    if (result != CUDA_SUCCESS) return result;
    const orion_outs_orionAsk_t *outs = (const void *)orion_cursor_take(&reply, 8);
    if (outs == NULL) return CUDA_ERROR_UNKNOWN;
    const void *answer_data = orion_cursor_take(&reply, orion_wire_padded(outs->answer_bytes));
    if (answer_data == NULL || outs->answer_bytes > answer_capacity) return CUDA_ERROR_UNKNOWN;
    if (count != NULL) *count = (unsigned int)outs->count;
    if (outs->answer_bytes != 0) memcpy(answer, answer_data, outs->answer_bytes);
    if (answer_bytes_p != NULL) *answer_bytes_p = outs->answer_bytes;
    return CUDA_SUCCESS;
}

CUresult orion_call_cuMemAlloc_v2(orion_session_t *s, CUdeviceptr *dptr, size_t bytesize)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_cuMemAlloc_v2, orion_measure_cuMemAlloc_v2(), 1);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_cuMemAlloc_v2(call.cursor.p, bytesize);
    orion_cursor_t reply;
    result = orion_call_wait(&call, &reply);
    if (result != CUDA_SUCCESS) return result;
    const orion_outs_cuMemAlloc_v2_t *outs = (const void *)orion_cursor_take(&reply, 8);
    if (outs == NULL) return CUDA_ERROR_UNKNOWN;
    if (dptr != NULL) *dptr = (CUdeviceptr)outs->dptr;
    return CUDA_SUCCESS;
}

CUresult orion_post_cuMemsetD8_v2(orion_session_t *s, CUdeviceptr dstDevice, unsigned char uc, size_t N,
                                  uint64_t default_stream)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_cuMemsetD8_v2, orion_measure_cuMemsetD8_v2(), 0);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_cuMemsetD8_v2(call.cursor.p, dstDevice, uc, N, default_stream);
    return orion_call_post(&call);
}

CUresult orion_post_cuStreamCreate(orion_session_t *s, uint64_t phStream, unsigned int Flags)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_cuStreamCreate, orion_measure_cuStreamCreate(), 0);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_cuStreamCreate(call.cursor.p, phStream, Flags);
    return orion_call_post(&call);
}

CUresult orion_post_cuStreamDestroy_v2(orion_session_t *s, uint64_t hStream)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_cuStreamDestroy_v2, orion_measure_cuStreamDestroy_v2(), 0);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_cuStreamDestroy_v2(call.cursor.p, hStream);
    return orion_call_post(&call);
}

CUresult orion_call_cuStreamSynchronize(orion_session_t *s, uint64_t hStream)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_cuStreamSynchronize, orion_measure_cuStreamSynchronize(), 1);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_cuStreamSynchronize(call.cursor.p, hStream);
    orion_cursor_t reply;
    result = orion_call_wait(&call, &reply);
    return result;
}

CUresult orion_call_orionFetch(orion_session_t *s, uint64_t stream, void *data, uint32_t data_capacity,
                               uint32_t *data_bytes_p)
{
    orion_call_t call;
    CUresult result = orion_call_begin(s, &call, ORION_OP_orionFetch, orion_measure_orionFetch(), 1);
    if (result != CUDA_SUCCESS) return result;
    orion_encode_orionFetch(call.cursor.p, stream);
    orion_cursor_t reply;
    result = orion_call_wait(&call, &reply);
    if (result != CUDA_SUCCESS) return result;
    const orion_outs_orionFetch_t *outs = (const void *)orion_cursor_take(&reply, 8);
    if (outs == NULL) return CUDA_ERROR_UNKNOWN;
    const void *data_data = orion_cursor_take(&reply, orion_wire_padded(outs->data_bytes));
    if (data_data == NULL || outs->data_bytes > data_capacity) return CUDA_ERROR_UNKNOWN;
    if (outs->data_bytes != 0) memcpy(data, data_data, outs->data_bytes);
    if (data_bytes_p != NULL) *data_bytes_p = outs->data_bytes;
    return CUDA_SUCCESS;
}

