/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launches of the CPU device. Threads claim chunks of blocks in ascending order, so a block that waits for an earlier
 * one finds it finished or running. A cooperative launch is cut into one part per thread and all parts run at once.
 */
#include "launch.h"

#include "kernel.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK 256u      /* most blocks per claim: bounds how late a thread notices another stream */
#define WORKSPACE 4096u /* zeroed memory for the barriers of a cooperative launch */

static __thread const char *volatile running; /* for the worker's fault handler */

const char *orion_cpu_running_kernel(void)
{
    return running;
}

static orion_op_t *op_of(orion_job_t *job)
{
    return (orion_op_t *)((char *)job - offsetof(orion_op_t, job));
}

static CUresult result_of(int code)
{
    switch (code) {
    case ORION_CPU_OK:
        return CUDA_SUCCESS;
    case ORION_CPU_ASSERT:
        return CUDA_ERROR_ASSERT;
    case ORION_CPU_DEADLOCK:
        return CUDA_ERROR_LAUNCH_TIMEOUT;
    case ORION_CPU_NO_MEMORY:
    case ORION_CPU_BAD_LAUNCH:
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    case ORION_CPU_BAD_CALL:
        return CUDA_ERROR_INVALID_PC;
    default:
        return CUDA_ERROR_LAUNCH_FAILED;
    }
}

static void print_stdout(void *self, const char *text, size_t bytes)
{
    (void)self;
    fwrite(text, 1, bytes, stdout);
}

static void pause_kernel(void *user)
{
    orion_pool_thread_t *thread = user;
    orion_share_wait(thread->share, &thread->stint);
}

static void scratch_free(void *scratch)
{
    orion_cpu_scratch_free(scratch);
}

