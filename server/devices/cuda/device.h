/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cuda device's own objects. The loop hands operations straight to the driver as long as the driver takes them
 * without waiting; beyond a bound they go, in order, through the backlog to the porter, a thread that may wait. What has
 * been handed over is watched by the watcher, a thread that asks the driver for the events it has recorded.
 *
 * Locks, outermost first: submit_lock, then lock. memory_lock and those of gates are leaves. No callback is called and
 * no call of the driver made under `lock`.
 */
#ifndef ORION_CUDA_DEVICE_H
#define ORION_CUDA_DEVICE_H

#include "../cpu/compiler.h"
#include "../device.h"
#include "cuda/driver.h"

#include <pthread.h>
#include <stdbool.h>

#define ORION_CUDA_OPERATIONS (256u << 10) /* unfinished, at most */
#define ORION_CUDA_DIRECT 512u             /* in the driver, before the loop would have to wait there */
#define ORION_CUDA_AHEAD 8u                /* in the driver while other clients wait: what a turn may run over by */
#define ORION_CUDA_WRITE_MOST (32u << 10)

typedef enum {
    ORION_SPAN_DEVICE = 1, /* cuMemAlloc */
    ORION_SPAN_ORDERED,    /* cuMemAllocAsync */
    ORION_SPAN_GLOBAL,     /* a variable that was looked up */
    ORION_SPAN_OPENED,     /* another process's, ipc.c */
    ORION_SPAN_HOST,       /* the arena: registered with the driver */
    ORION_SPAN_STAGE       /* stays through resets */
} orion_span_kind_t;

typedef struct orion_cuda_share orion_cuda_share_t; /* ipc.c */

typedef struct orion_span {
    uint64_t base, bytes;
    orion_span_kind_t kind;
    orion_module_t *module; /* of a variable */
} orion_span_t;

/* An event of the driver; waiters keep the one they wait for when it is recorded anew. */
typedef struct orion_cuda_cell {
    CUevent event;
    uint32_t references; /* atomic */
} orion_cuda_cell_t;

struct orion_event {
    orion_event_t *next, **place; /* in the device's list, under lock */
    orion_cuda_cell_t *cell;
    uint32_t flags;
    uint32_t held;       /* atomic: records of it in the backlog */
    uint32_t references; /* atomic: one for the handle, one per operation in the backlog */
    bool recorded;       /* by us; one that other processes know counts as such */
    uint64_t share_id;   /* the broker's; 0: no other process knows it */
    uint32_t party;      /* 0: it is ours */
    orion_ipc_handle_t handle;
};

typedef enum {
    OP_LAUNCH,
    OP_COPY,
    OP_COPY_2D,
    OP_WRITE,
    OP_FILL,
    OP_RECORD,
    OP_WAIT,
    OP_GATE,
    OP_NOTIFY,       /* when all earlier work of the stream is done */
    OP_NOTIFY_EVENT, /* when the event is */
    OP_FENCE,        /* when all earlier work of all streams is done */
    OP_SUBMITTED,    /* when all earlier work of all streams is in the driver */
    OP_FREE_ORDERED
} orion_cuda_kind_t;

typedef struct orion_cuda_op {
    struct orion_cuda_op *next;
    orion_cuda_kind_t kind;
    orion_stream_t *stream;
    orion_done_fn done;
    void *arg;
    union {
        struct {
            orion_function_t *function;
            uint32_t grid[3], block[3], shared, flags, bytes;
            const void *params; /* in the backlog: a copy behind the struct */
        } launch;
        struct {
            uint64_t dst, src, dst_pitch, src_pitch, width, height;
        } copy; /* linear: width bytes */
        struct {
            uint64_t dst;
            const void *data; /* as params */
            uint32_t bytes;
        } write;
        struct {
            uint64_t dst, pitch, width, height;
            uint32_t value, element;
        } fill;
        orion_event_t *event;
        orion_gate_t *gate;
        uint64_t address;
    } u;
} orion_cuda_op_t;

/* Pinned memory of our own between the driver and memory that it does not know. */
typedef struct orion_bounce {
    struct orion_bounce *next;
    unsigned char *memory;
    uint32_t bytes, class;
} orion_bounce_t;

/* Something that is called back for when the work before it is done. */
typedef struct orion_cuda_entry {
    struct orion_cuda_entry *next;
    uint64_t sequence;
    orion_done_fn done;
    void *arg;
    CUresult result; /* of handing it over */
    orion_bounce_t *bounce;
    void *copy_to; /* where the bounce goes; NULL: nowhere */
    uint32_t copy_bytes;
    bool launch;
} orion_cuda_entry_t;

