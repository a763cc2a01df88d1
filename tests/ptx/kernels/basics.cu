// SPDX-License-Identifier: Apache-2.0
// Kernels without waits. basics.ptx is made from this by regenerate.sh.
#include <cuda_fp16.h>

extern "C" __global__ void vector_add(const float *a, const float *b, float *c, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        c[i] = a[i] + b[i];
}

extern "C" __global__ void saxpy(float a, const float *x, float *y, long long n)
{
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        y[i] = a * x[i] + y[i];
}

extern "C" __global__ void add4(const float4 *a, const float4 *b, float4 *c, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float4 p = a[i], q = b[i];
        c[i] = make_float4(p.x + q.x, p.y + q.y, p.z + q.z, p.w + q.w);
    }
}

struct Mixed {
    char tag;
    double scale;
    int shift[3];
    short last;
};

extern "C" __global__ void by_value(Mixed m, const int *in, double *out)
{
    int i = threadIdx.x;
    out[i] = in[i] * m.scale + m.shift[i % 3] + m.tag + m.last;
}

__device__ int table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__constant__ float weights[4];
__device__ int *pointer = &table[3];
__device__ unsigned long long counter;

extern "C" __global__ void variables(float *out)
{
    int i = threadIdx.x;
    out[i] = table[i & 7] + weights[i & 3] + *pointer;
    if (i == 0)
        counter += 41;
}

extern "C" __global__ void local_array(const int *in, int *out, int n)
{
    int stack[32];
    for (int k = 0; k < 32; k++)
        stack[k] = in[k] * (int)threadIdx.x;
    out[threadIdx.x] = stack[n & 31] + stack[(n * 7) & 31];
}

extern "C" __global__ void divide(const int *a, const int *b, int *q, int *r, unsigned *uq, int n)
{
    int i = threadIdx.x;
    if (i < n) {
        q[i] = a[i] / b[i];
        r[i] = a[i] % b[i];
        uq[i] = (unsigned)a[i] / (unsigned)b[i];
    }
}

extern "C" __global__ void half_axpy(__half a, const __half *x, __half *y, int n)
{
    int i = threadIdx.x;
    if (i < n)
        y[i] = __hadd(__hmul(a, x[i]), y[i]);
}

extern "C" __global__ void half2_add(const __half2 *x, __half2 *y, int n)
{
    int i = threadIdx.x;
    if (i < n)
        y[i] = __hadd2(x[i], y[i]);
}

extern "C" __global__ void coordinates(int *out)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    int z = blockIdx.z * blockDim.z + threadIdx.z;
    int w = gridDim.x * blockDim.x, h = gridDim.y * blockDim.y;
    out[(z * h + y) * w + x] = x + 100 * y + 10000 * z;
}

extern "C" __global__ void switch_case(const int *in, int *out)
{
    int v = in[threadIdx.x], r;
    switch (v) {
    case 0:
        r = 11;
        break;
    case 1:
        r = v + 7;
        break;
    case 2:
        r = -3;
        break;
    case 5:
        r = v * v;
        break;
    case 9:
        r = 99;
        break;
    default:
        r = -1;
    }
    out[threadIdx.x] = r;
}

extern "C" __global__ void naive_matmul(const float *a, const float *b, float *c, int n)
{
    int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; k++)
        sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}

extern "C" __global__ void collatz(const unsigned *in, int *steps, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    unsigned long long v = in[i];
    int s = 0;
    while (v != 1) {
        v = v & 1 ? 3 * v + 1 : v >> 1;
        s++;
    }
    steps[i] = s;
}
