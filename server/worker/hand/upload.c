/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads: images come in staging chunks into private memory, whose sum is bounded; what was linked goes back from
 * there. */
#include "worker/hand/hand.h"

#include "shm/layout.h"

#include <stdlib.h>
#include <string.h>

#define READ_MOST 4064u /* of orionUploadRead's reply, in the spec */

static orion_upload_t *find_upload(orion_worker_t *w, uint32_t id)
{
    for (unsigned i = 0; i < ORION_UPLOADS; i++)
        if (w->upload[i].used && w->upload[i].id == id)
            return &w->upload[i];
    return NULL;
}

static void drop_upload(orion_worker_t *w, orion_upload_t *upload)
{
    free(upload->data);
    w->upload_bytes -= upload->bytes;
    memset(upload, 0, sizeof *upload);
}

void orion_uploads_clear(orion_worker_t *w)
{
    pthread_mutex_lock(&w->upload_lock);
    for (unsigned i = 0; i < ORION_UPLOADS; i++)
        if (w->upload[i].used)
            drop_upload(w, &w->upload[i]);
    pthread_mutex_unlock(&w->upload_lock);
}

/* A slot with the name and the charge, still without memory. NULL: the name is in use, or it would be too much. */
static orion_upload_t *new_upload(orion_worker_t *w, uint32_t id, uint64_t bytes)
{
    if (bytes == 0 || bytes > ORION_UPLOAD_BYTES || w->upload_bytes + bytes > ORION_UPLOADS_BYTES || find_upload(w, id))
        return NULL;
    for (unsigned i = 0; i < ORION_UPLOADS; i++)
        if (!w->upload[i].used) {
            w->upload[i] = (orion_upload_t){.used = true, .id = id, .bytes = bytes};
            w->upload_bytes += bytes;
            return &w->upload[i];
        }
    return NULL;
}

CUresult orion_serve_orionUploadBegin(orion_worker_t *w, unsigned int id, unsigned long long total)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&w->upload_lock);
    orion_upload_t *slot = new_upload(w, id, total);
    if (slot) {
        slot->data = calloc(1, total + 1); /* PTX ends with a NUL, whatever the client sent */
        result = slot->data ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
        if (!slot->data)
            drop_upload(w, slot);
    }
    pthread_mutex_unlock(&w->upload_lock);
    return result;
}

CUresult orion_serve_orionUploadChunk(orion_worker_t *w, unsigned int id, unsigned int stage,
                                      unsigned int stage_sequence, unsigned int bytes, unsigned long long offset)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const void *chunk = orion_port_stage(w->port, stage);
    if (!chunk)
        return result;
    pthread_mutex_lock(&w->upload_lock);
    orion_upload_t *upload = find_upload(w, id);
    if (upload && bytes <= ORION_STAGE_BYTES && offset <= upload->bytes && bytes <= upload->bytes - offset) {
        memcpy(upload->data + offset, chunk, bytes);
        result = CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&w->upload_lock);
    orion_port_stage_done(w->port, stage, stage_sequence);
    return result;
}

orion_upload_t orion_upload_take(orion_worker_t *w, uint32_t id)
{
    orion_upload_t taken = {0};
    pthread_mutex_lock(&w->upload_lock);
    orion_upload_t *upload = find_upload(w, id);
    if (upload) {
        taken = *upload;
        memset(upload, 0, sizeof *upload);
    }
    pthread_mutex_unlock(&w->upload_lock);
    return taken;
}

void orion_upload_free(orion_worker_t *w, orion_upload_t *taken)
{
    pthread_mutex_lock(&w->upload_lock);
    drop_upload(w, taken);
    pthread_mutex_unlock(&w->upload_lock);
}

CUresult orion_upload_put(orion_worker_t *w, uint32_t id, void *data, uint64_t bytes)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&w->upload_lock);
    orion_upload_t *slot = new_upload(w, id, bytes);
    if (slot) {
        slot->data = data;
        result = CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&w->upload_lock);
    return result;
}

CUresult orion_serve_orionUploadRead(orion_worker_t *w, unsigned int id, unsigned long long offset, void *data,
                                     uint32_t *data_bytes_p)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&w->upload_lock);
    const orion_upload_t *upload = find_upload(w, id);
    if (upload && offset <= upload->bytes) {
        const uint64_t left = upload->bytes - offset;
        *data_bytes_p = left < READ_MOST ? (uint32_t)left : READ_MOST;
        memcpy(data, upload->data + offset, *data_bytes_p);
        result = CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&w->upload_lock);
    return result;
}

CUresult orion_serve_orionUploadEnd(orion_worker_t *w, unsigned int id)
{
    orion_upload_t upload = orion_upload_take(w, id);
    orion_upload_free(w, &upload);
    return CUDA_SUCCESS;
}