typedef struct orion_cuda_marker {
    struct orion_cuda_marker *next;
    orion_cuda_cell_t *cell;
    uint64_t sequence;
    bool awaited; /* somebody waits: text that kernels printed has to be out before */
} orion_cuda_marker_t;

struct orion_stream {
    orion_stream_t *next;
    CUstream handle;
    orion_cuda_entry_t *first, **last;
    orion_cuda_marker_t *marker, **last_marker;
    uint64_t submitted, marked, completed; /* sequence numbers of operations */
    uint64_t zeroed;                       /* clearing of memory that this stream has waited for */
    uint32_t held;                         /* operations in the backlog, and whoever else keeps it */
    bool destroyed;
    bool blocking; /* waits for the default stream, and the other way round */
};

typedef struct orion_cuda_waiter {
    struct orion_cuda_waiter *next;
    orion_cuda_cell_t *cell;
    orion_done_fn done;
    void *arg;
} orion_cuda_waiter_t;

struct orion_gate {
    orion_gate_t *next;
    orion_device_t *device;
    orion_done_fn reached;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t references; /* the driver's host function, and whoever opens it */
    bool told, opened;
};

typedef struct orion_cuda_job {
    struct orion_cuda_job *next;
    void (*run)(orion_device_t *device, struct orion_cuda_job *job);
    orion_device_t *device; /* while it waits for work */
    uint64_t address;
    orion_module_t *module;
    orion_done_fn done;
    void *arg;
} orion_cuda_job_t;

struct orion_function {
    orion_function_t *next;
    CUfunction handle;
    uint32_t shared_allowed; /* dynamic; raised when a launch wants more */
    orion_function_info_t info;
    char name[];
};

struct orion_module {
    orion_module_t *next;
    CUmodule handle;
    orion_image_t image; /* what can be read of it without the driver */
    orion_function_t *functions;
    uint32_t kernel_count;
    const char **names; /* of kernels; NULL until somebody asks */
    uint32_t name_count;
};

struct orion_device {
    orion_driver_t driver;
    CUdevice ordinal;
    CUcontext context;
    uint32_t generation; /* atomic: a thread's current context is that of this number */
    orion_device_config_t config;
    orion_device_info_t info;

    pthread_mutex_t submit_lock;
    pthread_mutex_t lock;
    pthread_cond_t work;     /* the watcher's */
    pthread_cond_t carry;    /* the porter's */
    pthread_cond_t parked;   /* the watcher has seen `park` */
    pthread_cond_t returned; /* a bounce came back */
    pthread_t watcher, porter;
    bool has_watcher, has_porter, stopping, park, is_parked, watcher_idle;
    CUresult dropping; /* not 0: reset or close; callbacks get it */
    orion_stream_t legacy, *streams;
    orion_stream_t house; /* clears fresh memory; carries fences that nothing else does */
    orion_cuda_waiter_t *waiters;
    orion_cuda_op_t *backlog, **backlog_last;
    bool carrying; /* the porter has the backlog's head in hand */
    orion_cuda_job_t *jobs, **jobs_last;
    orion_gate_t *gates;
    orion_event_t *events;
    uint32_t closed_gates;
    uint64_t pending, in_driver;
    int64_t moved_at; /* when the driver's queue was last empty, or something in it was done */
    orion_share_t share;
    int64_t busy_since; /* in_driver is not 0 since then, as far as it has not been counted yet */
    orion_cuda_cell_t *spare_cells[64];
    uint32_t spare_count;
    uint64_t room_pending;
    orion_done_fn room_done;
    void *room_arg;

    orion_cuda_cell_t *house_done; /* the latest clearing */
    uint64_t zeroed;               /* how many there were; atomic */

    orion_bounce_t *bounce[2]; /* free ones, by class */
    uint32_t bounce_slabs[2];
    void *slab[2][16];

    pthread_mutex_t memory_lock;
    orion_span_t *span;
    size_t span_count, span_room;
    uint64_t used, dying;
    orion_cuda_share_t *shares; /* memory that other processes know, or theirs; under memory_lock */

    pthread_mutex_t module_lock;
    orion_module_t *modules;

    uint64_t launches; /* atomic */
    int32_t sticky;    /* atomic */
    int output;        /* what the driver's standard output is; -1: not captured */
    int64_t output_at;
};

