/* SPDX-License-Identifier: Apache-2.0 */
/* What the symbol orion_shim_marker of our libcuda.so.1 is: how a worker knows that a driver is ours, and what it can
 * ask of such a driver beyond CUDA. Only a worker whose device is itself behind Orion (the cascade) does. */
#ifndef ORION_WIRE_SHIM_H
#define ORION_WIRE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#define ORION_SHIM_ABI 1u

typedef struct orion_shim {
    char name[8]; /* "orion" */
    uint32_t abi;
    uint32_t bytes; /* of this struct */
    /* The memory at address is a mapping of fd's first bytes, shared and sealed against shrinking: from now on the
     * device reaches it at that same address. fd stays the caller's. A CUresult; why gets a sentence. */
    int32_t (*adopt)(uint64_t address, uint64_t bytes, int fd, char *why, size_t why_bytes);
    /* The opposite; the device must be done with it. */
    int32_t (*disown)(uint64_t address);
} orion_shim_t;

#endif
