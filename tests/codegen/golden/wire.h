/* SPDX-License-Identifier: Apache-2.0 */
/* Generated from csrc/spec by csrc/codegen/emit_wire.py: edit those. */
#ifndef ORION_GENERATED_WIRE_H
#define ORION_GENERATED_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "orion_generated/opcodes.h"
#include "orion_generated/orion_cuda.h"
#include "wire/cursor.h"

/* A payload is a struct of naturally aligned little-endian fields, then the parts of variable length,
 * each followed by zeros up to the next multiple of 8. Payloads begin 8-aligned. */
static inline size_t orion_wire_padded(size_t bytes)
{
    return bytes > SIZE_MAX - 7 ? SIZE_MAX : (bytes + 7) & ~(size_t)7;
}

/* Sums are cut off here, so that an impossible length stays impossible in 32 bits. */
static inline size_t orion_wire_add(size_t sum, size_t bytes)
{
    return sum > INT32_MAX || bytes > INT32_MAX ? INT32_MAX : sum + orion_wire_padded(bytes);
}

static inline unsigned char *orion_wire_put_tail(unsigned char *at, const void *from, size_t bytes)
{
    size_t padded = orion_wire_padded(bytes);
    if (bytes != 0) memcpy(at, from, bytes);
    memset(at + bytes, 0, padded - bytes);
    return at + padded;
}

/* orionAsk (1, sync): Every form once. */
typedef struct orion_wire_orionAsk {
    uint8_t letter;
    uint8_t pad0[3];
    uint32_t name_bytes;
    uint32_t bytes;
    uint8_t pad1[4];
} orion_wire_orionAsk_t;
_Static_assert(sizeof(orion_wire_orionAsk_t) == 16, "wire layout");
typedef struct orion_outs_orionAsk {
    uint32_t count;
    uint32_t answer_bytes;
} orion_outs_orionAsk_t;
_Static_assert(sizeof(orion_outs_orionAsk_t) == 8, "wire layout");

static inline uint32_t orion_measure_orionAsk(size_t name_length, size_t data_length)
{
    size_t sum = 16;
    sum = orion_wire_add(sum, name_length);
    sum = orion_wire_add(sum, data_length);
    return (uint32_t)sum;
}

static inline void orion_encode_orionAsk(void *payload, unsigned char letter, const char *name, unsigned int bytes,
                                         const void *data)
{
    orion_wire_orionAsk_t *fixed = payload;
    size_t name_length = strlen(name) + 1;
    size_t data_length = (size_t)bytes;
    fixed->letter = (uint8_t)letter;
    memset(fixed->pad0, 0, sizeof(fixed->pad0));
    fixed->name_bytes = (uint32_t)name_length;
    fixed->bytes = (uint32_t)bytes;
    memset(fixed->pad1, 0, sizeof(fixed->pad1));
    unsigned char *at = (unsigned char *)(fixed + 1);
    at = orion_wire_put_tail(at, name, name_length);
    at = orion_wire_put_tail(at, data, data_length);
    (void)at;
}

typedef struct orion_args_orionAsk {
    const orion_wire_orionAsk_t *fixed;
    const char *name;
    const void *data;
} orion_args_orionAsk_t;

