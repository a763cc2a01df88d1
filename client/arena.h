/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that client and worker see at the same address: what cuMemHostAlloc and cuMemAllocManaged hand out. */
#ifndef ORION_CLIENT_ARENA_H
#define ORION_CLIENT_ARENA_H

#include "session.h"

typedef struct {
    uint64_t base, bytes; /* 0, 0: the two sides share no addresses */
} orion_arena_t;

extern orion_arena_t orion_arena;

static inline int orion_in_arena(uint64_t address)
{
    return address - orion_arena.base < orion_arena.bytes;
}

void orion_arena_init(const orion_session_t *session);
CUresult orion_arena_alloc(orion_session_t *session, size_t bytes, void **memory_p);
/* bytes as given to alloc. The device must be done with the block. */
void orion_arena_free(orion_session_t *session, void *memory, size_t bytes);
/* Maps the part of the device's heap that holds the address, for the program to touch. */
CUresult orion_arena_expose(orion_session_t *session, uint64_t address);
/* Gives every extent back: the context was reset. */
void orion_arena_clear(orion_session_t *session);

#endif
