/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the program that run when a stream gets to them: on the event thread, the stream waiting meanwhile. */
#include "context.h"
#include "events.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <stdlib.h>

typedef struct {
    CUhostFn host;
    CUstreamCallback callback;
    CUstream stream;
    void *data;
} work_t;

static void run(void *argument, CUresult status)
{
    work_t work = *(work_t *)argument;
    free(argument);
    if (work.callback)
        work.callback(work.stream, status, work.data);
    else if (!status) /* CUDA calls host functions only while the context is without error */
        work.host(work.data);
}

static CUresult enqueue(CUstream default_stream, CUstream stream, work_t wanted)
{
    orion_session_t *session;
    uint64_t wire, cookie;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, stream, default_stream, &wire);
    if (result)
        return result;
    if (!wanted.host && !wanted.callback)
        return CUDA_ERROR_INVALID_VALUE;
    work_t *work = malloc(sizeof *work);
    if (!work)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *work = wanted;
    result = orion_events_expect(session, run, work, &cookie);
    if (result)
        goto err;
    result = orion_post_orionHostFunc(session, wire, cookie);
    if (result) {
        orion_events_forget(cookie);
        goto err;
    }
    return CUDA_SUCCESS;
err:
    free(work);
    return result;
}

CUresult orion_hand_cuLaunchHostFunc(CUstream default_stream, CUstream hStream, CUhostFn fn, void *userData)
{
    return enqueue(default_stream, hStream, (work_t){.host = fn, .data = userData});
}

CUresult orion_hand_cuStreamAddCallback(CUstream default_stream, CUstream hStream, CUstreamCallback callback,
                                        void *userData, unsigned int flags)
{
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    return enqueue(default_stream, hStream, (work_t){.callback = callback, .stream = hStream, .data = userData});
}
