/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pools: which allocation belongs to which, and how much each has. The memory itself is the device's heap. */
#ifndef ORION_CLIENT_POOL_H
#define ORION_CLIENT_POOL_H

#include "session.h"

/* Counts bytes against a pool, NULL for the device's current one, and tells its number, which is never 0.
 * CUDA_ERROR_INVALID_VALUE: there is no such pool; CUDA_ERROR_OUT_OF_MEMORY: it was made for less. */
CUresult orion_pool_take(orion_session_t *session, CUmemoryPool pool, uint64_t bytes, uint32_t *number_p);
/* The other way round; number 0: an allocation of no pool. */
void orion_pool_give(uint32_t number, uint64_t bytes);
/* The context was reset: all allocations are gone. The pools stay. */
void orion_pools_clear(void);
/* The pool's handle; NULL when it has been destroyed. */
CUmemoryPool orion_pool_handle(uint32_t number);

#endif
