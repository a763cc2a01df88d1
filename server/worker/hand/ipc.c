/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and events of other clients. What is opened several times has one address, which goes with the last close. */
#include "worker/hand/hand.h"

#include <stdlib.h>
#include <string.h>

#define HANDLE_BYTES sizeof(orion_ipc_handle_t)

CUresult orion_serve_orionIpcShareMemory(orion_worker_t *w, CUdeviceptr address, void *handle, uint32_t *handle_bytes_p)
{
    orion_ipc_handle_t made;
    const CUresult result = w->ops->mem_share(w->device, address, &made);
    if (result != CUDA_SUCCESS)
        return result;
    memcpy(handle, &made, sizeof made);
    *handle_bytes_p = sizeof made;
    return CUDA_SUCCESS;
}

static orion_opened_t **find_opened(orion_worker_t *w, uint64_t address, const void *handle)
{
    orion_opened_t **at = &w->opened;
    while (*at && (handle ? memcmp(&(*at)->handle, handle, HANDLE_BYTES) != 0 : (*at)->address != address))
        at = &(*at)->next;
    return at;
}

static CUresult open_new(orion_worker_t *w, const void *handle)
{
    orion_opened_t *opened = calloc(1, sizeof *opened);
    if (!opened)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(&opened->handle, handle, HANDLE_BYTES);
    const CUresult result = w->ops->mem_open(w->device, &opened->handle, &opened->address, &opened->bytes);
    if (result != CUDA_SUCCESS) {
        free(opened);
        return result;
    }
    const orion_range_t range = {.base = opened->address, .bytes = opened->bytes, .kind = ORION_RANGE_OPENED};
    if (!orion_ledger_insert(&w->ledger, &range)) {
        w->ops->mem_close(w->device, opened->address, NULL, NULL);
        free(opened);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    opened->next = w->opened;
    w->opened = opened;
    return CUDA_SUCCESS;
}

CUresult orion_serve_orionIpcOpenMemory(orion_worker_t *w, unsigned int bytes, const void *handle, CUdeviceptr *address,
                                        size_t *size)
{
    CUresult result = CUDA_SUCCESS;
    if (bytes != HANDLE_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&w->opened_lock);
    if (!*find_opened(w, 0, handle))
        result = open_new(w, handle);
    if (result == CUDA_SUCCESS) {
        orion_opened_t *opened = *find_opened(w, 0, handle);
        opened->count++;
        *address = opened->address;
        *size = opened->bytes;
    }
    pthread_mutex_unlock(&w->opened_lock);
    return result;
}

static void closed(orion_worker_t *w, orion_ticket_t ticket, CUresult result)
{
    orion_reply_orionIpcCloseMemory(w, ticket, result, 0);
}

CUresult orion_serve_orionIpcCloseMemory(orion_worker_t *w, orion_ticket_t ticket, CUdeviceptr address)
{
    uint32_t left = 0;
    pthread_mutex_lock(&w->opened_lock);
    orion_opened_t **at = find_opened(w, address, NULL), *opened = *at;
    if (opened && (left = --opened->count) == 0)
        *at = opened->next;
    pthread_mutex_unlock(&w->opened_lock);
    if (!opened)
        return CUDA_ERROR_INVALID_VALUE;
    if (left) {
        orion_reply_orionIpcCloseMemory(w, ticket, CUDA_SUCCESS, left);
        return ORION_DEFERRED;
    }
    free(opened);
    orion_ledger_remove(&w->ledger, address, ORION_RANGE_OPENED, NULL);
    orion_deferred_t *deferred = orion_defer(w, ticket, closed);
    if (!deferred)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return orion_deferred_begun(deferred, w->ops->mem_close(w->device, address, orion_deferred_done, deferred));
}

CUresult orion_serve_orionIpcShareEvent(orion_worker_t *w, orion_event_t *event, void *handle, uint32_t *handle_bytes_p)
{
    orion_ipc_handle_t made;
    const CUresult result = w->ops->event_share(w->device, event, &made);
    if (result != CUDA_SUCCESS)
        return result;
    memcpy(handle, &made, sizeof made);
    *handle_bytes_p = sizeof made;
    return CUDA_SUCCESS;
}

CUresult orion_serve_orionIpcOpenEvent(orion_worker_t *w, orion_event_t **event, unsigned int bytes, const void *handle)
{
    orion_ipc_handle_t copy;
    if (bytes != sizeof copy)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&copy, handle, sizeof copy);
    return w->ops->event_open(w->device, &copy, event);
}

void orion_opened_clear(orion_worker_t *w)
{
    while (w->opened) {
        orion_opened_t *opened = w->opened;
        w->opened = opened->next;
        free(opened);
    }
    orion_ledger_clear(&w->ledger, ORION_RANGE_OPENED);
}
