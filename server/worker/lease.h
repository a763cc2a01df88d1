/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the supervisor says to a running worker without a message: a sealed memfd page that it alone can write
 * (orion_server/lease_page.py mirrors the layout). A worker that a kernel has taken over cannot grant itself anything
 * by it; what it ignores, the supervisor enforces by other means.
 */
#ifndef ORION_WORKER_LEASE_H
#define ORION_WORKER_LEASE_H

#include <stddef.h>
#include <stdint.h>

#define ORION_LEASE_MAGIC 0x4553454cu /* "LESE" */
#define ORION_LEASE_VERSION 1u
#define ORION_LEASE_BYTES 4096u

typedef struct orion_lease {
    uint32_t magic;
    uint32_t version;
    uint64_t memory_limit; /* bytes; may change at any time, also to less than what is in use */
    uint8_t reserved[48];
    uint32_t turn; /* devices/share.h; on a cache line that changes with the turns alone */
} orion_lease_t;

_Static_assert(offsetof(orion_lease_t, memory_limit) == 8, "orion_server/lease_page.py writes this layout");
_Static_assert(offsetof(orion_lease_t, turn) == 64, "orion_server/lease_page.py writes this layout");

#endif
