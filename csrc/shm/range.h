/* SPDX-License-Identifier: Apache-2.0 */
/* One address range that means the same in client and worker: reserved without memory on both sides at hello, filled
 * with shared extents on demand. */
#ifndef ORION_SHM_RANGE_H
#define ORION_SHM_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ORION_RANGE_BYTES (512ULL << 30) /* first half arena, second half device heap */

/* The bases that a client tries, in this order; a zero ends the list. */
extern const uint64_t orion_range_bases[8];

/* Reserves [base, base + bytes) without access or memory. false: something is there already, or no such addresses. */
bool orion_range_reserve(uint64_t base, uint64_t bytes);
/* The first of `count` candidates that can be reserved, or 0. Zeros are skipped. */
uint64_t orion_range_reserve_first(const uint64_t *candidates, size_t count, uint64_t bytes);
void orion_range_release(uint64_t base, uint64_t bytes);

/* Maps `bytes` of fd for reading and writing at base + offset, in place of the reservation. offset and bytes are whole
 * pages within range_bytes. The descriptor stays the caller's. */
orion_status_t orion_range_map(uint64_t base, uint64_t range_bytes, uint64_t offset, uint64_t bytes, int fd);
/* Back to reserved. */
orion_status_t orion_range_unmap(uint64_t base, uint64_t range_bytes, uint64_t offset, uint64_t bytes);

#endif
