/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cpu/ and null/ have in common: devices whose memory is the host's. They differ in what a launch does and in
 * who reads images.
 */
#ifndef ORION_DEVICES_HOST_H
#define ORION_DEVICES_HOST_H

#include "cpu/compiler.h"
#include "device.h"
#include "heap.h"
#include "queue.h"
#include "transfer.h"

struct orion_cpu_kernel;

struct orion_function {
    orion_module_t *module;
    orion_function_t *next;
    const struct orion_cpu_kernel *kernel; /* NULL on the null device */
    orion_function_info_t info;
    char name[];
};

struct orion_module {
    orion_device_t *device;
    orion_module_t *next, *previous;
    orion_image_t image;
    uint64_t data; /* address of its variables; 0: it has none */
    orion_function_t *functions;
};

struct orion_device {
    orion_queue_t queue;
    orion_pool_t *pool;
    orion_heap_t heap;
    orion_device_config_t config;
    const orion_compiler_t *compiler;
    orion_device_info_t info;
    pthread_mutex_t compile_lock; /* one compilation at a time; may be held for long */
    pthread_mutex_t module_lock;  /* the lists of modules and functions; held briefly */
    orion_module_t *modules;
    uint32_t cancel;   /* atomic; kernels look at it */
    uint64_t launches; /* atomic */
    orion_share_t share;
    uint32_t accepted; /* launches; under the queue's lock */
    orion_done_fn reset_done;
    void *reset_arg;
};

/* identity.c */
void orion_identity_describe(orion_device_info_t *info_p, const char *kind, unsigned multiprocessors, uint64_t memory,
                             const char *host_id);

/* host.c; kind goes into the device's name. */
CUresult orion_host_open(const orion_device_config_t *config, const char *kind, const orion_compiler_t *compiler,
                         orion_device_t **device_p, char *why, size_t why_bytes);
/* Launch limits as a GPU of this compute capability has them. */
CUresult orion_host_check_launch(const orion_device_t *device, const orion_launch_t *launch);

/* module.c */
CUresult orion_module_load(orion_device_t *device, const void *image, size_t bytes, orion_module_t **module_p,
                           char *log, size_t log_bytes);
void orion_module_unload(orion_device_t *device, orion_module_t *module);
void orion_module_free_all(orion_device_t *device); /* before the heap is cleared; nothing runs */
CUresult orion_module_function(orion_device_t *device, orion_module_t *module, const char *name,
                               orion_function_t **function_p, orion_function_info_t *info_p, char *log,
                               size_t log_bytes);
CUresult orion_module_global(orion_device_t *device, orion_module_t *module, const char *name, uint64_t *address_p,
                             uint64_t *bytes_p);
uint32_t orion_module_names(orion_device_t *device, orion_module_t *module, uint32_t first, const char **names,
                            uint32_t max);
void orion_module_counts(orion_device_t *device, orion_module_t *module, uint32_t *kernels_p, uint32_t *globals_p);

/* The entries of the ops table that do not depend on the kind of device. */
void orion_host_close(orion_device_t *device);
void orion_host_describe(orion_device_t *device, orion_device_info_t *info_p);
void orion_host_counters(orion_device_t *device, orion_device_counters_t *counters_p);
CUresult orion_host_status(orion_device_t *device, char *text, size_t text_bytes);
CUresult orion_host_room_notify(orion_device_t *device, uint64_t pending, orion_done_fn done, void *arg);
CUresult orion_host_reset(orion_device_t *device, orion_done_fn done, void *arg);
CUresult orion_host_synchronize_notify(orion_device_t *device, orion_done_fn done, void *arg);
CUresult orion_host_mem_alloc(orion_device_t *device, uint64_t bytes, uint64_t *address_p);
CUresult orion_host_mem_free(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg);
CUresult orion_host_mem_alloc_async(orion_device_t *device, orion_stream_t *stream, uint64_t bytes,
                                    uint64_t *address_p);
CUresult orion_host_mem_free_async(orion_device_t *device, orion_stream_t *stream, uint64_t address, orion_done_fn done,
                                   void *arg);
