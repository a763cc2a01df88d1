/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device is to the worker: one table of operations. cpu/ runs kernels, cuda/ has the real driver run them,
 * null/ counts them; neither the client nor the worker's loop knows which one serves.
 *
 * Rules that hold for every operation:
 *  - Any thread may call any operation at any time, except that open and close stand alone and that nothing may be
 *    called, or still be under way, between reset() and its done callback. Handles are trusted: the worker has looked them up.
 *  - None blocks, except module_load, module_function, module_global, module_names (they may compile) and close (joins
 *    threads). mem_alloc and module_load may call the granter, so they take as long as the granter does.
 *  - A result other than CUDA_SUCCESS means that nothing was enqueued and that `done` will not be called.
 *  - `done` may be NULL. Otherwise it is called exactly once, from any thread, possibly before the operation
 *    returns, never with a lock held; it must not block and may call operations of the same device. Callbacks of one
 *    stream come one after the other in stream order, each before any later work of that stream begins.
 *  - After a kernel fault the device has a sticky status: operations that enqueue or allocate return it, work that
 *    waits is dropped and its callbacks get it. Freeing, destroying, notifying and closing still work.
 *  - `stream` NULL is CUDA's legacy default stream: it waits for earlier work of all blocking streams and their later
 *    work waits for it.
 *  - Addresses are addresses of the worker process. The device does not check them: device memory, arena, staging and
 *    private memory are all fine, and stay valid until the work is done.
 */
#ifndef ORION_DEVICE_H
#define ORION_DEVICE_H

#include "orion_generated/orion_cuda.h"

#include "share.h"

#include <stddef.h>
#include <stdint.h>

typedef struct orion_device orion_device_t;
typedef struct orion_stream orion_stream_t;
typedef struct orion_event orion_event_t;
typedef struct orion_module orion_module_t;
typedef struct orion_function orion_function_t;
typedef struct orion_gate orion_gate_t; /* one host gate in a stream */

typedef void (*orion_done_fn)(void *arg, CUresult result);

/* Where heap memory comes from. Called with the heap's lock held, from any thread that allocates or frees (pool
 * threads among them), never two at a time; must not call the device. Granted are whole pages, from a multiple of 2 MiB
 * inside the configured heap range on. */
typedef struct orion_granter {
    void *self;
    /* Maps fresh zeroed shared memory at that address, readable and writable. */
    CUresult (*grant)(void *self, uint64_t address, uint64_t bytes);
    /* Takes a granted range back, or the end of one; the address range must stay reserved. */
    void (*release)(void *self, uint64_t address, uint64_t bytes);
} orion_granter_t;

/* What one process gives to another so that it can open memory or an event: it says nothing by itself. */
typedef struct orion_ipc_handle {
    unsigned char bytes[64];
} orion_ipc_handle_t;

typedef enum { ORION_IPC_MEMORY = 1, ORION_IPC_EVENT = 2 } orion_ipc_kind_t;

/* How the broker and a device speak of something shared. */
typedef struct orion_shared {
    orion_ipc_kind_t kind;
    uint64_t id;               /* the broker's name of it */
    uint32_t party;            /* which of those who have it this process is; 0: it is its own */
    uint64_t first;            /* events: the party's records are numbered from here on */
    uint64_t address, bytes;   /* memory: whole pages */
    uint64_t asked;            /* memory: what the allocation was asked for */
    orion_ipc_handle_t handle; /* what other processes open it with */
    int is_opaque;             /* `opaque` is the driver's own handle, and there is no descriptor */
    orion_ipc_handle_t opaque;
} orion_shared_t;

/* How devices of different processes find each other's memory and events; share NULL: they do not. Any thread, also
 * with the heap's lock held; a call may take as long as the supervisor does. */
