/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec/cuda by csrc/codegen/emit_types.py: edit those. */

#ifndef ORION_GENERATED_ORION_CUDA_H
#define ORION_GENERATED_ORION_CUDA_H

#include <stddef.h>
#include <stdint.h>

typedef unsigned long long CUdeviceptr;

typedef struct CUstream_st *CUstream;

typedef struct CUgraphExec_st *CUgraphExec;

typedef enum cudaError_enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
} CUresult;

typedef struct CUuuid_st {
    char bytes[16];
} CUuuid;
_Static_assert(sizeof(CUuuid) == 16, "ABI of CUuuid");

#define CU_STREAM_LEGACY ((CUstream)1)
#define CU_STREAM_NON_BLOCKING 1

#endif
