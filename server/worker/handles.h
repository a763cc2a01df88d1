/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of one client's objects. The client chooses an object's index and generation (wire = generation << 32 |
 * index); the table bounds the index and refuses one that is taken. Finding is lock-free and runs on the loop thread
 * and on executor threads; changes take the table's lock.
 */
#ifndef ORION_WORKER_HANDLES_H
#define ORION_WORKER_HANDLES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct orion_handles orion_handles_t;

orion_handles_t *orion_handles_new(uint32_t most);
void orion_handles_free(orion_handles_t *table);

/* NULL: no such object, or of another generation. */
void *orion_handles_find(orion_handles_t *table, uint64_t wire);

/* Reserves an index before the object is made; then put it or abandon it. False: taken, or out of bounds. */
bool orion_handles_claim(orion_handles_t *table, uint64_t wire);
void orion_handles_put(orion_handles_t *table, uint64_t wire, void *object);
void orion_handles_abandon(orion_handles_t *table, uint64_t wire);

/* Removes an object and returns it; NULL as above. */
void *orion_handles_take(orion_handles_t *table, uint64_t wire);

/* Removes every handle of that object, or of all objects if it is NULL. */
void orion_handles_forget(orion_handles_t *table, const void *object);

#endif
