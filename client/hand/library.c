/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries and kernels as the runtime of CUDA 12 and 13 uses them. */
#include "arena.h"
#include "context.h"
#include "file.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "ranges.h"
#include "say.h"

#include <stdlib.h>
#include <string.h>

static int wants_preserved(const CUlibraryOption *options, void *const *values, unsigned count)
{
    for (unsigned i = 0; options && i < count; i++)
        if (options[i] == CU_LIBRARY_BINARY_IS_PRESERVED)
            return values && values[i];
    return 0;
}

CUresult orion_hand_cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions,
                                      void **jitOptionsValues, unsigned int numJitOptions,
                                      CUlibraryOption *libraryOptions, void **libraryOptionValues,
                                      unsigned int numLibraryOptions)
{
    orion_session_t *session;
    orion_library_t *loaded;
    (void)jitOptions;
    (void)jitOptionsValues;
    (void)numJitOptions;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!library || !code)
        return CUDA_ERROR_INVALID_VALUE;
    int preserved = wants_preserved(libraryOptions, libraryOptionValues, numLibraryOptions);
    result = orion_library_load(session, code, preserved, &loaded);
    if (!result)
        *library = loaded->handle;
    return result;
}

CUresult orion_hand_cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
                                          void **jitOptionsValues, unsigned int numJitOptions,
                                          CUlibraryOption *libraryOptions, void **libraryOptionValues,
                                          unsigned int numLibraryOptions)
{
    void *data;
    size_t bytes;
    (void)libraryOptions;
    (void)libraryOptionValues;
    (void)numLibraryOptions;
    if (!fileName)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = orion_file_read(fileName, &data, &bytes);
    if (result)
        return result;
    result = orion_hand_cuLibraryLoadData(library, data, jitOptions, jitOptionsValues, numJitOptions, NULL, NULL, 0);
    free(data);
    return result;
}

static CUresult find(CUlibrary handle, orion_session_t **session_p, orion_library_t **library_p)
{
    CUresult result = orion_enter(ORION_NEEDS_INIT, session_p);
    if (result)
        return result;
    *library_p = orion_handle_object(ORION_KIND_LIBRARY, handle);
    return *library_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult orion_hand_cuLibraryUnload(CUlibrary library)
{
    orion_session_t *session;
    orion_library_t *unloaded;
    CUresult result = find(library, &session, &unloaded);
    return result ? result : orion_library_unload(session, unloaded);
}

CUresult orion_hand_cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name)
{
    orion_session_t *session;
    orion_library_t *found;
    orion_kernel_t *kernel;
    CUresult result = find(library, &session, &found);
    if (result)
        return result;
    if (!pKernel || !name)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_library_kernel(session, found, name, &kernel);
    if (!result)
        *pKernel = kernel->handle;
    return result;
}

CUresult orion_hand_cuLibraryGetKernelCount(unsigned int *count, CUlibrary lib)
{
    orion_session_t *session;
    orion_library_t *library;
    orion_module_t *module;
    CUresult result = find(lib, &session, &library);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_library_bind(session, library, &module);
    if (!result)
        *count = module->kernel_count;
    return result;
}

CUresult orion_hand_cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels, CUlibrary lib)
{
    orion_session_t *session;
    orion_library_t *library;
    orion_module_t *module;
    char *names;
    uint32_t count;
    CUresult result = find(lib, &session, &library);
    if (result)
        return result;
    if (!kernels || !numKernels)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_library_bind(session, library, &module);
    if (!result)
        result = orion_module_names(session, module, &names, &count);
    if (result)
        return result;
    const char *name = names;
    for (uint32_t i = 0; i < count && i < numKernels && !result; i++, name += strlen(name) + 1) {
        orion_kernel_t *kernel;
        result = orion_library_kernel(session, library, name, &kernel);
        if (!result)
            kernels[i] = kernel->handle;
    }
    free(names);
    return result;
}

CUresult orion_hand_cuLibraryGetModule(CUmodule *pMod, CUlibrary library)
{
    orion_session_t *session;
    orion_library_t *found;
    orion_module_t *module;
    CUresult result = find(library, &session, &found);
    if (result)
        return result;
    if (!pMod)
        return CUDA_ERROR_INVALID_VALUE;
    if (!orion_tls.current)
        return CUDA_ERROR_INVALID_CONTEXT;
    result = orion_library_bind(session, found, &module);
    if (!result)
        *pMod = module->handle;
    return result;
}

CUresult orion_hand_cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
    orion_session_t *session;
    orion_library_t *found;
    orion_module_t *module;
    CUresult result = find(library, &session, &found);
    if (!result)
        result = orion_library_bind(session, found, &module);
    return result ? result : orion_module_global(session, module, name, dptr, bytes);
}

/* The program reads and writes managed variables through the address, so their memory is mapped here too. */
CUresult orion_hand_cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name)
{
    CUdeviceptr address;
    size_t size;
    CUresult result = orion_hand_cuLibraryGetGlobal(&address, &size, library, name);
    if (result)
        return result;
    result = orion_arena_expose(&orion_the_session, address);
    if (result) {
        orion_say("__managed__ variable %s cannot be shared with this program; use cudaMallocManaged", name);
        return result;
    }
    orion_ranges_add(ORION_RANGE_MANAGED, address, size, CU_MEM_ATTACH_GLOBAL);
    if (dptr)
        *dptr = address;
    if (bytes)
        *bytes = size;
    return CUDA_SUCCESS;
}

static CUresult find_kernel(CUkernel handle, orion_session_t **session_p, orion_kernel_t **kernel_p)
{
    CUresult result = orion_enter(ORION_NEEDS_INIT, session_p);
    if (result)
        return result;
    *kernel_p = orion_handle_object(ORION_KIND_KERNEL, handle);
    return *kernel_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult orion_hand_cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel)
{
    orion_session_t *session;
    orion_kernel_t *found;
    orion_function_t *function;
    CUresult result = find_kernel(kernel, &session, &found);
    if (result)
        return result;
    if (!pFunc)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_function_resolve(session, (CUfunction)kernel, &function);
    if (!result)
        *pFunc = function->handle;
    return result;
}

CUresult orion_hand_cuKernelGetLibrary(CUlibrary *pLib, CUkernel kernel)
{
    orion_session_t *session;
    orion_kernel_t *found;
    CUresult result = find_kernel(kernel, &session, &found);
    if (result)
        return result;
    if (!pLib)
        return CUDA_ERROR_INVALID_VALUE;
    *pLib = found->library->handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuKernelGetName(const char **name, CUkernel hfunc)
{
    orion_session_t *session;
    orion_kernel_t *found;
    CUresult result = find_kernel(hfunc, &session, &found);
    if (result)
        return result;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    *name = found->name;
    return CUDA_SUCCESS;
}
