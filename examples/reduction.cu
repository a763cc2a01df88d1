// SPDX-License-Identifier: Apache-2.0
// Sums a million integers three ways: a tree in shared memory, warp shuffles, and atomics alone.
// All three must give exactly the sum that the CPU gets.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

#define CHECK(call)                                                                                                  \
    do {                                                                                                             \
        cudaError_t check_error = (call);                                                                            \
        if (check_error != cudaSuccess) {                                                                            \
            std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, cudaGetErrorString(check_error), \
                         cudaGetErrorName(check_error));                                                             \
            std::printf("Test FAILED\n");                                                                            \
            std::exit(EXIT_FAILURE);                                                                                 \
        }                                                                                                            \
    } while (0)

typedef unsigned long long sum_t;
constexpr int block_threads = 256;

// What one thread adds up before it meets the others: every stride-th element from its own on.
__device__ sum_t own_share(const unsigned *values, int count)
{
    sum_t sum = 0;
    const int stride = blockDim.x * gridDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) {
        sum += values[i];
    }
    return sum;
}

// A tree in shared memory: half of the threads add the other half's sums, again and again.
__global__ void reduce_shared(const unsigned *values, int count, sum_t *total)
{
    __shared__ sum_t partial[block_threads];
    partial[threadIdx.x] = own_share(values, count);
    __syncthreads();
    for (int half = block_threads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            partial[threadIdx.x] += partial[threadIdx.x + half];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        atomicAdd(total, partial[0]);
    }
}

__device__ sum_t warp_sum(sum_t value)
{
    for (int offset = warpSize / 2; offset > 0; offset /= 2) {
        value += __shfl_down_sync(0xffffffffu, value, offset);
    }
    return value;
}

// Shuffles inside each warp; the first warp then adds the warps' sums.
__global__ void reduce_shuffle(const unsigned *values, int count, sum_t *total)
{
    __shared__ sum_t warp_sums[block_threads / 32];
    const int lane = threadIdx.x % warpSize, warp = threadIdx.x / warpSize;
    sum_t sum = warp_sum(own_share(values, count));
    if (lane == 0) {
        warp_sums[warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
        sum = warp_sum(lane < block_threads / 32 ? warp_sums[lane] : 0);
        if (lane == 0) {
            atomicAdd(total, sum);
        }
    }
}

// Every thread adds its own share to the total.
__global__ void reduce_atomic(const unsigned *values, int count, sum_t *total)
{
    atomicAdd(total, own_share(values, count));
}

typedef void (*kernel_t)(const unsigned *, int, sum_t *);

static bool run(const char *name, kernel_t kernel, const unsigned *values, int count, sum_t expected)
{
    sum_t *total = nullptr, result = 0;
    CHECK(cudaMalloc(&total, sizeof(sum_t)));
    CHECK(cudaMemset(total, 0, sizeof(sum_t)));
    kernel<<<64, block_threads>>>(values, count, total);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&result, total, sizeof(sum_t), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(total));
    std::printf("%-14s %llu, expected %llu\n", name, result, expected);
    return result == expected;
}

int main()
{
    const int count = 1000003;
    std::vector<unsigned> host(count);
    sum_t expected = 0;
    for (unsigned &value : host) {
        value = static_cast<unsigned>(std::rand());
        expected += value;
    }
    unsigned *values = nullptr;
    CHECK(cudaMalloc(&values, count * sizeof(unsigned)));
    CHECK(cudaMemcpy(values, host.data(), count * sizeof(unsigned), cudaMemcpyHostToDevice));

    bool passed = run("shared memory", reduce_shared, values, count, expected);
    passed = run("warp shuffles", reduce_shuffle, values, count, expected) && passed;
    passed = run("atomics", reduce_atomic, values, count, expected) && passed;

    CHECK(cudaFree(values));
    std::printf("Test %s\n", passed ? "PASSED" : "FAILED");
    return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
