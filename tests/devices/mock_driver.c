/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of tests; see mock_driver.h. Functions that nothing here depends on succeed and do nothing. */
#include "mock_driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define API __attribute__((visibility("default")))
#define WRAPPER_MAGIC 0x466243b1u

static mock_driver_t mock = {.version = 13000, .devices = 1};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int something; /* handles point here */

API mock_driver_t *mock_driver(void);
API mock_driver_t *mock_driver(void)
{
    return &mock;
}

API void mock_reset(void);
API void mock_reset(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < mock.inputs; i++)
        free(mock.input[i].data);
    free(mock.image);
    mock = (mock_driver_t){.version = 13000, .devices = 1};
    pthread_mutex_unlock(&lock);
}

static CUresult called(const char *name)
{
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    if (mock.fails && strcmp(mock.fails, name) == 0) {
        mock.calls++;
        result = mock.with;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

#define ENTER(name)                           \
    do {                                      \
        const CUresult failed = called(name); \
        if (failed != CUDA_SUCCESS)           \
            return failed;                    \
    } while (0)

/* An exported function with the parameters and the body that follow. */
#define DRIVER(symbol, parameters)  \
    API CUresult symbol parameters; \
    API CUresult symbol parameters

/* One that only succeeds or fails. */
#define QUIET(symbol, name, parameters) \
    DRIVER(symbol, parameters)          \
    {                                   \
        return called(name);            \
    }

/* ---- the driver and its device */

QUIET(cuInit, "cuInit", (unsigned flags))

DRIVER(cuDriverGetVersion, (int *version))
{
    *version = mock.version;
    return CUDA_SUCCESS;
}

DRIVER(cuGetErrorName, (CUresult error, const char **name))
{
    static const struct {
        CUresult result;
        const char *name;
    } names[] = {
        {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {CUDA_ERROR_SYSTEM_NOT_READY, "CUDA_ERROR_SYSTEM_NOT_READY"},
        {CUDA_ERROR_ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE"},
        {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].result == error) {
            *name = names[i].name;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_VALUE;
}

QUIET(cuGetErrorString, "cuGetErrorString", (CUresult error, const char **t))

DRIVER(cuDeviceGetCount, (int *count))
{
    ENTER("cuDeviceGetCount");
    *count = mock.devices;
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceGet, (CUdevice * device, int ordinal))
{
    ENTER("cuDeviceGet");
    *device = ordinal;
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceGetName, (char *name, int bytes, CUdevice device))
{
    snprintf(name, (size_t)bytes, "Mock GPU");
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceGetUuid_v2, (CUuuid * uuid, CUdevice device))
{
    memset(uuid, 7, sizeof *uuid);
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceTotalMem_v2, (size_t *bytes, CUdevice device))
{
    *bytes = (size_t)8 << 30;
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceGetAttribute, (int *value, CUdevice_attribute attribute, CUdevice device))
{
    *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? 9
             : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 0
                                                                         : 1024;
    return CUDA_SUCCESS;
}

DRIVER(cuDeviceGetPCIBusId, (char *id, int bytes, CUdevice device))
{
    snprintf(id, (size_t)bytes, "0000:01:00.0");
    return CUDA_SUCCESS;
}

DRIVER(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))
{
    ENTER("cuDevicePrimaryCtxRetain");
    *context = (CUcontext)(void *)&something;
    return CUDA_SUCCESS;
}

QUIET(cuDevicePrimaryCtxRelease_v2, "cuDevicePrimaryCtxRelease", (CUdevice device))

/* What the context owns. */
typedef struct owned {
    struct owned *next;
    void *memory;
} owned_t;

static owned_t *all_owned;

static void *own(void *memory)
{
    owned_t *entry = malloc(sizeof *entry);
    if (!memory || !entry) {
        free(memory);
        free(entry);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    *entry = (owned_t){all_owned, memory};
    all_owned = entry;
    pthread_mutex_unlock(&lock);
    return memory;
}

static void disown(const void *memory, int all)
{
    pthread_mutex_lock(&lock);
    for (owned_t **at = &all_owned; *at;) {
        owned_t *entry = *at;
        if (!all && entry->memory != memory) {
            at = &entry->next;
            continue;
        }
        *at = entry->next;
        free(entry->memory);
        free(entry);
    }
    pthread_mutex_unlock(&lock);
}

/* Takes memory and registrations along, as a context does. */
DRIVER(cuDevicePrimaryCtxReset_v2, (CUdevice device))
{
    ENTER("cuDevicePrimaryCtxReset");
    disown(NULL, 1);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < mock.registrations; i++)
        mock.registered[i].memory = NULL;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

QUIET(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext context))
QUIET(cuCtxSynchronize, "cuCtxSynchronize", (void))

/* ---- memory */

DRIVER(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))
{
    ENTER("cuMemAlloc");
    void *memory = own(aligned_alloc(512, (bytes + 511) & ~(size_t)511));
    *address = (CUdeviceptr)(uintptr_t)memory;
    return memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

DRIVER(cuMemFree_v2, (CUdeviceptr address))
{
    ENTER("cuMemFree");
    disown((const void *)(uintptr_t)address, 0);
    return CUDA_SUCCESS;
}

DRIVER(cuMemGetInfo_v2, (size_t *free_bytes, size_t *total))
{
    *free_bytes = *total = (size_t)8 << 30;
    return CUDA_SUCCESS;
}

DRIVER(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags))
{
    ENTER("cuMemHostAlloc");
    *memory = own(calloc(1, bytes));
    return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

DRIVER(cuMemFreeHost, (void *memory))
{
    disown(memory, 0);
    return CUDA_SUCCESS;
}

DRIVER(cuMemHostRegister_v2, (void *memory, size_t bytes, unsigned flags))
{
    ENTER("cuMemHostRegister");
    pthread_mutex_lock(&lock);
    const unsigned at = mock.registrations;
    if (at < MOCK_MOST) {
        mock.registered[at].memory = memory;
        mock.registered[at].bytes = bytes;
        mock.registered[at].flags = flags;
        mock.registrations++;
    }
    pthread_mutex_unlock(&lock);
    return at < MOCK_MOST ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

DRIVER(cuMemHostUnregister, (void *memory))
{
    CUresult result = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < mock.registrations; i++)
        if (mock.registered[i].memory == memory) {
            mock.registered[i].memory = NULL;
            result = CUDA_SUCCESS;
        }
    pthread_mutex_unlock(&lock);
    return result;
}

DRIVER(cuMemHostGetDevicePointer_v2, (CUdeviceptr * address, void *memory, unsigned flags))
{
    ENTER("cuMemHostGetDevicePointer");
    *address = (CUdeviceptr)((int64_t)(uintptr_t)memory + mock.shift);
    return CUDA_SUCCESS;
}

DRIVER(cuMemcpyAsync, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))
{
    ENTER("cuMemcpyAsync");
    memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    return CUDA_SUCCESS;
}

DRIVER(cuMemcpy2DAsync_v2, (const CUDA_MEMCPY2D *copy, CUstream stream))
{
    ENTER("cuMemcpy2DAsync");
    for (size_t row = 0; row < copy->Height; row++)
        memmove((char *)(uintptr_t)copy->dstDevice + row * copy->dstPitch,
                (const char *)(uintptr_t)copy->srcDevice + row * copy->srcPitch, copy->WidthInBytes);
    return CUDA_SUCCESS;
}

static CUresult fill(const char *name, CUdeviceptr to, size_t pitch, unsigned value, size_t element, size_t width,
                     size_t height)
{
    ENTER(name);
    for (size_t row = 0; row < height; row++)
        for (size_t i = 0; i < width; i++)
            memcpy((char *)(uintptr_t)to + row * pitch + i * element, &value, element);
    return CUDA_SUCCESS;
}

#define FILL(type, bits, bytes)                                                                      \
    DRIVER(cuMemsetD##bits##Async, (CUdeviceptr to, type value, size_t n, CUstream stream))          \
    {                                                                                                \
        return fill("cuMemsetD" #bits "Async", to, 0, value, bytes, n, 1);                           \
    }                                                                                                \
    DRIVER(cuMemsetD2D##bits##Async,                                                                 \
           (CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, CUstream stream)) \
    {                                                                                                \
        return fill("cuMemsetD2D" #bits "Async", to, pitch, value, bytes, width, height);            \
    }

FILL(unsigned char, 8, 1)
FILL(unsigned short, 16, 2)
FILL(unsigned, 32, 4)

/* ---- streams and events: all work is done when it is handed over */

DRIVER(cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority))
{
    ENTER("cuStreamCreateWithPriority");
    *stream = (CUstream)(void *)&something;
    return CUDA_SUCCESS;
}

QUIET(cuStreamDestroy_v2, "cuStreamDestroy", (CUstream stream))
QUIET(cuStreamQuery, "cuStreamQuery", (CUstream stream))
QUIET(cuStreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned flags))

DRIVER(cuEventCreate, (CUevent * event, unsigned flags))
{
    ENTER("cuEventCreate");
    *event = (CUevent)(void *)&something;
    return CUDA_SUCCESS;
}

QUIET(cuEventDestroy_v2, "cuEventDestroy", (CUevent event))
QUIET(cuEventRecord, "cuEventRecord", (CUevent event, CUstream s))
QUIET(cuEventQuery, "cuEventQuery", (CUevent event))
QUIET(cuEventSynchronize, "cuEventSynchronize", (CUevent event))

DRIVER(cuEventElapsedTime, (float *ms, CUevent start, CUevent end))
{
    ENTER("cuEventElapsedTime");
    *ms = 0;
    return CUDA_SUCCESS;
}

DRIVER(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void *data))
{
    ENTER("cuLaunchHostFunc");
    function(data);
    return CUDA_SUCCESS;
}

/* ---- modules and the linker */

static void *copy_of(const void *data, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    return copy ? memcpy(copy, data, bytes) : NULL;
}

/* Log buffers among JIT options: filled, and their sizes set to what was written. */
static void tell(unsigned n, const CUjit_option *options, void **values)
{
    static const CUjit_option buffers[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER};
    static const CUjit_option sizes[] = {CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES};
    const char *const words[] = {mock.error, mock.info};
    for (unsigned which = 0; which < 2; which++) {
        char *buffer = NULL;
        void **size = NULL;
        for (unsigned i = 0; i < n; i++) {
            if (options[i] == buffers[which])
                buffer = values[i];
            if (options[i] == sizes[which])
                size = &values[i];
        }
        if (!buffer || !size)
            continue;
        const int length = snprintf(buffer, (size_t)(uintptr_t)*size, "%s", words[which] ? words[which] : "");
        *size = (void *)(uintptr_t)length;
    }
}

DRIVER(cuModuleLoadDataEx, (CUmodule * module, const void *image, unsigned n, CUjit_option *options, void **values))
{
    const struct {
        uint32_t magic, version;
        const void *fatbin;
        const void *const *objects;
    } *wrapper = image;
    tell(n, options, values);
    ENTER("cuModuleLoadDataEx");
    pthread_mutex_lock(&lock);
    free(mock.image);
    const int wrapped = mock.wanted >= sizeof wrapper->magic && wrapper->magic == WRAPPER_MAGIC;
    mock.wrapper[0] = wrapped ? wrapper->magic : 0;
    mock.wrapper[1] = wrapped ? wrapper->version : 0;
    mock.objects = 0;
    mock.linked_result = wrapped ? (uintptr_t)wrapper->fatbin : 0;
    if (wrapped && wrapper->version == 2)
        for (; wrapper->objects[mock.objects] && mock.objects < MOCK_MOST; mock.objects++)
            mock.object[mock.objects] = (uintptr_t)wrapper->objects[mock.objects];
    mock.image = copy_of(wrapped ? wrapper->fatbin : image, mock.wanted);
    pthread_mutex_unlock(&lock);
    *module = (CUmodule)(void *)&something;
    return CUDA_SUCCESS;
}

QUIET(cuModuleUnload, "cuModuleUnload", (CUmodule module))

DRIVER(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))
{
    ENTER("cuModuleGetFunction");
    *function = (CUfunction)(void *)&something;
    return CUDA_SUCCESS;
}

DRIVER(cuModuleGetGlobal_v2, (CUdeviceptr * address, size_t *bytes, CUmodule module, const char *name))
{
    static int variable[4];
    ENTER("cuModuleGetGlobal");
    *address = (CUdeviceptr)(uintptr_t)variable;
    *bytes = sizeof variable;
    return CUDA_SUCCESS;
}

DRIVER(cuFuncGetAttribute, (int *value, CUfunction_attribute attribute, CUfunction function))
{
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return CUDA_SUCCESS;
}

QUIET(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction f, CUfunction_attribute a, int v))

DRIVER(cuLaunchKernel, (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **parameters, void **extra))
{
    ENTER("cuLaunchKernel");
    pthread_mutex_lock(&lock);
    mock.launches++;
    mock.params_bytes = 0;
    for (unsigned i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2)
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            mock.params_bytes = *(size_t *)extra[i + 1];
    for (unsigned i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2)
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER && mock.params_bytes <= sizeof mock.params)
            memcpy(mock.params, extra[i + 1], mock.params_bytes);
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

QUIET(cuLaunchCooperativeKernel, "cuLaunchCooperativeKernel",
      (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
       CUstream stream, void **parameters))

/* Logs are filled when it is over, so the options are kept as long as the state, like the caller's. */
static struct {
    unsigned n;
    CUjit_option *options;
    void **values;
} state_options;

DRIVER(cuLinkCreate_v2, (unsigned n, CUjit_option *options, void **values, CUlinkState *state))
{
    ENTER("cuLinkCreate");
    pthread_mutex_lock(&lock);
    mock.options = 0;
    for (unsigned i = 0; i < n; i++)
        if ((options[i] < CU_JIT_INFO_LOG_BUFFER || options[i] > CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) &&
            mock.options < MOCK_MOST) {
            mock.option[mock.options] = options[i];
            mock.value[mock.options++] = (uint64_t)(uintptr_t)values[i];
        }
    mock.links++;
    mock.links_open++;
    state_options.n = n;
    state_options.options = options;
    state_options.values = values;
    pthread_mutex_unlock(&lock);
    *state = (CUlinkState)(void *)&something;
    return CUDA_SUCCESS;
}

DRIVER(cuLinkAddData_v2, (CUlinkState state, CUjitInputType type, void *data, size_t bytes, const char *name,
                          unsigned n, CUjit_option *options, void **values))
{
    pthread_mutex_lock(&lock);
    if (mock.inputs < MOCK_MOST) {
        mock_input_t *input = &mock.input[mock.inputs++];
        *input = (mock_input_t){.type = type, .data = copy_of(data, bytes), .bytes = bytes, .options = n};
        snprintf(input->name, sizeof input->name, "%s", name);
    }
    pthread_mutex_unlock(&lock);
    const CUresult result = called("cuLinkAddData");
    if (result != CUDA_SUCCESS)
        tell(state_options.n, state_options.options, state_options.values);
    return result;
}

DRIVER(cuLinkComplete, (CUlinkState state, void **cubin, size_t *bytes))
{
    tell(state_options.n, state_options.options, state_options.values);
    ENTER("cuLinkComplete");
    *cubin = (void *)(uintptr_t)mock.linked;
    *bytes = mock.linked_bytes;
    return CUDA_SUCCESS;
}

DRIVER(cuLinkDestroy, (CUlinkState state))
{
    pthread_mutex_lock(&lock);
    mock.links_open--;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}
