// SPDX-License-Identifier: Apache-2.0
// Warp operations. warps.ptx is made from this by regenerate.sh.
extern "C" __global__ void shuffles(const int *in, int *out, int n)
{
    int t = threadIdx.x, v = in[t];
    out[t] = __shfl_up_sync(~0u, v, 3);
    out[t + n] = __shfl_down_sync(~0u, v, 5);
    out[t + 2 * n] = __shfl_xor_sync(~0u, v, 9);
    out[t + 3 * n] = __shfl_sync(~0u, v, 7);
    out[t + 4 * n] = __shfl_sync(~0u, v, t * 5);
    out[t + 5 * n] = __shfl_up_sync(~0u, v, 2, 8);
    out[t + 6 * n] = __shfl_down_sync(~0u, v, 3, 16);
    out[t + 7 * n] = __shfl_sync(~0u, v, 2, 4);
}

extern "C" __global__ void warp_sum(const float *in, float *out, int n)
{
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        sum += in[i];
    for (int d = 16; d > 0; d >>= 1)
        sum += __shfl_down_sync(~0u, sum, d);
    if ((threadIdx.x & 31) == 0)
        atomicAdd(out, sum);
}

extern "C" __global__ void votes(const int *in, unsigned *out, int n)
{
    int t = threadIdx.x, v = in[t];
    out[t] = __ballot_sync(~0u, v & 1);
    out[t + n] = __any_sync(~0u, v > 95);
    out[t + 2 * n] = __all_sync(~0u, v >= 0);
    out[t + 3 * n] = __match_any_sync(~0u, v & 3);
    int pred;
    out[t + 4 * n] = __match_all_sync(~0u, v >> 8, &pred) + pred;
    out[t + 5 * n] = __reduce_add_sync(~0u, (unsigned)v);
    out[t + 6 * n] = __reduce_max_sync(~0u, v - 50);
    out[t + 7 * n] = __reduce_xor_sync(~0u, (unsigned)v);
    out[t + 8 * n] = __match_any_sync(~0u, (unsigned long long)(v & 1) << 40);
}

extern "C" __global__ void divergent(const int *in, int *out)
{
    int t = threadIdx.x, v = in[t];
    if (t & 1) {
        v += __shfl_xor_sync(0xaaaaaaaau, v, 2);
        out[t] = v + 1000 * __popc(__activemask());
    } else {
        v -= __shfl_xor_sync(0x55555555u, v, 4);
        __syncwarp(0x55555555u);
        out[t] = v;
    }
}

extern "C" __global__ void half_warps(const int *in, int *out)
{
    int t = threadIdx.x;
    unsigned mask = t & 16 ? 0xffff0000u : 0x0000ffffu;
    out[t] = __reduce_add_sync(mask, in[t]) + 100000 * __popc(__ballot_sync(mask, in[t] & 1));
}

extern "C" __global__ void lanes(unsigned *out, int n)
{
    unsigned v, t = threadIdx.x;
    asm("mov.u32 %0, %%laneid;" : "=r"(v));
    out[t] = v;
    asm("mov.u32 %0, %%warpid;" : "=r"(v));
    out[t + n] = v;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(v));
    out[t + 2 * n] = v;
    asm("mov.u32 %0, %%lanemask_ge;" : "=r"(v));
    out[t + 3 * n] = v;
}
