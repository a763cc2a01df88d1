/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's linker. A device that links gets all inputs and options when the link is completed, and the machine code
 * comes back. For one that does not, PTX texts are put one behind the other, and the server links them when the result
 * is loaded; anything else is passed through if it is the only input. Loading the result decides whether it is any good.
 */
#include "bulk.h"
#include "context.h"
#include "file.h"
#include "handles.h"
#include "jit.h"
#include "orion_generated/blobs.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUTS_MOST 1024u
#define LOG_MOST 4000u
#define PAGE_MOST 4064u

typedef struct {
    orion_image_t image; /* parts: the header, then the inputs, all in the form of the wire and owned */
    orion_jit_logs_t logs;
    uint8_t *linked; /* owned until cuLinkDestroy, as CUDA promises */
    size_t linked_bytes;
} link_t;

static int looks_like_ptx(const uint8_t *data, size_t bytes)
{
    size_t at = 0;
    while (at < bytes && data[at] && strchr(" \t\r\n", data[at]))
        at++;
    return at + 8 <= bytes && (!memcmp(data + at, ".version", 8) || !memcmp(data + at, "//", 2));
}

/* In the program's own log if it has one. */
__attribute__((format(printf, 2, 3))) static void complain(const link_t *link, const char *format, ...)
{
    char text[LOG_MOST];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    orion_jit_log_write(&link->logs.error, text);
    if (!link->logs.error.text)
        orion_say("%s", text);
}