/* A range of blocks, or nothing: 0. */
static uint64_t claim(orion_run_t *run, unsigned threads, uint64_t *first_p)
{
    uint64_t first = __atomic_load_n(&run->next, __ATOMIC_RELAXED), count;
    do {
        if (first >= run->blocks)
            return 0;
        count = (run->blocks - first) / (4u * threads);
        count = count < 1 ? 1 : count > CHUNK ? CHUNK : count;
    } while (!__atomic_compare_exchange_n(&run->next, &first, first + count, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *first_p = first;
    return count;
}

/* One part per thread; widths differ by at most one block. */
static uint64_t claim_cooperative(orion_run_t *run, uint32_t parts, uint64_t *first_p)
{
    uint64_t part = __atomic_fetch_add(&run->next, 1, __ATOMIC_RELAXED);
    if (part >= parts)
        return 0;
    *first_p = run->blocks * part / parts;
    return run->blocks * (part + 1) / parts - *first_p;
}

static void fail(orion_device_t *device, orion_run_t *run, int code, const char *text)
{
    uint32_t none = 0;
    if (!__atomic_compare_exchange_n(&run->failed, &none, (uint32_t)code, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    if (code == ORION_CPU_CANCELLED && __atomic_load_n(&device->cancel, __ATOMIC_ACQUIRE)) {
        run->result = CUDA_ERROR_CONTEXT_IS_DESTROYED; /* a reset: not the kernel's fault */
        return;
    }
    run->result = result_of(code);
    char sentence[256];
    snprintf(sentence, sizeof sentence, "kernel %.80s: %.160s", run->function->name, text[0] ? text : "failed");
    orion_queue_fail(&device->queue, run->result, sentence);
}

static int job_run(orion_job_t *job, orion_pool_thread_t *thread)
{
    orion_op_t *op = op_of(job);
    orion_run_t *run = &op->u.run;
    orion_device_t *device = run->function->module->device;
    char text[200];
    int none_left = 1;
    uint64_t first = 0, count;
    if (run->accepted_ns && !__atomic_exchange_n(&run->begun, 1, __ATOMIC_RELAXED))
        orion_share_note_latency(&device->share, thread->stint.began_ns - run->accepted_ns);
    if (!thread->scratch) {
        thread->scratch = orion_cpu_scratch_new();
        thread->scratch_free = scratch_free;
        if (!thread->scratch)
            fail(device, run, ORION_CPU_NO_MEMORY, "no memory for a thread's block state");
    }
    orion_cpu_launch_t launch = {
        .grid = {run->grid[0], run->grid[1], run->grid[2]},
        .block = {run->block[0], run->block[1], run->block[2]},
        .shared_bytes = run->shared_bytes,
        .param_bytes = op->payload_bytes,
        .params = op->payload,
        .module_base = run->function->module->data,
        .grid_workspace = (uint64_t)(uintptr_t)run->workspace,
        .cancel = &device->cancel,
        .print = device->config.print ? device->config.print : print_stdout,
        .print_user = device->config.print_self,
        .turn = device->share.turn,
        .pause = pause_kernel,
        .pause_user = thread,
    };
    unsigned threads = orion_pool_threads(device->pool);
    running = run->function->name;
    while (!__atomic_load_n(&run->failed, __ATOMIC_ACQUIRE)) {
        count = job->gang ? claim_cooperative(run, job->width, &first) : claim(run, threads, &first);
        if (!count)
            break;
        text[0] = 0;
        int code = __atomic_load_n(&device->cancel, __ATOMIC_RELAXED)
                       ? ORION_CPU_CANCELLED
                       : orion_cpu_kernel_run(run->function->kernel, &launch, first, count, thread->scratch, text,
                                              sizeof text);
        if (code != ORION_CPU_OK)
            fail(device, run, code, text);
        else if (!job->gang && orion_pool_starving(thread->pool)) {
            none_left = 0;
            break;
        }
    }
    running = NULL;
    return none_left;
}

static void job_finish(orion_job_t *job, orion_pool_thread_t *thread)
{
    (void)thread;
    orion_op_t *op = op_of(job);
    orion_run_t *run = &op->u.run;
    free(run->workspace);
    __atomic_fetch_add(&run->function->module->device->launches, 1, __ATOMIC_RELAXED);
    orion_queue_complete(op, run->result);
}

/* A launch that is dropped before it starts. */
static void forget(orion_op_t *op)
{
    free(op->u.run.workspace);
}

static int start(orion_op_t *op, CUresult *result_p)
{
    (void)result_p;
    orion_run_t *run = &op->u.run;
    op->job.run = job_run;
    op->job.finish = job_finish;
    op->job.width = run->blocks < UINT32_MAX ? (uint32_t)run->blocks : UINT32_MAX;
    op->job.gang = (run->flags & ORION_LAUNCH_COOPERATIVE) != 0;
    op->queue->wake |= orion_pool_submit(op->queue->pool, &op->job);
    return 0;
}

CUresult orion_cpu_launch(orion_device_t *device, orion_stream_t *stream, const orion_launch_t *launch,
                          orion_done_fn done, void *arg)
{
    orion_queue_t *queue = &device->queue;
    CUresult result = orion_host_check_launch(device, launch);
    if (result != CUDA_SUCCESS)
        return result;
    void *workspace = NULL;
    if (launch->flags & ORION_LAUNCH_COOPERATIVE) {
        workspace = calloc(1, WORKSPACE);
        if (!workspace)
            return CUDA_ERROR_OUT_OF_MEMORY;
    }
    orion_queue_lock(queue);
    result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto err_unlock;
    result = CUDA_ERROR_OUT_OF_MEMORY;
    orion_op_t *op = orion_op_new(queue, ORION_OP_WORK, done, arg);
    if (!op)
        goto err_unlock;
    if (!orion_op_payload(op, launch->params, launch->param_bytes))
        goto err_op;
    orion_run_t *run = &op->u.run;
    *run = (orion_run_t){.function = launch->function,
                         .shared_bytes = launch->shared_bytes,
                         .flags = launch->flags,
                         .accepted_ns = device->accepted++ % ORION_LATENCY_EVERY ? 0 : orion_now_ns(),
                         .workspace = workspace};
    for (int i = 0; i < 3; i++) {
        run->grid[i] = launch->grid[i];
        run->block[i] = launch->block[i];
    }
    run->blocks = (uint64_t)run->grid[0] * run->grid[1] * run->grid[2];
    op->start = start;
    op->forget = forget;
    orion_queue_push(queue, orion_queue_stream(queue, stream), op);
    orion_queue_advance(queue);
    orion_queue_unlock(queue);
    return CUDA_SUCCESS;
err_op:
    orion_op_unref(queue, op);
err_unlock:
    orion_queue_unlock(queue);
    free(workspace);
    return result;
}
