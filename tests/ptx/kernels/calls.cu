// SPDX-License-Identifier: Apache-2.0
// Functions, pointers to them, recursion, printf, assert, trap, the device heap. calls.ptx comes from regenerate.sh.
#include <cassert>
#include <cstdio>

typedef int (*binary_t)(int, int);
__device__ __noinline__ int plus(int a, int b)
{
    return a + b;
}
__device__ __noinline__ int times(int a, int b)
{
    return a * b;
}
__device__ __noinline__ int minus(int a, int b)
{
    return a - b;
}
__device__ binary_t operations[3] = {plus, times, minus};
__device__ __noinline__ float other(float x)
{
    return x;
}
__device__ float (*odd)(float) = other;

extern "C" __global__ void indirect(const int *which, int *out)
{
    int t = threadIdx.x;
    out[t] = operations[which[t]](t, 5);
}

extern "C" __global__ void indirect_raw(unsigned long long value, int *out)
{
    binary_t f = (binary_t)value;
    out[threadIdx.x] = f(threadIdx.x, 2);
}

extern "C" __global__ void take(unsigned long long *out)
{
    out[0] = (unsigned long long)plus, out[1] = (unsigned long long)other;
}

__device__ __noinline__ int fibonacci(int n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
extern "C" __global__ void recursion(int *out)
{
    out[threadIdx.x] = fibonacci(threadIdx.x);
}

struct Pair {
    double x;
    int y[3];
};
__device__ __noinline__ Pair turn(Pair p, char c)
{
    Pair q;
    q.x = -p.x;
    q.y[0] = p.y[2], q.y[1] = p.y[1] + c, q.y[2] = p.y[0];
    return q;
}
extern "C" __global__ void structs(Pair p, Pair *out)
{
    p.y[0] += threadIdx.x;
    out[threadIdx.x] = turn(p, 'a');
}

extern "C" __global__ void print(int n)
{
    if (threadIdx.x == n)
        printf("thread %d of %u: %s %5.2f %lld %c %x %%\n", threadIdx.x, blockDim.x, "text", 2.5, 1LL << 40, 'z', 255);
}

extern "C" __global__ void fails(int n)
{
    assert((int)threadIdx.x < n);
}
extern "C" __global__ void traps(int n)
{
    if (threadIdx.x == n)
        __trap();
}

extern "C" __global__ void heap(int *out)
{
    int *p = (int *)malloc(16 * sizeof(int));
    for (int i = 0; i < 16; i++)
        p[i] = threadIdx.x + i;
    int s = 0;
    for (int i = 0; i < 16; i++)
        s += p[i];
    out[threadIdx.x] = s;
    free(p);
}

// A wait inside a function that is not inlined.
__device__ __noinline__ int block_sum(int *scratch, int v)
{
    scratch[threadIdx.x] = v;
    __syncthreads();
    int s = 0;
    for (unsigned i = 0; i < blockDim.x; i++)
        s += scratch[i];
    __syncthreads();
    return s + __shfl_xor_sync(~0u, v, 1);
}
extern "C" __global__ void sync_in_call(const int *in, int *out)
{
    __shared__ int scratch[128];
    out[threadIdx.x] = block_sum(scratch, in[threadIdx.x]) + block_sum(scratch, 1);
}

__device__ __noinline__ int where(const void *p)
{
    return __isGlobal(p) | __isShared(p) << 1 | __isLocal(p) << 2 | __isConstant(p) << 3;
}
__device__ int g_word;
__constant__ int c_word;
extern "C" __global__ void spaces(int *out)
{
    __shared__ int s;
    int l[2];
    l[0] = threadIdx.x;
    s = 1;
    out[0] = where(&g_word);
    out[1] = where(&s);
    out[2] = where(l);
    out[3] = where(&c_word);
    out[4] = where(out);
}