typedef struct orion_broker {
    void *self;
    /* Fills in id and handle of what `shared` says. Memory: when *fd_p is a descriptor, the content has to move there. */
    CUresult (*share)(void *self, orion_shared_t *shared, int *fd_p);
    /* Memory: replaces [address, +bytes) by the descriptor's, content and all, while kernels may use it. Takes fd. */
    CUresult (*move)(void *self, const orion_shared_t *shared, int fd);
    /* Puts the extent's own memory back there; nobody can open the handle any more. */
    CUresult (*unmove)(void *self, uint64_t id, uint64_t address, uint64_t bytes);
    /* Nobody can open the handle any more. */
    void (*unshare)(void *self, uint64_t id);
    /* Finds what another process has shared: kind and handle are the caller's, the rest is filled in. */
    CUresult (*open)(void *self, orion_shared_t *shared, int *fd_p);
    void (*close)(void *self, uint64_t id, uint32_t party);
    /* What all processes of this user ring when an event has happened (shared_event.h). NULL: no memory. */
    void *(*bell)(void *self);
} orion_broker_t;

struct orion_compiler; /* cpu/compiler.h */

typedef struct orion_shared_range {
    uint64_t base, bytes; /* 0 bytes: there is none */
} orion_shared_range_t;

typedef struct orion_device_config {
    uint64_t heap_base;    /* reserved range (PROT_NONE) for device memory, multiple of 2 MiB; 0: the device reserves */
    uint64_t heap_bytes;   /* its size; 0 with heap_base 0: chosen from memory_limit */
    uint64_t memory_limit; /* bytes that allocations may sum up to; 0: total host memory */
    int threads;           /* pool threads = multiprocessors; 0: one per usable core */
    orion_granter_t granter;               /* grant NULL: private anonymous memory */
    orion_broker_t broker;                 /* share NULL: nothing can be shared with other processes */
    const struct orion_compiler *compiler; /* NULL: cpu loads no modules, null reads layouts by itself */
    /* Kernel printf output in pieces, from pool threads; NULL: the process's standard output. */
    void (*print)(void *self, const char *text, size_t bytes);
    void *print_self;
    int capture_output;   /* the process is the worker's own: standard output is what the driver prints for kernels */
    const uint32_t *turn; /* share.h; NULL: nobody else uses the device */
    orion_usage_t *usage; /* NULL: nobody looks */
    orion_shared_range_t shared[2]; /* what a client writes or reads in turn with this process: staging, arena */
    const char *host_id; /* stable identity of the machine for the UUID; NULL: /etc/machine-id or the host's name */
} orion_device_config_t;

#define ORION_DEVICE_ATTRIBUTES 160u

typedef struct orion_device_info {
    char name[128];
    char processor[64]; /* what the name is about: the CPU model, trimmed */
    uint8_t uuid[16];
    uint64_t total_memory;                       /* = memory limit */
    uint64_t memory_unit;                        /* an allocation takes a multiple of this */
    int32_t attributes[ORION_DEVICE_ATTRIBUTES]; /* indexed by CUdevice_attribute */
    int32_t driver_version;                      /* as cuDriverGetVersion: 13000 */
    int32_t runs_kernels;                        /* 0: launches are counted, not run */
    char pci_bus_id[16];                         /* "0000:00:00.0" */
} orion_device_info_t;

#define ORION_MAX_PARAMS 1024u
#define ORION_PARAMS_UNKNOWN UINT32_MAX /* param_count: the layout could not be read */

typedef struct orion_param_info {
    uint16_t offset, bytes;
} orion_param_info_t;

typedef struct orion_function_info {
    int32_t max_threads; /* per block */
    int32_t static_shared;
    int32_t const_bytes;
    int32_t local_bytes;
    int32_t registers;
    int32_t ptx_version;    /* 80 = 8.0 */
    int32_t binary_version; /* 80 */
    int32_t max_dynamic_shared;
    uint32_t param_bytes;
    uint32_t param_count; /* or ORION_PARAMS_UNKNOWN */
    orion_param_info_t params[ORION_MAX_PARAMS];
} orion_function_info_t;

