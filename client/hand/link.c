/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's linker. PTX texts are put one behind the other, and the server links them when the result is loaded;
 * anything else is passed through if it is the only input. Loading the result decides whether it is any good.
 */
#include "context.h"
#include "file.h"
#include "handles.h"
#include "image.h"
#include "orion_generated/hand.h"
#include "say.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data; /* owned until cuLinkDestroy, as CUDA promises; a NUL follows */
    size_t bytes;
    int is_text;
} link_t;

static int looks_like_ptx(const uint8_t *data, size_t bytes)
{
    size_t at = 0;
    while (at < bytes && data[at] && strchr(" \t\r\n", data[at]))
        at++;
    return at + 8 <= bytes && (!memcmp(data + at, ".version", 8) || !memcmp(data + at, "//", 2));
}

static CUresult find(CUlinkState state, link_t **link_p)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    *link_p = orion_handle_object(ORION_KIND_LINK, state);
    return *link_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult orion_hand_cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues,
                                    CUlinkState *stateOut)
{
    orion_session_t *session;
    uint64_t number;
    void *handle;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!stateOut)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; options && optionValues && i < numOptions; i++)
        if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            optionValues[i] = NULL; /* nothing written to the logs */
    link_t *link = calloc(1, sizeof *link);
    if (!link)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = orion_handle_new(session, ORION_KIND_LINK, &handle, &number);
    if (result) {
        free(link);
        return result;
    }
    orion_handle_set_object(ORION_KIND_LINK, handle, link);
    *stateOut = handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name,
                                     unsigned int numOptions, CUjit_option *options, void **optionValues)
{
    link_t *link;
    (void)numOptions;
    (void)options;
    (void)optionValues;
    CUresult result = find(state, &link);
    if (result)
        return result;
    if (!data || !size || size > ORION_IMAGE_LIMIT)
        return CUDA_ERROR_INVALID_VALUE;
    if (type == CU_JIT_INPUT_LIBRARY && name && strstr(name, "libcudadevrt"))
        return CUDA_SUCCESS; /* the server brings what it can do of CUDA's device runtime by itself */
    if (type != CU_JIT_INPUT_PTX && type != CU_JIT_INPUT_CUBIN && type != CU_JIT_INPUT_FATBINARY)
        return CUDA_ERROR_NOT_SUPPORTED;
    int is_text = looks_like_ptx(data, size);
    if (link->data && !(is_text && link->is_text)) {
        orion_say("cuLinkAddData: \"%s\" is a second input, and only PTX is linked; compile all inputs to PTX",
                  name ? name : "");
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (is_text)
        size = strnlen(data, size);
    if (size > ORION_IMAGE_LIMIT - link->bytes)
        return CUDA_ERROR_INVALID_VALUE;
    uint8_t *grown = realloc(link->data, link->bytes + size + 2);
    if (!grown)
        return CUDA_ERROR_OUT_OF_MEMORY;
    link->data = grown;
    memcpy(grown + link->bytes, data, size);
    link->bytes += size;
    link->is_text = is_text;
    if (is_text)
        grown[link->bytes++] = '\n';
    grown[link->bytes] = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path, unsigned int numOptions,
                                     CUjit_option *options, void **optionValues)
{
    void *data;
    size_t bytes;
    if (!path)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = orion_file_read(path, &data, &bytes);
    if (result)
        return result;
    result = orion_hand_cuLinkAddData_v2(state, type, data, bytes, path, numOptions, options, optionValues);
    free(data);
    return result;
}

CUresult orion_hand_cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{
    link_t *link;
    CUresult result = find(state, &link);
    if (result)
        return result;
    if (!cubinOut || !link->data)
        return CUDA_ERROR_INVALID_VALUE;
    *cubinOut = link->data;
    if (sizeOut)
        *sizeOut = link->bytes + (size_t)link->is_text; /* with the NUL: numba copies it and loads the copy */
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLinkDestroy(CUlinkState state)
{
    link_t *link;
    CUresult result = find(state, &link);
    if (result)
        return result;
    orion_handle_drop(&orion_the_session, ORION_KIND_LINK, state);
    free(link->data);
    free(link);
    return CUDA_SUCCESS;
}
