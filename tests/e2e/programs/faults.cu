// SPDX-License-Identifier: Apache-2.0
// Programs that do what they should not, or wait to be killed. Each mode prints what CUDA answered.
//   null_write    a kernel writes through NULL
//   hog MIB       allocates MIB mebibytes in steps of 4 until it is refused
//   wait          allocates, prints `ready`, reads a line from stdin, then calls CUDA once more
//   forever       prints `ready`, then calls CUDA in a loop until something fails
//   long_loop     a kernel that runs until it is stopped from outside
//   crash         allocates and aborts while kernels are queued
#include <ctime>
#include <string>

#include "check.h"

__global__ void write_to(int *where)
{
    *where = 1;
}

__global__ void spin(volatile int *go_on, unsigned long long *rounds)
{
    while (*go_on) {
        *rounds += 1;
    }
}

static double now_seconds()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void ready()
{
    std::printf("ready\n");
    std::fflush(stdout);
}

static int report(const char *what, cudaError_t error)
{
    std::printf("%s: %s\n", what, cudaGetErrorName(error));
    std::fflush(stdout);
    return error == cudaSuccess ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int null_write()
{
    int *value = nullptr;
    CHECK(cudaMalloc(&value, sizeof(int)));
    write_to<<<1, 1>>>(nullptr);
    report("launch", cudaGetLastError());
    report("synchronize", cudaDeviceSynchronize());
    report("malloc", cudaMalloc(&value, sizeof(int)));
    return report("last", cudaDeviceSynchronize());
}

static int hog(size_t mebibytes)
{
    const size_t step = 4;
    size_t got = 0;
    void *pointer = nullptr;
    cudaError_t error = cudaSuccess;
    CHECK(cudaFree(nullptr));
    while (got < mebibytes && (error = cudaMalloc(&pointer, step << 20)) == cudaSuccess) {
        got += step;
    }
    std::printf("got %zu MiB\n", got);
    size_t free_bytes = 0, total = 0;
    cudaGetLastError();
    CHECK(cudaMemGetInfo(&free_bytes, &total));
    std::printf("total %zu MiB\n", total >> 20);
    return report("malloc", error);
}

static int wait_for_line()
{
    int *value = nullptr;
    CHECK(cudaMalloc(&value, 1 << 20));
    CHECK(cudaMemset(value, 0, 1 << 20));
    write_to<<<1, 1>>>(value);
    CHECK(cudaDeviceSynchronize());
    ready();
    char line[64];
    if (std::fgets(line, sizeof line, stdin) == nullptr) {
        return 3;
    }
    const double before = now_seconds();
    const cudaError_t error = cudaMemset(value, 1, 16) != cudaSuccess ? cudaGetLastError() : cudaDeviceSynchronize();
    std::printf("answered in %.3f s\n", now_seconds() - before);
    return report("next call", error);
}

static int forever()
{
    int *value = nullptr, copy = 0;
    CHECK(cudaMalloc(&value, 1 << 20));
    ready();
    for (;;) {
        write_to<<<1, 1>>>(value);
        cudaError_t error = cudaMemcpy(&copy, value, sizeof(int), cudaMemcpyDeviceToHost);
        if (error != cudaSuccess) {
            return report("loop", error);
        }
    }
}

static int long_loop()
{
    int *go_on = nullptr;
    unsigned long long *rounds = nullptr;
    CHECK(cudaMalloc(&go_on, sizeof(int)));
    CHECK(cudaMalloc(&rounds, sizeof(*rounds)));
    CHECK(cudaMemset(go_on, 1, sizeof(int)));
    spin<<<1, 1>>>(go_on, rounds);
    CHECK(cudaGetLastError());
    ready();
    return report("synchronize", cudaDeviceSynchronize());
}

static int crash()
{
    int *value = nullptr;
    CHECK(cudaMalloc(&value, 64 << 20));
    for (int i = 0; i < 100; i++) {
        write_to<<<1, 1>>>(value);
    }
    std::abort();
}

int main(int argc, char **argv)
{
    const std::string mode = argc > 1 ? argv[1] : "";
    if (mode == "null_write") {
        return null_write();
    }
    if (mode == "hog" && argc > 2) {
        return hog(std::strtoul(argv[2], nullptr, 10));
    }
    if (mode == "wait") {
        return wait_for_line();
    }
    if (mode == "forever") {
        return forever();
    }
    if (mode == "long_loop") {
        return long_loop();
    }
    if (mode == "crash") {
        return crash();
    }
    std::fprintf(stderr, "usage: faults null_write|hog MIB|wait|forever|long_loop|crash\n");
    return 2;
}