#define ORION_LAUNCH_COOPERATIVE 1u
#define ORION_HOST_STAGING 1u /* copies alone go there, and it stays through a reset */

typedef struct orion_launch {
    orion_function_t *function;
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic */
    uint32_t flags;
    const void *params; /* copied before launch() returns */
    uint32_t param_bytes;
} orion_launch_t;

#define ORION_LINK_OPTIONS 40u /* of one list, at most */
#define ORION_LINK_INPUTS 1024u
#define ORION_LINK_LOG 2000u

typedef struct orion_jit_option {
    uint32_t option; /* CUjit_option */
    uint64_t value;
} orion_jit_option_t;

typedef struct orion_jit_options {
    uint32_t count;
    orion_jit_option_t entry[ORION_LINK_OPTIONS];
} orion_jit_options_t;

typedef struct orion_jit_input {
    uint32_t type; /* CUjitInputType */
    const char *name;
    const void *data; /* a NUL follows */
    size_t bytes;
    orion_jit_options_t options; /* for this one */
} orion_jit_input_t;

typedef struct orion_jit_link {
    orion_jit_options_t options;
    const orion_jit_input_t *inputs;
    uint32_t input_count;
    char error[ORION_LINK_LOG], info[ORION_LINK_LOG]; /* out: what the linker says */
} orion_jit_link_t;

typedef struct orion_device_counters {
    uint64_t pending;      /* operations enqueued and not finished */
    uint64_t closed_gates; /* gates that wait to be opened, whether their stream has got there or not */
    uint64_t launches;     /* finished, since open */
    uint64_t busy_ns;      /* time spent in work since open, of all threads together */
    uint64_t memory_used;  /* by allocations and module data, those that are being freed too */
    uint64_t memory_dying; /* part of it whose free waits for work: an allocation that fails may fit afterwards */
    uint64_t memory_granted;
} orion_device_counters_t;

