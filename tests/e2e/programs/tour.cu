// SPDX-License-Identifier: Apache-2.0
// A tour of the CUDA runtime: one function for each feature. `tour` runs all, `tour NAME` only one,
// `tour --list` prints the names. Each prints `NAME ok`; the first failure ends the program.
#include <cmath>
#include <cstring>
#include <pthread.h>
#include <string>
#include <vector>

#include "check.h"

constexpr int count = 100000;

__constant__ float scale_constant;
__constant__ int table_constant[8];
__device__ int counter_device;
__device__ float array_device[4] = {1.5f, 2.5f, 3.5f, 4.5f};

__global__ void scale(float *values, float factor, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        values[i] *= factor;
    }
}

__global__ void use_symbols(float *out)
{
    if (threadIdx.x < 8) {
        out[threadIdx.x] = scale_constant * table_constant[threadIdx.x] + array_device[threadIdx.x % 4];
    }
    atomicAdd(&counter_device, 1);
}

__global__ void add_one(int *value)
{
    atomicAdd(value, 1);
}

static int blocks_for(int n)
{
    return (n + 255) / 256;
}

static std::vector<float> ramp(int n)
{
    std::vector<float> values(n);
    for (int i = 0; i < n; i++) {
        values[i] = 0.5f * i;
    }
    return values;
}

static void copies()
{
    // Sizes around the limits of every way that a copy may take, and odd alignments.
    const size_t sizes[] = {1, 4095, 4096, 4097, 65536, 262144, 262145, (1 << 20) + 3, (5 << 20) + 1};
    for (size_t bytes : sizes) {
        std::vector<unsigned char> in(bytes + 1), out(bytes + 1, 0xee);
        for (size_t i = 0; i <= bytes; i++) {
            in[i] = static_cast<unsigned char>(i * 131 + bytes);
        }
        unsigned char *first = nullptr, *second = nullptr;
        CHECK(cudaMalloc(&first, bytes + 8));
        CHECK(cudaMalloc(&second, bytes + 8));
        CHECK(cudaMemcpy(first + 3, in.data() + 1, bytes, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpy(second + 1, first + 3, bytes, cudaMemcpyDeviceToDevice));
        CHECK(cudaMemcpy(out.data(), second + 1, bytes, cudaMemcpyDefault));
        EXPECT(std::memcmp(out.data(), in.data() + 1, bytes) == 0);
        EXPECT(out[bytes] == 0xee);
        CHECK(cudaFree(first));
        CHECK(cudaFree(second));
    }
    CHECK(cudaFree(nullptr));
}

static void streams_and_events()
{
    std::vector<float> in = ramp(count), out(count);
    float *values = nullptr;
    cudaStream_t first, second;
    cudaEvent_t began, copied, done;
    CHECK(cudaStreamCreate(&first));
    CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&began));
    CHECK(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    CHECK(cudaEventCreate(&done));
    CHECK(cudaMalloc(&values, count * sizeof(float)));
    CHECK(cudaEventRecord(began, first));
    CHECK(cudaMemcpyAsync(values, in.data(), count * sizeof(float), cudaMemcpyHostToDevice, first));
    CHECK(cudaEventRecord(copied, first));
    CHECK(cudaStreamWaitEvent(second, copied, 0));
    scale<<<blocks_for(count), 256, 0, second>>>(values, 4.0f, count);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(out.data(), values, count * sizeof(float), cudaMemcpyDeviceToHost, second));
    CHECK(cudaEventRecord(done, second));
    CHECK(cudaEventSynchronize(done));
    CHECK(cudaEventQuery(done));
    CHECK(cudaStreamSynchronize(second));
    CHECK(cudaStreamQuery(first));
    for (int i = 0; i < count; i++) {
        EXPECT(out[i] == 4.0f * in[i]);
    }
    float milliseconds = -1.0f;
    CHECK(cudaEventElapsedTime(&milliseconds, began, done));
    EXPECT(milliseconds >= 0.0f && milliseconds < 60000.0f);
    EXPECT(cudaEventElapsedTime(&milliseconds, copied, done) == cudaErrorInvalidResourceHandle);
    EXPECT(cudaGetLastError() == cudaErrorInvalidResourceHandle);
    CHECK(cudaEventDestroy(began));
    CHECK(cudaEventDestroy(copied));
    CHECK(cudaEventDestroy(done));
    CHECK(cudaStreamDestroy(first));
    CHECK(cudaStreamDestroy(second));
    CHECK(cudaFree(values));
}

static void host_callback(void *argument)
{
    *static_cast<volatile int *>(argument) = 42;
}

static void host_functions()
{
    int seen = 0;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaLaunchHostFunc(stream, host_callback, &seen));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(*static_cast<volatile int *>(&seen) == 42);
    CHECK(cudaStreamDestroy(stream));
}

