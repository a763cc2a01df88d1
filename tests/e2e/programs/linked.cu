// SPDX-License-Identifier: Apache-2.0
// A kernel whose function is in another file, linked_part.cu: with -rdc=true and PTX alone the driver has to link them.
#include "check.h"

#include <cstdio>

extern __device__ int twice(int x);

__global__ void fill(int *out)
{
    out[threadIdx.x] = twice(threadIdx.x);
}

int main()
{
    int *device, host[32];
    CHECK(cudaMalloc(&device, sizeof host));
    fill<<<1, 32>>>(device);
    CHECK(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 32; i++)
        if (host[i] != 2 * i)
            return 1;
    std::puts("linked");
    return 0;
}
