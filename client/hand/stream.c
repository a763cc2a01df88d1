/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: made and destroyed without waiting; what they are is known here. */
#include "context.h"
#include "handles.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <stdlib.h>

static uint64_t next_id = 3; /* 1 and 2 are the legacy and the per-thread default stream */

static CUresult create(CUstream *stream_p, unsigned flags, int priority, int with_priority)
{
    orion_session_t *session;
    uint64_t wire;
    void *handle;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!stream_p || flags & ~(unsigned)CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    orion_stream_object_t *object = calloc(1, sizeof *object);
    if (!object)
        return CUDA_ERROR_OUT_OF_MEMORY;
    object->flags = flags;
    object->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    object->id = __atomic_fetch_add(&next_id, 1, __ATOMIC_RELAXED);
    result = orion_handle_new(session, ORION_KIND_STREAM, &handle, &wire);
    if (result)
        goto err_free;
    result = with_priority ? orion_post_cuStreamCreateWithPriority(session, wire, flags, object->priority)
                           : orion_post_cuStreamCreate(session, wire, flags);
    if (result)
        goto err_handle;
    orion_handle_set_object(ORION_KIND_STREAM, handle, object);
    *stream_p = handle;
    return CUDA_SUCCESS;
err_handle:
    orion_handle_drop(session, ORION_KIND_STREAM, handle);
err_free:
    free(object);
    return result;
}

CUresult orion_hand_cuStreamCreate(CUstream *phStream, unsigned int Flags)
{
    return create(phStream, Flags, 0, 0);
}

CUresult orion_hand_cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{
    return create(phStream, flags, priority, 1);
}

CUresult orion_hand_cuStreamDestroy_v2(CUstream hStream)
{
    orion_session_t *session;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_handle_wire(session, ORION_KIND_STREAM, hStream, &wire);
    if (result)
        return result;
    orion_stream_object_t *object = orion_handle_object(ORION_KIND_STREAM, hStream);
    result = orion_post_cuStreamDestroy_v2(session, wire);
    orion_handle_drop(session, ORION_KIND_STREAM, hStream);
    free(object);
    return result;
}

/* What a stream is: a copy of its object, made up for the default streams. */
static CUresult query(CUstream default_stream, CUstream stream, orion_stream_object_t *object_p)
{
    orion_session_t *session;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, stream, default_stream, &wire);
    if (result)
        return result;
    if (!stream)
        stream = default_stream;
    if (stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD) {
        *object_p = (orion_stream_object_t){.id = stream == CU_STREAM_LEGACY ? 1 : 2};
        return CUDA_SUCCESS;
    }
    const orion_stream_object_t *object = orion_handle_object(ORION_KIND_STREAM, stream);
    if (!object)
        return CUDA_ERROR_INVALID_HANDLE;
    *object_p = *object;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetPriority(CUstream default_stream, CUstream hStream, int *priority)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!priority)
        return CUDA_ERROR_INVALID_VALUE;
    *priority = object.priority;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetFlags(CUstream default_stream, CUstream hStream, unsigned int *flags)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = object.flags;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetId(CUstream default_stream, CUstream hStream, unsigned long long *streamId)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!streamId)
        return CUDA_ERROR_INVALID_VALUE;
    *streamId = object.id;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetDevice(CUstream default_stream, CUstream hStream, CUdevice *device)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetCtx(CUstream default_stream, CUstream hStream, CUcontext *pctx)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!pctx)
        return CUDA_ERROR_INVALID_VALUE;
    *pctx = orion_tls.current->handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetCtx_v2(CUstream default_stream, CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx)
{
    CUresult result = orion_hand_cuStreamGetCtx(default_stream, hStream, pCtx);
    if (!result && pGreenCtx)
        *pGreenCtx = NULL;
    return result;
}

/* cuDNN asks before it uses a stream; no stream of ours belongs to a green context. */
CUresult orion_hand_cuStreamGetGreenCtx(CUstream hStream, CUgreenCtx *phCtx)
{
    orion_stream_object_t object;
    CUresult result = query(CU_STREAM_LEGACY, hStream, &object);
    if (result)
        return result;
    if (!phCtx)
        return CUDA_ERROR_INVALID_VALUE;
    *phCtx = NULL;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamCopyAttributes(CUstream default_stream, CUstream dstStream, CUstream srcStream)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, srcStream, &object);
    return result ? result : query(default_stream, dstStream, &object);
}

CUresult orion_hand_cuStreamGetAttribute(CUstream default_stream, CUstream hStream, CUstreamAttrID attr,
                                         CUstreamAttrValue *value)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    *value = (CUstreamAttrValue){0};
    if (attr == CU_LAUNCH_ATTRIBUTE_PRIORITY)
        value->priority = object.priority;
    return CUDA_SUCCESS;
}

/* Cache windows, synchronisation policies and the like are hints. */
CUresult orion_hand_cuStreamSetAttribute(CUstream default_stream, CUstream hStream, CUstreamAttrID attr,
                                         const CUstreamAttrValue *value)
{
    orion_stream_object_t object;
    (void)attr;
    CUresult result = query(default_stream, hStream, &object);
    return result || value ? result : CUDA_ERROR_INVALID_VALUE;
}

/* Capture is not served in this release (cuStreamBeginCapture says so), so no stream ever captures. */
CUresult orion_hand_cuStreamIsCapturing(CUstream default_stream, CUstream hStream, CUstreamCaptureStatus *captureStatus)
{
    orion_stream_object_t object;
    CUresult result = query(default_stream, hStream, &object);
    if (result)
        return result;
    if (!captureStatus)
        return CUDA_ERROR_INVALID_VALUE;
    *captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetCaptureInfo(CUstream default_stream, CUstream hStream,
                                           CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out)
{
    CUresult result = orion_hand_cuStreamIsCapturing(default_stream, hStream, captureStatus_out);
    if (!result && id_out)
        *id_out = 0;
    return result;
}

CUresult orion_hand_cuStreamGetCaptureInfo_v2(CUstream default_stream, CUstream hStream,
                                              CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                              CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                              size_t *numDependencies_out)
{
    CUresult result = orion_hand_cuStreamGetCaptureInfo(default_stream, hStream, captureStatus_out, id_out);
    if (result)
        return result;
    if (graph_out)
        *graph_out = NULL;
    if (dependencies_out)
        *dependencies_out = NULL;
    if (numDependencies_out)
        *numDependencies_out = 0;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamGetCaptureInfo_v3(CUstream default_stream, CUstream hStream,
                                              CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                              CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                              const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out)
{
    CUresult result = orion_hand_cuStreamGetCaptureInfo_v2(default_stream, hStream, captureStatus_out, id_out,
                                                           graph_out, dependencies_out, numDependencies_out);
    if (!result && edgeData_out)
        *edgeData_out = NULL;
    return result;
}

CUresult orion_hand_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    static __thread uint8_t current __attribute__((tls_model("initial-exec")));
    if (!mode || (unsigned)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    CUstreamCaptureMode before = (CUstreamCaptureMode)current;
    current = (uint8_t)*mode;
    *mode = before;
    return CUDA_SUCCESS;
}
