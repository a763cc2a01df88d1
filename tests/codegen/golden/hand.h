/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_client.py: edit those. */
#ifndef ORION_GENERATED_HAND_H
#define ORION_GENERATED_HAND_H

#include "orion_generated/orion_cuda.h"

/* Written by hand in client/hand/. Where CUDA has a per-thread variant, default_stream says what NULL means. */
CUresult orion_hand_cuDeviceGetCount(int *count);
CUresult orion_hand_cuMemcpyHtoD_v2(CUstream default_stream, CUdeviceptr dstDevice, const void *srcHost,
                                    size_t ByteCount);
CUresult orion_hand_cuStreamCreate(CUstream *phStream, unsigned int Flags);
CUresult orion_hand_cuStreamDestroy_v2(CUstream hStream);

#endif
