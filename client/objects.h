/* SPDX-License-Identifier: Apache-2.0 */
/* What the client remembers about objects that its handles name. */
#ifndef ORION_CLIENT_OBJECTS_H
#define ORION_CLIENT_OBJECTS_H

#include "handles.h"
#include "image.h"
#include "session.h"

#define ORION_FUNCTION_ATTRIBUTES 16

typedef struct {
    uint32_t flags;
    int32_t priority;
    uint64_t id;
} orion_stream_object_t;

typedef struct {
    uint32_t offset, size;
} orion_parameter_t;

/* A variable that was asked for: its range goes with the module. */
typedef struct orion_global {
    struct orion_global *next;
    uint64_t address;
} orion_global_t;

typedef struct orion_module orion_module_t;
typedef struct orion_library orion_library_t;
typedef struct orion_kernel orion_kernel_t;
typedef struct orion_function orion_function_t;

/* A kernel within the server's one address space. */
struct orion_function {
    CUfunction handle;
    uint64_t wire;
    orion_module_t *module;
    orion_function_t *next; /* of the module */
    char *name;
    int32_t attributes[ORION_FUNCTION_ATTRIBUTES];
    int32_t max_dynamic_shared; /* as set by cuFuncSetAttribute */
    uint32_t parameter_count;
    uint32_t parameter_bytes;
    orion_parameter_t parameters[];
};

struct orion_module {
    CUmodule handle;
    uint64_t wire;
    uint32_t kernel_count, global_count;
    orion_library_t *library; /* NULL: loaded by cuModuleLoad* */
    int runtime;              /* the CUDA runtime's: it alone hands over wrappers that stay where they are */
    orion_lock_t lock;        /* guards functions and globals */
    orion_function_t *functions;
    orion_global_t *globals;
};

/* Independent of contexts: loaded again when the context in which it was loaded has been reset. */
struct orion_library {
    CUlibrary handle;
    orion_image_t image;
    int preserved;     /* the program keeps the image until it unloads the library */
    orion_lock_t lock; /* guards module, epoch and kernels */
    uint32_t epoch;    /* of session in which module was loaded */
    orion_module_t *module;
    orion_kernel_t *kernels;
};

struct orion_kernel {
    CUkernel handle;
    orion_library_t *library;
    orion_kernel_t *next;
    char *name;
    uint32_t epoch; /* of session in which function was bound; release-stored after function */
    orion_function_t *function;
    int32_t max_dynamic_shared; /* survives rebinding; -1: not set */
};

/* hand/event.c: the object of a handle of an event that other processes may know; other events have none. */
extern void *const orion_event_interprocess;

/* module.c */
CUresult orion_module_load(orion_session_t *session, const orion_image_t *image, orion_library_t *library,
                           orion_module_t **module_p);
CUresult orion_module_unload(orion_session_t *session, orion_module_t *module);
CUresult orion_module_function(orion_session_t *session, orion_module_t *module, const char *name,
                               orion_function_t **function_p);
/* Address and size of a variable, either of which may be NULL; remembers the range. */
CUresult orion_module_global(orion_session_t *session, orion_module_t *module, const char *name, CUdeviceptr *address_p,
                             size_t *bytes_p);
/* Names of the module's kernels, each NUL-terminated, one behind the other; free() it. */
CUresult orion_module_names(orion_session_t *session, orion_module_t *module, char **names_p, uint32_t *count_p);
CUresult orion_image_result(const orion_image_t *image, orion_image_status_t status);
orion_image_target_t orion_image_target(const orion_session_t *session);
/* The context was reset: the server has forgotten modules and functions. */
void orion_modules_forget(orion_session_t *session);

/* library.c */
CUresult orion_library_bind(orion_session_t *session, orion_library_t *library, orion_module_t **module_p);
CUresult orion_kernel_bind(orion_session_t *session, orion_kernel_t *kernel, orion_function_t **function_p);
CUresult orion_library_load(orion_session_t *session, const void *code, int preserved, orion_library_t **library_p);
CUresult orion_library_unload(orion_session_t *session, orion_library_t *library);
CUresult orion_library_kernel(orion_session_t *session, orion_library_t *library, const char *name,
                              orion_kernel_t **kernel_p);

/* A CUfunction as applications pass it: a function or a kernel. */
static inline CUresult orion_function_resolve(orion_session_t *session, CUfunction handle,
                                              orion_function_t **function_p)
{
    if (orion_handle_kind(handle) == ORION_KIND_KERNEL) {
        orion_kernel_t *kernel = orion_handle_object(ORION_KIND_KERNEL, handle);
        if (!kernel)
            return CUDA_ERROR_INVALID_HANDLE;
        /* acquire: pairs with the release in orion_kernel_bind() */
        if (__atomic_load_n(&kernel->epoch, __ATOMIC_ACQUIRE) != session->epoch)
            return orion_kernel_bind(session, kernel, function_p);
        *function_p = kernel->function;
        return CUDA_SUCCESS;
    }
    *function_p = orion_handle_object(ORION_KIND_FUNCTION, handle);
    return *function_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

#endif
