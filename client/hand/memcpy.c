/* SPDX-License-Identifier: Apache-2.0 */
/* Linear copies. */
#include "context.h"
#include "copy.h"
#include "orion_generated/hand.h"

enum { ANY = 0, DEVICE = 1 };

static CUresult copy(CUdeviceptr to, int to_device, CUdeviceptr from, int from_device, size_t bytes,
                     CUstream default_stream, CUstream stream, int wait)
{
    orion_session_t *session;
    orion_place_t to_place, from_place;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, stream, default_stream, &wire);
    if (result || !bytes)
        return result;
    if (!to || !from)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_copy_place(session, to, bytes, to_device, &to_place);
    if (!result)
        result = orion_copy_place(session, from, bytes, from_device, &from_place);
    return result ? result : orion_copy(session, to, to_place, from, from_place, bytes, wire, wait);
}

#define ADDRESS(pointer) ((CUdeviceptr)(uintptr_t)(pointer))

CUresult orion_hand_cuMemcpy(CUstream default_stream, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
{
    return copy(dst, ANY, src, ANY, ByteCount, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpyAsync(CUstream default_stream, CUdeviceptr dst, CUdeviceptr src, size_t ByteCount,
                                  CUstream hStream)
{
    return copy(dst, ANY, src, ANY, ByteCount, default_stream, hStream, 0);
}

CUresult orion_hand_cuMemcpyHtoD_v2(CUstream default_stream, CUdeviceptr dstDevice, const void *srcHost,
                                    size_t ByteCount)
{
    return copy(dstDevice, DEVICE, ADDRESS(srcHost), ANY, ByteCount, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpyHtoDAsync_v2(CUstream default_stream, CUdeviceptr dstDevice, const void *srcHost,
                                         size_t ByteCount, CUstream hStream)
{
    return copy(dstDevice, DEVICE, ADDRESS(srcHost), ANY, ByteCount, default_stream, hStream, 0);
}

CUresult orion_hand_cuMemcpyDtoH_v2(CUstream default_stream, void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{
    return copy(ADDRESS(dstHost), ANY, srcDevice, DEVICE, ByteCount, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpyDtoHAsync_v2(CUstream default_stream, void *dstHost, CUdeviceptr srcDevice,
                                         size_t ByteCount, CUstream hStream)
{
    return copy(ADDRESS(dstHost), ANY, srcDevice, DEVICE, ByteCount, default_stream, hStream, 0);
}

CUresult orion_hand_cuMemcpyDtoD_v2(CUstream default_stream, CUdeviceptr dstDevice, CUdeviceptr srcDevice,
                                    size_t ByteCount)
{
    return copy(dstDevice, DEVICE, srcDevice, DEVICE, ByteCount, default_stream, NULL, 0);
}

CUresult orion_hand_cuMemcpyDtoDAsync_v2(CUstream default_stream, CUdeviceptr dstDevice, CUdeviceptr srcDevice,
                                         size_t ByteCount, CUstream hStream)
{
    return copy(dstDevice, DEVICE, srcDevice, DEVICE, ByteCount, default_stream, hStream, 0);
}
