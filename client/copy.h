/* SPDX-License-Identifier: Apache-2.0 */
/* Which way a copy goes, by what its two addresses are. */
#ifndef ORION_CLIENT_COPY_H
#define ORION_CLIENT_COPY_H

#include "session.h"

typedef enum {
    ORION_PLACE_HOST,  /* ordinary memory of this process: staged */
    ORION_PLACE_ARENA, /* pinned and managed: both sides reach it */
    ORION_PLACE_DEVICE,
} orion_place_t;

/* What the address is; CUDA_ERROR_INVALID_VALUE when [address, address + bytes) leaves a range we know. With
 * must_be_device an address that nobody allocated is an error instead of ordinary memory. */
CUresult orion_copy_place(orion_session_t *session, uint64_t address, uint64_t bytes, int must_be_device,
                          orion_place_t *place_p);

/* One linear copy. wait: the memory on the host side may be touched when this returns. */
CUresult orion_copy(orion_session_t *session, uint64_t to, orion_place_t to_place, uint64_t from,
                    orion_place_t from_place, size_t bytes, uint64_t stream, int wait);

/* memcpy2d.c: what the functions for rows do. */
CUresult orion_copy_rows(const CUDA_MEMCPY2D *copy, CUstream default_stream, CUstream stream, int wait);

#endif
