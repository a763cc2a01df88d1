/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU device runs kernels: all blocks once, in stream order, streams side by side, faults sticky. */
#include "devices.h"

static const orion_device_ops_t *ops = &orion_cpu_device;
static orion_device_t *device;
static orion_module_t *module;

static uint32_t turn;
static orion_usage_t usage;

static void open_device(int threads)
{
    char why[256];
    turn = ORION_TURN_ALONE;
    usage = (orion_usage_t){0};
    orion_device_config_t config = {
        .memory_limit = 256 * MIB, .threads = threads, .compiler = &c_compiler, .turn = &turn, .usage = &usage};
    MUST(ops->open(&config, &device, why, sizeof why) == CUDA_SUCCESS);
    MUST(ops->module_load(device, "C! image", 8, &module, NULL, 0) == CUDA_SUCCESS);
}

static orion_stream_t *new_stream(void)
{
    orion_stream_t *stream;
    MUST(ops->stream_create(device, CU_STREAM_NON_BLOCKING, 0, &stream) == CUDA_SUCCESS);
    return stream;
}

static uint64_t alloc(uint64_t bytes)
{
    uint64_t address;
    MUST(ops->mem_alloc(device, bytes, &address) == CUDA_SUCCESS);
    return address;
}

static CUresult run(orion_stream_t *stream, const char *name, uint32_t grid, uint32_t block, uint32_t flags,
                    kernel_params_t params, waiter_t *done)
{
    orion_function_t *function;
    MUST(ops->module_function(device, module, name, &function, NULL, NULL, 0) == CUDA_SUCCESS);
    orion_launch_t launch = launch_of(function, grid, block, &params);
    launch.flags = flags;
    return ops->launch(device, stream, &launch, done ? waiter_done : NULL, done);
}

static void every_thread_runs_once_in_order(void)
{
    open_device(3);
    uint64_t memory = alloc(4 * 100000);
    for (int i = 0; i < 50; i++)
        CHECK_EQUAL(run(NULL, "add", 100000 / 128 + 1, 128, 0, (kernel_params_t){memory, 100000, 3}, NULL),
                    CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    for (int i = 0; i < 100000; i++)
        CHECK_EQUAL(((uint32_t *)host(memory))[i], 150);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 50);
    CHECK(counters.busy_ns > 0);
    ops->close(device);
}

