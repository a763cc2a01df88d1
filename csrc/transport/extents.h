/* SPDX-License-Identifier: Apache-2.0 */
/* Arena extents on the client's side: the descriptor comes as a notice, is checked and mapped into the range. */
#ifndef ORION_TRANSPORT_EXTENTS_H
#define ORION_TRANSPORT_EXTENTS_H

#include "transport/memory.h"

/* The descriptor of the extent at `offset`, waiting for its notice if it is not here yet. The caller closes it.
 * ORION_TIMEOUT after ten seconds. */
orion_status_t orion_extent_take(orion_memory_link_t *link, uint64_t offset, uint64_t bytes, int *fd_p);

/* Checks size and seals and maps. In the arena every page is touched as well: the client's own memory limit pays, and a
 * shortage is an error. */
orion_status_t orion_extent_place(orion_memory_link_t *link, uint64_t offset, uint64_t bytes, int fd);

#endif