static void pinned_memory()
{
    float *host = nullptr, *values = nullptr;
    CHECK(cudaMallocHost(&host, count * sizeof(float)));
    CHECK(cudaMalloc(&values, count * sizeof(float)));
    std::vector<float> in = ramp(count);
    std::memcpy(host, in.data(), count * sizeof(float));
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMemcpyAsync(values, host, count * sizeof(float), cudaMemcpyHostToDevice, stream));
    scale<<<blocks_for(count), 256, 0, stream>>>(values, 2.0f, count);
    CHECK(cudaMemcpyAsync(host, values, count * sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int i = 0; i < count; i++) {
        EXPECT(host[i] == 2.0f * in[i]);
    }
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, host));
    EXPECT(attributes.type == cudaMemoryTypeHost);
    CHECK(cudaPointerGetAttributes(&attributes, values));
    EXPECT(attributes.type == cudaMemoryTypeDevice);
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(values));
    CHECK(cudaFreeHost(host));
}

static void mapped_memory()
{
    int *host = nullptr, *device = nullptr;
    CHECK(cudaHostAlloc(&host, sizeof(int), cudaHostAllocMapped));
    CHECK(cudaHostGetDevicePointer(&device, host, 0));
    *host = 10;
    add_one<<<1, 32>>>(device);
    CHECK(cudaDeviceSynchronize());
    EXPECT(*host == 42);
    CHECK(cudaFreeHost(host));
}

static void managed_memory()
{
    float *values = nullptr;
    CHECK(cudaMallocManaged(&values, count * sizeof(float)));
    for (int i = 0; i < count; i++) {
        values[i] = 1.0f * i;
    }
    scale<<<blocks_for(count), 256>>>(values, 3.0f, count);
    CHECK(cudaDeviceSynchronize());
    for (int i = 0; i < count; i++) {
        EXPECT(values[i] == 3.0f * i);
    }
    CHECK(cudaFree(values));
}

static void stream_ordered_memory()
{
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    std::vector<float> in = ramp(count), out(count);
    for (int round = 0; round < 3; round++) {
        float *values = nullptr;
        CHECK(cudaMallocAsync(&values, count * sizeof(float), stream));
        CHECK(cudaMemcpyAsync(values, in.data(), count * sizeof(float), cudaMemcpyHostToDevice, stream));
        scale<<<blocks_for(count), 256, 0, stream>>>(values, 5.0f, count);
        CHECK(cudaMemcpyAsync(out.data(), values, count * sizeof(float), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaFreeAsync(values, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < count; i++) {
            EXPECT(out[i] == 5.0f * in[i]);
        }
    }
    CHECK(cudaStreamDestroy(stream));
}

static void symbols()
{
    const float factor = 2.0f;
    const int table[8] = {1, 2, 3, 5, 8, 13, 21, 34};
    const int zero = 0;
    CHECK(cudaMemcpyToSymbol(scale_constant, &factor, sizeof factor));
    CHECK(cudaMemcpyToSymbol(table_constant, table, sizeof table));
    CHECK(cudaMemcpyToSymbol(counter_device, &zero, sizeof zero));
    float *out = nullptr, results[8];
    CHECK(cudaMalloc(&out, sizeof results));
    use_symbols<<<3, 32>>>(out);
    CHECK(cudaMemcpy(results, out, sizeof results, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 8; i++) {
        EXPECT(results[i] == 2.0f * table[i] + (i % 4) + 1.5f);
    }
    int counted = 0;
    CHECK(cudaMemcpyFromSymbol(&counted, counter_device, sizeof counted));
    EXPECT(counted == 96);
    void *address = nullptr;
    size_t size = 0;
    CHECK(cudaGetSymbolAddress(&address, array_device));
    CHECK(cudaGetSymbolSize(&size, array_device));
    EXPECT(address != nullptr && size == 4 * sizeof(float));
    CHECK(cudaFree(out));
}

struct launcher {
    cudaStream_t stream;
    int *value;
    cudaError_t result;
};

static void *launch_many(void *argument)
{
    launcher *self = static_cast<launcher *>(argument);
    for (int i = 0; i < 500 && self->result == cudaSuccess; i++) {
        add_one<<<1, 1, 0, self->stream>>>(self->value);
        self->result = cudaGetLastError();
    }
    return nullptr;
}

static void two_threads_one_stream()
{
    int *value = nullptr, result = 0;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&value, sizeof(int)));
    CHECK(cudaMemsetAsync(value, 0, sizeof(int), stream));
    launcher launchers[2] = {{stream, value, cudaSuccess}, {stream, value, cudaSuccess}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        EXPECT(pthread_create(&threads[i], nullptr, launch_many, &launchers[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        EXPECT(pthread_join(threads[i], nullptr) == 0);
        CHECK(launchers[i].result);
    }
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaMemcpy(&result, value, sizeof(int), cudaMemcpyDeviceToHost));
    EXPECT(result == 1000);
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(value));
}

static void copies_2d()
{
    const int width = 100, height = 37;
    std::vector<int> in(width * height), out(width * height, -1);
    for (int i = 0; i < width * height; i++) {
        in[i] = i;
    }
    int *values = nullptr, *other = nullptr;
    size_t pitch = 0, other_pitch = 0;
    const size_t row = width * sizeof(int);
    CHECK(cudaMallocPitch(&values, &pitch, row, height));
    CHECK(cudaMallocPitch(&other, &other_pitch, row, height));
    EXPECT(pitch >= row);
    CHECK(cudaMemcpy2D(values, pitch, in.data(), row, row, height, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy2D(other, other_pitch, values, pitch, row, height, cudaMemcpyDeviceToDevice));
    CHECK(cudaMemset2D(other, other_pitch, 0xff, 10 * sizeof(int), 5));
    CHECK(cudaMemcpy2D(out.data(), row, other, other_pitch, row, height, cudaMemcpyDeviceToHost));
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            EXPECT(out[y * width + x] == (x < 10 && y < 5 ? -1 : y * width + x));
        }
    }
    CHECK(cudaFree(values));
    CHECK(cudaFree(other));
}

static void memsets()
{
    unsigned char *bytes = nullptr;
    std::vector<unsigned char> out(1000001);
    CHECK(cudaMalloc(&bytes, out.size()));
    CHECK(cudaMemset(bytes, 0x11, out.size()));
    CHECK(cudaMemset(bytes + 77, 0xa5, 900001));
    CHECK(cudaMemcpy(out.data(), bytes, out.size(), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < out.size(); i++) {
        EXPECT(out[i] == (i >= 77 && i < 77 + 900001 ? 0xa5 : 0x11));
    }
    CHECK(cudaFree(bytes));
}

static void occupancy()
{
    int blocks = 0, size = 0, minimum = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, scale, 256, 0));
    EXPECT(blocks >= 1);
    CHECK(cudaOccupancyMaxPotentialBlockSize(&minimum, &size, scale, 0, 0));
    EXPECT(size >= 32 && size <= 1024 && minimum >= 1);
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, scale));
    EXPECT(attributes.maxThreadsPerBlock >= 256);
    scale<<<1, 2048>>>(nullptr, 1.0f, 0);
    EXPECT(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaDeviceSynchronize()); // a launch that was refused leaves no trace
}

