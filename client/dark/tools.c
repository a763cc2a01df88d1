/* SPDX-License-Identifier: Apache-2.0 */
/* Tables made for profilers, which the runtime, cuBLASLt and cuFFT use as well. No profiler ever subscribes here. */
#include "context.h"
#include "dark/table.h"
#include "objects.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Woverride-init" /* slots that are used replace the unused ones */

/* Which callbacks are enabled, by number: none. Runtimes want at least as many as they know (567 in CUDA 13.5). */
static uint32_t runtime_callbacks[4096];
static uint32_t tool_callbacks[14];

static void get_runtime_callbacks(void **array_p, size_t *count_p)
{
    *array_p = runtime_callbacks;
    *count_p = sizeof runtime_callbacks / sizeof runtime_callbacks[0];
}

static void get_tool_callbacks(void **array_p, size_t *count_p)
{
    *array_p = tool_callbacks;
    *count_p = sizeof tool_callbacks / sizeof tool_callbacks[0];
}

ORION_DARK_TEN(tools_hooks, )

orion_dark_word_t orion_dark_tools_hooks[] = {
    ORION_DARK_TEN_WORDS(tools_hooks, ),
    [0] = ORION_DARK_BYTES(7),
    [2] = get_runtime_callbacks,
    [6] = get_tool_callbacks,
};

static CUresult current_context(CUcontext *context_p)
{
    *context_p = orion_tls.current ? orion_tls.current->handle : NULL;
    return CUDA_SUCCESS;
}

ORION_DARK_TEN(tools_tls, )

orion_dark_word_t orion_dark_tools_tls[] = {
    ORION_DARK_TEN_WORDS(tools_tls, ),
    [0] = ORION_DARK_BYTES(4),
    [2] = current_context,
};

static CUresult context_device(CUcontext handle, CUdevice *device_p)
{
    orion_context_t *context;
    CUresult result = orion_context_resolve(handle, &context);
    if (!result)
        *device_p = 0;
    return result;
}

/* cublasSgemm does not work without it. */
static CUresult context_id(CUcontext handle, uint64_t *id_p)
{
    orion_context_t *context;
    CUresult result = orion_context_resolve(handle, &context);
    if (!result)
        *id_p = context->id;
    return result;
}

ORION_DARK_TEN(tools_context, )
ORION_DARK_TEN(tools_context, 1)
ORION_DARK_TEN(tools_context, 2)
ORION_DARK_TEN(tools_context, 3)
ORION_DARK_TEN(tools_context, 4)
ORION_DARK_TEN(tools_context, 5)
ORION_DARK_TEN(tools_context, 6)
ORION_DARK_TEN(tools_context, 7)
ORION_DARK_TEN(tools_context, 8)
ORION_DARK_TEN(tools_context, 9)

orion_dark_word_t orion_dark_tools_context[] = {
    ORION_DARK_TEN_WORDS(tools_context, ),
    ORION_DARK_TEN_WORDS(tools_context, 1),
    ORION_DARK_TEN_WORDS(tools_context, 2),
    ORION_DARK_TEN_WORDS(tools_context, 3),
    ORION_DARK_TEN_WORDS(tools_context, 4),
    ORION_DARK_TEN_WORDS(tools_context, 5),
    ORION_DARK_TEN_WORDS(tools_context, 6),
    ORION_DARK_TEN_WORDS(tools_context, 7),
    ORION_DARK_TEN_WORDS(tools_context, 8),
    ORION_DARK_TEN_WORDS(tools_context, 9),
    [0] = ORION_DARK_BYTES(95),
    [3] = context_device,
    [4] = context_id,
};

static CUresult check_context(CUcontext handle, uint32_t *first_p, const void **second_p)
{
    (void)handle;
    (void)second_p;
    *first_p = 0;
    return CUDA_SUCCESS;
}

static uint32_t check_nothing(void)
{
    return 0;
}

ORION_DARK_TEN(context_checks, )

orion_dark_word_t orion_dark_context_checks[] = {
    ORION_DARK_TEN_WORDS(context_checks, ),
    [0] = ORION_DARK_BYTES(4),
    [2] = check_context,
    [3] = check_nothing,
};

/* Calls visit for each function of the module and returns how many; cuFFT takes 0 for a failure. */
static int64_t visit_functions(CUcontext context, CUmodule handle,
                               void (*visit)(void *user, CUfunction function, uint64_t module), void *user)
{
    orion_session_t *session;
    char *names;
    uint32_t count;
    int64_t visited = 0;
    (void)context;

    orion_module_t *module = orion_handle_object(ORION_KIND_MODULE, handle);
    if (!module || orion_enter(ORION_NEEDS_INIT, &session) || orion_module_names(session, module, &names, &count))
        return 0;
    const char *name = names;
    for (uint32_t i = 0; i < count; i++, name += strlen(name) + 1) {
        orion_function_t *function;
        if (orion_module_function(session, module, name, &function))
            continue;
        visit(user, function->handle, (uint64_t)(uintptr_t)handle);
        visited++;
    }
    free(names);
    return visited;
}

ORION_DARK_TEN(tools_module, )
ORION_DARK_TEN(tools_module, 1)
ORION_DARK_TEN(tools_module, 2)
ORION_DARK_TEN(tools_module, 3)
ORION_DARK_TEN(tools_module, 4)
ORION_DARK_TEN(tools_module, 5)
ORION_DARK_TEN(tools_module, 6)

orion_dark_word_t orion_dark_tools_module[] = {
    ORION_DARK_TEN_WORDS(tools_module, ),
    ORION_DARK_TEN_WORDS(tools_module, 1),
    ORION_DARK_TEN_WORDS(tools_module, 2),
    ORION_DARK_TEN_WORDS(tools_module, 3),
    ORION_DARK_TEN_WORDS(tools_module, 4),
    ORION_DARK_TEN_WORDS(tools_module, 5),
    ORION_DARK_TEN_WORDS(tools_module, 6),
    [0] = ORION_DARK_BYTES(64),
    [7] = visit_functions,
};

/* cuBLASLt goes on when slot 4 says NOT_SUPPORTED, as all slots do. */
ORION_DARK_TEN(blaslt, )
ORION_DARK_TEN(blaslt, 1)
ORION_DARK_TEN(blaslt, 2)
ORION_DARK_TEN(blaslt, 3)
ORION_DARK_TEN(blaslt, 4)
ORION_DARK_TEN(blaslt, 5)
ORION_DARK_TEN(blaslt, 6)

orion_dark_word_t orion_dark_blaslt[] = {
    ORION_DARK_TEN_WORDS(blaslt, ),  ORION_DARK_TEN_WORDS(blaslt, 1), ORION_DARK_TEN_WORDS(blaslt, 2),
    ORION_DARK_TEN_WORDS(blaslt, 3), ORION_DARK_TEN_WORDS(blaslt, 4), ORION_DARK_TEN_WORDS(blaslt, 5),
    ORION_DARK_TEN_WORDS(blaslt, 6), [0] = ORION_DARK_BYTES(64),
};
