/* SPDX-License-Identifier: Apache-2.0 */
/* The driver calls that these tests make, and a context to make them in. */
#ifndef ORION_TESTS_CLIENT_DRIVER_H
#define ORION_TESTS_CLIENT_DRIVER_H

#include "orion_generated/hand.h"

#include "../csrc/check.h"

CUresult cuCtxSynchronize(void);
CUresult cuStreamSynchronize(CUstream stream);
CUresult cuStreamQuery(CUstream stream);
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags);
CUresult cuEventRecord(CUevent event, CUstream stream);
CUresult cuEventQuery(CUevent event);
CUresult cuEventSynchronize(CUevent event);
CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end);
CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes);
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total);

/* Kernels with nothing in them, to look at parameters and limits. */
static const char driver_ptx[] __attribute__((unused)) =
    ".version 7.0\n.target sm_80\n.address_size 64\n"
    ".visible .global .align 4 .u32 counter[4];\n"
    ".visible .entry none() { ret; }\n"
    ".visible .entry mixed(.param .u8 a, .param .u64 b, .param .align 8 .b8 c[24], .param .u16 d, .param .f32 e)\n"
    "{ ret; }\n";

/* cuInit, the primary context retained and current. */
static inline CUcontext driver_begin(void)
{
    CUcontext context;
    MUST(orion_hand_cuInit(0) == CUDA_SUCCESS);
    MUST(orion_hand_cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    MUST(orion_hand_cuCtxSetCurrent(context) == CUDA_SUCCESS);
    return context;
}

static inline void driver_end(void)
{
    MUST(orion_hand_cuCtxSetCurrent(NULL) == CUDA_SUCCESS);
    MUST(orion_hand_cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS);
}

#endif