static void module_base_is_the_modules(void)
{
    open_device(1);
    uint64_t memory = alloc(64), table, bytes;
    CHECK_EQUAL(run(NULL, "where", 1, 1, 0, (kernel_params_t){memory, 0, 0}, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    ops->module_global(device, module, "table", &table, &bytes);
    CHECK_EQUAL(*(uint64_t *)host(memory), table);
    ops->close(device);
}

/* A kernel in one stream waits for what a kernel in another stream writes: both must be running. */
static void streams_run_side_by_side(void)
{
    open_device(2);
    orion_stream_t *a = new_stream(), *b = new_stream();
    uint64_t flag = alloc(64);
    CHECK_EQUAL(run(a, "spin", 1, 1, 0, (kernel_params_t){flag, 0, 0}, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(ops->stream_query(device, a), CUDA_ERROR_NOT_READY);
    CHECK_EQUAL(run(b, "count", 1, 1, 0, (kernel_params_t){flag, 1, 1}, NULL), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    ops->close(device);
}

static void enqueuing_does_not_wait_for_kernels(void)
{
    open_device(2);
    orion_stream_t *a = new_stream();
    uint64_t flag = alloc(64), memory = alloc(4096);
    waiter_t done = WAITER;
    CHECK_EQUAL(run(a, "spin", 1, 1, 0, (kernel_params_t){flag, 0, 0}, &done), CUDA_SUCCESS);
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(run(a, "add", 4, 32, 0, (kernel_params_t){memory, 128, 1}, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(ops->fill(device, a, memory + 1024, (uint32_t)i, 4, 0, 4, 1, NULL, NULL), CUDA_SUCCESS);
    }
    CHECK_EQUAL(waiter_calls(&done), 0);
    CHECK_EQUAL(((uint32_t *)host(memory))[0], 0);
    __atomic_store_n((uint32_t *)host(flag), 1, __ATOMIC_RELEASE);
    CHECK_EQUAL(synchronize_stream(ops, device, a), CUDA_SUCCESS);
    CHECK_EQUAL(((uint32_t *)host(memory))[127], 100);
    CHECK_EQUAL(((uint32_t *)host(memory + 1024))[3], 99);
    ops->close(device);
}

static void cooperative_blocks_run_at_the_same_time(void)
{
    open_device(4);
    orion_stream_t *streams[4];
    waiter_t done = WAITER;
    uint64_t memory = alloc(4096), sum = alloc(64);
    for (int i = 0; i < 4; i++)
        streams[i] = new_stream();
    for (int i = 0; i < 40; i++) { /* two gangs at once would starve each other */
        CHECK_EQUAL(ops->fill(device, streams[i % 4], memory + (unsigned)i % 4 * 64, 0, 4, 0, 1, 1, NULL, NULL),
                    CUDA_SUCCESS);
        CHECK_EQUAL(run(streams[i % 4], "meet", 4, 1, ORION_LAUNCH_COOPERATIVE,
                        (kernel_params_t){memory + (unsigned)i % 4 * 64, 0, 4}, &done),
                    CUDA_SUCCESS);
        CHECK_EQUAL(run(NULL, "count", 1000, 1, 0, (kernel_params_t){sum, 0, 0}, &done), CUDA_SUCCESS);
    }
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_calls(&done), 80);
    CHECK_EQUAL(*(uint32_t *)host(sum), 40000);
    ops->close(device);
}

static void faults_are_sticky_until_reset(void)
{
    static const struct {
        const char *name;
        CUresult result;
    } faults[] = {{"trap", CUDA_ERROR_LAUNCH_FAILED}, {"assert", CUDA_ERROR_ASSERT}};
    open_device(2);
    for (int i = 0; i < 2; i++) {
        orion_stream_t *a = new_stream(), *b = new_stream();
        uint64_t memory = alloc(4096), other;
        waiter_t done = WAITER, later = WAITER, reset = WAITER;
        orion_gate_t *gate;
        CHECK_EQUAL(ops->host_gate(device, b, NULL, NULL, &gate), CUDA_SUCCESS);
        CHECK_EQUAL(ops->fill(device, b, memory, 1, 4, 0, 1, 1, waiter_done, &later), CUDA_SUCCESS);
        CHECK_EQUAL(run(a, faults[i].name, 100, 32, 0, (kernel_params_t){memory, 1, 1}, &done), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_wait(&done, 1), faults[i].result);
        char text[256];
        CHECK_EQUAL(ops->status(device, text, sizeof text), faults[i].result);
        CHECK(strstr(text, faults[i].name) != NULL);
        CHECK_EQUAL(ops->mem_alloc(device, 64, &other), faults[i].result);
        CHECK_EQUAL(run(a, "add", 1, 1, 0, (kernel_params_t){memory, 1, 1}, NULL), faults[i].result);
        CHECK_EQUAL(ops->stream_query(device, a), faults[i].result);
        CHECK_EQUAL(synchronize_stream(ops, device, a), faults[i].result);
        ops->host_gate_open(device, gate); /* what waited is dropped */
        CHECK_EQUAL(waiter_wait(&later, 1), faults[i].result);
        CHECK_EQUAL(*(uint32_t *)host(memory), 0);
        CHECK_EQUAL(ops->mem_free(device, memory, NULL, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
        CHECK_EQUAL(ops->status(device, text, sizeof text), CUDA_SUCCESS);
        CHECK(text[0] == 0);
        CHECK_EQUAL(ops->module_load(device, "C! image", 8, &module, NULL, 0), CUDA_SUCCESS);
    }
    memset(host(alloc(4096)), 1, 4096);
    ops->close(device);
}

static void reset_cancels_a_running_kernel(void)
{
    open_device(2);
    waiter_t done = WAITER, reset = WAITER;
    CHECK_EQUAL(run(NULL, "spin", 1000, 32, 0, (kernel_params_t){alloc(64), 0, 0}, &done), CUDA_SUCCESS);
    usleep(2000);
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK_EQUAL(ops->status(device, NULL, 0), CUDA_SUCCESS);
    CHECK_EQUAL(ops->module_load(device, "C! image", 8, &module, NULL, 0), CUDA_SUCCESS);
    CHECK_EQUAL(run(NULL, "spin", 1, 1, 0, (kernel_params_t){alloc(64), 0, 0}, NULL), CUDA_SUCCESS);
    ops->close(device); /* cancels as well */
}

static void no_compiler_is_said_so(void)
{
    char why[64];
    orion_device_config_t config = {.memory_limit = MIB, .threads = 1};
    MUST(ops->open(&config, &device, why, sizeof why) == CUDA_SUCCESS);
    CHECK_EQUAL(ops->module_load(device, "C!", 2, &module, NULL, 0), CUDA_ERROR_JIT_COMPILER_NOT_FOUND);
    ops->close(device);
}

static void kernels_wait_for_their_turn(void)
{
    open_device(2);
    waiter_t done = WAITER;
    uint64_t memory = alloc(4096);
    give_turn(&turn, ORION_TURN_OVER);
    CHECK_EQUAL(run(NULL, "add", 8, 128, 0, (kernel_params_t){memory, 1000, 3}, &done), CUDA_SUCCESS);
    await_wanting(&usage, 2);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 0);
    CHECK_EQUAL(((uint32_t *)host(memory))[0], 0);
    CHECK_EQUAL(waiter_calls(&done), 0);
    give_turn(&turn, ORION_TURN_SHARED);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(((uint32_t *)host(memory))[999], 3);
    await_wanting(&usage, 0);
    uint64_t launches = 0;
    for (unsigned i = 0; i < ORION_LATENCIES; i++)
        launches += usage.latency[i];
    CHECK_EQUAL(launches, 1);
    ops->close(device);
}

static void running_kernel_pauses_between_blocks(void)
{
    enum { BLOCKS = 2000000 };
    open_device(2);
    waiter_t done = WAITER;
    uint64_t memory = alloc(4096);
    uint32_t *count = host(memory);
    CHECK_EQUAL(run(NULL, "count", BLOCKS, 1, 0, (kernel_params_t){memory, 0, 1}, &done), CUDA_SUCCESS);
    while (!__atomic_load_n(count, __ATOMIC_RELAXED))
        usleep(10);
    give_turn(&turn, ORION_TURN_OVER);
    uint32_t before, now = 0;
    do { /* until it stands still */
        before = now;
        usleep(20000);
        now = __atomic_load_n(count, __ATOMIC_RELAXED);
    } while (now != before || !now);
    CHECK(now < BLOCKS);
    CHECK_EQUAL(waiter_calls(&done), 0);
    CHECK(usage.wanting > 0);
    give_turn(&turn, ORION_TURN_ALONE);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(*count, BLOCKS);
    ops->close(device);
}

static void reset_and_close_wait_for_no_turn(void)
{
    open_device(2);
    waiter_t reset = WAITER;
    give_turn(&turn, ORION_TURN_OVER);
    CHECK_EQUAL(run(NULL, "add", 8, 128, 0, (kernel_params_t){alloc(4096), 1000, 3}, NULL), CUDA_SUCCESS);
    await_wanting(&usage, 2);
    CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
    await_wanting(&usage, 0);
    MUST(ops->module_load(device, "C! image", 8, &module, NULL, 0) == CUDA_SUCCESS);
    CHECK_EQUAL(run(NULL, "add", 8, 128, 0, (kernel_params_t){alloc(4096), 1000, 3}, NULL), CUDA_SUCCESS);
    await_wanting(&usage, 2); /* it waits as before */
    ops->close(device);
}

CHECK_MAIN(CASE(every_thread_runs_once_in_order), CASE(module_base_is_the_modules), CASE(streams_run_side_by_side),
           CASE(enqueuing_does_not_wait_for_kernels), CASE(cooperative_blocks_run_at_the_same_time),
           CASE(faults_are_sticky_until_reset), CASE(reset_cancels_a_running_kernel), CASE(no_compiler_is_said_so),
           CASE(kernels_wait_for_their_turn), CASE(running_kernel_pauses_between_blocks),
           CASE(reset_and_close_wait_for_no_turn))