static void errors_are_not_sticky()
{
    void *pointer = nullptr;
    EXPECT(cudaMalloc(&pointer, 1ull << 50) == cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
    EXPECT(cudaSetDevice(99) == cudaErrorInvalidDevice);
    EXPECT(cudaGetLastError() == cudaErrorInvalidDevice);
    EXPECT(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(0x1234)) != cudaSuccess);
    cudaGetLastError();
    CHECK(cudaDeviceSynchronize());
}

static void memory_info()
{
    size_t free_before = 0, free_during = 0, total = 0;
    const size_t bytes = 8 << 20;
    void *pointer = nullptr;
    CHECK(cudaMemGetInfo(&free_before, &total));
    EXPECT(free_before <= total && total > 0);
    CHECK(cudaMalloc(&pointer, bytes));
    CHECK(cudaMemGetInfo(&free_during, &total));
    EXPECT(free_during + bytes <= free_before);
    CHECK(cudaFree(pointer));
}

static void device_reset()
{
    int *value = nullptr, result = 0;
    CHECK(cudaMalloc(&value, sizeof(int)));
    CHECK(cudaDeviceReset());
    CHECK(cudaMalloc(&value, sizeof(int)));
    CHECK(cudaMemset(value, 0, sizeof(int)));
    add_one<<<2, 64>>>(value);
    CHECK(cudaMemcpy(&result, value, sizeof(int), cudaMemcpyDeviceToHost));
    EXPECT(result == 128);
    CHECK(cudaDeviceReset());
}

struct stop {
    const char *name;
    void (*visit)();
};

// device_reset comes last: it forgets what the others have set up.
static const stop stops[] = {
    {"copies", copies},
    {"streams_and_events", streams_and_events},
    {"host_functions", host_functions},
    {"pinned_memory", pinned_memory},
    {"mapped_memory", mapped_memory},
    {"managed_memory", managed_memory},
    {"stream_ordered_memory", stream_ordered_memory},
    {"symbols", symbols},
    {"two_threads_one_stream", two_threads_one_stream},
    {"copies_2d", copies_2d},
    {"memsets", memsets},
    {"occupancy", occupancy},
    {"errors_are_not_sticky", errors_are_not_sticky},
    {"memory_info", memory_info},
    {"device_reset", device_reset},
};

int main(int argc, char **argv)
{
    const std::string wanted = argc > 1 ? argv[1] : "";
    int visited = 0;
    for (const stop &stop : stops) {
        if (wanted == "--list") {
            std::printf("%s\n", stop.name);
        } else if (wanted.empty() || wanted == stop.name) {
            stop.visit();
            std::printf("%s ok\n", stop.name);
            std::fflush(stdout);
            visited++;
        }
    }
    return wanted == "--list" || visited > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
