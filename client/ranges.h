/* SPDX-License-Identifier: Apache-2.0 */
/* The address ranges this process has allocated or registered: what an address is, answered without the server. */
#ifndef ORION_CLIENT_RANGES_H
#define ORION_CLIENT_RANGES_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    ORION_RANGE_NONE = 0,
    ORION_RANGE_DEVICE,     /* cuMemAlloc and friends */
    ORION_RANGE_GLOBAL,     /* a variable of a module */
    ORION_RANGE_PINNED,     /* arena memory of cuMemHostAlloc; same address on both sides */
    ORION_RANGE_MANAGED,    /* arena memory of cuMemAllocManaged */
    ORION_RANGE_HOST,       /* cuMemHostAlloc without an arena: ordinary memory */
    ORION_RANGE_REGISTERED, /* cuMemHostRegister: ordinary memory, staged */
    ORION_RANGE_OPENED,     /* device memory of another process, cuIpcOpenMemHandle */
} orion_range_kind_t;

typedef struct {
    uint64_t base, bytes;
    uint64_t id; /* never given twice: CU_POINTER_ATTRIBUTE_BUFFER_ID */
    orion_range_kind_t kind;
    uint32_t flags; /* those of the allocating call; for device memory the number of its pool, 0: of none */
} orion_range_t;

/* cuIpcGetMemHandle serves it: cuMemAlloc's, but not stream-ordered memory. */
static inline int orion_range_is_shareable(const orion_range_t *range)
{
    return range->kind == ORION_RANGE_DEVICE && !range->flags;
}

/* 0 when there is no memory for the entry. */
int orion_ranges_add(orion_range_kind_t kind, uint64_t base, uint64_t bytes, uint32_t flags);
/* Removes the range that begins at base, if its kind is one of the mask (1 << kind). */
int orion_ranges_remove(uint64_t base, uint32_t kinds, orion_range_t *range_p);
/* The range that contains the address. */
int orion_ranges_find(uint64_t address, orion_range_t *range_p);
int orion_ranges_overlap(uint64_t base, uint64_t bytes);
/* The context was reset. Frees the ordinary memory that stood in for pinned memory. */
void orion_ranges_clear(void);

#endif