static inline bool orion_decode_orionAsk(const void *payload, size_t bytes, orion_args_orionAsk_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 16);
    if (args_p->fixed == NULL) return false;
    args_p->name = (const void *)orion_cursor_take(&cursor, orion_wire_padded(args_p->fixed->name_bytes));
    if (args_p->name == NULL || args_p->fixed->name_bytes == 0) return false;
    if (memchr(args_p->name, 0,
        args_p->fixed->name_bytes) != args_p->name + args_p->fixed->name_bytes - 1) return false;
    args_p->data = (const void *)orion_cursor_take(&cursor, orion_wire_padded(args_p->fixed->bytes));
    if (args_p->data == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* cuMemAlloc_v2 (2, sync): Allocates device memory. */
typedef struct orion_wire_cuMemAlloc_v2 {
    uint64_t bytesize;
} orion_wire_cuMemAlloc_v2_t;
_Static_assert(sizeof(orion_wire_cuMemAlloc_v2_t) == 8, "wire layout");
typedef struct orion_outs_cuMemAlloc_v2 {
    uint64_t dptr;
} orion_outs_cuMemAlloc_v2_t;
_Static_assert(sizeof(orion_outs_cuMemAlloc_v2_t) == 8, "wire layout");

static inline uint32_t orion_measure_cuMemAlloc_v2(void)
{
    return 8;
}

static inline void orion_encode_cuMemAlloc_v2(void *payload, size_t bytesize)
{
    orion_wire_cuMemAlloc_v2_t *fixed = payload;
    fixed->bytesize = (uint64_t)bytesize;
}

typedef struct orion_args_cuMemAlloc_v2 {
    const orion_wire_cuMemAlloc_v2_t *fixed;
} orion_args_cuMemAlloc_v2_t;

static inline bool orion_decode_cuMemAlloc_v2(const void *payload, size_t bytes, orion_args_cuMemAlloc_v2_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 8);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* cuMemsetD8_v2 (3, async): Fills memory. */
typedef struct orion_wire_cuMemsetD8_v2 {
    uint64_t dstDevice;
    uint8_t uc;
    uint8_t pad0[7];
    uint64_t N;
    uint64_t default_stream;
} orion_wire_cuMemsetD8_v2_t;
_Static_assert(sizeof(orion_wire_cuMemsetD8_v2_t) == 32, "wire layout");

static inline uint32_t orion_measure_cuMemsetD8_v2(void)
{
    return 32;
}

static inline void orion_encode_cuMemsetD8_v2(void *payload, CUdeviceptr dstDevice, unsigned char uc, size_t N,
                                              uint64_t default_stream)
{
    orion_wire_cuMemsetD8_v2_t *fixed = payload;
    fixed->dstDevice = (uint64_t)dstDevice;
    fixed->uc = (uint8_t)uc;
    memset(fixed->pad0, 0, sizeof(fixed->pad0));
    fixed->N = (uint64_t)N;
    fixed->default_stream = default_stream;
}

typedef struct orion_args_cuMemsetD8_v2 {
    const orion_wire_cuMemsetD8_v2_t *fixed;
} orion_args_cuMemsetD8_v2_t;

static inline bool orion_decode_cuMemsetD8_v2(const void *payload, size_t bytes, orion_args_cuMemsetD8_v2_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 32);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* cuStreamCreate (4, async): Creates a stream. */
typedef struct orion_wire_cuStreamCreate {
    uint64_t phStream;
    uint32_t Flags;
    uint8_t pad0[4];
} orion_wire_cuStreamCreate_t;
_Static_assert(sizeof(orion_wire_cuStreamCreate_t) == 16, "wire layout");

static inline uint32_t orion_measure_cuStreamCreate(void)
{
    return 16;
}

static inline void orion_encode_cuStreamCreate(void *payload, uint64_t phStream, unsigned int Flags)
{
    orion_wire_cuStreamCreate_t *fixed = payload;
    fixed->phStream = phStream;
    fixed->Flags = (uint32_t)Flags;
    memset(fixed->pad0, 0, sizeof(fixed->pad0));
}

typedef struct orion_args_cuStreamCreate {
    const orion_wire_cuStreamCreate_t *fixed;
} orion_args_cuStreamCreate_t;

static inline bool orion_decode_cuStreamCreate(const void *payload, size_t bytes, orion_args_cuStreamCreate_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 16);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* cuStreamDestroy_v2 (5, async): Destroys a stream. */
typedef struct orion_wire_cuStreamDestroy_v2 {
    uint64_t hStream;
} orion_wire_cuStreamDestroy_v2_t;
_Static_assert(sizeof(orion_wire_cuStreamDestroy_v2_t) == 8, "wire layout");

static inline uint32_t orion_measure_cuStreamDestroy_v2(void)
{
    return 8;
}

static inline void orion_encode_cuStreamDestroy_v2(void *payload, uint64_t hStream)
{
    orion_wire_cuStreamDestroy_v2_t *fixed = payload;
    fixed->hStream = hStream;
}

typedef struct orion_args_cuStreamDestroy_v2 {
    const orion_wire_cuStreamDestroy_v2_t *fixed;
} orion_args_cuStreamDestroy_v2_t;

static inline bool orion_decode_cuStreamDestroy_v2(const void *payload, size_t bytes,
                                                   orion_args_cuStreamDestroy_v2_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 8);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* cuStreamSynchronize (6, sync): Waits for a stream. */
typedef struct orion_wire_cuStreamSynchronize {
    uint64_t hStream;
} orion_wire_cuStreamSynchronize_t;
_Static_assert(sizeof(orion_wire_cuStreamSynchronize_t) == 8, "wire layout");

static inline uint32_t orion_measure_cuStreamSynchronize(void)
{
    return 8;
}

static inline void orion_encode_cuStreamSynchronize(void *payload, uint64_t hStream)
{
    orion_wire_cuStreamSynchronize_t *fixed = payload;
    fixed->hStream = hStream;
}

typedef struct orion_args_cuStreamSynchronize {
    const orion_wire_cuStreamSynchronize_t *fixed;
} orion_args_cuStreamSynchronize_t;

static inline bool orion_decode_cuStreamSynchronize(const void *payload, size_t bytes,
                                                    orion_args_cuStreamSynchronize_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 8);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}

/* orionFetch (7, sync): A deferred answer with bytes. */
typedef struct orion_wire_orionFetch {
    uint64_t stream;
} orion_wire_orionFetch_t;
_Static_assert(sizeof(orion_wire_orionFetch_t) == 8, "wire layout");
typedef struct orion_outs_orionFetch {
    uint32_t data_bytes;
    uint8_t pad0[4];
} orion_outs_orionFetch_t;
_Static_assert(sizeof(orion_outs_orionFetch_t) == 8, "wire layout");

static inline uint32_t orion_measure_orionFetch(void)
{
    return 8;
}

static inline void orion_encode_orionFetch(void *payload, uint64_t stream)
{
    orion_wire_orionFetch_t *fixed = payload;
    fixed->stream = stream;
}

typedef struct orion_args_orionFetch {
    const orion_wire_orionFetch_t *fixed;
} orion_args_orionFetch_t;

static inline bool orion_decode_orionFetch(const void *payload, size_t bytes, orion_args_orionFetch_t *args_p)
{
    orion_cursor_t cursor = orion_cursor_over(payload, bytes);
    args_p->fixed = (const void *)orion_cursor_take(&cursor, 8);
    if (args_p->fixed == NULL) return false;
    return orion_cursor_done(&cursor);
}


#endif
