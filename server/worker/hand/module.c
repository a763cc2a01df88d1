/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules: an uploaded image is loaded, and its kernels are compiled when they are first asked for. Loading, compiling
 * and unloading run on executor threads.
 */
#include "worker/hand/hand.h"

#include "orion_generated/blobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_BYTES 1000
#define INFO_MOST 4064u /* of orionModuleFunction's reply, in the spec */
#define NAMES_MOST 4048u

/* A compiler's words go to the client's standard error and to the server's log. */
static void tell(orion_worker_t *w, const char *what, const char *log)
{
    char text[LOG_BYTES + 64];
    if (!log[0])
        return;
    pthread_mutex_lock(&w->upload_lock);
    const bool said = strncmp(w->told, log, sizeof w->told - 1) == 0;
    snprintf(w->told, sizeof w->told, "%s", log);
    pthread_mutex_unlock(&w->upload_lock);
    if (said)
        return;
    const int n = snprintf(text, sizeof text, "orion: %s: %s\n", what, log);
    const size_t bytes = n < (int)sizeof text ? (size_t)n : sizeof text - 1;
    orion_worker_print(w, ORION_EVENT_STDERR, text, bytes);
    if (w->line)
        orion_control_tell(w->line, ORION_CONTROL_LOG, 0, 0, 0, log, strlen(log));
}

CUresult orion_serve_orionModuleLoad(orion_worker_t *w, unsigned int id, orion_module_t **module,
                                     unsigned int *kernel_count, unsigned int *global_count)
{
    char log[LOG_BYTES] = "";
    orion_upload_t image = orion_upload_take(w, id);
    if (!image.data)
        return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = w->ops->module_load(w->device, image.data, image.bytes, module, log, sizeof log);
    orion_upload_free(w, &image);
    if (result == CUDA_SUCCESS)
        w->ops->module_counts(w->device, *module, kernel_count, global_count);
    else
        tell(w, "cannot load a module", log);
    return result;
}

/* The same kernel asked for again is the same function, and then nothing was compiled: its first entry knows. */
static bool remember_function(orion_worker_t *w, orion_module_t *module, orion_function_t *function, bool *prints_p)
{
    const int said = orion_compiling_prints();
    bool kept = true, prints = said > 0;
    pthread_mutex_lock(&w->upload_lock);
    for (size_t i = 0; i < w->function_count && !said; i++)
        if (w->function[i].function == function) {
            prints = w->function[i].prints;
            break;
        }
    if (w->function_count == w->function_room) {
        const size_t room = w->function_room ? w->function_room * 2 : 64;
        void *grown = realloc(w->function, room * sizeof *w->function);
        if (grown) {
            w->function = grown;
            w->function_room = room;
        } else
            kept = false;
    }
    if (kept) {
        w->function[w->function_count].module = module;
        w->function[w->function_count].function = function;
        w->function[w->function_count++].prints = prints;
    }
    pthread_mutex_unlock(&w->upload_lock);
    *prints_p = prints;
    return kept;
}

void orion_functions_clear(orion_worker_t *w)
{
    pthread_mutex_lock(&w->upload_lock);
    w->function_count = 0;
    pthread_mutex_unlock(&w->upload_lock);
}

static void forget_functions(orion_worker_t *w, const orion_module_t *module)
{
    pthread_mutex_lock(&w->upload_lock);
    for (size_t i = 0; i < w->function_count;) {
        if (w->function[i].module != module) {
            i++;
            continue;
        }
        orion_handles_forget(w->handles[ORION_HANDLE_FUNCTION], w->function[i].function);
        w->function[i] = w->function[--w->function_count];
    }
    pthread_mutex_unlock(&w->upload_lock);
}

static uint32_t describe_function(const orion_function_info_t *info, bool prints, void *out)
{
    orion_function_blob_t *blob = out;
    orion_parameter_blob_t *parameter = (orion_parameter_blob_t *)(blob + 1);
    const uint32_t most = (INFO_MOST - sizeof *blob) / sizeof *parameter;
    *blob = (orion_function_blob_t){
        .max_threads_per_block = (uint32_t)info->max_threads,
        .shared_bytes = (uint32_t)info->static_shared,
        .const_bytes = (uint32_t)info->const_bytes,
        .local_bytes = (uint32_t)info->local_bytes,
        .registers = (uint32_t)info->registers,
        .ptx_version = (uint32_t)info->ptx_version,
        .binary_version = (uint32_t)info->binary_version,
        .max_dynamic_shared_bytes = (uint32_t)info->max_dynamic_shared,
        .parameter_bytes = info->param_bytes,
        .parameter_count = info->param_count,
        .flags = prints ? 1 : 0,
    };
    if (info->param_count == ORION_PARAMS_UNKNOWN)
        return sizeof *blob;
    if (info->param_count > most)
        blob->parameter_count = ORION_PARAMS_UNKNOWN;
    for (uint32_t i = 0; i < info->param_count && info->param_count <= most; i++)
        parameter[i] = (orion_parameter_blob_t){info->params[i].offset, info->params[i].bytes};
    return (uint32_t)(sizeof *blob + (info->param_count <= most ? info->param_count * sizeof *parameter : 0));
}

CUresult orion_serve_orionModuleFunction(orion_worker_t *w, orion_module_t *module, orion_function_t **function,
                                         const char *name, void *info_out, uint32_t *info_bytes_p)
{
    char log[LOG_BYTES] = "";
    orion_function_info_t *info = calloc(1, sizeof *info); /* 4 KiB and more: not on the stack of LLVM's thread */
    if (!info)
        return CUDA_ERROR_OUT_OF_MEMORY;
    bool prints = false;
    CUresult result = w->ops->module_function(w->device, module, name, function, info, log, sizeof log);
    if (result == CUDA_SUCCESS && !remember_function(w, module, *function, &prints))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS)
        *info_bytes_p = describe_function(info, prints, info_out);
    else if (result != CUDA_ERROR_NOT_FOUND)
        tell(w, name, log);
    free(info);
    return result;
}

CUresult orion_serve_orionModuleGlobal(orion_worker_t *w, orion_module_t *module, const char *name,
                                       CUdeviceptr *address, size_t *bytes)
{
    uint64_t at, size;
    const CUresult result = w->ops->module_global(w->device, module, name, &at, &size);
    if (result != CUDA_SUCCESS)
        return result;
    *address = at;
    *bytes = size;
    return CUDA_SUCCESS;
}

CUresult orion_serve_orionModuleNames(orion_worker_t *w, orion_module_t *module, unsigned int first,
                                      unsigned int *count, void *names, uint32_t *names_bytes_p)
{
    const char *found[64];
    uint32_t used = 0, written = 0;
    const uint32_t n = w->ops->module_names(w->device, module, first, found, 64);
    while (written < n) {
        const size_t bytes = strlen(found[written]) + 1;
        if (bytes > NAMES_MOST - used)
            break;
        memcpy((char *)names + used, found[written++], bytes);
        used += (uint32_t)bytes;
    }
    if (n && !written)
        return CUDA_ERROR_INVALID_VALUE; /* a name longer than a reply */
    *count = written;
    *names_bytes_p = used;
    return CUDA_SUCCESS;
}

CUresult orion_serve_cuModuleUnload(orion_worker_t *w, orion_module_t *hmod)
{
    orion_worker_alone(w); /* nobody compiles for it any more */
    forget_functions(w, hmod);
    orion_worker_pass(w); /* and the loop has launched what it had found */
    w->ops->module_unload(w->device, hmod);
    return CUDA_SUCCESS;
}
