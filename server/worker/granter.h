/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a session beyond its rings: the supervisor grants it in extents, each a memfd of fixed size, and maps
 * nothing itself. Heap extents serve the device, arena extents are mapped at the same address by the client. A twin
 * has no supervisor: its extents are plain mappings of the one process. Any thread.
 */
#ifndef ORION_WORKER_GRANTER_H
#define ORION_WORKER_GRANTER_H

#include "devices/device.h"
#include "wire/hello.h"
#include "worker/control.h"

#include <stdbool.h>

#define ORION_EXTENT_GRANULE (2ull << 20)
#define ORION_ARENA_EXTENTS 4096u
#define ORION_ADOPTED_MOST 4096u

typedef struct orion_extents {
    orion_control_line_t *line;    /* NULL: twin */
    uint64_t base;                 /* of the range that both sides reserved; 0: none, and then no arena */
    uint64_t arena_bytes;          /* the range begins with the arena */
    const orion_device_ops_t *ops; /* NULL: the device reaches all memory of the process */
    orion_device_t *device;
    int (*trim)(orion_device_t *device); /* the heap gives up what it does not use; NULL: it has nothing */
    int (*notice)(void *self, const orion_notice_t *notice, int fd); /* twin: hands an arena extent to the client */
    void *notice_self;
    pthread_mutex_t lock; /* the arena's list */
    uint32_t count;
    struct {
        uint64_t offset, bytes;
    } arena[ORION_ARENA_EXTENTS]; /* by offset */
    uint32_t adopted_count;
    struct {
        uint64_t address, bytes;
    } adopted[ORION_ADOPTED_MOST]; /* memory that a client brought along, see hand/adopt.c */
} orion_extents_t;

void orion_extents_init(orion_extents_t *extents, orion_control_line_t *line, uint64_t base, uint64_t arena_bytes);
void orion_extents_fini(orion_extents_t *extents);

/* What the device's heap asks for memory. */
orion_granter_t orion_extents_granter(orion_extents_t *extents);

/* Finds room for `bytes` (a multiple of the granule) in the arena and maps it; the client has its descriptor then. */
CUresult orion_arena_extend(orion_extents_t *extents, uint64_t bytes, uint64_t *offset_p);
/* False: no extent begins there. */
bool orion_arena_release(orion_extents_t *extents, uint64_t offset, uint64_t *bytes_p);

/* Has the client shown the heap extent that holds the address; 0 bytes: it sees it already. */
CUresult orion_heap_expose(orion_extents_t *extents, uint64_t address, uint64_t *offset_p, uint64_t *bytes_p);

/* Maps memory of the client at the client's address for it; the supervisor has its descriptor. CUDA_ERROR_MAP_FAILED:
 * something of ours is there. */
CUresult orion_adopt(orion_extents_t *extents, uint64_t address, uint64_t bytes);
bool orion_disown(orion_extents_t *extents, uint64_t address);

/* All of them, adopted ones too: a reset of the context. */
void orion_arena_clear(orion_extents_t *extents);

#endif
