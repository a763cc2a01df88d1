/* SPDX-License-Identifier: Apache-2.0 */
/* cuMemset and kin: one function, twelve names. */
#include "worker/hand/hand.h"

static CUresult fill(orion_worker_t *w, CUdeviceptr dst, uint64_t pitch, uint32_t value, uint32_t element,
                     uint64_t width, uint64_t height, orion_stream_t *stream)
{
    uint64_t row;
    if (width == 0 || height == 0)
        return CUDA_SUCCESS;
    if (__builtin_mul_overflow(width, (uint64_t)element, &row))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    if (height == 1)
        pitch = row;
    if (dst % element || pitch % element)
        return CUDA_ERROR_INVALID_VALUE;
    if (!orion_worker_owns_rows(w, dst, pitch, row, height))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    return w->ops->fill(w->device, stream, dst, value, element, pitch, width, height, orion_quiet_done, w);
}

#define SERVE_FILL(bits, type, row_name, rows_name)                                                                    \
    CUresult orion_serve_cuMemsetD##row_name(orion_worker_t *w, CUdeviceptr dstDevice, type value, size_t N,           \
                                             orion_stream_t *stream)                                                   \
    {                                                                                                                  \
        return fill(w, dstDevice, 0, value, (bits) / 8, N, 1, stream);                                                 \
    }                                                                                                                  \
    CUresult orion_serve_cuMemsetD2D##rows_name(orion_worker_t *w, CUdeviceptr dstDevice, size_t dstPitch, type value, \
                                                size_t Width, size_t Height, orion_stream_t *stream)                   \
    {                                                                                                                  \
        return fill(w, dstDevice, dstPitch, value, (bits) / 8, Width, Height, stream);                                 \
    }

SERVE_FILL(8, unsigned char, 8_v2, 8_v2)
SERVE_FILL(8, unsigned char, 8Async, 8Async)
SERVE_FILL(16, unsigned short, 16_v2, 16_v2)
SERVE_FILL(16, unsigned short, 16Async, 16Async)
SERVE_FILL(32, unsigned int, 32_v2, 32_v2)
SERVE_FILL(32, unsigned int, 32Async, 32Async)
