// SPDX-License-Identifier: Apache-2.0
// The other file of linked.cu.
#include "check.h"

typedef int (*step_t)(int);

extern __device__ int of_main(int x);

__device__ int calls = 0;
__constant__ int table[4];

static __device__ int step(int x)
{
    return x + 2;
}

__device__ step_t chosen = step;

__device__ int of_part(int x)
{
    atomicAdd(&calls, 1);
    return of_main(x) + 2;
}

__global__ void add(int *values, int n, int by)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] += by;
}

void add_three(int *values, int n)
{
    add<<<(n + 63) / 64, 64>>>(values, n, 3);
    CHECK(cudaGetLastError());
}
