/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of rows. Between places that the server reaches it is one record. To pageable memory the whole span comes
 * through staging and is scattered, unless its gaps are wider than its rows; from pageable memory rows go one by one
 * into the pipeline, which costs no round trips.
 */
#include "bulk.h"
#include "context.h"
#include "copy.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <string.h>

typedef struct {
    uint64_t address;
    size_t pitch;
    orion_place_t place;
} side_t;

/* One side of the descriptor: address of its first byte, pitch, and what it is. */
static CUresult read_side(orion_session_t *session, CUmemorytype type, const void *host, CUdeviceptr device,
                          size_t pitch, size_t x, size_t y, size_t width, size_t height, side_t *side_p)
{
    size_t span;
    if (pitch == 0)
        pitch = width;
    if (type == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
        return CUDA_ERROR_INVALID_VALUE;
    if (x > SIZE_MAX - width || x + width > pitch || __builtin_mul_overflow(pitch, height - 1, &span) ||
        __builtin_add_overflow(span, width, &span))
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t base = type == CU_MEMORYTYPE_HOST ? (uint64_t)(uintptr_t)host : device;
    if (!base)
        return CUDA_ERROR_INVALID_VALUE;
    side_p->address = base + y * pitch + x;
    side_p->pitch = pitch;
    return orion_copy_place(session, side_p->address, span, type == CU_MEMORYTYPE_DEVICE, &side_p->place);
}

static CUresult rows_out(orion_session_t *session, const side_t *to, const side_t *from, size_t width, size_t height,
                         uint64_t stream)
{
    CUresult result = CUDA_SUCCESS;
    if (from->pitch <= 2 * width) {
        orion_rows_t rows = {(void *)(uintptr_t)to->address, width, from->pitch, to->pitch};
        return orion_bulk_out(session, &rows, from->address, from->pitch * (height - 1) + width, stream);
    }
    for (size_t row = 0; row < height && !result; row++) {
        orion_rows_t one = {(uint8_t *)(uintptr_t)to->address + row * to->pitch, width, width, width};
        result = orion_bulk_out(session, &one, from->address + row * from->pitch, width, stream);
    }
    return result;
}

static CUresult rows_in(orion_session_t *session, const side_t *to, const side_t *from, size_t width, size_t height,
                        uint64_t stream)
{
    CUresult result = CUDA_SUCCESS;
    if (to->pitch == width && from->pitch == width)
        return orion_bulk_in(session, to->address, (const void *)(uintptr_t)from->address, width * height, stream);
    for (size_t row = 0; row < height && !result; row++)
        result = orion_bulk_in(session, to->address + row * to->pitch,
                               (const uint8_t *)(uintptr_t)from->address + row * from->pitch, width, stream);
    return result;
}

CUresult orion_copy_rows(const CUDA_MEMCPY2D *c, CUstream default_stream, CUstream stream, int wait)
{
    orion_session_t *session;
    side_t to, from;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, stream, default_stream, &wire);
    if (result)
        return result;
    if (!c)
        return CUDA_ERROR_INVALID_VALUE;
    size_t width = c->WidthInBytes, height = c->Height;
    if (!width || !height)
        return CUDA_SUCCESS;
    result = read_side(session, c->srcMemoryType, c->srcHost, c->srcDevice, c->srcPitch, c->srcXInBytes, c->srcY, width,
                       height, &from);
    if (!result)
        result = read_side(session, c->dstMemoryType, c->dstHost, c->dstDevice, c->dstPitch, c->dstXInBytes, c->dstY,
                           width, height, &to);
    if (result)
        return result;

    if (to.place == ORION_PLACE_HOST && from.place == ORION_PLACE_HOST) {
        result = orion_call_orionStreamBarrier(session, wire);
        for (size_t row = 0; row < height && !result; row++)
            memmove((uint8_t *)(uintptr_t)to.address + row * to.pitch,
                    (const uint8_t *)(uintptr_t)from.address + row * from.pitch, width);
        return result;
    }
    if (to.place == ORION_PLACE_HOST)
        return rows_out(session, &to, &from, width, height, wire);
    if (from.place == ORION_PLACE_HOST)
        result = rows_in(session, &to, &from, width, height, wire);
    else
        result = orion_post_orionCopy2D(session, to.address, to.pitch, from.address, from.pitch, width, height, wire);
    if (!result && wait && (to.place == ORION_PLACE_ARENA || from.place == ORION_PLACE_ARENA))
        result = orion_call_orionStreamBarrier(session, wire);
    return result;
}

CUresult orion_hand_cuMemcpy2D_v2(CUstream default_stream, const CUDA_MEMCPY2D *pCopy)
{
    return orion_copy_rows(pCopy, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpy2DUnaligned_v2(CUstream default_stream, const CUDA_MEMCPY2D *pCopy)
{
    return orion_copy_rows(pCopy, default_stream, NULL, 1);
}

CUresult orion_hand_cuMemcpy2DAsync_v2(CUstream default_stream, const CUDA_MEMCPY2D *pCopy, CUstream hStream)
{
    return orion_copy_rows(pCopy, default_stream, hStream, 0);
}
