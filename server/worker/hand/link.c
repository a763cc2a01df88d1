/* SPDX-License-Identifier: Apache-2.0 */
/* Linking: an upload holds all inputs and options, and is replaced by what comes out. On an executor thread. */
#include "worker/hand/hand.h"

#include "orion_generated/blobs.h"
#include "wire/cursor.h"

#include <stdlib.h>
#include <string.h>

static bool read_options(orion_cursor_t *from, uint32_t count, orion_jit_options_t *options)
{
    if (count > ORION_LINK_OPTIONS)
        return false;
    options->count = count;
    for (uint32_t i = 0; i < count; i++) {
        const orion_link_option_blob_t *blob = orion_cursor_take(from, sizeof *blob);
        if (!blob)
            return false;
        options->entry[i] = (orion_jit_option_t){blob->option, blob->value};
    }
    return true;
}

static bool read_input(orion_cursor_t *from, orion_jit_input_t *input)
{
    const orion_link_input_blob_t *blob = orion_cursor_take(from, sizeof *blob);
    if (!blob || !read_options(from, blob->option_count, &input->options))
        return false;
    input->type = blob->type;
    input->name = blob->name_bytes ? orion_cursor_take(from, blob->name_bytes) : NULL;
    if (!input->name || input->name[blob->name_bytes - 1])
        return false;
    const unsigned char *data = blob->bytes < SIZE_MAX ? orion_cursor_take(from, blob->bytes + 1) : NULL;
    input->data = data;
    input->bytes = blob->bytes;
    return data && !data[blob->bytes];
}

/* The inputs point into the upload. NULL: it is not what its headers say, or there is no memory. */
static orion_jit_input_t *read_link(const orion_upload_t *upload, orion_jit_link_t *link)
{
    orion_cursor_t from = orion_cursor_over(upload->data, upload->bytes);
    const orion_link_blob_t *head = orion_cursor_take(&from, sizeof *head);
    if (!head || !head->input_count || head->input_count > ORION_LINK_INPUTS ||
        !read_options(&from, head->option_count, &link->options))
        return NULL;
    orion_jit_input_t *inputs = calloc(head->input_count, sizeof *inputs);
    for (uint32_t i = 0; inputs && i < head->input_count; i++)
        if (!read_input(&from, &inputs[i])) {
            free(inputs);
            return NULL;
        }
    link->inputs = inputs;
    link->input_count = head->input_count;
    return inputs;
}

CUresult orion_serve_orionLink(orion_worker_t *w, unsigned int id, int *linked, unsigned long long *bytes, void *log,
                               uint32_t *log_bytes_p)
{
    orion_upload_t upload = orion_upload_take(w, id);
    orion_jit_link_t *link = calloc(1, sizeof *link);
    orion_jit_input_t *inputs = NULL;
    void *image = NULL;
    size_t image_bytes = 0;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    if (!upload.data || !link || !(inputs = read_link(&upload, link)))
        goto out;
    if (!w->ops->link) {
        result = CUDA_ERROR_NOT_SUPPORTED;
        goto out;
    }
    CUresult outcome = w->ops->link(w->device, link, &image, &image_bytes);
    if (outcome == CUDA_SUCCESS && (outcome = orion_upload_put(w, id, image, image_bytes)) != CUDA_SUCCESS)
        free(image);
    const size_t error = strlen(link->error) + 1, info = strlen(link->info) + 1;
    memcpy(log, link->error, error);
    memcpy((char *)log + error, link->info, info);
    *log_bytes_p = (uint32_t)(error + info);
    *linked = outcome;
    *bytes = outcome == CUDA_SUCCESS ? image_bytes : 0;
    result = CUDA_SUCCESS;
out:
    free(inputs);
    free(link);
    orion_upload_free(w, &upload);
    return result;
}
