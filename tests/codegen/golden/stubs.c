/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_client.py: edit those. */
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "stub.h"

#define ORION_EXPORT __attribute__((visibility("default")))

ORION_EXPORT CUresult cuDeviceGetCount(int *count);
ORION_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize);
ORION_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount);
ORION_EXPORT CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount);
ORION_EXPORT CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N);
ORION_EXPORT CUresult cuMemsetD8_v2_ptds(CUdeviceptr dstDevice, unsigned char uc, size_t N);
ORION_EXPORT CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags);
ORION_EXPORT CUresult cuStreamDestroy(CUstream hStream);
ORION_EXPORT CUresult cuStreamDestroy_v2(CUstream hStream);
ORION_EXPORT CUresult cuStreamSynchronize(CUstream hStream);
ORION_EXPORT CUresult cuStreamSynchronize_ptsz(CUstream hStream);

ORION_EXPORT CUresult cuDeviceGetCount(int *count)
{
    return orion_hand_cuDeviceGetCount(count);
}

ORION_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
    orion_session_t *s;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &s);
    if (result != CUDA_SUCCESS) return result;
    if (dptr == NULL) return CUDA_ERROR_INVALID_VALUE;
    return orion_call_cuMemAlloc_v2(s, dptr, bytesize);
}

ORION_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
    return orion_hand_cuMemcpyHtoD_v2(CU_STREAM_LEGACY, dstDevice, srcHost, ByteCount);
}

ORION_EXPORT CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{
    return orion_hand_cuMemcpyHtoD_v2(CU_STREAM_PER_THREAD, dstDevice, srcHost, ByteCount);
}

static CUresult stub_cuMemsetD8_v2(CUstream default_stream, CUdeviceptr dstDevice, unsigned char uc, size_t N)
{
    orion_session_t *s;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &s);
    if (result != CUDA_SUCCESS) return result;
    uint64_t default_stream_wire;
    result = orion_stream_wire(s, NULL, default_stream, &default_stream_wire);
    if (result != CUDA_SUCCESS) return result;
    result = orion_check_range(s, dstDevice, orion_times(N, 1));
    if (result != CUDA_SUCCESS) return result;
    return orion_post_cuMemsetD8_v2(s, dstDevice, uc, N, default_stream_wire);
}

ORION_EXPORT CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N)
{
    return stub_cuMemsetD8_v2(CU_STREAM_LEGACY, dstDevice, uc, N);
}

ORION_EXPORT CUresult cuMemsetD8_v2_ptds(CUdeviceptr dstDevice, unsigned char uc, size_t N)
{
    return stub_cuMemsetD8_v2(CU_STREAM_PER_THREAD, dstDevice, uc, N);
}

ORION_EXPORT CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
    return orion_hand_cuStreamCreate(phStream, Flags);
}

ORION_EXPORT CUresult cuStreamDestroy(CUstream hStream)
{
    return cuStreamDestroy_v2(hStream);
}

ORION_EXPORT CUresult cuStreamDestroy_v2(CUstream hStream)
{
    return orion_hand_cuStreamDestroy_v2(hStream);
}

static CUresult stub_cuStreamSynchronize(CUstream default_stream, CUstream hStream)
{
    orion_session_t *s;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &s);
    if (result != CUDA_SUCCESS) return result;
    uint64_t hStream_wire;
    result = orion_stream_wire(s, hStream, default_stream, &hStream_wire);
    if (result != CUDA_SUCCESS) return result;
    return orion_call_cuStreamSynchronize(s, hStream_wire);
}

ORION_EXPORT CUresult cuStreamSynchronize(CUstream hStream)
{
    return stub_cuStreamSynchronize(CU_STREAM_LEGACY, hStream);
}

ORION_EXPORT CUresult cuStreamSynchronize_ptsz(CUstream hStream)
{
    return stub_cuStreamSynchronize(CU_STREAM_PER_THREAD, hStream);
}

