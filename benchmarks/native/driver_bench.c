/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times what a program asks of a CUDA driver, whichever libcuda.so.1 the loader finds: calls, launches, copies. Writes
 * one line of JSON. Needs no CUDA headers and no compiler but cc:
 *
 *   cc -O2 -o driver_bench driver_bench.c -ldl && ./driver_bench [LARGEST_COPY_MIB]
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FUNCTIONS(X)                                        \
    X(cuInit, (unsigned))                                   \
    X(cuDriverGetVersion, (int *))                          \
    X(cuDeviceGetName, (char *, int, int))                  \
    X(cuDevicePrimaryCtxRetain, (void **, int))             \
    X(cuCtxSetCurrent, (void *))                            \
    X(cuCtxSynchronize, (void))                             \
    X(cuMemGetInfo_v2, (size_t *, size_t *))                \
    X(cuMemAlloc_v2, (uint64_t *, size_t))                  \
    X(cuMemFree_v2, (uint64_t))                             \
    X(cuMemHostAlloc, (void **, size_t, unsigned))          \
    X(cuMemFreeHost, (void *))                              \
    X(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t))    \
    X(cuMemcpyDtoH_v2, (void *, uint64_t, size_t))          \
    X(cuEventCreate, (void **, unsigned))                   \
    X(cuEventRecord, (void *, void *))                      \
    X(cuEventQuery, (void *))                               \
    X(cuStreamSynchronize, (void *))                        \
    X(cuModuleLoadData, (void **, const void *))            \
    X(cuModuleGetFunction, (void **, void *, const char *)) \
    X(cuLaunchKernel,                                       \
      (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))

#define POINTER(name, parameters) static int(*name) parameters;
FUNCTIONS(POINTER)

/* Adds one to a counter, so that a launch that did not run is seen. */
static const char image[] = ".version 7.0\n.target sm_75\n.address_size 64\n"
                            ".visible .entry count(.param .u64 where)\n{\n"
                            "    .reg .b32 %r<2>;\n    .reg .b64 %rd<2>;\n"
                            "    ld.param.u64 %rd1, [where];\n    atom.global.add.u32 %r1, [%rd1], 1;\n    ret;\n}\n";

