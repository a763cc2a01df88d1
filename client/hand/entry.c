/* SPDX-License-Identifier: Apache-2.0 */
/* How programs find functions, and what happens to those that are not served. */
#include "adopt.h"
#include "dark/table.h"
#include "device.h"
#include "orion_generated/hand.h"
#include "orion_generated/proc.h"
#include "say.h"

#include <string.h>

/* Our worker refuses to load a library that has this symbol as its driver, for it would call itself, unless it is told
 * to: then it finds here what it needs beyond CUDA. */
__attribute__((visibility("default")))
const orion_shim_t orion_shim_marker = {"orion", ORION_SHIM_ABI, sizeof orion_shim_marker, orion_adopt, orion_disown};

#define FLAGS (CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)

static uint32_t asked;

bool orion_proc_address_asked(void)
{
    return __atomic_load_n(&asked, __ATOMIC_RELAXED);
}

CUresult orion_hand_cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                                        CUdriverProcAddressQueryResult *symbolStatus)
{
    bool known = false;
    __atomic_store_n(&asked, 1, __ATOMIC_RELAXED);
    if (!symbol || !pfn || flags & ~(cuuint64_t)FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    const orion_proc_t *found = orion_proc_find(symbol, cudaVersion, per_thread, &known);
    *pfn = found ? found->address : NULL;
    if (symbolStatus)
        *symbolStatus = found   ? CU_GET_PROC_ADDRESS_SUCCESS
                        : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    if (!found)
        orion_debug("cuGetProcAddress: no \"%s\" of version %d", symbol, cudaVersion);
    return found ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult orion_hand_cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags)
{
    return orion_hand_cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
}

CUresult orion_unserved(const char *name)
{
    enum { MOST = 1024 };
    static orion_lock_t lock;
    static const char *said[MOST];
    static unsigned count;
    int new = 1;
    orion_lock(&lock);
    for (unsigned i = 0; i < count && new; i++)
        new = said[i] != name &&strcmp(said[i], name) != 0;
    if (new && count < MOST)
        said[count++] = name;
    orion_unlock(&lock);
    if (new)
        orion_debug("%s is not served by this release: CUDA_ERROR_NOT_SUPPORTED", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

/* Profilers attach elsewhere; programs that bracket regions for them go on. */
CUresult orion_hand_cuProfilerStart(void)
{
    orion_session_t *session;
    return orion_enter(ORION_NEEDS_CONTEXT, &session);
}

CUresult orion_hand_cuProfilerStop(void)
{
    orion_session_t *session;
    return orion_enter(ORION_NEEDS_CONTEXT, &session);
}

/* Nothing is ever logged through it, so a number is all there is to a callback. */
CUresult orion_hand_cuLogsRegisterCallback(CUlogsCallback callbackFunc, void *userData,
                                           CUlogsCallbackHandle *callback_out)
{
    static uintptr_t next = 1;
    (void)userData;
    if (!callbackFunc)
        return CUDA_ERROR_INVALID_VALUE;
    uintptr_t number = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
    if (callback_out)
        *callback_out = (CUlogsCallbackHandle)number;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLogsUnregisterCallback(CUlogsCallbackHandle callback)
{
    return callback ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
