/* SPDX-License-Identifier: Apache-2.0 */
/* The options of the driver's compiler and linker: which stay here, and which go to the server. */
#ifndef ORION_CLIENT_JIT_H
#define ORION_CLIENT_JIT_H

#include "orion_generated/blobs.h"
#include "orion_generated/orion_cuda.h"

#include <stddef.h>

#define ORION_JIT_OPTIONS 40u /* of one list; the server takes no more */

/* A buffer of the program for what a compiler says. */
typedef struct {
    char *text;
    size_t room;
    void **used; /* the option's value: how many bytes there are, then how many were written */
} orion_jit_log_t;

typedef struct {
    orion_jit_log_t error, info;
} orion_jit_logs_t;

/* The buffers among the options, emptied; they are the program's as long as what the options are for. */
void orion_jit_logs_find(orion_jit_logs_t *logs, unsigned count, const CUjit_option *options, void **values);
/* As much of the text as there is room for; nothing where the program gave no buffer. */
void orion_jit_log_write(const orion_jit_log_t *log, const char *text);

/* What the server gets: all but the logs and the time that the work takes. CUDA_ERROR_INVALID_VALUE: too many. */
CUresult orion_jit_options_put(unsigned count, const CUjit_option *options, void **values,
                               orion_link_option_blob_t out[ORION_JIT_OPTIONS], uint32_t *count_p);

#endif
