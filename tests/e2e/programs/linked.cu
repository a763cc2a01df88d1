// SPDX-License-Identifier: Apache-2.0
// Kernels of several files, linked on the device (nvcc -rdc=true linked.cu linked_part.cu): a function, a variable and
// a constant of the other file, a pointer to its function, and names that both files have for themselves.
#include "check.h"

#include <cstdio>

extern __device__ int of_part(int x);
extern __device__ int calls;
extern __constant__ int table[4];
extern void add_three(int *values, int n);

typedef int (*step_t)(int);
extern __device__ step_t chosen;

static __device__ int step(int x)
{
    return x + 1;
}

__device__ int of_main(int x)
{
    return 10 * x;
}

__global__ void run(int *values, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] = of_part(step(i)) + table[i % 4] + chosen(i);
}

int main()
{
    const int n = 1000;
    const int constants[4] = {5, 6, 7, 8};
    static int values[n];
    int *device = nullptr, count = 0;
    CHECK(cudaMemcpyToSymbol(table, constants, sizeof constants));
    CHECK(cudaMalloc(&device, sizeof values));
    run<<<(n + 127) / 128, 128>>>(device, n);
    CHECK(cudaGetLastError());
    add_three(device, n);
    CHECK(cudaMemcpy(values, device, sizeof values, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpyFromSymbol(&count, calls, sizeof count));
    EXPECT(count == n);
    for (int i = 0; i < n; i++)
        EXPECT(values[i] == 10 * (i + 1) + 2 + constants[i % 4] + (i + 2) + 3);
    CHECK(cudaFree(device));
    std::printf("linked ok\n");
    return 0;
}
