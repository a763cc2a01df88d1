/* SPDX-License-Identifier: Apache-2.0 */
/* Copies in three dimensions: slices of rows. All of both sides is checked before the first slice is copied. */
#include "context.h"
#include "copy.h"
#include "orion_generated/hand.h"

typedef struct {
    CUmemorytype type;
    uint64_t base; /* of the first slice that is copied */
    size_t x, y, pitch;
    size_t slice; /* bytes from one to the next */
} side_t;

static CUresult read_side(orion_session_t *session, CUmemorytype type, const void *host, CUdeviceptr device, size_t x,
                          size_t y, size_t z, size_t pitch, size_t rows, const CUDA_MEMCPY3D *c, side_t *side_p)
{
    const size_t width = c->WidthInBytes, height = c->Height;
    size_t slice, first, span, end;
    orion_place_t place;
    if (type == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
        return CUDA_ERROR_INVALID_VALUE;
    pitch = pitch ? pitch : width;
    rows = rows ? rows : height;
    if (x > pitch || width > pitch - x || y > rows || height > rows - y ||
        __builtin_mul_overflow(pitch, rows, &slice) || __builtin_mul_overflow(slice, z, &first) ||
        __builtin_mul_overflow(slice, c->Depth - 1, &span) ||
        __builtin_add_overflow(span, (height - 1) * pitch + width, &span) || __builtin_add_overflow(first, span, &end))
        return CUDA_ERROR_INVALID_VALUE;
    const uint64_t base = type == CU_MEMORYTYPE_HOST ? (uint64_t)(uintptr_t)host : device;
    if (!base || __builtin_add_overflow(base, end, &end) || end > UINT64_MAX - slice)
        return CUDA_ERROR_INVALID_VALUE;
    *side_p = (side_t){.type = type, .base = base + first, .x = x, .y = y, .pitch = pitch, .slice = slice};
    return orion_copy_place(session, side_p->base + y * pitch + x, span, type == CU_MEMORYTYPE_DEVICE, &place);
}

static CUresult copy(const CUDA_MEMCPY3D *c, CUstream default_stream, CUstream stream, int wait)
{
    orion_session_t *session;
    side_t from, to;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!c || c->srcLOD || c->dstLOD)
        return CUDA_ERROR_INVALID_VALUE;
    if (!c->WidthInBytes || !c->Height || !c->Depth)
        return CUDA_SUCCESS;
    result = read_side(session, c->srcMemoryType, c->srcHost, c->srcDevice, c->srcXInBytes, c->srcY, c->srcZ,
                       c->srcPitch, c->srcHeight, c, &from);
    if (!result)
        result = read_side(session, c->dstMemoryType, c->dstHost, c->dstDevice, c->dstXInBytes, c->dstY, c->dstZ,
                           c->dstPitch, c->dstHeight, c, &to);
    const size_t rows = c->Height;
    const int dense = !result && from.slice == rows * from.pitch && to.slice == rows * to.pitch;
    for (size_t z = 0; z < (dense ? 1 : c->Depth) && !result; z++) {
        const uint64_t src = from.base + z * from.slice, dst = to.base + z * to.slice;
        const CUDA_MEMCPY2D slice = {
            .srcXInBytes = from.x,
            .srcY = from.y,
            .srcMemoryType = from.type,
            .srcHost = (const void *)(uintptr_t)src,
            .srcDevice = src,
            .srcPitch = from.pitch,
            .dstXInBytes = to.x,
            .dstY = to.y,
            .dstMemoryType = to.type,
            .dstHost = (void *)(uintptr_t)dst,
            .dstDevice = dst,
            .dstPitch = to.pitch,
            .WidthInBytes = c->WidthInBytes,
            .Height = dense ? rows * c->Depth : rows,
        };
        result = orion_copy_rows(&slice, default_stream, stream, wait);
    }
    return result;
}

CUresult orion_hand_cuMemcpy3D_v2(CUstream default_stream, const CUDA_MEMCPY3D *pCopy)
{
    return copy(pCopy, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpy3DAsync_v2(CUstream default_stream, const CUDA_MEMCPY3D *pCopy, CUstream hStream)
{
    return copy(pCopy, default_stream, hStream, 0);
}
