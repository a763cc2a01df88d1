/* SPDX-License-Identifier: Apache-2.0 */
/* The context as a whole: what the device is, waiting for all of it, and beginning anew. */
#include "worker/hand/hand.h"

#include "orion_generated/blobs.h"

#include <string.h>

CUresult orion_serve_orionDescribe(orion_worker_t *w, void *info, uint32_t *info_bytes_p)
{
    orion_device_blob_t *blob = info;
    const uint32_t count = ORION_DEVICE_ATTRIBUTES < sizeof blob->attributes / sizeof blob->attributes[0]
                               ? ORION_DEVICE_ATTRIBUTES
                               : sizeof blob->attributes / sizeof blob->attributes[0];
    memset(blob, 0, sizeof *blob);
    memcpy(blob->uuid, w->info.uuid, sizeof blob->uuid);
    strncpy((char *)blob->name, w->info.name, sizeof blob->name - 1);
    strncpy((char *)blob->pci_bus_id, w->info.pci_bus_id, sizeof blob->pci_bus_id - 1);
    blob->total_memory = orion_ledger_limit(&w->ledger);
    blob->driver_version = w->info.driver_version;
    blob->attribute_count = count;
    memcpy(blob->attributes, w->info.attributes, count * sizeof blob->attributes[0]);
    blob->links = w->ops->link != NULL;
    *info_bytes_p = sizeof *blob;
    return CUDA_SUCCESS;
}

CUresult orion_serve_cuCtxSynchronize(orion_worker_t *w, orion_ticket_t ticket)
{
    orion_deferred_t *deferred = orion_defer(w, ticket, orion_reply_cuCtxSynchronize);
    if (!deferred)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return orion_deferred_begun(deferred, w->ops->synchronize_notify(w->device, orion_deferred_done, deferred));
}

/* The device has freed everything; what named it goes too. The loop is paused and the executor idle. */
static void reset_done(void *arg, CUresult result)
{
    orion_worker_t *w = arg;
    for (int kind = 0; kind < ORION_HANDLE_KINDS; kind++)
        orion_handles_forget(w->handles[kind], NULL);
    memset(w->thread_stream, 0, sizeof w->thread_stream);
    orion_functions_clear(w);
    orion_uploads_clear(w);
    orion_gates_clear(w->gates);
    orion_arena_clear(&w->extents);
    orion_opened_clear(w);
    orion_ledger_clear(&w->ledger, ORION_RANGE_HEAP);
    orion_ledger_clear(&w->ledger, ORION_RANGE_ARENA);
    orion_ledger_clear(&w->ledger, ORION_RANGE_ADOPTED);
    if (w->ops->status(w->device, NULL, 0) == CUDA_SUCCESS) {
        atomic_store_explicit(&w->sticky, CUDA_SUCCESS, memory_order_relaxed);
        atomic_store_explicit(&w->failure_logged, 0, memory_order_relaxed);
    }
    orion_reply_orionContextReset(w, w->reset_ticket, result);
    /* release: pairs with the acquire in loop.c; all of the above before the next record */
    atomic_store_explicit(&w->resetting, 0, memory_order_release);
}

void orion_reset_begin(orion_worker_t *w)
{
    if (orion_executor_busy(w->executor))
        return;
    w->reset_wanted = false;
    const CUresult result = w->ops->reset(w->device, reset_done, w);
    if (result == CUDA_SUCCESS)
        return;
    orion_reply_orionContextReset(w, w->reset_ticket, result);
    atomic_store_explicit(&w->resetting, 0, memory_order_release);
}

CUresult orion_serve_orionContextReset(orion_worker_t *w, orion_ticket_t ticket)
{
    w->reset_ticket = ticket;
    w->reset_wanted = true;
    atomic_store_explicit(&w->resetting, 1, memory_order_relaxed);
    orion_reset_begin(w);
    return ORION_DEFERRED;
}

CUresult orion_serve_orionGoodbye(orion_worker_t *w)
{
    w->said_goodbye = true; /* the loop ends after the answer */
    return CUDA_SUCCESS;
}