CUresult orion_host_mem_info(orion_device_t *device, uint64_t *free_p, uint64_t *total_p);
int orion_host_mem_trim(orion_device_t *device);
CUresult orion_host_mem_find(orion_device_t *device, uint64_t address, uint64_t *base_p, uint64_t *bytes_p);
CUresult orion_host_mem_share(orion_device_t *device, uint64_t address, orion_ipc_handle_t *handle_p);
CUresult orion_host_mem_open(orion_device_t *device, const orion_ipc_handle_t *handle, uint64_t *address_p,
                             uint64_t *bytes_p);
CUresult orion_host_mem_close(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg);
CUresult orion_host_event_share(orion_device_t *device, orion_event_t *event, orion_ipc_handle_t *handle_p);
CUresult orion_host_event_open(orion_device_t *device, const orion_ipc_handle_t *handle, orion_event_t **event_p);
CUresult orion_host_stream_create(orion_device_t *device, uint32_t flags, int priority, orion_stream_t **stream_p);
void orion_host_stream_destroy(orion_device_t *device, orion_stream_t *stream);
CUresult orion_host_stream_query(orion_device_t *device, orion_stream_t *stream);
CUresult orion_host_stream_notify(orion_device_t *device, orion_stream_t *stream, orion_done_fn done, void *arg);
CUresult orion_host_stream_wait_event(orion_device_t *device, orion_stream_t *stream, orion_event_t *event);
CUresult orion_host_gate(orion_device_t *device, orion_stream_t *stream, orion_done_fn reached, void *arg,
                         orion_gate_t **gate_p);
void orion_host_gate_open(orion_device_t *device, orion_gate_t *gate);
CUresult orion_host_event_create(orion_device_t *device, uint32_t flags, orion_event_t **event_p);
void orion_host_event_destroy(orion_device_t *device, orion_event_t *event);
CUresult orion_host_event_record(orion_device_t *device, orion_event_t *event, orion_stream_t *stream);
CUresult orion_host_event_query(orion_device_t *device, orion_event_t *event);
CUresult orion_host_event_notify(orion_device_t *device, orion_event_t *event, orion_done_fn done, void *arg);
CUresult orion_host_event_elapsed(orion_device_t *device, orion_event_t *start, orion_event_t *end, float *ms_p);
CUresult orion_host_copy(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t src, uint64_t bytes,
                         orion_done_fn done, void *arg);
CUresult orion_host_copy_2d(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch,
                            uint64_t src, uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done,
                            void *arg);
CUresult orion_host_write(orion_device_t *device, orion_stream_t *stream, uint64_t dst, const void *data,
                          uint32_t bytes);
CUresult orion_host_fill(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint32_t value, uint32_t element,
                         uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done, void *arg);

#define ORION_HOST_OPS                                                                                             \
    .close = orion_host_close, .describe = orion_host_describe, .counters = orion_host_counters,                   \
    .status = orion_host_status, .room_notify = orion_host_room_notify, .reset = orion_host_reset,                 \
    .synchronize_notify = orion_host_synchronize_notify, .mem_alloc = orion_host_mem_alloc,                        \
    .mem_free = orion_host_mem_free, .mem_alloc_async = orion_host_mem_alloc_async,                                \
    .mem_free_async = orion_host_mem_free_async, .mem_info = orion_host_mem_info, .mem_trim = orion_host_mem_trim, \
    .mem_find = orion_host_mem_find, .mem_share = orion_host_mem_share, .mem_open = orion_host_mem_open,           \
    .mem_close = orion_host_mem_close, .event_share = orion_host_event_share, .event_open = orion_host_event_open, \
    .stream_create = orion_host_stream_create, .stream_destroy = orion_host_stream_destroy,                        \
    .stream_query = orion_host_stream_query, .stream_notify = orion_host_stream_notify,                            \
    .stream_wait_event = orion_host_stream_wait_event, .host_gate = orion_host_gate,                               \
    .host_gate_open = orion_host_gate_open, .event_create = orion_host_event_create,                               \
    .event_destroy = orion_host_event_destroy, .event_record = orion_host_event_record,                            \
    .event_query = orion_host_event_query, .event_notify = orion_host_event_notify,                                \
    .event_elapsed = orion_host_event_elapsed, .copy = orion_host_copy, .copy_2d = orion_host_copy_2d,             \
    .write = orion_host_write, .fill = orion_host_fill, .module_load = orion_module_load,                          \
    .module_unload = orion_module_unload, .module_function = orion_module_function,                                \
    .module_global = orion_module_global, .module_names = orion_module_names, .module_counts = orion_module_counts

#endif
