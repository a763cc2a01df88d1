/* SPDX-License-Identifier: Apache-2.0 */
/* Making and unmaking a worker, and the small services that the generated dispatch asks of it. */
#include "base/atomic.h"
#include "base/futex.h"
#include "base/membarrier.h"
#include "worker/broker.h"
#include "worker/hand/hand.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PASS_NS (50 * 1000)

static const uint32_t most[ORION_HANDLE_KINDS] = {
    [ORION_HANDLE_STREAM] = ORION_STREAMS_MOST,
    [ORION_HANDLE_EVENT] = ORION_EVENTS_MOST,
    [ORION_HANDLE_MODULE] = ORION_MODULES_MOST,
    [ORION_HANDLE_FUNCTION] = ORION_FUNCTIONS_MOST,
};

static const orion_device_ops_t *device_named(const char *name)
{
    if (strcmp(name, "null") == 0)
        return &orion_null_device;
    if (strcmp(name, "cuda") == 0)
        return &orion_cuda_device;
#ifndef ORION_WITHOUT_CPU_DEVICE
    if (strcmp(name, "cpu") == 0)
        return &orion_cpu_device;
#endif
    return NULL;
}

void orion_worker_warm(const char *device)
{
    const orion_device_ops_t *ops = device_named(device);
    if (ops && ops->warm)
        ops->warm();
}

static void print_from_kernel(void *self, const char *text, size_t bytes)
{
    orion_worker_print(self, ORION_EVENT_STDOUT, text, bytes);
}

