// SPDX-License-Identifier: Apache-2.0
// Barriers and shared memory. barriers.ptx is made from this by regenerate.sh.
#define TILE 32

template <int T> __device__ void tiled(const float *a, const float *b, float *c, int n)
{
    __shared__ float as[T][T], bs[T][T];
    int tx = threadIdx.x, ty = threadIdx.y;
    int row = blockIdx.y * T + ty, col = blockIdx.x * T + tx;
    float sum = 0;
    for (int t = 0; t < n / T; t++) {
        as[ty][tx] = a[row * n + t * T + tx];
        bs[ty][tx] = b[(t * T + ty) * n + col];
        __syncthreads();
        for (int k = 0; k < T; k++)
            sum += as[ty][k] * bs[k][tx];
        __syncthreads();
    }
    c[row * n + col] = sum;
}

extern "C" __global__ void matmul32(const float *a, const float *b, float *c, int n)
{
    tiled<32>(a, b, c, n);
}
extern "C" __global__ void matmul16(const float *a, const float *b, float *c, int n)
{
    tiled<16>(a, b, c, n);
}

extern "C" __global__ void reduce(const float *in, float *out, int n)
{
    extern __shared__ float part[];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        sum += in[i];
    part[threadIdx.x] = sum;
    __syncthreads();
    for (int s = blockDim.x / 2; s > 0; s >>= 1) {
        if (threadIdx.x < s)
            part[threadIdx.x] += part[threadIdx.x + s];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = part[0];
}

extern "C" __global__ void transpose(const int *in, int *out, int w, int h)
{
    __shared__ int tile[16][17];
    int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
    if (x < w && y < h)
        tile[threadIdx.y][threadIdx.x] = in[y * w + x];
    __syncthreads();
    int tx = blockIdx.y * 16 + threadIdx.x, ty = blockIdx.x * 16 + threadIdx.y;
    if (tx < h && ty < w)
        out[ty * h + tx] = tile[threadIdx.x][threadIdx.y];
}

extern "C" __global__ void scan(const int *in, int *out)
{
    __shared__ int a[256];
    int t = threadIdx.x;
    a[t] = in[t];
    for (int d = 1; d < 256; d *= 2) {
        __syncthreads();
        int v = t >= d ? a[t - d] : 0;
        __syncthreads();
        a[t] += v;
    }
    out[t] = a[t];
}

// Two halves of the block pass different numbers of barriers with ids of their own.
extern "C" __global__ void named(int *out)
{
    __shared__ int a[128];
    int t = threadIdx.x;
    a[t] = t;
    if (t < 64) {
        for (int i = 0; i < 5; i++) {
            asm volatile("bar.sync 1, 64;" ::: "memory");
            int v = a[(t + 1) & 63];
            asm volatile("bar.sync 1, 64;" ::: "memory");
            a[t] = v;
        }
    } else {
        asm volatile("bar.sync 2, 64;" ::: "memory");
        int v = a[64 + ((t + 1) & 63)];
        asm volatile("bar.sync 2, 64;" ::: "memory");
        a[t] = v;
    }
    __syncthreads();
    out[t] = a[t];
}

extern "C" __global__ void counts(const int *in, int *any, int *all, int *count)
{
    int v = in[threadIdx.x];
    any[threadIdx.x] = __syncthreads_or(v > 90);
    all[threadIdx.x] = __syncthreads_and(v >= 0);
    count[threadIdx.x] = __syncthreads_count(v & 1);
}

extern "C" __global__ void early_exit(int *out, int n)
{
    __shared__ int a[64];
    if (threadIdx.x >= n)
        return;
    a[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = a[n - 1 - threadIdx.x];
}

// A producer that only arrives, a consumer that waits.
extern "C" __global__ void producer(int *out)
{
    __shared__ int box[32];
    if (threadIdx.x < 32) {
        box[threadIdx.x] = threadIdx.x * 3;
        asm volatile("bar.arrive 3, 64;" ::: "memory");
    } else {
        asm volatile("bar.sync 3, 64;" ::: "memory");
        out[threadIdx.x - 32] = box[threadIdx.x - 32];
    }
}

extern "C" __global__ void stuck(int *out)
{
    if (threadIdx.x < 32)
        asm volatile("bar.sync 1, 64;" ::: "memory");
    else
        asm volatile("bar.sync 2, 64;" ::: "memory");
    out[threadIdx.x] = 1;
}

extern "C" __global__ void local_across(const int *in, int *out, int n)
{
    __shared__ int s[64];
    int mine[8];
    for (int i = 0; i < 8; i++)
        mine[i] = in[i] + threadIdx.x;
    s[threadIdx.x] = mine[n & 7];
    __syncthreads();
    out[threadIdx.x] = s[63 - threadIdx.x] + mine[(n + 1) & 7];
}