static CUresult find(CUlinkState state, orion_session_t **session_p, link_t **link_p)
{
    CUresult result = orion_enter(ORION_NEEDS_INIT, session_p);
    if (result)
        return result;
    *link_p = orion_handle_object(ORION_KIND_LINK, state);
    return *link_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static void link_free(link_t *link)
{
    for (size_t i = 0; i < link->image.count; i++)
        free((void *)(uintptr_t)link->image.parts[i].data);
    orion_image_fini(&link->image);
    free(link->linked);
    free(link);
}

/* Takes the memory over, whatever comes of it. */
static CUresult add_part(link_t *link, void *data, size_t bytes)
{
    const orion_image_status_t status = orion_image_add(&link->image, data, bytes);
    if (!status)
        return CUDA_SUCCESS;
    free(data);
    return status == ORION_IMAGE_NO_MEMORY ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_hand_cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues,
                                    CUlinkState *stateOut)
{
    orion_session_t *session;
    orion_link_option_blob_t option[ORION_JIT_OPTIONS];
    orion_link_blob_t head = {0};
    uint64_t number;
    void *handle;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!stateOut)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_jit_options_put(numOptions, options, optionValues, option, &head.option_count);
    if (result)
        return result;
    const size_t bytes = head.option_count * sizeof *option;
    link_t *link = calloc(1, sizeof *link);
    uint8_t *data = malloc(sizeof head + bytes);
    if (!link || !data) {
        free(link);
        free(data);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memcpy(data, &head, sizeof head);
    memcpy(data + sizeof head, option, bytes);
    orion_jit_logs_find(&link->logs, numOptions, options, optionValues);
    result = add_part(link, data, sizeof head + bytes);
    if (!result)
        result = orion_handle_new(session, ORION_KIND_LINK, &handle, &number);
    if (result) {
        link_free(link);
        return result;
    }
    orion_handle_set_object(ORION_KIND_LINK, handle, link);
    *stateOut = handle;
    return CUDA_SUCCESS;
}

static size_t padded(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

/* The bytes of an input that was added. */
static const uint8_t *input_of(const orion_image_part_t *part, size_t *bytes_p)
{
    orion_link_input_blob_t head;
    memcpy(&head, part->data, sizeof head);
    *bytes_p = head.bytes;
    return (const uint8_t *)part->data + sizeof head + head.option_count * sizeof(orion_link_option_blob_t) +
           padded(head.name_bytes);
}

/* Without a linker there: several texts, or one of anything. */
static CUresult check_joinable(const link_t *link, CUjitInputType type, const void *data, size_t bytes,
                               const char *name)
{
    if (type != CU_JIT_INPUT_PTX && type != CU_JIT_INPUT_CUBIN && type != CU_JIT_INPUT_FATBINARY) {
        complain(link, "cuLinkAddData: \"%s\" is neither PTX nor a cubin nor a fatbin, and this device links PTX only",
                 name);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (link->image.count == 1)
        return CUDA_SUCCESS;
    size_t first_bytes;
    const uint8_t *first = input_of(&link->image.parts[1], &first_bytes);
    if (looks_like_ptx(data, bytes) && looks_like_ptx(first, first_bytes))
        return CUDA_SUCCESS;
    complain(link, "cuLinkAddData: \"%s\" is a second input, and only PTX is linked; compile all inputs to PTX", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult orion_hand_cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name,
                                     unsigned int numOptions, CUjit_option *options, void **optionValues)
{
    orion_session_t *session;
    orion_link_option_blob_t option[ORION_JIT_OPTIONS];
    link_t *link;
    CUresult result = find(state, &session, &link);
    if (result)
        return result;
    if (!data || !size || size > ORION_IMAGE_LIMIT || (unsigned)type >= CU_JIT_NUM_INPUT_TYPES || link->linked ||
        link->image.count > INPUTS_MOST)
        return CUDA_ERROR_INVALID_VALUE;
    if (!name)
        name = "";
    orion_link_input_blob_t head = {
        .type = (uint32_t)type, .name_bytes = (uint32_t)strnlen(name, 4095) + 1, .bytes = size};
    result = orion_jit_options_put(numOptions, options, optionValues, option, &head.option_count);
    if (!result && !session->device.links) {
        if (type == CU_JIT_INPUT_LIBRARY && strstr(name, "libcudadevrt"))
            return CUDA_SUCCESS; /* the server brings what it can do of CUDA's device runtime by itself */
        result = check_joinable(link, type, data, size, name);
    }
    if (result)
        return result;
    const size_t options_bytes = head.option_count * sizeof *option;
    const size_t bytes = sizeof head + options_bytes + padded(head.name_bytes) + padded(size + 1);
    uint8_t *part = calloc(1, bytes), *at = part;
    if (!part)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(at, &head, sizeof head);
    memcpy(at += sizeof head, option, options_bytes);
    memcpy(at += options_bytes, name, head.name_bytes - 1);
    memcpy(at + padded(head.name_bytes), data, size);
    return add_part(link, part, bytes);
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

static CUresult join(link_t *link)
{
    size_t total = 0, bytes;
    for (size_t i = 1; i < link->image.count; i++) {
        (void)input_of(&link->image.parts[i], &bytes);
        total += bytes + 2;
    }
    uint8_t *joined = malloc(total), *at = joined;
    if (!joined)
        return CUDA_ERROR_OUT_OF_MEMORY;
    int is_text = 0;
    for (size_t i = 1; i < link->image.count; i++) {
        const uint8_t *data = input_of(&link->image.parts[i], &bytes);
        is_text = looks_like_ptx(data, bytes);
        if (is_text)
            bytes = strnlen((const char *)data, bytes);
        memcpy(at, data, bytes);
        at += bytes;
        if (is_text)
            *at++ = '\n';
    }
    if (is_text)
        *at++ = 0; /* counted: numba copies the result and loads the copy */
    link->linked = joined;
    link->linked_bytes = (size_t)(at - joined);
    return CUDA_SUCCESS;
}

static CUresult fetch(orion_session_t *session, uint32_t upload, uint64_t bytes, link_t *link)
{
    if (!bytes || bytes > ORION_IMAGE_LIMIT)
        return orion_session_lost(session, ORION_PROTOCOL);
    uint8_t *linked = malloc(bytes);
    if (!linked)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = CUDA_SUCCESS;
    for (uint64_t at = 0; at < bytes && !result;) {
        const uint64_t left = bytes - at;
        uint32_t got = 0;
        result = orion_call_orionUploadRead(session, upload, at, linked + at,
                                            left < PAGE_MOST ? (uint32_t)left : PAGE_MOST, &got);
        if (!result && !got)
            result = orion_session_lost(session, ORION_PROTOCOL);
        at += got;
    }
    if (result) {
        free(linked);
        return result;
    }
    link->linked = linked;
    link->linked_bytes = bytes;
    return CUDA_SUCCESS;
}

static CUresult link_there(orion_session_t *session, link_t *link)
{
    char log[LOG_MOST + 2] = "";
    uint32_t upload, log_bytes = 0;
    unsigned long long bytes = 0;
    int linked = 0;
    orion_link_blob_t *head = (void *)(uintptr_t)link->image.parts[0].data;
    head->input_count = (uint32_t)link->image.count - 1;
    CUresult result = orion_bulk_upload(session, &link->image, &upload);
    if (!result)
        result = orion_call_orionLink(session, upload, &linked, &bytes, log, LOG_MOST, &log_bytes);
    if (result)
        return result;
    orion_jit_log_write(&link->logs.info, log + strlen(log) + 1); /* two NULs follow what came */
    if (linked) {
        complain(link, "%s", log);
        return (CUresult)linked;
    }
    orion_jit_log_write(&link->logs.error, log);
    result = fetch(session, upload, bytes, link);
    orion_post_orionUploadEnd(session, upload);
    return result;
}

CUresult orion_hand_cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{
    orion_session_t *session;
    link_t *link;
    CUresult result = find(state, &session, &link);
    if (result)
        return result;
    if (!cubinOut || link->image.count == 1)
        return CUDA_ERROR_INVALID_VALUE;
    if (!link->linked)
        result = session->device.links ? link_there(session, link) : join(link);
    if (result)
        return result;
    *cubinOut = link->linked;
    if (sizeOut)
        *sizeOut = link->linked_bytes;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLinkDestroy(CUlinkState state)
{
    orion_session_t *session;
    link_t *link;
    CUresult result = find(state, &session, &link);
    if (result)
        return result;
    orion_handle_drop(session, ORION_KIND_LINK, state);
    link_free(link);
    return CUDA_SUCCESS;
}
