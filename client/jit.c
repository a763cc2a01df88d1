/* SPDX-License-Identifier: Apache-2.0 */
/* Options of the driver's compiler and linker, see jit.h. */
#include "jit.h"

#include <string.h>

void orion_jit_log_write(const orion_jit_log_t *log, const char *text)
{
    size_t bytes = 0;
    if (log->text && log->room) {
        bytes = strlen(text);
        if (bytes > log->room - 1)
            bytes = log->room - 1;
        memcpy(log->text, text, bytes);
        log->text[bytes] = 0;
    }
    if (log->used)
        *log->used = (void *)(uintptr_t)bytes;
}

void orion_jit_logs_find(orion_jit_logs_t *logs, unsigned count, const CUjit_option *options, void **values)
{
    memset(logs, 0, sizeof *logs);
    for (unsigned i = 0; options && values && i < count; i++) {
        const int error = options[i] <= CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES && options[i] >= CU_JIT_ERROR_LOG_BUFFER;
        orion_jit_log_t *log = error ? &logs->error : &logs->info;
        switch (options[i]) {
        case CU_JIT_ERROR_LOG_BUFFER:
        case CU_JIT_INFO_LOG_BUFFER:
            log->text = values[i];
            break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
            log->room = (uint32_t)(uintptr_t)values[i]; /* CUDA's type for it is unsigned int */
            log->used = &values[i];
            break;
        default:
            break;
        }
    }
    orion_jit_log_write(&logs->error, "");
    orion_jit_log_write(&logs->info, "");
}

CUresult orion_jit_options_put(unsigned count, const CUjit_option *options, void **values,
                               orion_link_option_blob_t out[ORION_JIT_OPTIONS], uint32_t *count_p)
{
    *count_p = 0;
    if (count && (!options || !values))
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] >= CU_JIT_WALL_TIME && options[i] <= CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            continue;
        if (*count_p == ORION_JIT_OPTIONS)
            return CUDA_ERROR_INVALID_VALUE;
        out[(*count_p)++] = (orion_link_option_blob_t){.option = (uint32_t)options[i], .value = (uintptr_t)values[i]};
    }
    return CUDA_SUCCESS;
}