CUresult orion_worker_open(const orion_worker_config_t *config, orion_worker_t **worker_p, char *why, size_t why_bytes)
{
    const orion_device_ops_t *ops = device_named(config->device);
    if (!ops) {
        snprintf(why, why_bytes, "this server has no device named \"%s\"; it knows cpu, cuda and null", config->device);
        return CUDA_ERROR_NO_DEVICE;
    }
    orion_worker_t *w = calloc(1, sizeof *w);
    if (!w)
        goto err_memory;
    w->port = config->port;
    w->ops = ops;
    w->stats = config->stats;
    w->line = config->line;
    pthread_mutex_init(&w->upload_lock, NULL);
    pthread_mutex_init(&w->opened_lock, NULL);
    pthread_rwlock_init(&w->jobs, NULL);
    w->membarrier = orion_membarrier_register();
    const orion_lease_t *lease = config->lease;
    /* with a lease the supervisor's word is the limit, and it may grow: the device has to have room for that */
    const uint64_t limit = lease ? UINT64_MAX : config->memory_limit;
    orion_ledger_init(&w->ledger, limit, lease ? &lease->memory_limit : NULL, w->stats);
    orion_extents_init(&w->extents, w->line, config->range_base, config->arena_bytes);
    w->extents.notice = config->notice;
    w->extents.notice_self = config->notice_self;
    w->executor = orion_executor_new();
    w->gates = orion_gates_new();
    w->compiling = orion_compiling_new(config->compiler, &w->ledger, w->stats);
    if (!w->executor || !w->gates || !w->compiling)
        goto err_memory;
    for (int kind = 0; kind < ORION_HANDLE_KINDS; kind++)
        if (!(w->handles[kind] = orion_handles_new(most[kind])))
            goto err_memory;

    const orion_device_config_t device = {
        .heap_base = config->heap_base,
        .heap_bytes = config->heap_base ? config->heap_bytes : 0,
        .memory_limit = lease ? 0 : config->memory_limit, /* 0: all that the host has */
        .threads = config->threads,
        .granter = config->heap_base ? orion_extents_granter(&w->extents) : (orion_granter_t){0},
        .broker = orion_broker_of(w->line),
        .print = print_from_kernel,
        .print_self = w,
        .capture_output = w->line != NULL,
        .compiler = config->compiler ? orion_compiling_table(w->compiling) : NULL,
        .turn = lease ? &lease->turn : NULL,
        .usage = &w->stats->usage,
        .shared = {{w->port ? (uint64_t)(uintptr_t)orion_port_stage(w->port, 0) : 0,
                    w->port ? (uint64_t)ORION_STAGE_COUNT * ORION_STAGE_BYTES : 0},
                   {config->range_base, config->arena_bytes}},
    };
    const CUresult result = ops->open(&device, &w->device, why, why_bytes);
    if (result != CUDA_SUCCESS) {
        w->port = NULL; /* the caller's again */
        orion_worker_close(w);
        return result;
    }
    w->extents.device = w->device;
    w->extents.trim = ops->mem_trim;
    ops->describe(w->device, &w->info);
    w->ledger.unit = w->info.memory_unit;
    if (w->info.total_memory < w->ledger.limit)
        w->ledger.limit = w->info.total_memory; /* a GPU may have less than the lease says */
    if (w->port && ops->host_register) {
        w->extents.ops = ops;
        /* a device that cannot have it copies from and to staging in a longer way */
        ops->host_register(w->device, (uint64_t)(uintptr_t)orion_port_stage(w->port, 0),
                           (uint64_t)ORION_STAGE_COUNT * ORION_STAGE_BYTES, -1, ORION_HOST_STAGING);
    }
    *worker_p = w;
    return CUDA_SUCCESS;

err_memory:
    if (w)
        w->port = NULL;
    orion_worker_close(w);
    snprintf(why, why_bytes, "no memory for a worker's tables");
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void orion_worker_close(orion_worker_t *w)
{
    if (!w)
        return;
    orion_executor_free(w->executor); /* first: its jobs use all the rest */
    if (w->device)
        w->ops->close(w->device);
    orion_opened_clear(w);
    orion_uploads_clear(w);
    orion_functions_clear(w);
    free(w->function);
    for (int kind = 0; kind < ORION_HANDLE_KINDS; kind++)
        orion_handles_free(w->handles[kind]);
    orion_compiling_free(w->compiling);
    orion_gates_free(w->gates);
    orion_extents_fini(&w->extents);
    orion_ledger_fini(&w->ledger);
    pthread_mutex_destroy(&w->upload_lock);
    pthread_mutex_destroy(&w->opened_lock);
    pthread_rwlock_destroy(&w->jobs);
    if (w->port)
        orion_port_close(w->port);
    free(w);
}

void orion_worker_stop(orion_worker_t *w)
{
    atomic_store(&w->ending, 1);
    orion_port_wake(w->port);
}

orion_handles_t *orion_worker_handles(orion_worker_t *w, orion_handle_kind_t kind)
{
    return w->handles[kind];
}

bool orion_worker_stream(orion_worker_t *w, uint64_t wire, orion_stream_t **stream_p)
{
    if (wire == ORION_WIRE_STREAM_LEGACY) {
        *stream_p = NULL;
        return true;
    }
    if (wire >> 48 == 0)
        return (*stream_p = orion_handles_find(w->handles[ORION_HANDLE_STREAM], wire)) != NULL;
    const uint64_t slot = wire & ~ORION_WIRE_STREAM_THREAD;
    if (wire >> 48 != 1 || slot >= ORION_REPLY_SLOTS)
        return false;
    /* made at its first use, by the loop: executor jobs name no per-thread stream that the loop has not seen */
    if (!w->thread_stream[slot])
        w->ops->stream_create(w->device, 0, 0, &w->thread_stream[slot]);
    return (*stream_p = w->thread_stream[slot]) != NULL;
}

void orion_worker_reply(orion_worker_t *w, uint32_t slot, uint32_t sequence, CUresult result, const void *data,
                        uint32_t bytes)
{
    orion_port_reply(w->port, slot, sequence, (int32_t)result, atomic_load_explicit(&w->sticky, memory_order_acquire),
                     data, bytes);
}

typedef struct {
    orion_worker_t *worker;
    void (*run)(orion_worker_t *, const orion_record_t *);
    _Alignas(8) unsigned char record[];
} queued_t;

static void run_queued(void *arg)
{
    queued_t *job = arg;
    pthread_rwlock_rdlock(&job->worker->jobs);
    job->run(job->worker, (const orion_record_t *)job->record);
    pthread_rwlock_unlock(&job->worker->jobs);
    free(job);
}

void orion_worker_alone(orion_worker_t *w)
{
    pthread_rwlock_unlock(&w->jobs); /* two that both want to be alone must not wait for each other */
    pthread_rwlock_wrlock(&w->jobs);
}

void orion_worker_pass(orion_worker_t *w)
{
    const struct timespec pause = {.tv_nsec = PASS_NS};
    /* pairs with orion_wake_order() in loop.c: the loop either sees what was taken out of the tables or is waited for */
    if (!w->membarrier || !orion_membarrier_global())
        orion_fence_full();
    const uint32_t turn = orion_load_acquire(&w->turn); /* acquire: pairs with the release in loop.c */
    while (turn % 2 && orion_load_acquire(&w->turn) == turn)
        nanosleep(&pause, NULL);
}

orion_status_t orion_worker_queue(orion_worker_t *w, const orion_record_t *record,
                                  void (*run)(orion_worker_t *, const orion_record_t *))
{
    queued_t *job = malloc(sizeof *job + record->bytes);
    if (!job)
        return ORION_NO_MEMORY;
    job->worker = w;
    job->run = run;
    memcpy(job->record, record, record->bytes);
    const orion_status_t status = orion_executor_submit(w->executor, record->slot, run_queued, job);
    if (status != ORION_OK)
        free(job);
    return status;
}

CUresult orion_ledger_charge(orion_worker_t *w, uint64_t bytes)
{
    return orion_ledger_take(&w->ledger, bytes) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void orion_ledger_refund(orion_worker_t *w, uint64_t bytes)
{
    orion_ledger_give(&w->ledger, bytes);
}

void orion_worker_async_failed(orion_worker_t *w, CUresult result, const char *operation)
{
    int32_t none = CUDA_SUCCESS;
    (void)operation;
    if (result == CUDA_SUCCESS)
        return;
    /* the first one counts; release: pairs with the acquire in orion_worker_reply() */
    atomic_compare_exchange_strong_explicit(&w->sticky, &none, (int32_t)result, memory_order_release,
                                            memory_order_relaxed);
}

void orion_worker_device_failed(orion_worker_t *w, CUresult result)
{
    char text[256] = "";
    if (result == CUDA_SUCCESS)
        return;
    const CUresult status = w->ops->status(w->device, text, sizeof text);
    if (status == CUDA_SUCCESS)
        return; /* that operation alone */
    orion_worker_async_failed(w, status, NULL);
    if (w->line && atomic_exchange(&w->failure_logged, 1) == 0)
        orion_control_tell(w->line, ORION_CONTROL_LOG, (int32_t)status, 0, 0, text, strlen(text));
}

bool orion_worker_owns(orion_worker_t *w, uint64_t address, uint64_t bytes)
{
    uint64_t base, size;
    if (orion_ledger_covers(&w->ledger, address, bytes))
        return true;
    if (w->ops->mem_find(w->device, address, &base, &size) != CUDA_SUCCESS)
        return false; /* a module's variable? */
    return address - base <= size && bytes <= size - (address - base);
}
