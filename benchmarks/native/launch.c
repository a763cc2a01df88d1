/* SPDX-License-Identifier: Apache-2.0 */
/* What a CUDA program pays: launches of an empty kernel per second, issued and sustained, and a call that waits. Uses
 * whatever libcuda is named on the command line, through dlsym as any program could; ORION_SERVER decides who serves. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

typedef int result_t;
typedef struct api {
    result_t (*init)(unsigned);
    result_t (*device_get)(int *, int);
    result_t (*primary_retain)(void **, int);
    result_t (*set_current)(void *);
    result_t (*module_load)(void **, const void *);
    result_t (*get_function)(void **, void *, const char *);
    result_t (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                       void **);
    result_t (*synchronize)(void);
    result_t (*mem_info)(size_t *, size_t *);
} api_t;

static const char image[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                            ".visible .entry empty(.param .u64 a, .param .u32 n) { ret; }\n";

#define LAUNCHES 20000
#define BATCHES 15
#define WAITS 2000

static api_t cu;
static void *function;

static void must(result_t result, const char *what)
{
    if (result == 0)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, result);
    exit(2);
}

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (p != NULL)
        return p;
    fprintf(stderr, "the library has no %s\n", name);
    exit(2);
}

static void launch_once(void)
{
    unsigned long long a = 0;
    unsigned n = 1;
    void *parameters[] = {&a, &n};
    must(cu.launch(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL), "cuLaunchKernel");
}

/* Until the launch call has returned. */
static double run_issue(void *arg)
{
    static double times[BATCHES];
    (void)arg;
    for (int batch = 0; batch < BATCHES; batch++) {
        must(cu.synchronize(), "cuCtxSynchronize");
        int64_t start = bench_now_ns();
        for (int i = 0; i < 1000; i++)
            launch_once(); /* fits the ring: nobody waits for room */
        times[batch] = (double)(bench_now_ns() - start) / 1000;
    }
    return bench_median(times, BATCHES);
}

/* Until the device has done them. */
static double run_sustained(void *arg)
{
    static double times[BATCHES];
    (void)arg;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < LAUNCHES; i++)
            launch_once();
        must(cu.synchronize(), "cuCtxSynchronize");
        times[batch] = (double)(bench_now_ns() - start) / LAUNCHES;
    }
    return bench_median(times, BATCHES);
}

static double run_wait(void *arg)
{
    static double times[WAITS];
    (void)arg;
    for (int i = 0; i < WAITS; i++) {
        size_t free_bytes, total;
        int64_t start = bench_now_ns();
        must(cu.mem_info(&free_bytes, &total), "cuMemGetInfo");
        times[i] = (double)(bench_now_ns() - start);
    }
    return bench_median(times, WAITS);
}

int main(int argc, char **argv)
{
    int device, samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    void *context, *module;
    if (argc != 2) {
        fprintf(stderr, "usage: launch PATH_OF_LIBCUDA\n");
        return 2;
    }
    void *library = dlopen(argv[1], RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    *(void **)&cu.init = symbol(library, "cuInit");
    *(void **)&cu.device_get = symbol(library, "cuDeviceGet");
    *(void **)&cu.primary_retain = symbol(library, "cuDevicePrimaryCtxRetain");
    *(void **)&cu.set_current = symbol(library, "cuCtxSetCurrent");
    *(void **)&cu.module_load = symbol(library, "cuModuleLoadData");
    *(void **)&cu.get_function = symbol(library, "cuModuleGetFunction");
    *(void **)&cu.launch = symbol(library, "cuLaunchKernel");
    *(void **)&cu.synchronize = symbol(library, "cuCtxSynchronize");
    *(void **)&cu.mem_info = symbol(library, "cuMemGetInfo_v2");
    must(cu.init(0), "cuInit");
    must(cu.device_get(&device, 0), "cuDeviceGet");
    must(cu.primary_retain(&context, device), "cuDevicePrimaryCtxRetain");
    must(cu.set_current(context), "cuCtxSetCurrent");
    must(cu.module_load(&module, image), "cuModuleLoadData");
    must(cu.get_function(&function, module, "empty"), "cuModuleGetFunction");
    launch_once();
    must(cu.synchronize(), "cuCtxSynchronize");
    bench_floor_open();
    bench_begin("launch");
    bench_result_t r = bench_sample(run_issue, NULL, samples);
    bench_figure("launch_issued", "ns", &r);
    r = bench_sample(run_sustained, NULL, samples);
    bench_figure("launch_sustained", "ns", &r);
    r = bench_sample(run_wait, NULL, samples);
    bench_figure("mem_get_info", "ns", &r);
    bench_end();
    bench_floor_close();
    return 0;
}
