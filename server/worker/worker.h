/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session's worker: what its loop, its executor threads and the device's callbacks share. A worker serves exactly
 * one client, in a process of its own (start.c) or as threads of the client's process (twin.c).
 */
#ifndef ORION_WORKER_WORKER_H
#define ORION_WORKER_WORKER_H

#include "devices/cpu/compiler.h"
#include "devices/device.h"
#include "shm/layout.h"
#include "transport/port.h"
#include "worker/control.h"
#include "worker/executor.h"
#include "worker/granter.h"
#include "worker/handles.h"
#include "worker/lease.h"
#include "worker/ledger.h"
#include "worker/serving.h"
#include "worker/stats.h"

#define ORION_STREAMS_MOST (64u << 10)
#define ORION_EVENTS_MOST (1u << 20)
#define ORION_MODULES_MOST (64u << 10)
#define ORION_FUNCTIONS_MOST (1u << 20)
#define ORION_UPLOADS 64u                  /* unfinished at a time */
#define ORION_UPLOAD_BYTES (256ull << 20)  /* of one */
#define ORION_UPLOADS_BYTES (512ull << 20) /* of all */
#define ORION_PENDING_HIGH (192u << 10)    /* device operations: the loop stops reading above */
#define ORION_PENDING_LOW (128u << 10)

typedef struct orion_upload {
    bool used;
    uint32_t id;
    uint64_t bytes;
    uint8_t *data;
} orion_upload_t;

/* Memory of another client, hand/ipc.c. */
typedef struct orion_opened {
    struct orion_opened *next;
    orion_ipc_handle_t handle;
    uint64_t address, bytes;
    uint32_t count; /* opens that have not been closed */
} orion_opened_t;

struct orion_worker {
    orion_port_t *port;
    const orion_device_ops_t *ops;
    orion_device_t *device;
    orion_device_info_t info;
    orion_stats_t *stats;
    orion_ledger_t ledger;
    orion_extents_t extents;
    orion_control_line_t *line; /* NULL: twin */
    orion_executor_t *executor;
    orion_handles_t *handles[ORION_HANDLE_KINDS];
    orion_stream_t *thread_stream[ORION_REPLY_SLOTS]; /* per-thread default streams; the loop makes them */
    _Atomic int32_t sticky;                           /* first asynchronous failure that no reset has cleared */
    _Atomic uint32_t resetting;                       /* the loop serves nothing until the device is done */
    bool reset_wanted;                                /* not begun yet: an executor job still uses the device */
    orion_ticket_t reset_ticket;
    _Atomic uint32_t crowded; /* as above, until the device has room again */
    _Atomic uint32_t ending;
    _Atomic uint32_t frees; /* accepted by the device and not finished */
    bool said_goodbye;
    _Atomic uint32_t failure_logged;
    pthread_rwlock_t jobs; /* executor jobs hold it for reading: what they have found by a handle stays alive */
    uint32_t turn;         /* atomic: odd while the loop serves a record; orion_worker_pass() */
    bool membarrier;
    uint32_t since_room; /* records since the device's counters were last looked at */
    pthread_mutex_t upload_lock;
    uint64_t upload_bytes;
    orion_upload_t upload[ORION_UPLOADS];
    struct {
        orion_module_t *module;
        orion_function_t *function;
        bool prints; /* the client listens for its output */
    } *function;     /* whose handles go with their module; under upload_lock */
    size_t function_count, function_room;
    pthread_mutex_t opened_lock;
    orion_opened_t *opened;
    struct orion_gates *gates; /* host functions that streams wait for */
    struct orion_compiling *compiling;
    char told[256];       /* to the client, last, of an image; under upload_lock: what fails alike is said once */
    char last_words[256]; /* why the session ended, if it did not end in order */
};

typedef struct orion_worker_config {
    const char *device; /* "cpu", "cuda" or "null" */
    uint64_t memory_limit;
    int threads;
    const orion_compiler_t *compiler;
    orion_port_t *port; /* taken over */
    orion_control_line_t *line;
    orion_stats_t *stats;
    const orion_lease_t *lease;       /* NULL: the limit stays, and the device is this client's alone */
    uint64_t range_base, arena_bytes; /* 0: no arena */
    uint64_t heap_base, heap_bytes;   /* 0: the device finds its memory itself */
    int (*notice)(void *self, const orion_notice_t *notice, int fd); /* twin: how the client learns of extents */
    void *notice_self;
} orion_worker_config_t;

/* What the device can do before there is a client: a worker that waits for one. */
void orion_worker_warm(const char *device);
CUresult orion_worker_open(const orion_worker_config_t *config, orion_worker_t **worker_p, char *why, size_t why_bytes);
void orion_worker_close(orion_worker_t *worker);

/* Serves until the client says goodbye, breaks the protocol, or nobody supervises the worker any more. */
orion_status_t orion_worker_serve(orion_worker_t *worker);
/* From any thread: makes orion_worker_serve return soon. */
void orion_worker_stop(orion_worker_t *worker);

/* From an executor job that frees what handles have named: from here to its end no other job runs, so that none has found
 * it before. */
void orion_worker_alone(orion_worker_t *worker);
/* From an executor job: returns when the loop is done with the record that it may be serving now. */
void orion_worker_pass(orion_worker_t *worker);

/* [address, address + bytes) is memory of this session; likewise `height` rows. */
bool orion_worker_owns(orion_worker_t *worker, uint64_t address, uint64_t bytes);
bool orion_worker_owns_rows(orion_worker_t *worker, uint64_t address, uint64_t pitch, uint64_t width, uint64_t height);

/* Work of the device has ended with `result`: an execution error becomes the sticky status and is logged once. */
void orion_worker_device_failed(orion_worker_t *worker, CUresult result);

/* compiling.c: the compiler behind the device, with every module's data charged to the ledger. */
struct orion_compiling *orion_compiling_new(const orion_compiler_t *compiler, orion_ledger_t *ledger,
                                            orion_stats_t *stats);
void orion_compiling_free(struct orion_compiling *compiling);
const orion_compiler_t *orion_compiling_table(struct orion_compiling *compiling);

/* What the compiler says of the kernel that it is just compiling for the calling thread, beyond the device's info:
 * +1 it prints or asserts, -1 it does not, 0 nothing was compiled since the last call of orion_compiling_prints(). */
void orion_compiling_note(bool prints);
int orion_compiling_prints(void);

/* hand/host_function.c */
struct orion_gates *orion_gates_new(void);
void orion_gates_free(struct orion_gates *gates);
void orion_gates_clear(struct orion_gates *gates);
/* Sends events that did not fit the ring when their streams got there. The loop, at each idle turn. */
void orion_gates_retry(orion_worker_t *worker);

/* hand/module.c */
void orion_uploads_clear(orion_worker_t *worker);
void orion_functions_clear(orion_worker_t *worker);

/* hand/ipc.c: the device has let go of them already. */
void orion_opened_clear(orion_worker_t *worker);

/* hand/context.c: begins a reset that was wanted, once no executor job uses the device. The loop. */
void orion_reset_begin(orion_worker_t *worker);

#endif
