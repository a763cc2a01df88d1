/* SPDX-License-Identifier: Apache-2.0 */
/* What every device promises about modules, launches, reset and close. */
#include "device_fixture.h"

static orion_module_t *load(void)
{
    orion_module_t *module = NULL;
    MUST(ops->module_load(device, "C! image", 8, &module, NULL, 0) == CUDA_SUCCESS);
    return module;
}

static orion_function_t *function_of(orion_module_t *module, const char *name)
{
    orion_function_t *function = NULL;
    MUST(ops->module_function(device, module, name, &function, NULL, NULL, 0) == CUDA_SUCCESS);
    return function;
}

static void modules_have_variables_and_functions(void)
{
    open_device(64 * MIB, 2);
    char log[128];
    orion_module_t *module;
    CHECK_EQUAL(ops->module_load(device, "????", 4, &module, log, sizeof log), CUDA_ERROR_INVALID_IMAGE);
    CHECK(strstr(log, "not an image") != NULL);
    module = load();
    uint64_t pointer, table, bytes, base;
    uint32_t kernels, globals;
    const char *names[4];
    CHECK_EQUAL(ops->module_global(device, module, "pointer", &pointer, &bytes), CUDA_SUCCESS);
    CHECK_EQUAL(bytes, 8);
    CHECK_EQUAL(ops->module_global(device, module, "table", &table, &bytes), CUDA_SUCCESS);
    CHECK_EQUAL(bytes, 256);
    CHECK_EQUAL(*(uint64_t *)host(pointer), table);
    CHECK_EQUAL(get(table + 4), 8);
    CHECK_EQUAL(get(table + 252), 0);
    CHECK_EQUAL(ops->module_global(device, module, "nothing", &table, &bytes), CUDA_ERROR_NOT_FOUND);
    CHECK_EQUAL(ops->mem_find(device, table, &base, &bytes), CUDA_SUCCESS);
    CHECK_EQUAL(ops->mem_free(device, base, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    ops->module_counts(device, module, &kernels, &globals);
    CHECK_EQUAL(kernels, 7);
    CHECK_EQUAL(globals, 2);
    CHECK_EQUAL(ops->module_names(device, module, 5, names, 4), 2);
    CHECK(strcmp(names[1], "where") == 0);
    orion_function_t *f, *g;
    static orion_function_info_t info;
    CHECK_EQUAL(ops->module_function(device, module, "add", &f, &info, log, sizeof log), CUDA_SUCCESS);
    CHECK_EQUAL(info.param_count, 3);
    CHECK_EQUAL(ops->module_function(device, module, "add", &g, NULL, NULL, 0), CUDA_SUCCESS);
    CHECK(f == g);
    CHECK_EQUAL(ops->module_function(device, module, "nothing", &g, NULL, log, sizeof log), CUDA_ERROR_NOT_FOUND);
    orion_stream_t *stream = stream_of(0);
    orion_gate_t *gate = gate_in(stream);
    kernel_params_t params = {alloc(64), 1, 1};
    orion_launch_t launch = launch_of(f, 1, 1, &params);
    CHECK_EQUAL(ops->launch(device, stream, &launch, NULL, NULL), CUDA_SUCCESS);
    ops->module_unload(device, module); /* the launch still has its function */
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    ops->close(device);
}

static void launches_are_checked_and_counted(void)
{
    open_device(64 * MIB, 2);
    orion_module_t *module = load();
    orion_stream_t *stream = stream_of(0);
    waiter_t done = WAITER;
    kernel_params_t params = {alloc(4096), 4, 1};
    orion_launch_t launch = launch_of(function_of(module, "count"), 3, 32, &params), bad = launch;
    bad.block[0] = 1025;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.grid[1] = 0;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.grid[2] = 65536;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.shared_bytes = 164 << 10;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.param_bytes = 12;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
    bad = launch;
    bad.flags = ORION_LAUNCH_COOPERATIVE;
    bad.grid[0] = 65;
    CHECK_EQUAL(ops->launch(device, stream, &bad, NULL, NULL), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(ops->launch(device, i % 2 ? stream : NULL, &launch, i == 999 ? waiter_done : NULL, &done),
                    CUDA_SUCCESS);
    CHECK_EQUAL(waiter_wait(&done, 1), CUDA_SUCCESS);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    orion_device_counters_t counters;
    ops->counters(device, &counters);
    CHECK_EQUAL(counters.launches, 1000);
    CHECK_EQUAL(counters.pending, 0);
    ops->close(device);
}

static void reset_drops_waiting_work_and_frees_all(void)
{
    open_device(64 * MIB, 2);
    for (int round = 0; round < 3; round++) {
        orion_stream_t *stream = stream_of(0);
        orion_event_t *event = event_of(0);
        orion_module_t *module = load();
        waiter_t dropped = WAITER, reset = WAITER;
        orion_gate_t *gate;
        uint64_t memory = alloc(MIB), free_bytes, total;
        kernel_params_t params = {memory, 1, 1};
        orion_launch_t launch = launch_of(function_of(module, "add"), 1, 1, &params);
        CHECK_EQUAL(ops->host_gate(device, stream, NULL, NULL, &gate), CUDA_SUCCESS);
        CHECK_EQUAL(ops->launch(device, stream, &launch, waiter_done, &dropped), CUDA_SUCCESS);
        CHECK_EQUAL(ops->event_record(device, event, stream), CUDA_SUCCESS);
        CHECK_EQUAL(ops->event_notify(device, event, waiter_done, &dropped), CUDA_SUCCESS);
        CHECK_EQUAL(ops->mem_free(device, memory, waiter_done, &dropped), CUDA_SUCCESS);
        alloc(2 * MIB);
        CHECK_EQUAL(ops->reset(device, waiter_done, &reset), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_wait(&reset, 1), CUDA_SUCCESS);
        CHECK_EQUAL(waiter_calls(&dropped), 3);
        ops->mem_info(device, &free_bytes, &total);
        CHECK_EQUAL(free_bytes, total);
        orion_device_counters_t counters;
        ops->counters(device, &counters);
        CHECK_EQUAL(counters.memory_granted, 0);
        CHECK_EQUAL(counters.closed_gates, 0);
    }
    CHECK(*(uint32_t *)host(alloc(64)) == 0);
    ops->close(device);
}

static void close_with_work_waiting(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    waiter_t dropped = WAITER;
    gate_in(stream);
    uint64_t memory = alloc(64);
    CHECK_EQUAL(ops->fill(device, stream, memory, 1, 1, 0, 8, 1, waiter_done, &dropped), CUDA_SUCCESS);
    ops->close(device);
    CHECK_EQUAL(waiter_calls(&dropped), 1);
    CHECK_EQUAL(dropped.result, CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

static void queue_refuses_more_than_its_bound(void)
{
    open_device(64 * MIB, 2);
    orion_stream_t *stream = stream_of(0);
    uint64_t memory = alloc(64);
    orion_gate_t *gate = gate_in(stream);
    CUresult result = CUDA_SUCCESS;
    unsigned count = 0;
    while (count < 1u << 20 && !(result = ops->fill(device, stream, memory, 1, 1, 0, 8, 1, NULL, NULL)))
        count++;
    CHECK_EQUAL(result, CUDA_ERROR_OUT_OF_MEMORY);
    CHECK_EQUAL(count, (256 << 10) - 1);
    ops->host_gate_open(device, gate);
    CHECK_EQUAL(synchronize(ops, device), CUDA_SUCCESS);
    ops->close(device);
}

CHECK_MAIN(CASE(modules_have_variables_and_functions), CASE(launches_are_checked_and_counted),
           CASE(reset_drops_waiting_work_and_frees_all), CASE(close_with_work_waiting),
           CASE(queue_refuses_more_than_its_bound))
