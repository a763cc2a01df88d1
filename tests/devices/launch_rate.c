/* SPDX-License-Identifier: Apache-2.0 */
/* What the devices themselves cost per call, through the ops table. Prints; fails only far below what we promise. */
#include "devices.h"

static const orion_device_ops_t *ops;
static orion_device_t *device;
static orion_stream_t *stream;
static orion_function_t *function;

static void open_device(const orion_device_ops_t *which)
{
    char why[256];
    ops = which;
    orion_device_config_t config = {.memory_limit = 64 * MIB, .compiler = &c_compiler};
    orion_module_t *module;
    MUST(ops->open(&config, &device, why, sizeof why) == CUDA_SUCCESS);
    MUST(ops->module_load(device, "C! image", 8, &module, NULL, 0) == CUDA_SUCCESS);
    MUST(ops->module_function(device, module, "add", &function, NULL, NULL, 0) == CUDA_SUCCESS);
    MUST(ops->stream_create(device, 0, 0, &stream) == CUDA_SUCCESS);
}

static double launches(unsigned count, int ahead)
{
    uint64_t memory;
    MUST(ops->mem_alloc(device, 4096, &memory) == CUDA_SUCCESS);
    kernel_params_t params = {memory, 32, 1};
    orion_launch_t launch = launch_of(function, 1, 32, &params);
    int64_t began = check_now_ns(), enqueuing = 0;
    for (unsigned i = 0; i < count; i++) {
        int64_t before = ahead ? check_now_ns() : 0;
        MUST(ops->launch(device, stream, &launch, NULL, NULL) == CUDA_SUCCESS);
        if (!ahead)
            continue;
        enqueuing += check_now_ns() - before;
        MUST(synchronize_stream(ops, device, stream) == CUDA_SUCCESS);
    }
    MUST(synchronize_stream(ops, device, stream) == CUDA_SUCCESS);
    return (double)(ahead ? enqueuing : check_now_ns() - began) / count;
}

static void null_launches(void)
{
    open_device(&orion_null_device);
    launches(1000, 0);
    double ns = launches(5000000, 0);
    printf("null: %.1f ns per launch, %.1f M/s\n", ns, 1e3 / ns);
    orion_event_t *event;
    MUST(ops->event_create(device, 0, &event) == CUDA_SUCCESS);
    int64_t began = check_now_ns();
    for (int i = 0; i < 1000000; i++)
        MUST(ops->event_record(device, event, stream) == CUDA_SUCCESS);
    printf("null: %.1f ns per event record\n", (double)(check_now_ns() - began) / 1e6);
    ops->close(device);
    CHECK(ns < 333); /* 3 M/s */
}

static void cpu_launches(void)
{
    open_device(&orion_cpu_device);
    launches(1000, 0);
    printf("cpu: %.1f ns per launch of one 32-thread block, run and all\n", launches(100000, 0));
    printf("cpu: %.1f ns to enqueue one in an idle stream, wake included\n", launches(10000, 1));
    ops->close(device);
}

CHECK_MAIN(CASE(null_launches), CASE(cpu_launches))