/* device.c: makes the device's context current to this thread. */
CUresult orion_cuda_enter(orion_device_t *device);
/* The result of a call of the driver: an error of running work becomes the sticky status. */
CUresult orion_cuda_judge(orion_device_t *device, CUresult result);
CUresult orion_cuda_sticky(orion_device_t *device);
/* Text that kernels printed goes to the client. The watcher. */
/* Standard output becomes a memory file, before the driver keeps a copy of what it is; -1: it stays. */
int orion_cuda_output_open(void);
void orion_cuda_output_flush(orion_device_t *device);

/* submit.c: hands an operation over, now or from the backlog. */
CUresult orion_cuda_submit(orion_device_t *device, orion_cuda_op_t *op);
void *orion_cuda_porter(void *device);
void orion_cuda_job(orion_device_t *device, orion_cuda_job_t *job);
/* The same when all work so far is done; if the context goes before, only its done is called. memory.c */
void orion_cuda_job_after_work(orion_device_t *device, orion_cuda_job_t *job);
/* Tells everybody who waits `result`, and opens all gates. */
void orion_cuda_drop(orion_device_t *device, CUresult result);
/* Calls back when all work so far is done; for the device's own use. */
CUresult orion_cuda_fence(orion_device_t *device, orion_done_fn done, void *arg);
CUresult orion_cuda_submitted(orion_device_t *device, orion_done_fn done, void *arg);

/* turn.c: under lock. A launch may be handed over now: it is our turn, and not too much is ahead of it. */
bool orion_cuda_has_turn(const orion_device_t *device);
/* The porter's wait for that; lets go of the lock. Short: there may be jobs. */
void orion_cuda_await_turn(orion_device_t *device);
/* After a change of `pending` or `in_driver`, and now and then: what the supervisor sees. */
void orion_cuda_account(orion_device_t *device);

/* watch.c */
void *orion_cuda_watcher(void *device);
orion_cuda_cell_t *orion_cuda_cell_new(orion_device_t *device, uint32_t flags);
void orion_cuda_cell_drop(orion_device_t *device, orion_cuda_cell_t *cell);
/* Counts an operation that was handed over to the stream; takes the entry over (NULL: nobody waits). awaited: marks the
 * place at once. */
void orion_cuda_handed(orion_device_t *device, orion_stream_t *stream, orion_cuda_entry_t *entry, bool awaited);
/* Marks the default stream before a blocking stream gets work: a mark set later would wait for that work, too. */
void orion_cuda_mark_legacy(orion_device_t *device);
void orion_cuda_deliver(orion_device_t *device, orion_cuda_entry_t *entry, CUresult result);

/* perform.c: the calls of the driver behind an operation. CUDA_ERROR_NOT_READY: no bounce is free, try again. */
CUresult orion_cuda_perform(orion_device_t *device, orion_cuda_op_t *op, bool may_wait);
/* bounce.c; NULL: none is free and may_wait is false. */
orion_bounce_t *orion_bounce_take(orion_device_t *device, uint64_t bytes, bool may_wait);
void orion_bounce_return(orion_device_t *device, orion_bounce_t *bounce);
void orion_bounce_forget(orion_device_t *device, bool context_is_alive);

/* gate.c */
void orion_cuda_gate_reached(void *gate);
void orion_cuda_gates_fail(orion_device_t *device, CUresult result, bool open);

/* memory.c */
bool orion_span_find(orion_device_t *device, uint64_t address, uint64_t bytes, orion_span_t *span_p);
bool orion_span_add(orion_device_t *device, const orion_span_t *span);
bool orion_span_drop(orion_device_t *device, uint64_t base, orion_span_kind_t kind);
void orion_spans_drop_module(orion_device_t *device, const orion_module_t *module);
void orion_spans_reset(orion_device_t *device);

/* module.c: the driver's word (12.4), else the image's. */
uint32_t orion_cuda_count_kernels(orion_device_t *device, const orion_module_t *module);
/* load.c: what the driver's error means to whoever built the program, and what to do. */
void orion_cuda_explain(const orion_device_t *device, CUresult result, const char *words, char *log, size_t log_bytes);

/* ipc.c; there is a broker, and a driver that can. */
bool orion_cuda_can_share(const orion_device_t *device);
/* The allocation goes: nobody can open it any more. */
void orion_cuda_unshare(orion_device_t *device, uint64_t address);
void orion_cuda_shares_forget(orion_device_t *device);
void orion_cuda_event_unshare(orion_device_t *device, const orion_event_t *event);
/* stream.c: an event around a cell, which it takes over if there is memory. */
CUresult orion_cuda_event_wrap(orion_device_t *device, orion_cuda_cell_t *cell, uint32_t flags,
                               orion_event_t **event_p);

