/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: none of this reaches the server but synchronising, and the reset when the last one goes. */
#include "context.h"

#include "device.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <string.h>

#define LIMITS 16

static size_t limits[LIMITS] = {
    [CU_LIMIT_STACK_SIZE] = 1024,
    [CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20,
    [CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20,
    [CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2,
    [CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048,
    [CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64,
};
static CUfunc_cache cache_config;

CUresult orion_hand_cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
    orion_session_t *session;
    orion_context_t *context;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!pctx || flags & ~ORION_CONTEXT_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_session_sticky(session);
    if (!result)
        result = orion_context_create(session, flags, &context);
    if (result)
        return result;
    result = orion_context_push(session, context);
    if (result) {
        orion_context_destroy(session, context);
        return result;
    }
    *pctx = context->handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev)
{
    return orion_hand_cuCtxCreate_v2(pctx, flags, dev);
}

CUresult orion_hand_cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams, unsigned int flags,
                                   CUdevice dev)
{
    if (numParams && paramsArray)
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    return orion_hand_cuCtxCreate_v2(pctx, flags, dev);
}

CUresult orion_hand_cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags,
                                   CUdevice dev)
{
    if (ctxCreateParams && (ctxCreateParams->numExecAffinityParams || ctxCreateParams->cigParams))
        return CUDA_ERROR_NOT_SUPPORTED;
    return orion_hand_cuCtxCreate_v2(pctx, flags, dev);
}

CUresult orion_hand_cuCtxDestroy_v2(CUcontext ctx)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_context_t *context = ctx ? orion_context_find(ctx) : NULL;
    return context ? orion_context_destroy(session, context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult orion_hand_cuCtxAttach(CUcontext *pctx, unsigned int flags)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pctx || flags)
        return CUDA_ERROR_INVALID_VALUE;
    __atomic_add_fetch(&orion_tls.current->references, 1, __ATOMIC_RELAXED);
    *pctx = orion_tls.current->handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxDetach(CUcontext ctx)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_context_t *context = ctx ? orion_context_find(ctx) : NULL;
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context->is_primary)
        return orion_context_release_primary(session);
    if (__atomic_sub_fetch(&context->references, 1, __ATOMIC_RELAXED) == 0)
        return orion_context_destroy(session, context);
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxPushCurrent_v2(CUcontext ctx)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_context_t *context = ctx ? orion_context_find(ctx) : NULL;
    return context ? orion_context_push(session, context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult orion_hand_cuCtxPopCurrent_v2(CUcontext *pctx)
{
    orion_session_t *session;
    orion_context_t *context;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (!result)
        result = orion_context_pop(session, &context);
    if (!result && pctx)
        *pctx = context->handle;
    return result;
}

CUresult orion_hand_cuCtxSetCurrent(CUcontext ctx)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!ctx) {
        orion_context_t *ignored;
        if (orion_tls.current)
            orion_context_pop(session, &ignored);
        return CUDA_SUCCESS;
    }
    orion_context_t *context = orion_context_find(ctx);
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    /* An inactive primary context may be made current: the runtime does so before it retains it. */
    orion_tls.current = context;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetCurrent(CUcontext *pctx)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!pctx)
        return CUDA_ERROR_INVALID_VALUE;
    *pctx = orion_tls.current ? orion_tls.current->handle : NULL;
    return CUDA_SUCCESS;
}

/* Resolves a context argument of a local query; NULL means the current one. */
static CUresult query(CUcontext ctx, orion_context_t **context_p)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    return result ? result : orion_context_resolve(ctx, context_p);
}

CUresult orion_hand_cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx)
{
    orion_context_t *context;
    CUresult result = query(ctx, &context);
    if (result)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetDevice(CUdevice *device)
{
    return orion_hand_cuCtxGetDevice_v2(device, NULL);
}

CUresult orion_hand_cuCtxGetFlags(unsigned int *flags)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxSetFlags(unsigned int flags)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (flags & ~ORION_CONTEXT_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    context->flags = flags;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetId(CUcontext ctx, unsigned long long *ctxId)
{
    orion_context_t *context;
    CUresult result = query(ctx, &context);
    if (result)
        return result;
    if (!ctxId)
        return CUDA_ERROR_INVALID_VALUE;
    *ctxId = context->id;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{
    orion_context_t *context;
    CUresult result = query(ctx, &context);
    if (result)
        return result;
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = 3020;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxSynchronize_v2(CUcontext ctx)
{
    orion_session_t *session;
    orion_context_t *context;
    CUresult result = orion_enter(ctx ? ORION_NEEDS_INIT : ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_context_resolve(ctx, &context);
    if (!result && !context->alive)
        result = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return result ? result : orion_call_cuCtxSynchronize(session);
}

CUresult orion_hand_cuCtxSetLimit(CUlimit limit, size_t value)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if ((unsigned)limit >= LIMITS || limit >= CU_LIMIT_MAX)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    limits[limit] = value; /* a hint: the device sizes stacks and buffers as it needs them */
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (!pvalue)
        return CUDA_ERROR_INVALID_VALUE;
    if ((unsigned)limit >= LIMITS || limit >= CU_LIMIT_MAX)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *pvalue = limits[limit];
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxGetCacheConfig(CUfunc_cache *pconfig)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (!pconfig)
        return CUDA_ERROR_INVALID_VALUE;
    *pconfig = cache_config;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxSetCacheConfig(CUfunc_cache config)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (!result)
        cache_config = config; /* a preference without effect on our devices */
    return result;
}

CUresult orion_hand_cuCtxGetSharedMemConfig(CUsharedconfig *pConfig)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (!pConfig)
        return CUDA_ERROR_INVALID_VALUE;
    *pConfig = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuCtxSetSharedMemConfig(CUsharedconfig config)
{
    orion_context_t *context;
    (void)config; /* no effect since compute capability 5.0 */
    return query(NULL, &context);
}

CUresult orion_hand_cuCtxResetPersistingL2Cache(void)
{
    orion_context_t *context;
    return query(NULL, &context);
}

CUresult orion_hand_cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
    orion_context_t *context;
    CUresult result = query(NULL, &context);
    if (result)
        return result;
    if (leastPriority)
        *leastPriority = 0;
    if (greatestPriority)
        *greatestPriority = -5; /* what devices with priorities report; ours accept and ignore them */
    return CUDA_SUCCESS;
}