typedef struct orion_device_ops {
    const char *name; /* "cpu", "cuda", "null" */

    /* NULL, or what opening takes long for and needs no client: called alone, at most once in a process, before open.
     * What fails here fails again in open, which says why. */
    void (*warm)(void);
    /* Alone; starts the pool's threads (so call it after fork and before the sandbox closes). why gets a sentence
     * when it fails. */
    CUresult (*open)(const orion_device_config_t *config, orion_device_t **device_p, char *why, size_t why_bytes);
    /* Alone; cancels work, drops what waits (its callbacks get CUDA_ERROR_CONTEXT_IS_DESTROYED), joins the threads,
     * frees everything. */
    void (*close)(orion_device_t *device);
    void (*describe)(orion_device_t *device, orion_device_info_t *info_p);
    void (*counters)(orion_device_t *device, orion_device_counters_t *counters_p);
    /* The sticky status and a sentence about it ("" when there is none). */
    CUresult (*status)(orion_device_t *device, char *text, size_t text_bytes);
    /* Calls done when at most `pending` operations are unfinished (at once if so already). The loop stops reading
     * commands above some bound and goes on here; it must keep reading while counters.closed_gates is not 0, for the
     * command that opens them may be among those unread. Enqueuing above 256 Ki operations gives
     * CUDA_ERROR_OUT_OF_MEMORY. One caller at a time. */
    CUresult (*room_notify)(orion_device_t *device, uint64_t pending, orion_done_fn done, void *arg);
    /* Cancels running kernels, drops waiting work, opens gates, then frees all memory, streams, events and modules,
     * clears the sticky status, and calls done. Handles made before are gone when it is called. */
    CUresult (*reset)(orion_device_t *device, orion_done_fn done, void *arg);
    /* Calls done when all work enqueued so far in all streams has finished; its result is the sticky status. */
    CUresult (*synchronize_notify)(orion_device_t *device, orion_done_fn done, void *arg);

    /* Memory. Addresses are multiples of 512. Fresh memory is zero; memory that this device gave out before is not. */
    CUresult (*mem_alloc)(orion_device_t *device, uint64_t bytes, uint64_t *address_p);
    /* The address is refused from now on (CUDA_ERROR_INVALID_VALUE when it is no allocation); the memory is free
     * when all work enqueued so far has finished, and then done is called: answer cuMemFree from there, or the next
     * cuMemAlloc may not find the memory yet. */
    CUresult (*mem_free)(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg);
    /* Stream ordered: the address is known at once; memory of frees that still wait in the same stream is reused (the
     * free's done is called then). */
    CUresult (*mem_alloc_async)(orion_device_t *device, orion_stream_t *stream, uint64_t bytes, uint64_t *address_p);
    CUresult (*mem_free_async)(orion_device_t *device, orion_stream_t *stream, uint64_t address, orion_done_fn done,
                               void *arg);
    CUresult (*mem_info)(orion_device_t *device, uint64_t *free_p, uint64_t *total_p);
    /* Gives the granter back what it has granted and no allocation uses; 0: there was nothing. NULL: it is not asked. */
    int (*mem_trim)(orion_device_t *device);
    /* The live allocation (or module data) that holds the address; CUDA_ERROR_NOT_FOUND. */
    CUresult (*mem_find)(orion_device_t *device, uint64_t address, uint64_t *base_p, uint64_t *bytes_p);

    /* Both NULL where every address of the process is the device's anyway. Memory that the client sees as well: the
     * device reaches it at this address from now on, until unregistered or, but for staging, reset. fd is its
     * descriptor (from its first byte on) or -1. CUDA_ERROR_NOT_SUPPORTED: not at this address. */
    CUresult (*host_register)(orion_device_t *device, uint64_t address, uint64_t bytes, int fd, uint32_t flags);
    void (*host_unregister)(orion_device_t *device, uint64_t address);

    /* Other processes' memory and events. All may take as long as the broker. CUDA_ERROR_NOT_SUPPORTED: the
     * device was opened without one. */
    /* The whole allocation that holds the address. CUDA_ERROR_INVALID_VALUE: none does. */
    CUresult (*mem_share)(orion_device_t *device, uint64_t address, orion_ipc_handle_t *handle_p);
    CUresult (*mem_open)(orion_device_t *device, const orion_ipc_handle_t *handle, uint64_t *address_p,
                         uint64_t *bytes_p);
    /* Unmaps when all work enqueued so far has finished, then calls done. */
    CUresult (*mem_close)(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg);
    /* CUDA_ERROR_INVALID_HANDLE: the event was not made with CU_EVENT_INTERPROCESS. */
    CUresult (*event_share)(orion_device_t *device, orion_event_t *event, orion_ipc_handle_t *handle_p);
    CUresult (*event_open)(orion_device_t *device, const orion_ipc_handle_t *handle, orion_event_t **event_p);

    /* Streams. flags: CU_STREAM_NON_BLOCKING; priority is kept by the caller and without effect here. */
    CUresult (*stream_create)(orion_device_t *device, uint32_t flags, int priority, orion_stream_t **stream_p);
    /* Returns at once; the work already enqueued is done, then the stream goes. */
    void (*stream_destroy)(orion_device_t *device, orion_stream_t *stream);
    CUresult (*stream_query)(orion_device_t *device, orion_stream_t *stream); /* CUDA_ERROR_NOT_READY: work waits */
    CUresult (*stream_notify)(orion_device_t *device, orion_stream_t *stream, orion_done_fn done, void *arg);
    CUresult (*stream_wait_event)(orion_device_t *device, orion_stream_t *stream, orion_event_t *event);
    /* When the stream gets here it calls reached(arg) and then waits until host_gate_open(gate), which may also come
     * earlier. *gate_p is written before reached can be called. When reached gets an error the stream does not wait.
     * Each gate must be opened exactly once all the same, unless reset or close comes first: they open what is left
     * and the handles are gone. */
    CUresult (*host_gate)(orion_device_t *device, orion_stream_t *stream, orion_done_fn reached, void *arg,
                          orion_gate_t **gate_p);
    void (*host_gate_open)(orion_device_t *device, orion_gate_t *gate);

    /* Events. flags: CU_EVENT_DISABLE_TIMING, CU_EVENT_BLOCKING_SYNC (no effect), CU_EVENT_INTERPROCESS (only without
     * timing; CUDA_ERROR_NOT_SUPPORTED without a broker). */
    CUresult (*event_create)(orion_device_t *device, uint32_t flags, orion_event_t **event_p);
    void (*event_destroy)(orion_device_t *device, orion_event_t *event); /* at once; who waits for it keeps waiting */
    CUresult (*event_record)(orion_device_t *device, orion_event_t *event, orion_stream_t *stream);
    CUresult (*event_query)(orion_device_t *device, orion_event_t *event); /* never recorded: CUDA_SUCCESS */
    CUresult (*event_notify)(orion_device_t *device, orion_event_t *event, orion_done_fn done, void *arg);
    CUresult (*event_elapsed)(orion_device_t *device, orion_event_t *start, orion_event_t *end, float *ms_p);

    /* When all that was enqueued before is where other processes see it. NULL: it always is. */
    CUresult (*submitted_notify)(orion_device_t *device, orion_done_fn done, void *arg);

    /* Transfers. Up to 512 KiB in an idle stream run on the caller before return, larger ones on the pool. */
    CUresult (*copy)(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t src, uint64_t bytes,
                     orion_done_fn done, void *arg);
    CUresult (*copy_2d)(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch, uint64_t src,
                        uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done, void *arg);
    /* A copy whose source is taken before return (a record's payload); at most 32 KiB. */
    CUresult (*write)(orion_device_t *device, orion_stream_t *stream, uint64_t dst, const void *data, uint32_t bytes);
    /* `height` rows, `pitch` bytes apart, of `width` elements of `element` = 1, 2 or 4 bytes; dst and (if height > 1)
     * pitch are multiples of element. */
    CUresult (*fill)(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint32_t value, uint32_t element,
                     uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done, void *arg);

    /* Modules. log gets the compiler's words, NUL-terminated; it may be NULL. The image is not needed after return. */
    CUresult (*module_load)(orion_device_t *device, const void *image, size_t bytes, orion_module_t **module_p,
                            char *log, size_t log_bytes);
    /* NULL: the device's clients join PTX by themselves. *image_p is to be freed. */
    CUresult (*link)(orion_device_t *device, orion_jit_link_t *link, void **image_p, size_t *bytes_p);
    /* Returns at once; functions and variables go when the work enqueued so far has finished. */
    void (*module_unload)(orion_device_t *device, orion_module_t *module);
    /* The same name gives the same function, which lives as long as its module. info_p may be NULL. */
    CUresult (*module_function)(orion_device_t *device, orion_module_t *module, const char *name,
                                orion_function_t **function_p, orion_function_info_t *info_p, char *log,
                                size_t log_bytes);
    CUresult (*module_global)(orion_device_t *device, orion_module_t *module, const char *name, uint64_t *address_p,
                              uint64_t *bytes_p);
    /* Writes up to `max` kernel names beginning with number `first`, valid until unload; returns how many. */
    uint32_t (*module_names)(orion_device_t *device, orion_module_t *module, uint32_t first, const char **names,
                             uint32_t max);
    void (*module_counts)(orion_device_t *device, orion_module_t *module, uint32_t *kernels_p, uint32_t *globals_p);

    /* Launch limits are checked here too: CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
     * CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE come back at once and are not sticky. */
    CUresult (*launch)(orion_device_t *device, orion_stream_t *stream, const orion_launch_t *launch, orion_done_fn done,
                       void *arg);
} orion_device_ops_t;

extern const orion_device_ops_t orion_cpu_device;
extern const orion_device_ops_t orion_cuda_device;
extern const orion_device_ops_t orion_null_device;

#endif