#define MUST(call)                                                              \
    do {                                                                        \
        const int must_result = (call);                                         \
        if (must_result) {                                                      \
            fprintf(stderr, "driver_bench: %s gives %d\n", #call, must_result); \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

#define SAMPLES_MOST 20000
static double sample[SAMPLES_MOST];

/* ,"name":{"p50_us":..,"p99_us":..} */
static void report(const char *name, int count)
{
    qsort(sample, (size_t)count, sizeof sample[0], ascending);
    printf(",\"%s\":{\"p50_us\":%.3f,\"p99_us\":%.3f,\"samples\":%d}", name, sample[count / 2] * 1e6,
           sample[count - 1 - count / 100] * 1e6, count);
}

#define TIME(name, count, call)                                        \
    do {                                                               \
        for (int time_i = -(count) / 10; time_i < (count); time_i++) { \
            const double time_from = now();                            \
            MUST(call);                                                \
            if (time_i >= 0)                                           \
                sample[time_i] = now() - time_from;                    \
        }                                                              \
        report(name, count);                                           \
    } while (0)

static int alloc_and_free(void)
{
    uint64_t memory;
    const int result = cuMemAlloc_v2(&memory, 4096);
    return result ? result : cuMemFree_v2(memory);
}

static void calls(void)
{
    size_t free_bytes, total;
    void *event;
    MUST(cuEventCreate(&event, 2));
    TIME("cuMemGetInfo", 5000, cuMemGetInfo_v2(&free_bytes, &total));
    TIME("cuCtxSynchronize_idle", 2000, cuCtxSynchronize());
    TIME("cuEventRecord", 2000, cuEventRecord(event, NULL));
    TIME("cuEventQuery", 2000, cuCtxSynchronize() || cuEventQuery(event));
    TIME("cuMemAlloc_cuMemFree_4KiB", 500, alloc_and_free());
}

static void launches(void)
{
    void *module, *function;
    uint64_t counter;
    void *parameters[] = {&counter};
    uint32_t counted = 0;
    const int count = 100000, waited = 2000;
    double from = now();
    MUST(cuModuleLoadData(&module, image));
    MUST(cuModuleGetFunction(&function, module, "count"));
    printf(",\"load_us\":%.1f", (now() - from) * 1e6);
    MUST(cuMemAlloc_v2(&counter, 4));
    MUST(cuMemcpyHtoD_v2(counter, &counted, 4));
#define LAUNCH() cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL)
    for (int i = 0; i < 1000; i++)
        MUST(LAUNCH());
    MUST(cuCtxSynchronize());
    from = now();
    for (int i = 0; i < 500; i++) /* what a queue holds: nothing is waited for */
        MUST(LAUNCH());
    printf(",\"launch_issue_us\":%.3f", (now() - from) / 500 * 1e6);
    MUST(cuCtxSynchronize());
    from = now();
    for (int i = 0; i < count; i++)
        MUST(LAUNCH());
    MUST(cuCtxSynchronize());
    printf(",\"launch_sustained_per_s\":%.0f", count / (now() - from));
    TIME("launch_and_wait", waited, LAUNCH() || cuStreamSynchronize(NULL));
    MUST(cuMemcpyDtoH_v2(&counted, counter, 4));
    const uint32_t expected = 1000u + 500u + (uint32_t)count + (uint32_t)waited + (uint32_t)waited / 10u;
    if (counted != expected) {
        fprintf(stderr, "driver_bench: %u kernels ran of %u\n", counted, expected);
        exit(1);
    }
    MUST(cuMemFree_v2(counter));
}

/* Best of several, in GB/s; each copy is complete when it is timed. */
static double best(int in, uint64_t device, void *host, size_t bytes, int rounds)
{
    double least = 1e9;
    for (int i = 0; i < rounds; i++) {
        const double from = now();
        MUST(in ? cuMemcpyHtoD_v2(device, host, bytes) : cuMemcpyDtoH_v2(host, device, bytes));
        MUST(cuCtxSynchronize());
        const double took = now() - from;
        if (took < least)
            least = took;
    }
    return (double)bytes / least * 1e-9;
}

static void copies(size_t most)
{
    printf(",\"copies\":[");
    for (size_t bytes = 4096; bytes <= most; bytes *= 4) {
        const int rounds = bytes <= 1 << 20 ? 200 : bytes <= 64 << 20 ? 12 : 4;
        uint64_t device;
        void *pinned;
        unsigned char *host = malloc(bytes);
        if (!host || cuMemAlloc_v2(&device, bytes) || cuMemHostAlloc(&pinned, bytes, 0)) {
            fprintf(stderr, "driver_bench: no memory for copies of %zu bytes and more\n", bytes);
            break;
        }
        memset(host, 1, bytes);
        memset(pinned, 2, bytes);
        printf("%s{\"bytes\":%zu,\"pageable_in_gb_s\":%.3f", bytes > 4096 ? "," : "", bytes,
               best(1, device, host, bytes, rounds));
        printf(",\"pageable_out_gb_s\":%.3f", best(0, device, host, bytes, rounds));
        printf(",\"pinned_in_gb_s\":%.3f", best(1, device, pinned, bytes, rounds));
        memset(pinned, 3, bytes);
        printf(",\"pinned_out_gb_s\":%.3f}", best(0, device, pinned, bytes, rounds));
        if (((unsigned char *)pinned)[0] != 2 || ((unsigned char *)pinned)[bytes - 1] != 2) {
            fprintf(stderr, "driver_bench: a copy of %zu bytes came back different\n", bytes);
            exit(1);
        }
        MUST(cuMemFree_v2(device));
        MUST(cuMemFreeHost(pinned));
        free(host);
    }
    printf("]");
}

int main(int argc, char **argv)
{
    char name[128] = "";
    int version = 0;
    void *context;
    const size_t most = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) << 20;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "driver_bench: %s\n", dlerror());
        return 77;
    }
#define FIND(function, parameters)                                            \
    if (!(*(void **)&function = dlsym(library, #function))) {                 \
        fprintf(stderr, "driver_bench: libcuda.so.1 has no " #function "\n"); \
        return 1;                                                             \
    }
    FUNCTIONS(FIND)
    double from = now();
    MUST(cuInit(0));
    const double init = now() - from;
    from = now();
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuCtxSynchronize());
    const double retain = now() - from;
    MUST(cuDeviceGetName(name, sizeof name, 0));
    MUST(cuDriverGetVersion(&version));
    printf("{\"device\":\"%s\",\"version\":%d,\"init_ms\":%.2f,\"context_ms\":%.2f", name, version, init * 1e3,
           retain * 1e3);
    calls();
    launches();
    copies(most);
    printf("}\n");
    return 0;
}
