/* SPDX-License-Identifier: Apache-2.0 */
/* Copies from and to memory that another processor uses in turn with this one. What such a copy costs depends on where
 * its lines are: a store to a line that another processor has read waits until that one has given it up, 25 ns each
 * where the two share no cache (2.4 GB/s on an AMD EPYC, where memcpy of private memory makes 47). */
#ifndef ORION_BASE_COPY_H
#define ORION_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"

/* What the two ways of writing have cost lately, in ns for 16 KiB; 0 = not tried. Zeroed by whoever holds it. Threads
 * may share one: the words are only hints. */
typedef struct orion_copier {
    uint32_t stored, streamed;
    uint32_t until_trial; /* long copies before the other way is tried again */
} orion_copier_t;

/* To private memory, from what another processor wrote last. Reads ahead of itself. memcpy of some KiB does not, and
 * leaves the lines where the writer's next stores to them are slow (13 instead of 42 GB/s on the same machine). */
void orion_copy_from_peer(void *to, const void *from, size_t bytes);

/* To memory that another processor read last and reads next: by plain stores, which are best where the two share a
 * cache, or by stores past the caches where they have taken much less time lately; which of them it is changes when the
 * scheduler or a hypervisor moves one of the two. What is stored is visible to whoever sees a later release store. */
void orion_copy_to_peer(orion_copier_t *copier, void *to, const void *from, size_t bytes);

/* Payloads are mostly below 64 bytes: no call for those. By words: what has just been stored field by field, or in halves
 * of what a wider load would take, is there for them at once. */
static inline void orion_copy_small(void *to, const void *from, size_t bytes)
{
    if (bytes > 128) {
        __builtin_memcpy(to, from, bytes);
        return;
    }
    uint8_t *t = to;
    const uint8_t *f = from;
    for (; bytes >= 8; bytes -= 8, t += 8, f += 8) {
        __builtin_memcpy(t, f, 8);
        orion_compiler_barrier(); /* keeps the loop a loop: it would become the call we avoid */
    }
    if (bytes >= 4) {
        __builtin_memcpy(t, f, 4);
        bytes -= 4, t += 4, f += 4;
    }
    for (; bytes > 0; bytes--)
        *t++ = *f++;
}

#endif