/* The entries of the ops table. */
CUresult orion_cuda_open(const orion_device_config_t *, orion_device_t **, char *, size_t);
void orion_cuda_close(orion_device_t *);
CUresult orion_cuda_reset(orion_device_t *, orion_done_fn, void *);
CUresult orion_cuda_mem_alloc(orion_device_t *, uint64_t, uint64_t *);
CUresult orion_cuda_mem_free(orion_device_t *, uint64_t, orion_done_fn, void *);
CUresult orion_cuda_mem_alloc_async(orion_device_t *, orion_stream_t *, uint64_t, uint64_t *);
CUresult orion_cuda_mem_free_async(orion_device_t *, orion_stream_t *, uint64_t, orion_done_fn, void *);
CUresult orion_cuda_mem_info(orion_device_t *, uint64_t *, uint64_t *);
CUresult orion_cuda_mem_find(orion_device_t *, uint64_t, uint64_t *, uint64_t *);
CUresult orion_cuda_host_register(orion_device_t *, uint64_t, uint64_t, int, uint32_t);
void orion_cuda_host_unregister(orion_device_t *, uint64_t);
CUresult orion_cuda_mem_share(orion_device_t *, uint64_t, orion_ipc_handle_t *);
CUresult orion_cuda_mem_open(orion_device_t *, const orion_ipc_handle_t *, uint64_t *, uint64_t *);
CUresult orion_cuda_mem_close(orion_device_t *, uint64_t, orion_done_fn, void *);
CUresult orion_cuda_event_share(orion_device_t *, orion_event_t *, orion_ipc_handle_t *);
CUresult orion_cuda_event_open(orion_device_t *, const orion_ipc_handle_t *, orion_event_t **);
CUresult orion_cuda_stream_create(orion_device_t *, uint32_t, int, orion_stream_t **);
void orion_cuda_stream_destroy(orion_device_t *, orion_stream_t *);
CUresult orion_cuda_stream_query(orion_device_t *, orion_stream_t *);
CUresult orion_cuda_stream_notify(orion_device_t *, orion_stream_t *, orion_done_fn, void *);
CUresult orion_cuda_stream_wait_event(orion_device_t *, orion_stream_t *, orion_event_t *);
CUresult orion_cuda_host_gate(orion_device_t *, orion_stream_t *, orion_done_fn, void *, orion_gate_t **);
void orion_cuda_host_gate_open(orion_device_t *, orion_gate_t *);
CUresult orion_cuda_event_create(orion_device_t *, uint32_t, orion_event_t **);
void orion_cuda_event_destroy(orion_device_t *, orion_event_t *);
void orion_cuda_event_unref(orion_device_t *, orion_event_t *);
CUresult orion_cuda_event_record(orion_device_t *, orion_event_t *, orion_stream_t *);
CUresult orion_cuda_event_query(orion_device_t *, orion_event_t *);
CUresult orion_cuda_event_notify(orion_device_t *, orion_event_t *, orion_done_fn, void *);
CUresult orion_cuda_event_elapsed(orion_device_t *, orion_event_t *, orion_event_t *, float *);
CUresult orion_cuda_copy(orion_device_t *, orion_stream_t *, uint64_t, uint64_t, uint64_t, orion_done_fn, void *);
CUresult orion_cuda_copy_2d(orion_device_t *, orion_stream_t *, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                            uint64_t, orion_done_fn, void *);
CUresult orion_cuda_write(orion_device_t *, orion_stream_t *, uint64_t, const void *, uint32_t);
CUresult orion_cuda_fill(orion_device_t *, orion_stream_t *, uint64_t, uint32_t, uint32_t, uint64_t, uint64_t, uint64_t,
                         orion_done_fn, void *);
CUresult orion_cuda_launch(orion_device_t *, orion_stream_t *, const orion_launch_t *, orion_done_fn, void *);
CUresult orion_cuda_module_load(orion_device_t *, const void *, size_t, orion_module_t **, char *, size_t);
CUresult orion_cuda_link(orion_device_t *, orion_jit_link_t *, void **, size_t *);
void orion_cuda_module_unload(orion_device_t *, orion_module_t *);
void orion_cuda_modules_forget(orion_device_t *);
CUresult orion_cuda_module_function(orion_device_t *, orion_module_t *, const char *, orion_function_t **,
                                    orion_function_info_t *, char *, size_t);
CUresult orion_cuda_module_global(orion_device_t *, orion_module_t *, const char *, uint64_t *, uint64_t *);
uint32_t orion_cuda_module_names(orion_device_t *, orion_module_t *, uint32_t, const char **, uint32_t);
void orion_cuda_module_counts(orion_device_t *, orion_module_t *, uint32_t *, uint32_t *);

#endif
