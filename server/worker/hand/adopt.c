/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the client's own that the device shall reach at the same address. It is not charged: the client has it
 * from elsewhere. */
#include "worker/hand/hand.h"

CUresult orion_serve_orionArenaAdopt(orion_worker_t *w, unsigned long long address, unsigned long long bytes)
{
    const CUresult result = orion_adopt(&w->extents, address, bytes);
    if (result != CUDA_SUCCESS)
        return result;
    const orion_range_t range = {.base = address, .bytes = bytes, .charged = 0, .kind = ORION_RANGE_ADOPTED};
    if (orion_ledger_insert(&w->ledger, &range))
        return CUDA_SUCCESS;
    orion_disown(&w->extents, address);
    return CUDA_ERROR_INVALID_VALUE; /* overlaps what the session has */
}

CUresult orion_serve_orionArenaDisown(orion_worker_t *w, unsigned long long address)
{
    if (!orion_ledger_remove(&w->ledger, address, ORION_RANGE_ADOPTED, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    return orion_disown(&w->extents, address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
