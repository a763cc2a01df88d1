// SPDX-License-Identifier: Apache-2.0
// Atomics. atomics.ptx is made from this by regenerate.sh.
extern "C" __global__ void global_ops(int *i, unsigned *u, unsigned long long *l, float *f, double *d)
{
    int t = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&i[0], t);
    atomicSub(&i[1], t);
    atomicMin(&i[2], -t);
    atomicMax(&i[3], t);
    atomicAnd(&i[4], ~(1 << (t & 7)));
    atomicOr(&i[5], 1 << (t & 15));
    atomicXor(&i[6], t);
    atomicMin(&u[0], 1000u - t);
    atomicMax(&u[1], 5u * t);
    atomicInc(&u[2], 9);
    atomicDec(&u[3], 6);
    atomicAdd(&l[0], (unsigned long long)t << 30);
    atomicMax(&l[1], (unsigned long long)t << 33);
    atomicAdd(f, 0.5f);
    atomicAdd(d, 0.25);
}

extern "C" __global__ void histogram(const unsigned char *in, unsigned *out, int n)
{
    __shared__ unsigned bins[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x)
        bins[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&bins[in[i]], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x)
        atomicAdd(&out[i], bins[i]);
}

extern "C" __global__ void shared_ops(int *out)
{
    __shared__ int s[8];
    __shared__ unsigned u[2];
    __shared__ float f;
    if (threadIdx.x < 8)
        s[threadIdx.x] = 0;
    if (threadIdx.x == 0) {
        u[0] = 0, u[1] = 0;
        f = 0;
    }
    __syncthreads();
    int t = threadIdx.x;
    atomicAdd(&s[0], t);
    atomicMax(&s[1], t * 3);
    atomicMin(&s[2], -t);
    atomicXor(&s[3], t);
    atomicInc(&u[0], 6);
    atomicDec(&u[1], 4);
    atomicAdd(&f, 0.5f);
    int old = atomicExch(&s[4], t);
    atomicAdd(&s[5], old == t);
    __syncthreads();
    if (t < 4)
        out[t] = s[t];
    out[4] = u[0], out[5] = u[1], out[6] = (int)f;
}

// A lock that lanes of one warp spin on, and a float maximum by compare and swap.
extern "C" __global__ void spin(int *lock, int *value, float *best)
{
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            *(volatile int *)value = *(volatile int *)value + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
    int *as_int = (int *)best;
    int old = *as_int, assumed;
    do {
        assumed = old;
        old = atomicCAS(as_int, assumed, __float_as_int(fmaxf((float)threadIdx.x, __int_as_float(assumed))));
    } while (old != assumed);
}

// Blocks wait for their predecessor: works only if a waiting block lets others run.
extern "C" __global__ void chain(volatile int *turn, int *order)
{
    int want = gridDim.x - 1 - blockIdx.x;
    if (threadIdx.x == 0) {
        while (*turn != want)
            ;
        order[want] = blockIdx.x;
        __threadfence();
        *turn = want + 1;
    }
    __syncthreads();
}

extern "C" __global__ void cas16(unsigned short *word, int *wins)
{
    if (atomicCAS(word, (unsigned short)7, (unsigned short)(threadIdx.x + 100)) == 7)
        atomicAdd(wins, 1);
}
